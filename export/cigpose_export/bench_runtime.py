"""`make bench`, second part: our runtime beside the published client and rtmlib.

All sides run the same file, in the same process, on the same picture and boxes, with onnxruntime's
default number of threads, in turn. What each does:

- ours: PoseModel, all people in one batch, MMPose's geometry;
- cigpose-onnx 1.0.1: its preprocess_person, session, decode_simcc and remap_to_frame in its own
  loop over people, without its drawing; it clips crops to the frame and stretches them;
- rtmlib 0.0.16: RTMPose.__call__, a loop over people; it feeds BGR to models trained on RGB.

The peak is numpy's: the best of some products of 2048 x 2048 float32 matrices, on all cores.
"""

from __future__ import annotations

import contextlib
import functools
import io
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from rich.table import Table

from cigpose_export.console import print_table
from cigpose_runtime import PoseModel
from cigpose_runtime.decode import decode_simcc, to_frame
from cigpose_runtime.preprocess import boxes_to_crops, make_input
from cigpose_verify.cases import PHOTOGRAPHS, read_picture

PEOPLE = (1, 4, 8, 16)
ROUNDS = 7
PEAK_SIZE = 2048

Frame = NDArray[np.uint8]


@dataclass(frozen=True)
class Speed:
    """Of one file: people per second, by how many are in the picture; milliseconds a person.

    `pre_post_ms` is ours, without the model, on one thread, at 8 people. `peak_share` is the
    model's multiplications and additions at 8 people as a share of numpy's matrix-product peak.
    """

    ours: dict[int, float]
    client: dict[int, float]
    rtmlib: dict[int, float]
    pre_post_ms: float
    pre_post_share: float
    peak_share: float


def measure_speed(path: Path) -> Speed:
    """Measures one file; the sides take turns, so that a slow moment hits all of them."""
    frame = read_picture(PHOTOGRAPHS / "astronaut.jpg")
    model = PoseModel(path)
    sides = {
        "ours": lambda boxes: model(frame, boxes),
        "client": _client(path, frame),
        "rtmlib": _rtmlib(path, frame, model),
    }
    speeds: dict[str, dict[int, float]] = {name: {} for name in sides}
    for count in PEOPLE:
        boxes = _boxes(count)
        times: dict[str, list[float]] = {name: [] for name in sides}
        for _ in range(ROUNDS):
            for name, side in sides.items():
                times[name].append(_seconds(functools.partial(side, boxes)))
        for name, some in times.items():
            speeds[name][count] = round(count / statistics.median(some), 2)
    pre_post = _pre_post_seconds(model, frame)
    person = 1 / speeds["ours"][8]
    return Speed(
        **speeds,
        pre_post_ms=round(pre_post * 1000, 3),
        pre_post_share=round(pre_post / person, 4),
        peak_share=round(operations(path) / person / peak(), 3),
    )


def print_speeds(speeds: dict[str, Speed]) -> None:
    """People per second with ratios, one row a file and number of people."""
    title = "Runtime: people per second, same file, process and picture"
    table = Table("model", "people", title=title, box=None, header_style="bold")
    table.title_justify = "left"
    for heading in ("ours", "cigpose-onnx", "ratio", "rtmlib", "ratio"):
        table.add_column(heading, justify="right")
    for name, speed in speeds.items():
        for count in PEOPLE:
            ours, client, rtmlib = speed.ours[count], speed.client[count], speed.rtmlib[count]
            cells = f"{ours:.1f}", f"{client:.1f}", f"{ours / client:.2f} x"
            table.add_row(name, str(count), *cells, f"{rtmlib:.1f}", f"{ours / rtmlib:.2f} x")
    print_table(table)
    table = Table("model", box=None, header_style="bold")
    for heading in ("pre + post, ms a person", "share of its time", "share of numpy's peak"):
        table.add_column(heading, justify="right")
    for name, speed in speeds.items():
        shares = f"{speed.pre_post_share:.1%}", f"{speed.peak_share:.0%}"
        table.add_row(name, f"{speed.pre_post_ms:.2f}", *shares)
    print_table(table)


def _boxes(count: int) -> NDArray[np.float32]:
    """People of several sizes over the picture, some over its edge; the same ones each time."""
    rng = np.random.default_rng(0)
    centers, sizes = rng.random((count, 2)) * 400 + 50, rng.random((count, 2)) * 200 + (60, 160)
    return np.hstack([centers - sizes / 2, centers + sizes / 2]).astype(np.float32)


def _client(path: Path, frame: Frame) -> Callable[[NDArray[np.float32]], Any]:
    from cigpose.inference import (
        decode_simcc,
        load_pose_model,
        preprocess_person,
        remap_to_frame,
    )

    session, *settings = load_pose_model(str(path))
    input_w, input_h, split_ratio = settings

    def run(boxes: NDArray[np.float32]) -> list[Any]:
        poses = []
        for box in boxes.tolist():
            crop, region = preprocess_person(frame, box, input_w, input_h)
            simcc = session.run(None, {"input": crop})
            keypoints, scores = decode_simcc(*simcc, input_w, input_h, split_ratio)
            poses.append((remap_to_frame(keypoints, region, input_w, input_h), scores))
        return poses

    return run


def _rtmlib(path: Path, frame: Frame, model: PoseModel) -> Callable[[NDArray[np.float32]], Any]:
    from rtmlib import RTMPose

    size = model.contract.input_w, model.contract.input_h
    with contextlib.redirect_stdout(io.StringIO()):
        pose = RTMPose(str(path), size, backend="onnxruntime", device="cpu")
    return lambda boxes: pose(frame, boxes.tolist())


def _pre_post_seconds(model: PoseModel, frame: Frame, count: int = 8) -> float:
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
