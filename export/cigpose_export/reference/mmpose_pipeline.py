"""MMPose's own model, pipeline and decoding: from frames and boxes to keypoints, in PyTorch."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cigpose_export.modeling.build import class_path
from cigpose_export.openmmlab import (
    GetBBoxCenterScale,
    PackPoseInputs,
    TopdownAffine,
    pseudo_collate,
)
from cigpose_export.project import Project
from cigpose_export.reference.load import Reference, load_reference
from cigpose_runtime import parse_onnx
from cigpose_runtime.arrays import Floats, Pixels
from cigpose_runtime.keypoints import KeypointSet
from cigpose_runtime.model_file.frame_contract import frame_contract_of
from cigpose_verify.packed.pipeline import MMPose

MOST_CROPS = 16
"""Crops at once."""


class MMPosePipeline:
    """An MMPose estimator with its test pipeline. keypoints: whose mirror images `flip` takes."""

    def __init__(self, reference: Reference, keypoints: KeypointSet, *, flip: bool) -> None:
        # Of MMPose's CSPNeXt, at each call. For good: it runs in a thread beside others.
        warnings.filterwarnings("ignore", "`torch.cuda.amp.autocast", FutureWarning)
        self.estimator, config = reference.estimator, reference.config
        self.estimator.test_cfg["flip_test"] = flip
        self.flip_indices = list(keypoints.flip_indices)
        self.steps = [
            GetBBoxCenterScale(padding=config.box_padding),
            TopdownAffine(input_size=config.codec.input_size),
            PackPoseInputs(),
        ]

    def __call__(self, frames: Sequence[Pixels], boxes: Sequence[Floats]) -> list[Floats]:
        """Poses (people, K, 3) of each frame: x, y in its pixels, score.

        frames: BGR. boxes: for each, (people, 4), left, top, right, bottom.
        """
        samples = [
            self._sample(frame, box)
            for frame, some in zip(frames, boxes, strict=True)
            for box in some
        ]
        poses = []
        for start in range(0, len(samples), MOST_CROPS):
            batch = pseudo_collate(samples[start : start + MOST_CROPS])
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


def mmpose_beside(
    data: bytes,
    *,
    project: str,
    model: dict[str, Any],
    checkpoint: str,
    weights_key: str | None,
    fork: bool,
    threads: int,
) -> MMPose:
    """What a packed file of these bytes is compared with; arguments as of `jobs.worker.record`."""
    torch.set_num_threads(threads)
    there, flip = Project(Path(project)), frame_contract_of(parse_onnx(data)).flip_test
    reference = load_reference(
        there, there.model(**model), Path(checkpoint), weights_key=weights_key, fork=fork
    )
    pipeline = MMPosePipeline(reference, reference.contract().keypoints, flip=flip)
    return MMPose(
        class_path(type(reference.estimator.head)),
        reference.checkpoint.sha256,
        lambda frame, boxes: pipeline([frame], [boxes])[0],
    )
