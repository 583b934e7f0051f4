"""How alike two poses are."""

from __future__ import annotations

import numpy as np

from cigpose_runtime.arrays import Floats
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
