"""Fits a frame into the input of a detector: scaled as it is, at the top left, grey beside it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cigpose_runtime.arrays import Floats, Pixels

PADDING_LEVEL = 114
"""Grey level beside the picture, in Megvii's preproc and in MMDetection's configs."""


def letterbox(frame: Pixels, input_wh: tuple[int, int]) -> tuple[Floats, float]:
    """A frame as (3, h, w) float32, BGR from 0 to 255, scaled to fit at the top left; the scale."""
    width, height = input_wh
    ratio = min(height / frame.shape[0], width / frame.shape[1])
    new_w, new_h = max(1, int(frame.shape[1] * ratio)), max(1, int(frame.shape[0] * ratio))
    blob = np.full((3, height, width), PADDING_LEVEL, np.float32)
    blob[:, :new_h, :new_w] = np.rint(_resized(frame, (new_w, new_h))).transpose(2, 0, 1)
    return blob, ratio


def _resized(frame: Pixels, size_wh: tuple[int, int]) -> Floats:
    """Bilinear interpolation between pixel centres, as cv2.resize: (h, w, 3) float32."""
    (x, x_next, x_share), (y, y_next, y_share) = (
        _sources(size, there)
        for size, there in zip(size_wh, (frame.shape[1], frame.shape[0]), strict=True)
    )
    rows = frame[y] * (1 - y_share)[:, None, None] + frame[y_next] * y_share[:, None, None]
    resized = rows[:, x] * (1 - x_share)[:, None] + rows[:, x_next] * x_share[:, None]
    return np.asarray(resized, np.float32)


def _sources(size: int, there: int) -> tuple[NDArray[np.intp], NDArray[np.intp], Floats]:
    """For each new pixel along one axis: the pixels before and after it, and the latter's share."""
    places = np.clip((np.arange(size) + 0.5) * (there / size) - 0.5, 0, there - 1)
    before = np.floor(places).astype(np.intp)
    return before, np.minimum(before + 1, there - 1), (places - before).astype(np.float32)
