"""Which person is which, from frame to frame."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from cigpose_runtime.arrays import Floats
from cigpose_runtime.overlap import iou
from cigpose_runtime.poses import Poses
from cigpose_runtime.tracking.assignment import assign
from cigpose_runtime.tracking.likeness import oks
from cigpose_runtime.tracking.motion import Motion

REACH = 2.5
"""Standard deviations of the motion within which two who are hardly alike may be the same."""

MOST_GROWTH = 1.5
"""By what factor the height may differ of such people."""


@dataclass(frozen=True)
class _Track:
    number: int
    person: Poses
    motion: Motion
    unseen: int = 0

    def next(self) -> _Track:
        """A frame later: moved on, with the pose that was last seen."""
        motion = self.motion.next()
        step = np.tile(motion.value[:2] - self.motion.value[:2], 2).astype(np.float32)
        moved = replace(
            self.person,
            keypoints=self.person.keypoints + step[:2],
            boxes_xyxy=self.person.boxes_xyxy + step,
        )
        return _Track(self.number, moved, motion, self.unseen + 1)

    def seen(self, person: Poses) -> _Track:
        return _Track(self.number, person, self.motion.seen(person.boxes_xyxy[0]))


class Tracker:
    """Gives each person a number that stays, from one call to the next, one for each frame.

    Each known person has moved on since the last frame as a Kalman filter predicts. New ones are
    joined with them so that pairs are most alike in all: by the mean of box overlap (IoU) and
    keypoint similarity (OKS), if at least `similarity`. Who is left over on both sides is joined
    by distance, within what the prediction leaves open: much after a person's first frame, so that
    runners are followed and videos of few frames a second. A person who is out of sight for up to
    `window` frames keeps the number.

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
        tracks = [track.next() for track in self._tracks]
        track_of = self._joined(tracks, poses)
        for index, known in track_of.items():
            tracks[known] = tracks[known].seen(poses[index])
        ids = np.empty(len(poses), np.int64)
        for index in range(len(poses)):
            if index not in track_of:
                track_of[index] = len(tracks)
                person = poses[index]
                tracks.append(_Track(self._next, person, Motion.of(person.boxes_xyxy[0])))
                self._next += 1
            ids[index] = tracks[track_of[index]].number
        self._tracks = [track for track in tracks if track.unseen <= self.window]
        return replace(poses, track_ids=ids)

    def _joined(self, tracks: Sequence[_Track], poses: Poses) -> dict[int, int]:
        """Index of a new person -> index of the known one."""
        track_of: dict[int, int] = {}
        if not tracks or not len(poses):
            return track_of
        alike = np.stack([_likeness(track, poses) for track in tracks])
        alike[alike < self.similarity] = 0
        near = np.stack([_nearness(track, poses) for track in tracks])
        for worth in (alike, near):
            known = [i for i in range(len(tracks)) if i not in track_of.values()]
            new = [i for i in range(len(poses)) if i not in track_of]
            for row, column in assign(worth[np.ix_(known, new)]):
                track_of[new[column]] = known[row]
        return track_of


def _likeness(track: _Track, poses: Poses) -> Floats:
    """Of a person with N others, (N,): mean of IoU and OKS, where the person should be."""
    overlap = iou(track.motion.box_xyxy[None], poses.boxes_xyxy)
    mean: Floats = (overlap + oks(track.person, poses))[0] / 2
    return mean


def _nearness(track: _Track, poses: Poses) -> NDArray[np.float64]:
    """Of a person with N others, (N,): 1 where the person should be, 0 from REACH on."""
    if track.motion.has_left:
        return np.zeros(len(poses))
    heights = np.maximum(poses.boxes_xyxy[:, 3] - poses.boxes_xyxy[:, 1], 1)
    growth = np.abs(np.log(heights / max(track.motion.value[3], 1)))
    near = 1 - track.motion.distances(poses.boxes_xyxy) / REACH
    return np.where(growth <= np.log(MOST_GROWTH), near, 0)
