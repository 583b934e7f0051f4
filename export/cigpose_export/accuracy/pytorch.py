"""MMPose's own model, pipeline and decoding, as the other side of a comparison."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from cigpose_export.accuracy.estimate import BATCH
from cigpose_export.openmmlab import (
    Config,
    GetBBoxCenterScale,
    PackPoseInputs,
    TopdownAffine,
    pseudo_collate,
)
from cigpose_runtime.arrays import Floats, Pixels
from cigpose_runtime.keypoints import KeypointSet


class PyTorchEstimator:
    """An MMPose estimator with its test pipeline, in PyTorch."""

    def __init__(
        self, estimator: Any, config: Config, keypoints: KeypointSet, *, flip: bool
    ) -> None:
        # Of MMPose's CSPNeXt, at each call. For good: it runs in a thread beside others.
        warnings.filterwarnings("ignore", "`torch.cuda.amp.autocast", FutureWarning)
        self.estimator = estimator
        self.estimator.test_cfg["flip_test"] = flip
        self.flip_indices = list(keypoints.flip_indices)
        self.steps = [
            GetBBoxCenterScale(padding=config.box_padding),
            TopdownAffine(input_size=config.codec.input_size),
            PackPoseInputs(),
        ]

    def __call__(self, frames: Sequence[Pixels], boxes: Sequence[Floats]) -> list[Floats]:
        """As `estimate.Estimator`."""
        samples = [
            self._sample(frame, box)
            for frame, some in zip(frames, boxes, strict=True)
            for box in some
        ]
        poses = []
        for start in range(0, len(samples), BATCH):
            batch = pseudo_collate(samples[start : start + BATCH])
            with torch.no_grad():
                for answer in self.estimator.test_step(batch):
                    found = answer.pred_instances
                    pose = np.concatenate([found.keypoints, found.keypoint_scores[..., None]], -1)
                    poses.append(pose.astype(np.float32))
        return np.split(np.concatenate(poses), np.cumsum([len(some) for some in boxes])[:-1])

    def _sample(self, frame: Pixels, box: Floats) -> Any:
        sample: Any = {
            "img": frame,
            "img_shape": frame.shape[:2],
            "ori_shape": frame.shape[:2],
            "bbox": box[None],
            "bbox_score": np.ones(1, np.float32),
            "flip_indices": self.flip_indices,
        }
        for step in self.steps:
            sample = step.transform(sample)
        return sample
