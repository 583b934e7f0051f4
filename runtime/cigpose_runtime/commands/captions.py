"""Writes on a picture who is who and what is where, with Pillow's own font."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from cigpose_runtime.arrays import Pixels
from cigpose_runtime.draw import CENTRE, OUTLINE
from cigpose_runtime.errors import printable
from cigpose_runtime.poses import Poses

MOST_CHARACTERS = 40
"""Of a name."""

_SIZES = 9, 40
_ID_SHARE, _NAME_SHARE = 0.11, 0.05
"""Height of a letter: a share of the box's mean side, within _SIZES pixels."""


def draw_captions(
    canvas: Pixels, poses: Poses, *, ids: bool, names: bool, threshold: float
) -> None:
    """Writes on the canvas, (H, W, 3) uint8 BGR, itself.

    ids: each person's track id, if there is one, at the top left of the box. names: of each
    keypoint of at least `threshold`, beside it.
    """
    for index in range(len(poses)):
        box = poses.boxes_xyxy[index]
        side = float(np.sqrt(np.prod(np.maximum(box[2:] - box[:2], 1))))
        if names:
            size = _letter(side * _NAME_SHARE)
            for name, place, score in zip(
                poses.names, poses.keypoints[index], poses.scores[index], strict=True
            ):
                if score >= threshold and np.isfinite(place).all():
                    _write(canvas, name, place[0] + size / 2, place[1] - size / 2, size)
        if ids and poses.track_ids is not None:
            size = _letter(side * _ID_SHARE)
            _write(canvas, str(poses.track_ids[index]), box[0], box[1] - 1.2 * size, size)


def _letter(pixels: float) -> int:
    return round(min(max(pixels, _SIZES[0]), _SIZES[1]))


def _write(canvas: Pixels, text: str, left: float, top: float, size: int) -> None:
    """Text on a dark ground, moved into the canvas where that is possible."""
    letters = _letters(printable(text)[:MOST_CHARACTERS], size)
    height, width = letters.shape
    rows, columns = canvas.shape[:2]
    x = int(np.clip(left, 0, max(columns - width, 0)))
    y = int(np.clip(top, 0, max(rows - height, 0)))
    part = canvas[y : y + height, x : x + width]
    cover = letters[: part.shape[0], : part.shape[1], None]
    ground = 0.5 * part + 0.5 * np.array(OUTLINE)
    part[:] = np.rint(ground + cover * (np.array(CENTRE) - ground)).astype(np.uint8)


@lru_cache(maxsize=1024)
def _letters(text: str, size: int) -> NDArray[np.float32]:
    """How much of each pixel the text covers, (H, W) 0 to 1, with a margin."""
    from PIL import Image, ImageDraw, ImageFont

    font = ImageFont.load_default(size)
    left, top, right, bottom = font.getbbox(text)
    margin = max(size // 6, 1)
    wide, high = int(right - left) + 2 * margin, int(bottom - top) + 2 * margin
    picture = Image.new("L", (wide, high))
    ImageDraw.Draw(picture).text((margin - left, margin - top), text, fill=255, font=font)
    return np.asarray(picture, np.float32) / np.float32(255)
