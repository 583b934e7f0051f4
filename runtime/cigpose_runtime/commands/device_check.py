"""Whether a device gives the CPU's answer, and sooner: compared on one input, before the work."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

from cigpose_runtime.estimation.frame_model import FrameModel
from cigpose_runtime.estimation.pose_model import PoseModel
from cigpose_runtime.poses import Poses
from cigpose_runtime.releases.golden import largest_tolerance

Model = PoseModel | FrameModel

FRAME_SHAPE: tuple[int, ...] = 480, 640, 3
BOX_XYXY = 0.3, 0.1, 0.7, 0.95
"""Of a person, in parts of the frame."""

RUNS = 3
SLOWER = 1.25
"""Times the CPU's seconds, from which a device is called slower; below, it may be chance."""


def compare_with_cpu(
    model: Model,
    on_cpu: Model,
    device: str,
    *,
    clock: Callable[[], float] = time.perf_counter,
) -> list[str]:
    """What speaks against a device, a line each; none if it is as right as the CPU and as fast.

    Both run on one person in a seeded picture, once to warm up and then RUNS times. Scores may
    differ by as much as golden vectors allow the outputs to, of which each is one value.
    """
    if isinstance(model, FrameModel):
        contract, takes_boxes = model.contract.model, not model.finds_people
        shape = model.fixed_frame_shape or FRAME_SHAPE
    else:
        contract, takes_boxes, shape = model.contract, True, FRAME_SHAPE
    frame = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    boxes = np.multiply([BOX_XYXY], [shape[1], shape[0]] * 2)
    feed = (frame, boxes) if takes_boxes else (frame,)
    found, seconds = _run(lambda: model(*feed), clock)
    expected, cpu_seconds = _run(lambda: on_cpu(*feed), clock)
    lines = []
    if len(found) != len(expected):
        lines.append(
            f"--device {device}: expected the CPU's answer, found {len(found)} people in place of "
            f"{len(expected)}; --device cpu is right"
        )
    elif len(expected):
        error = float(np.abs(found.scores - expected.scores).max())
        allowed = largest_tolerance(expected.scores, contract.precision)
        if not error <= allowed:  # not a number is no agreement
            lines.append(
                f"--device {device}: expected the CPU's answer, found scores that differ by "
                f"{error:.2g}, at most {allowed:.1g} being rounding; --device cpu is right"
            )
    if seconds > SLOWER * cpu_seconds:
        lines.append(
            f"--device {device}: expected less time than on the CPU, found {seconds * 1000:.0f} ms "
            f"in place of {cpu_seconds * 1000:.0f} for one person; --device cpu is faster"
        )
    return lines


def _run(work: Callable[[], Poses], clock: Callable[[], float]) -> tuple[Poses, float]:
    """What it answers, and the least of the seconds that it takes."""
    poses = work()
    times = []
    for _ in range(RUNS):
        started = clock()
        work()
        times.append(clock() - started)
    return poses, min(times)
