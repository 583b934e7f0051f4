"""What pose estimation returns: the people of one frame."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cigpose_runtime.arrays import Floats
from cigpose_runtime.errors import InputError
from cigpose_runtime.keypoints import KeypointSet, Pairs

PERSON_SCORE_THRESHOLD = 0.2
"""Keypoints up to this score have no part in a person's (CocoMetric's keypoint_score_thr)."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Poses:
    """N people with K keypoints each; the arrays are read-only.

    keypoints: (N, K, 2) float32, x and y in frame pixels; they may lie outside the frame. Where a
        keypoint was not found (score <= 0), the place means nothing.
    scores: (N, K) float32, the raw SimCC peak: the lower of the highest logits along x and y. It is
        no probability: above 0, often between 0.3 and 1 where the keypoint is seen, sometimes
        above 1. MMPose draws from 0.3 upwards and ranks with what is above 0.2.
    boxes_xyxy: (N, 4) float32, the boxes that were given, in frame pixels.
    box_scores: (N,) float32, or None where the boxes came with none.
    track_ids: (N,) int64, or None where nothing tracks.
    Raises InputError for other shapes or types.

    >>> from cigpose_runtime import PoseModel
    >>> model = PoseModel("model.onnx")
    >>> poses = model(np.zeros((480, 640, 3), np.uint8), [[0, 0, 320, 480], [320, 0, 640, 480]])
    >>> len(poses), poses.names[0], poses[1].boxes_xyxy.tolist()
    (2, 'nose', [[320.0, 0.0, 640.0, 480.0]])
    >>> confident = poses[poses.person_scores > 0.5]
    """

    keypoints: Floats
    scores: Floats
    boxes_xyxy: Floats
    keypoint_set: KeypointSet
    box_scores: Floats | None = None
    track_ids: NDArray[np.int64] | None = None

    def __post_init__(self) -> None:
        people, count = len(self.keypoints), len(self.keypoint_set.names)
        expected: dict[str, tuple[tuple[int, ...], Any]] = {
            "keypoints": ((people, count, 2), np.float32),
            "scores": ((people, count), np.float32),
            "boxes_xyxy": ((people, 4), np.float32),
            "box_scores": ((people,), np.float32),
            "track_ids": ((people,), np.int64),
        }
        for name, (shape, dtype) in expected.items():
            value = getattr(self, name)
            if value is not None:
                object.__setattr__(self, name, _read_only(name, value, shape, dtype))

    def __setstate__(self, state: dict[str, Any]) -> None:
        for name, value in state.items():
            if isinstance(value, np.ndarray):
                value.setflags(write=False)  # pickle does not keep it
            object.__setattr__(self, name, value)

    @classmethod
    def none(cls, keypoint_set: KeypointSet) -> Poses:
        """Of a frame without people: arrays of length 0 and the right shapes."""
        count = len(keypoint_set.names)
        return cls(
            keypoints=np.zeros((0, count, 2), np.float32),
            scores=np.zeros((0, count), np.float32),
            boxes_xyxy=np.zeros((0, 4), np.float32),
            keypoint_set=keypoint_set,
        )

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the K keypoints."""
        return self.keypoint_set.names

    @property
    def skeleton(self) -> Pairs:
        """The index pairs that a drawing connects."""
        return self.keypoint_set.skeleton

    @property
    def person_scores(self) -> Floats:
        """(N,) float32 for ranking, as MMPose's CocoMetric with score_mode 'bbox_keypoint'.

        The mean of a person's keypoint scores above 0.2, times the score of the box if there is
        one; 0 where no keypoint is above.
        """
        counted = self.scores > PERSON_SCORE_THRESHOLD
        totals = np.where(counted, self.scores, 0).sum(axis=1)
        means = totals / np.maximum(counted.sum(axis=1), 1)
        ranked: Floats = means if self.box_scores is None else means * self.box_scores
        return ranked.astype(np.float32)

    def __len__(self) -> int:
        return len(self.keypoints)

    def __getitem__(self, which: int | slice | ArrayLike) -> Poses:
        """Some of the people: by index (gives one person), slice, indices or a mask (N,)."""
        if isinstance(which, int | np.integer):
            which = slice(int(which), int(which) + 1 or None)
            if not len(self.keypoints[which]):
                raise IndexError(f"there are {len(self)} people, found index {which.start}")
        chosen = which if isinstance(which, slice) else np.asarray(which)
        if isinstance(chosen, np.ndarray) and chosen.size == 0:
            chosen = chosen.astype(np.intp)
        arrays = {
            field.name: value[chosen]
            for field in fields(self)
            if isinstance(value := getattr(self, field.name), np.ndarray)
        }
        return Poses(keypoint_set=self.keypoint_set, **arrays)

    def __iter__(self) -> Iterator[Poses]:
        """One Poses a person."""
        return (self[index] for index in range(len(self)))


def _read_only(name: str, value: ArrayLike, shape: tuple[int, ...], dtype: Any) -> NDArray[Any]:
    given = np.asarray(value)
    if given.shape != shape or not np.can_cast(given.dtype, dtype, "same_kind"):
        raise InputError(
            f"{name}: expected {np.dtype(dtype)} {shape}, found {given.dtype} {given.shape}; "
            "give all arrays for the same people and keypoints"
        )
    array: NDArray[Any] = given.astype(dtype)
    array.setflags(write=False)
    return array
