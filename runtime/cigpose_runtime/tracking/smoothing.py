"""Keypoints without their jitter: the One-Euro filter."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cigpose_runtime.arrays import Floats
from cigpose_runtime.errors import InputError
from cigpose_runtime.poses import Poses

MIN_CUTOFF = 1.0
"""Hz, at rest (the paper's). At 30 frames a second it leaves a quarter of the jitter."""

BETA = 10.0
"""By how many Hz the cutoff rises for a speed of one box side a second. Who walks is then 12 ms
late, with two thirds of the jitter; with 5, 20 ms late and farther from the truth than unsmoothed
(tests/runtime/test_smoothing.py)."""

SPEED_CUTOFF = 1.0
"""Hz, of the speed itself (the paper's)."""

LEAST_STEP_S = 0.001
"""Between two frames: the times of some repeat."""


@dataclass(frozen=True)
class _State:
    """Of one person: keypoints (K, 2), their speeds in pixels a second, and which were found."""

    seconds: float
    keypoints: Floats
    speeds: Floats
    found: NDArray[np.bool_]


class Smoother:
    """Smooths the keypoints of each tracked person over time, each by itself.

    The One-Euro filter (Casiez, Roussel and Vogel, CHI 2012): a low-pass filter whose cutoff rises
    with speed, so that what rests does not shake, and what moves does not lag. min_cutoff: Hz, less
    for less jitter. beta: Hz for each box side a second, more for less lag. What was not found
    (score <= 0) is left as it is; a keypoint or person that is found again starts anew.
    Raises InputError for a min_cutoff that is not above 0 or a beta below 0.

    >>> from cigpose_runtime import PoseModel, Tracker
    >>> model, track, smooth = PoseModel("model.onnx"), Tracker(), Smoother()
    >>> frame = np.zeros((480, 640, 3), np.uint8)
    >>> for number in range(2):
    ...     poses = smooth(track(model(frame, [[100, 40, 300, 460]])), number / 25)
    >>> poses.keypoints.shape
    (1, 17, 2)
    """

    def __init__(self, *, min_cutoff: float = MIN_CUTOFF, beta: float = BETA) -> None:
        if not (min_cutoff > 0 and beta >= 0):
            raise InputError(
                f"min_cutoff, beta: expected more than 0 and at least 0, found {min_cutoff:g} and "
                f"{beta:g}; correct them"
            )
        self.min_cutoff = min_cutoff
        self.beta = beta
        self._states: dict[int, _State] = {}

    def __call__(self, poses: Poses, seconds: float) -> Poses:
        """The same poses, smoothed; at `seconds` of the video.

        Raises InputError for poses without track ids.
        """
        if poses.track_ids is None:
            raise InputError("track_ids: expected those of a Tracker, found none; track first")
        states: dict[int, _State] = {}
        for index, number in enumerate(poses.track_ids.tolist()):
            states[number] = self._next(self._states.get(number), poses[index], seconds)
        self._states = states
        keypoints = [state.keypoints for state in states.values()]
        return replace(poses, keypoints=np.array(keypoints).reshape(poses.keypoints.shape))

    def _next(self, last: _State | None, person: Poses, seconds: float) -> _State:
        measured, found = person.keypoints[0], person.scores[0] > 0
        if last is None:
            return _State(seconds, measured, np.zeros_like(measured), found)
        step = max(seconds - last.seconds, LEAST_STEP_S)
        known = (found & last.found)[:, None]
        moved = np.where(known, measured - last.keypoints, 0)
        speeds = last.speeds + _share(SPEED_CUTOFF, step) * (moved / step - last.speeds)
        side = max(float((person.boxes_xyxy[0, 2:] - person.boxes_xyxy[0, :2]).max()), 1)
        cutoff = self.min_cutoff + self.beta * np.hypot(*speeds.T)[:, None] / side
        smoothed = last.keypoints + _share(cutoff, step) * moved
        keypoints = np.where(known, smoothed, measured).astype(np.float32)
        return _State(seconds, keypoints, np.where(known, speeds, 0).astype(np.float32), found)


def _share(cutoff: ArrayLike, step: float) -> NDArray[np.float64]:
    """Of what is new, that goes into the average: the paper's alpha."""
    share: NDArray[np.float64] = 1 / (1 + 1 / (2 * np.pi * np.asarray(cutoff) * step))
    return share
