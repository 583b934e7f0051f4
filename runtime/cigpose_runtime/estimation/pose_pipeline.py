"""From frames to tracked poses: detector, model and tracker in a row."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cigpose_runtime.errors import InputError
from cigpose_runtime.estimation.detector import Detections, Detector
from cigpose_runtime.estimation.frame_model import FrameModel
from cigpose_runtime.estimation.pose_model import PoseModel
from cigpose_runtime.poses import Poses
from cigpose_runtime.tracking.tracker import Tracker

FOLLOWED_SCORE = 0.3
"""Keypoints of at least this score make the next box of a person (MMPose's kpt_thr)."""

FOLLOWED_KEYPOINTS = 3
"""With fewer of them a person is lost until the detector finds them again."""

MARGIN = 0.1
"""By how much of its size such a box is larger than the keypoints' extent, on each side."""


class PosePipeline:
    """Finds the people of each frame, estimates their poses, and tracks them if asked to.

    detect_every: the detector runs on every n-th frame; in between, a person's box is where the
    last pose was. Without a detection there is no person. detector: None for a model that finds the
    people itself, on each frame.
    Raises InputError for detect_every below 1, and above it for such a model.

    >>> from cigpose_runtime import Tracker, YoloxDetector
    >>> detector, model = YoloxDetector("yolox.onnx"), PoseModel("model.onnx")
    >>> pipeline = PosePipeline(detector, model, Tracker(), detect_every=3)
    >>> for frame in np.zeros((2, 480, 640, 3), np.uint8):
    ...     print(pipeline(frame).track_ids)
    [1 2]
    [1 2]
    """

    def __init__(
        self,
        detector: Detector | None,
        model: PoseModel | FrameModel,
        tracker: Tracker | None = None,
        *,
        detect_every: int = 1,
    ) -> None:
        if detect_every < 1:
            raise InputError(
                f"detect_every: expected at least 1, found {detect_every}; 1 detects on each frame"
            )
        if detector is None and not (isinstance(model, FrameModel) and detect_every == 1):
            raise InputError(
                "detector: expected one, found none; only a model with a detector packed into it "
                "does without, and with detect_every=1"
            )
        self.detector = detector
        self.model = model
        self.tracker = tracker
        self.detect_every = detect_every
        self._frames = 0
        self._last = Poses.none(model.keypoint_set)

    def __call__(self, frame: NDArray[np.uint8], found: Detections | None = None) -> Poses:
        """The poses in the next frame, (H, W, 3) uint8 BGR.

        found: what the detector found in it, where it has seen the frame already.
        """
        if self.detector is None:
            assert isinstance(self.model, FrameModel)
            poses = self.model(frame)
        else:
            if self._frames % self.detect_every:
                found = followed(self._last, frame.shape[1], frame.shape[0])
            elif found is None:
                found = self.detector(frame)
            poses = self.model(frame, found.boxes_xyxy, box_scores=found.scores)
        self._frames += 1
        self._last = poses
        return poses if self.tracker is None else self.tracker(poses)

    def follow(self, poses: Poses) -> None:
        """Goes on behind a frame whose poses are known, as those that an earlier run wrote."""
        self._frames += 1
        self._last = poses
        if self.tracker is not None:
            self.tracker(poses)


def followed(poses: Poses, width: int, height: int) -> Detections:
    """Boxes in this frame, of width x height px, for the people of the last one."""
    boxes, scores = [], []
    for index, seen in enumerate(poses.scores >= FOLLOWED_SCORE):
        if seen.sum() < FOLLOWED_KEYPOINTS:
            continue
        places = poses.keypoints[index, seen]
        low, high = places.min(axis=0), places.max(axis=0)
        margin = np.maximum((high - low) * MARGIN, 1)
        box = np.concatenate([low - margin, high + margin])
        if box[2] > 0 and box[3] > 0 and box[0] < width and box[1] < height:
            boxes.append(box)
            scores.append(1.0 if poses.box_scores is None else poses.box_scores[index])
    return Detections(
        np.array(boxes, np.float32).reshape(-1, 4), np.array(scores, np.float32).reshape(-1)
    )
