"""Poses made up for tests."""

import numpy as np

from cigpose_runtime import Poses
from tiny_onnx import SET_OF


def people(count, *, k=17, seed=0, shift=(0, 0), **changes):
    """`count` people in boxes side by side, their keypoints spread over their boxes."""
    rng = np.random.default_rng(seed)
    lefts = 20 + 120 * np.arange(count)[:, None]
    boxes = np.hstack([lefts, np.full((count, 1), 30), lefts + 80, np.full((count, 1), 230)])
    places = rng.random((1, k, 2)) * (80, 200) + np.stack([lefts, np.full_like(lefts, 30)], -1)
    arrays = {
        "keypoints": (places + shift).astype(np.float32),
        "scores": np.full((count, k), 0.8, np.float32),
        "boxes_xyxy": (boxes + np.tile(shift, 2)).astype(np.float32),
    }
    return Poses(keypoint_set=SET_OF[k], **{**arrays, **changes})
