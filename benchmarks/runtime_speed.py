"""`make bench`, second part: our runtime beside the published client and rtmlib.

All sides run the same file, in the same process, on the same picture and boxes, with onnxruntime's
default number of threads, in turn. What each does:

- ours: PoseModel, all people in one batch, MMPose's geometry;
- cigpose-onnx 1.0.1: its preprocess_person, session, decode_simcc and remap_to_frame in its own
  loop over people, without its drawing; it clips crops to the frame and stretches them. Where
  there is a straight trace of the model, the client runs that, too: it is how it came to its files;
- rtmlib 0.0.16: RTMPose.__call__, a loop over people; it feeds BGR to models trained on RGB.

The peak is numpy's: the best of some products of 2048 x 2048 float32 matrices, on all cores.
Memory is the peak of a process that does nothing else, `python -m benchmarks.runtime_speed
SIDE FILE`, with 16 people. Videos: benchmarks/video_speed.py.
"""

from __future__ import annotations

import contextlib
import functools
import io
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from rich.table import Table

from cigpose_export.cli.console import byte_size, print_table
from cigpose_export.errors import ExportError
from cigpose_export.jobs.worker import peak_memory
from cigpose_runtime import PoseModel, read_contract
from cigpose_runtime.arrays import Pixels
from cigpose_runtime.errors import last_line
from cigpose_runtime.estimation.decode import decode_simcc, to_frame
from cigpose_runtime.estimation.preprocess import boxes_to_crops, make_input
from cigpose_runtime.media.images import read_image
from cigpose_verify.cases import PHOTOGRAPHS

PEOPLE = (1, 4, 8, 16)
ROUNDS = 7
PEAK_SIZE = 2048
REST_S = 0.1
"""Between two sides: the threads of the peers' sessions go on spinning after a run."""

Side = Callable[[NDArray[np.float32]], Any]


@dataclass(frozen=True)
class Speed:
    """Of one file: people per second, by side and by how many are in the picture.

    `pre_post_ms` is ours a person, without the model, on one thread, at 8 people. `peak_share` is
    the model's multiplications and additions at 8 people as a share of numpy's matrix-product
    peak. `memory` is in bytes, by side.
    """

    people: dict[str, dict[int, float]]
    pre_post_ms: float
    pre_post_share: float
    peak_share: float
    memory: dict[str, int]


def measure_speed(path: Path, traced: Path | None) -> Speed:
    """Measures one file, and its straight trace if there is one.

    The sides take turns, so that a slow moment hits all of them.
    """
    frame = read_image(PHOTOGRAPHS / "astronaut.jpg")
    model = PoseModel(path)
    sides = {name: make(path, frame) for name, make in SIDES.items()}
    if traced is not None:
        contract = model.contract
        settings = contract.input_w, contract.input_h, contract.split_ratio
        sides["client, trace"] = _client(traced, frame, settings)
    speeds: dict[str, dict[int, float]] = {name: {} for name in sides}
    for count in PEOPLE:
        boxes = _boxes(count)
        times: dict[str, list[float]] = {name: [] for name in sides}
        for _ in range(ROUNDS):
            for name, side in sides.items():
                time.sleep(REST_S)
                times[name].append(_seconds(functools.partial(side, boxes)))
        for name, some in times.items():
            speeds[name][count] = round(count / statistics.median(some), 2)
    pre_post = _pre_post_seconds(model, frame)
    person = 1 / speeds["ours"][8]
    return Speed(
        people=speeds,
        pre_post_ms=round(pre_post * 1000, 3),
        pre_post_share=round(pre_post / person, 4),
        peak_share=round(operations(path) / person / peak(), 3),
        memory={name: _memory(name, path) for name in SIDES},
    )


def print_speeds(speeds: dict[str, Speed]) -> None:
    """People per second with ratios, one row a file and number of people; then the rest."""
    title = "Runtime: people per second, same process and picture"
    table = Table("model", "people", title=title, box=None, header_style="bold")
    table.title_justify = "left"
    for heading in ("ours", "cigpose-onnx", "ratio", "its trace", "ratio", "rtmlib", "ratio"):
        table.add_column(heading, justify="right")
    for name, speed in speeds.items():
        for count in PEOPLE:
            ours = speed.people["ours"][count]
            cells = []
            for peer in ("client", "client, trace", "rtmlib"):
                found = speed.people.get(peer)
                cells += (
                    [f"{found[count]:.1f}", f"{ours / found[count]:.2f} x"] if found else ["", ""]
                )
            table.add_row(name, str(count), f"{ours:.1f}", *cells)
    print_table(table)
    table = Table("model", box=None, header_style="bold")
    for heading in ("pre + post, ms a person", "share of its time", "share of numpy's peak"):
        table.add_column(heading, justify="right")
    for name, speed in speeds.items():
        shares = f"{speed.pre_post_share:.1%}", f"{speed.peak_share:.0%}"
        table.add_row(name, f"{speed.pre_post_ms:.2f}", *shares)
    print_table(table)
    table = Table("model", box=None, header_style="bold")
    for name in SIDES:
        table.add_column(f"memory, {name}", justify="right")
    for name, speed in speeds.items():
        table.add_row(name, *(byte_size(value) for value in speed.memory.values()))
    print_table(table)


