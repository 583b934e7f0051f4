"""`cigpose-runtime bench`: how fast a model is on this machine, and where the time goes."""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass

import numpy as np

from cigpose_runtime.arrays import Floats, Pixels
from cigpose_runtime.commands import options
from cigpose_runtime.errors import CigposeError, InputError
from cigpose_runtime.estimation.decode import decode_simcc, to_frame
from cigpose_runtime.estimation.frame_model import FrameModel
from cigpose_runtime.estimation.pose_model import PoseModel
from cigpose_runtime.estimation.preprocess import boxes_to_crops, make_input
from cigpose_runtime.terminal import echo

JSON_SCHEMA_VERSION = 1

PEOPLE = (1, 4, 16)
FRAME_WH = 1280, 720


@dataclass(frozen=True)
class Timing:
    """Medians for so many people in one frame: milliseconds a person, and people per second.

    A packed file has pre- and postprocessing inside: they are part of model_ms.
    """

    people: int
    preprocess_ms: float
    model_ms: float
    postprocess_ms: float
    people_per_second: float


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds the subcommand to those of `cigpose-runtime`."""
    parser = commands.add_parser(
        "bench",
        help="measure how fast a model is on this machine",
        description="Times preprocessing, model and postprocessing on a seeded picture of "
        f"{FRAME_WH[0]} x {FRAME_WH[1]} with 1, 4 and 16 people.",
    )
    options.add_options(parser)
    parser.add_argument(
        "--rounds",
        type=options.whole_number(1, 1_000_000),
        default=10,
        metavar="N",
        help="[default: 10]",
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> list[CigposeError]:
    """Measures and prints."""
    model = options.open_model(args, alone=True)
    if isinstance(model, FrameModel) and model.finds_people:
        raise InputError(
            f"{args.model}: expected a model that takes boxes, found one that finds the people "
            "itself, of whom the picture has none; pack it without --detector"
        )
    timings = [measure(model, people, args.rounds) for people in PEOPLE]
    if args.json:
        document = {
            "schema_version": JSON_SCHEMA_VERSION,
            "model": str(args.model),
            "device": args.device,
            "timings": [asdict(timing) for timing in timings],
        }
        sys.stdout.write(json.dumps(document, indent=1) + "\n")
        return []
    headings = ("people", "pre ms", "model ms", "post ms", "people/s")
    echo(" ".join(f"{heading:>9}" for heading in headings))
    for timing in timings:
        cells = [f"{value:9.2f}" for value in list(asdict(timing).values())[1:]]
        echo(" ".join([f"{timing.people:9d}", *cells]))
    return []


def measure(model: PoseModel | FrameModel, people: int, rounds: int) -> Timing:
    """Times the stages that calling a model goes through, after one round to warm up."""
    rng = np.random.default_rng(0)
    frame = rng.integers(0, 256, (FRAME_WH[1], FRAME_WH[0], 3), np.uint8)
    left, top = rng.random((2, people)) * np.array([FRAME_WH]).T * 0.7
    boxes = np.stack([left, top, left + 150, top + 350], axis=1).astype(np.float32)
    model(frame, boxes)
    times: dict[str, list[float]] = {"pre": [], "model": [], "post": []}
    for _ in range(rounds):
        if isinstance(model, FrameModel):
            with _stopwatch(times["model"]):
                model(frame, boxes)
        else:
            _time_stages(model, frame, boxes, times)
    pre, model_s, post = (
        statistics.median(times[stage] or [0.0]) for stage in ("pre", "model", "post")
    )
    return Timing(
        people=people,
        preprocess_ms=round(pre / people * 1000, 3),
        model_ms=round(model_s / people * 1000, 3),
        postprocess_ms=round(post / people * 1000, 3),
        people_per_second=round(people / (pre + model_s + post), 2),
    )


def _time_stages(
    model: PoseModel, frame: Pixels, boxes: Floats, times: dict[str, list[float]]
) -> None:
    contract = model.contract
    input_wh = contract.input_w, contract.input_h
    with _stopwatch(times["pre"]):
        centers, scales = boxes_to_crops(boxes, input_wh, contract.box_padding)
        crops = make_input(frame, centers, scales, contract)
    with _stopwatch(times["model"]):
        at_once = model.crops_at_once
        parts = [model.simcc(crops[i : i + at_once]) for i in range(0, len(crops), at_once)]
    with _stopwatch(times["post"]):
        simcc_x, simcc_y = (np.concatenate(part) for part in zip(*parts, strict=True))
        keypoints, _ = decode_simcc(simcc_x, simcc_y, contract.split_ratio)
        to_frame(keypoints, centers, scales, input_wh)


@contextmanager
def _stopwatch(times: list[float]) -> Iterator[None]:
    started = time.perf_counter()
    yield
    times.append(time.perf_counter() - started)
