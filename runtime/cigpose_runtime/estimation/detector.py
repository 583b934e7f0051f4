"""Where the people of a frame are: detectors, any callable from a frame to Detections."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cigpose_runtime.arrays import Floats, Pixels
from cigpose_runtime.errors import InputError
from cigpose_runtime.overlap import iou

MAX_CANDIDATES = 4096
"""Boxes that suppression looks at, those of the best scores: it takes time by their square."""


@dataclass(frozen=True, eq=False)
class Detections:
    """People in a frame: boxes_xyxy (N, 4) float32 in frame pixels and their scores (N,)."""

    boxes_xyxy: Floats
    scores: Floats

    def __post_init__(self) -> None:
        if self.boxes_xyxy.shape != (len(self.scores), 4):
            raise InputError(
                f"detections: expected boxes (N, 4) and scores (N,), found "
                f"{self.boxes_xyxy.shape} and {self.scores.shape}; correct the detector"
            )

    def __len__(self) -> int:
        return len(self.scores)


class Detector(Protocol):
    """Any callable that takes a frame, (H, W, 3) uint8 BGR, and returns Detections."""

    def __call__(self, frame: Pixels) -> Detections: ...


DetectorFor = Callable[[Path], Detector]
"""The detector for a picture or video, by its path: boxes that are given differ with it."""


class WholeFrameDetector:
    """Takes the whole frame for one person: for pictures that are crops already.

    >>> WholeFrameDetector()(np.zeros((480, 640, 3), np.uint8)).boxes_xyxy.tolist()
    [[0.0, 0.0, 640.0, 480.0]]
    """

    def __call__(self, frame: Pixels) -> Detections:
        height, width = frame.shape[:2]
        return Detections(np.array([[0, 0, width, height]], np.float32), np.ones(1, np.float32))


class FixedBoxesDetector:
    """Gives the same boxes for every frame. boxes_xyxy: (N, 4) in frame pixels.

    >>> detector = FixedBoxesDetector([[100, 40, 300, 460]])
    >>> detector(np.zeros((480, 640, 3), np.uint8)).boxes_xyxy.tolist()
    [[100.0, 40.0, 300.0, 460.0]]
    """

    def __init__(self, boxes_xyxy: ArrayLike) -> None:
        boxes = np.asarray(boxes_xyxy, np.float32).reshape(-1, 4)
        self._detections = Detections(boxes, np.ones(len(boxes), np.float32))

    def __call__(self, frame: Pixels) -> Detections:
        return self._detections


def nms(boxes_xyxy: Floats, scores: Floats, threshold: float) -> NDArray[np.intp]:
    """Indices of the boxes to keep, best score first; no two overlap by more than `threshold`.

    Of more than MAX_CANDIDATES boxes, those of the best scores.
    """
    left = np.argsort(-scores, kind="stable")[:MAX_CANDIDATES]
    kept = []
    while left.size:
        kept.append(left[0])
        overlap = iou(boxes_xyxy[left[:1]], boxes_xyxy[left[1:]])[0]
        left = left[1:][overlap <= threshold]
    return np.array(kept, np.intp)


def surest(
    boxes_xyxy: Floats, scores: Floats, *, score_threshold: float, nms_threshold: float
) -> NDArray[np.intp]:
    """As `nms`, of the boxes with at least this score."""
    chosen = np.flatnonzero(scores >= score_threshold)
    return chosen[nms(boxes_xyxy[chosen], scores[chosen], nms_threshold)]
