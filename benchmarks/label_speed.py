"""`make bench`, third part: `label` beside the model alone, `image`, and a loop over rtmlib.

All run the same file on the same folder of JPEGs of 640 x 480 with one person each, from file to
results, in turn; what has to be loaded is loaded before. All have the threads that users get. Two
are the model alone on crops that are ready: `model` as PoseModel comes, with all cores on one batch
of 16, and `model_as_label` with label's batches, runs at once and threads. What label loses to the
latter is decoding, cropping and writing.
"""

from __future__ import annotations

import contextlib
import io
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image

from cigpose_runtime import PoseModel, WholeFrameDetector, read_contract
from cigpose_runtime.labelling.folder import open_folder
from cigpose_runtime.labelling.shards import plan
from cigpose_runtime.labelling.sources import find_items
from cigpose_runtime.labelling.worker import CPU_BATCH, ShardWorker, decoders_of
from cigpose_runtime.machine import cores
from cigpose_runtime.media.images import read_image
from cigpose_verify.cases import PHOTOGRAPHS

PICTURES = 256
ROUNDS = 5
SIZE_WH = 640, 480


def measure_labelling(path: Path) -> dict[str, float]:
    """Pictures per second of each side, the median of some rounds."""
    label_model = PoseModel(path, threads=1, spinning=False, max_batch=CPU_BATCH)
    with (
        tempfile.TemporaryDirectory(prefix="cigpose-bench-") as folder,
        ShardWorker(
            label_model,
            lambda _path: WholeFrameDetector(),
            open_folder(f"{folder}/labels"),
            about={},
            at_once=cores(),
            decoders=decoders_of(cores()),
        ) as worker,
    ):
        pictures = write_pictures(Path(folder, "pictures"), PICTURES)
        (shard,) = plan(find_items(map(str, pictures), out=""), PICTURES)
        sides: dict[str, Callable[[], object]] = {
            "model": _model(PoseModel(path), at_once=1),
            "model_as_label": _model(label_model, at_once=cores()),
            "label": lambda: list(worker.label(shard)),
            "image": _image(path, pictures),
            "rtmlib": _rtmlib(path, pictures),
        }
        times: dict[str, list[float]] = {name: [] for name in sides}
        for side in sides.values():
            side()
        for _ in range(ROUNDS):
            for name, side in sides.items():
                started = time.perf_counter()
                side()
                times[name].append(time.perf_counter() - started)
    return {name: round(PICTURES / statistics.median(some), 2) for name, some in times.items()}


def write_pictures(folder: Path, count: int) -> list[Path]:
    """The astronaut, further to the right in each picture."""
    folder.mkdir()
    photograph = read_image(PHOTOGRAPHS / "astronaut.jpg")[: SIZE_WH[1], :, ::-1]
    wide = np.pad(photograph, ((0, 0), (0, SIZE_WH[0] - photograph.shape[1]), (0, 0)))
    paths = [folder / f"{index:03d}.jpg" for index in range(count)]
    for index, path in enumerate(paths):
        Image.fromarray(np.roll(wide, 2 * index, axis=1)).save(path, quality=90)
    return paths


def print_label_speeds(name: str, rates: Mapping[str, float]) -> None:
    """As in docs/benchmarks.md; in brackets: how many times as fast as the first side."""
    from rich.console import Console
    from rich.table import Table

    table = Table(*(side.replace("_", " ") for side in rates))
    model, *others = rates.values()
    table.add_row(f"{model:.1f}", *(f"{rate:.1f} ({rate / model:.2f})" for rate in others))
    Console().print(f"Labelling a folder with {name}, pictures/s", table)


def _model(model: PoseModel, *, at_once: int) -> Callable[[], object]:
    contract, batch = model.contract, model.crops_at_once
    crops = np.zeros((batch, 3, contract.input_h, contract.input_w), np.float32)

    def run() -> None:
        with ThreadPoolExecutor(at_once) as pool:
            list(pool.map(model.simcc, [crops] * (PICTURES // batch)))

    return run


def _image(path: Path, pictures: list[Path]) -> Callable[[], object]:
    model, detect = PoseModel(path), WholeFrameDetector()

    def run() -> None:
        for picture in pictures:
            frame = read_image(picture)
            model(frame, detect(frame).boxes_xyxy)

    return run


def _rtmlib(path: Path, pictures: list[Path]) -> Callable[[], object]:
    import cv2
    from rtmlib import RTMPose

    contract = read_contract(path)
    size = contract.input_w, contract.input_h
    with contextlib.redirect_stdout(io.StringIO()):
        pose = RTMPose(str(path), size, backend="onnxruntime", device="cpu")
    return lambda: [pose(cv2.imread(str(picture)), [[0, 0, *SIZE_WH]]) for picture in pictures]