def _boxes(count: int) -> NDArray[np.float32]:
    """People of several sizes over the picture, some over its edge; the same ones each time."""
    rng = np.random.default_rng(0)
    centers, sizes = rng.random((count, 2)) * 400 + 50, rng.random((count, 2)) * 200 + (60, 160)
    return np.hstack([centers - sizes / 2, centers + sizes / 2]).astype(np.float32)


def _ours(path: Path, frame: Pixels) -> Side:
    model = PoseModel(path)
    return lambda boxes: model(frame, boxes)


def _client(path: Path, frame: Pixels, settings: Sequence[float] | None = None) -> Side:
    """settings: input width and height and split ratio, for a file that does not say them."""
    from cigpose.inference import (
        decode_simcc,
        load_pose_model,
        preprocess_person,
        remap_to_frame,
    )

    with contextlib.redirect_stdout(io.StringIO()):
        session, *from_file = load_pose_model(str(path))
    input_w, input_h, split_ratio = settings or from_file

    def run(boxes: NDArray[np.float32]) -> list[Any]:
        poses = []
        for box in boxes.tolist():
            crop, region = preprocess_person(frame, box, input_w, input_h)
            simcc = session.run(None, {"input": crop})
            keypoints, scores = decode_simcc(*simcc, input_w, input_h, split_ratio)
            poses.append((remap_to_frame(keypoints, region, input_w, input_h), scores))
        return poses

    return run


def _rtmlib(path: Path, frame: Pixels) -> Side:
    from rtmlib import RTMPose

    contract = read_contract(path)
    size = contract.input_w, contract.input_h
    with contextlib.redirect_stdout(io.StringIO()):
        pose = RTMPose(str(path), size, backend="onnxruntime", device="cpu")
    return lambda boxes: pose(frame, boxes.tolist())


SIDES: dict[str, Callable[[Path, Pixels], Side]] = {
    "ours": _ours,
    "client": _client,
    "rtmlib": _rtmlib,
}


def _memory(side: str, path: Path) -> int:
    command = [sys.executable, "-P", __file__, side, str(path)]
    child = subprocess.run(command, capture_output=True, text=True, check=False)
    if child.returncode != 0:
        raise ExportError(
            f"{side} on {path.name} failed ({last_line(child.stderr)}); run make doctor"
        )
    return int(child.stdout.splitlines()[-1])


def _pre_post_seconds(model: PoseModel, frame: Pixels, count: int = 8) -> float:
    """What a person costs us beside the model; numpy works here on one thread."""
    contract, boxes = model.contract, _boxes(count)
    input_wh = contract.input_w, contract.input_h
    bins = [int(side * contract.split_ratio) for side in input_wh]
    rng = np.random.default_rng(0)
    x, y = (rng.random((count, contract.num_keypoints, b), dtype=np.float32) for b in bins)

    def work() -> None:
        centers, scales = boxes_to_crops(boxes, input_wh, contract.box_padding)
        make_input(frame, centers, scales, contract)
        keypoints, _ = decode_simcc(x, y, contract.split_ratio)
        to_frame(keypoints, centers, scales, input_wh)

    return statistics.median(_seconds(work) for _ in range(5 * ROUNDS)) / count


def _seconds(work: Callable[[], Any]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def peak() -> float:
    """Multiplications and additions per second of numpy's float32 matrix product."""
    a, b = np.random.default_rng(0).random((2, PEAK_SIZE, PEAK_SIZE), dtype=np.float32)
    return 2 * PEAK_SIZE**3 / min(_seconds(lambda: a @ b) for _ in range(5))


def operations(path: Path) -> float:
    """Multiplications and additions of a model for one person, in its products alone."""
    model = onnx.load(path)
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1
    graph = onnx.shape_inference.infer_shapes(model).graph
    shapes = {tensor.name: list(tensor.dims) for tensor in graph.initializer}
    for value in (*graph.value_info, *graph.input, *graph.output):
        dims = value.type.tensor_type.shape.dim
        shapes.setdefault(value.name, [dim.dim_value or 1 for dim in dims])
    total = 0.0
    for node in graph.node:
        if node.op_type == "Conv":
            total += 2 * _size(shapes[node.output[0]]) * _size(shapes[node.input[1]][1:])
        elif node.op_type in ("MatMul", "Gemm"):
            total += 2 * _size(shapes[node.output[0]]) * shapes[node.input[0]][-1]
    return total


def _size(shape: Sequence[int]) -> float:
    return float(np.prod(shape))


if __name__ == "__main__":
    side = SIDES[sys.argv[1]](Path(sys.argv[2]), read_image(PHOTOGRAPHS / "astronaut.jpg"))
    for _ in range(3):
        side(_boxes(max(PEOPLE)))
    sys.stdout.write(f"{peak_memory()}\n")
