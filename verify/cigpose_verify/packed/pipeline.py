"""A packed file beside MMPose: its model in PyTorch, behind its own pipeline, in frame pixels."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from cigpose_runtime.arrays import Floats, Pixels
from cigpose_runtime.estimation.preprocess import boxes_to_crops
from cigpose_verify.measures.keypoints import LEAST_IN_PLACE, MOST_ELSEWHERE
from cigpose_verify.measures.tolerances import RELATIVE_TOLERANCE, scale_of
from cigpose_verify.packed.subject import Subject

PEOPLE = 8
"""In each frame."""

SAME_PLACE = 0.1
"""Of a bin, the largest distance along an axis of keypoints in the same bin. Measured: 0."""


@dataclass(frozen=True)
class MMPose:
    """MMPose's side. head: the class of its head. estimate: of a BGR frame and boxes (people, 4),
    poses (people, K, 3): x, y in the frame's pixels, score."""

    head: str
    checkpoint_sha256: str
    estimate: Callable[[Pixels, Floats], Floats]


class BesideMMPose:
    """What is compared, frame by frame, and how far apart the sides are."""

    def __init__(self, subject: Subject, mmpose: MMPose) -> None:
        self.subject, self.mmpose = subject, mmpose
        self.in_place: list[float] = []
        """By person, the share of keypoints that are where MMPose's are."""
        self.score_error = 0.0
        """Of keypoints in the same place, over what it may be."""

    def problems(
        self, frames: Mapping[str, Pixels], boxes_of: Callable[[Pixels, int], Floats]
    ) -> Iterator[str]:
        """Runs both sides. boxes_of: boxes for a frame, so many of them."""
        source = self.subject.contract.model.source_checkpoint
        if source is not None and source.sha256 != self.mmpose.checkpoint_sha256:
            yield (
                f"expected to be compared with the checkpoint that it is from, {source.file}, "
                "found another; give it with --checkpoint"
            )
            return
        for name, frame in frames.items():
            if self.subject.yolox is None:
                boxes = boxes_of(frame, self.subject.fixed_people or PEOPLE)
                keypoints, scores = self.subject.run(frame, boxes)
            else:
                boxes, _, keypoints, scores = self.subject.run(frame, None)
            if len(boxes):
                yield from self._compare(name, frame, boxes, keypoints, scores)
        moved = sum(share < LEAST_IN_PLACE for share in self.in_place)
        if moved > MOST_ELSEWHERE * len(self.in_place):
            yield (
                f"{moved} of {len(self.in_place)} people have less than {LEAST_IN_PLACE:.0%} of "
                f"their keypoints where MMPose has them, {self.mean:.1%} on average"
            )

    @property
    def mean(self) -> float:
        """The share of all keypoints that are where MMPose's are."""
        return float(np.mean(self.in_place)) if self.in_place else 0.0

    @property
    def note(self) -> str:
        """What was found, for the report."""
        return (
            f"beside MMPose's pipeline: {len(self.in_place)} people, {self.mean:.2%} of their "
            f"keypoints in the same place, scores within {self.score_error:.1%} of the tolerance"
        )

    def _compare(
        self, name: str, frame: Pixels, boxes: Floats, keypoints: Floats, scores: Floats
    ) -> Iterator[str]:
        contract = self.subject.contract.model
        poses = self.mmpose.estimate(np.ascontiguousarray(frame[:, :, :3]), boxes)
        expected, sure = poses[..., :2], poses[..., 2]
        input_wh = contract.input_w, contract.input_h
        _, scales = boxes_to_crops(boxes, input_wh, contract.box_padding)
        bins = (scales / np.array(input_wh) / contract.split_ratio)[:, None]
        # Where MMPose finds nothing, the place means nothing.
        near = (np.abs(keypoints - expected) <= SAME_PLACE * bins).all(axis=-1) | (sure <= 0)
        self.in_place += near.mean(axis=1).tolist()
        off, allowed = np.abs(scores - sure)[near], RELATIVE_TOLERANCE * scale_of(sure)
        if off.size:
            self.score_error = max(self.score_error, float(off.max()) / allowed)
        if not (off <= allowed).all():
            yield (
                f"{name}: scores up to {float(off.max()):.3g} from MMPose's where keypoints are in "
                f"the same place; at most {allowed:.3g}"
            )
