"""Which person is which, from frame to frame."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from cigpose_runtime.arrays import Floats
from cigpose_runtime.estimation.detector import iou
from cigpose_runtime.poses import Poses

FOUND = 0.2
"""Keypoints above this score are compared."""


def oks(first: Poses, second: Poses) -> Floats:
    """Object keypoint similarity of N with M people, (N, M) in 0..1, over keypoints found in both.

    COCO's exp(-d^2 / (2 area (2 sigma)^2)), with the area of the first one's box for the person's.
    0 where two people have no found keypoint in common.
    """
    sigmas = np.array(first.keypoint_set.oks_sigmas, np.float32)
    sides = first.boxes_xyxy[:, 2:] - first.boxes_xyxy[:, :2]
    area = np.maximum(np.prod(sides, axis=1), 1)[:, None, None]
    squared = ((first.keypoints[:, None] - second.keypoints[None]) ** 2).sum(axis=-1)
    similarity = np.exp(-squared / (2 * area * (2 * sigmas) ** 2))
    common = (first.scores[:, None] > FOUND) & (second.scores[None] > FOUND)
    total = np.where(common, similarity, 0).sum(axis=-1)
    mean: Floats = total / np.maximum(common.sum(axis=-1), 1)
    return mean


@dataclass(frozen=True)
class _Track:
    number: int
    person: Poses
    unseen: int


class Tracker:
    """Gives each person a number that stays, from one call to the next.

    In each frame, pairs of a known and a new person are joined, the most alike first: the mean of
    box overlap (IoU) and keypoint similarity (OKS), if at least `similarity`. A person who is
    out of sight for up to `window` frames keeps the number.

    >>> from cigpose_runtime import PoseModel
    >>> model, tracker = PoseModel("model.onnx"), Tracker()
    >>> frame = np.zeros((480, 640, 3), np.uint8)
    >>> tracker(model(frame, [[100, 40, 300, 460], [350, 60, 520, 470]])).track_ids.tolist()
    [1, 2]
    >>> tracker(model(frame, [[352, 60, 522, 470], [101, 40, 301, 460]])).track_ids.tolist()
    [2, 1]
    """

    def __init__(self, *, similarity: float = 0.3, window: int = 30) -> None:
        self.similarity = similarity
        self.window = window
        self._tracks: list[_Track] = []
        self._next = 1

    def __call__(self, poses: Poses) -> Poses:
        """The same poses with track ids."""
        numbers = self._joined(poses)
        for index in range(len(poses)):
            if index not in numbers:
                numbers[index] = self._next
                self._next += 1
        seen = set(numbers.values())
        missed = [replace(t, unseen=t.unseen + 1) for t in self._tracks if t.number not in seen]
        self._tracks = [track for track in missed if track.unseen <= self.window]
        self._tracks += [_Track(number, poses[index], 0) for index, number in numbers.items()]
        ids = np.array([numbers[index] for index in range(len(poses))], np.int64)
        return replace(poses, track_ids=ids)

    def _joined(self, poses: Poses) -> dict[int, int]:
        """Index of a new person -> number of the known one."""
        numbers: dict[int, int] = {}
        if not self._tracks or not len(poses):
            return numbers
        rows = [
            (iou(track.person.boxes_xyxy, poses.boxes_xyxy) + oks(track.person, poses))[0] / 2
            for track in self._tracks
        ]
        alike = np.stack(rows)
        for place in np.argsort(-alike, axis=None, kind="stable"):
            known, new = np.unravel_index(place, alike.shape)
            if alike[known, new] < self.similarity:
                break
            number = self._tracks[known].number
            if int(new) not in numbers and number not in numbers.values():
                numbers[int(new)] = number
        return numbers
