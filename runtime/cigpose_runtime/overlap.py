"""How much boxes overlap."""

from __future__ import annotations

import numpy as np

from cigpose_runtime.arrays import Floats


def iou(first_xyxy: Floats, second_xyxy: Floats) -> Floats:
    """Intersection over union of each box (N, 4) with each (M, 4): (N, M)."""
    first, second = first_xyxy[:, None], second_xyxy[None]
    top_left = np.maximum(first[..., :2], second[..., :2])
    bottom_right = np.minimum(first[..., 2:], second[..., 2:])
    shared = np.prod(np.maximum(bottom_right - top_left, 0), axis=-1)
    areas = [np.prod(boxes[..., 2:] - boxes[..., :2], axis=-1) for boxes in (first, second)]
    overlap: Floats = shared / np.maximum(areas[0] + areas[1] - shared, np.float32(1e-9))
    return overlap
