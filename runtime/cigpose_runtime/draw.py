"""Draws skeletons, with smooth edges: every line and dot by its distance, in numpy alone."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cigpose_runtime.errors import InputError
from cigpose_runtime.poses import Poses

Frame = NDArray[np.uint8]
Colour = tuple[int, int, int]

THRESHOLD = 0.3
"""Least score of a keypoint that is drawn, MMPose's kpt_thr. Scores are raw SimCC peaks."""

# BGR. Blue and orange stay apart for all kinds of colour vision.
LEFT: Colour = (235, 170, 60)
RIGHT: Colour = (30, 130, 255)
CENTRE: Colour = (140, 220, 160)
OUTLINE: Colour = (20, 20, 20)

_FINE_PARTS = ("face", "thumb", "finger", "hand_root")
_FINE = 0.45
"""How thick lines of face and hands are, as a share of the body's."""

_WIDTH_SHARE = 0.011
_MIN_WIDTH, _MAX_WIDTH = 1.5, 14.0
"""Line width in pixels: a share of the box's mean side, within these."""


def draw_poses(frame: Frame, poses: Poses, *, threshold: float = THRESHOLD) -> Frame:
    """A copy of the frame with each person's skeleton on it.

    frame: (H, W, 3) uint8 BGR. Left is blue, right orange, what is neither green; lines are as
    wide as the person's box is large. Keypoints below `threshold` and their lines are left out.
    Raises InputError for another frame.
    """
    if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3:
        raise InputError(
            f"frame: expected uint8 (height, width, 3), found {frame.dtype} {frame.shape}; "
            "convert the picture to 8-bit BGR"
        )
    canvas = frame.copy()
    sides = [_side(name) for name in poses.names]
    fine = [any(part in name for part in _FINE_PARTS) for name in poses.names]
    for person in range(len(poses)):
        box = poses.boxes_xyxy[person]
        share = _WIDTH_SHARE * float(np.sqrt(np.prod(np.maximum(box[2:] - box[:2], 1))))
        width = min(max(share, _MIN_WIDTH), _MAX_WIDTH)
        places = poses.keypoints[person]
        seen = (poses.scores[person] >= threshold) & np.isfinite(places).all(axis=1)
        lines = [(a, b) for a, b in poses.skeleton if seen[a] and seen[b]]
        for a, b in lines:
            thin = width * (_FINE if fine[a] and fine[b] else 1)
            colour = sides[a] if sides[a] == sides[b] else CENTRE
            _capsule(canvas, places[a], places[b], thin / 2 + 1, OUTLINE, 0.45)
            _capsule(canvas, places[a], places[b], thin / 2, colour, 0.95)
        for k in np.flatnonzero(seen):
            radius = width * (_FINE if fine[k] else 1) * 0.85
            _capsule(canvas, places[k], places[k], radius + 1, OUTLINE, 0.6)
            _capsule(canvas, places[k], places[k], radius, sides[k], 1.0)
    return canvas


def _side(name: str) -> Colour:
    if name.startswith("left"):
        return LEFT
    return RIGHT if name.startswith("right") else CENTRE


def _capsule(
    canvas: Frame,
    start: NDArray[np.float32],
    end: NDArray[np.float32],
    radius: float,
    colour: Colour,
    opacity: float,
) -> None:
    """Blends all pixels within `radius` of a segment; those half inside it, half."""
    height, width = canvas.shape[:2]
    low = np.floor(np.minimum(start, end) - radius - 1)
    high = np.ceil(np.maximum(start, end) + radius + 2)
    left, top = (int(v) for v in np.clip(low, 0, (width, height)))
    right, bottom = (int(v) for v in np.clip(high, 0, (width, height)))
    if left >= right or top >= bottom:
        return
    x = np.arange(left, right, dtype=np.float32) - start[0]
    y = np.arange(top, bottom, dtype=np.float32)[:, None] - start[1]
    dx, dy = (float(v) for v in end - start)
    length = dx * dx + dy * dy
    along = np.clip((x * dx + y * dy) / length, 0, 1) if length else np.float32(0)
    distance = np.hypot(x - along * dx, y - along * dy)
    cover = np.clip(radius + 0.5 - distance, 0, 1) * np.float32(opacity)
    part = canvas[top:bottom, left:right]
    blended = part + cover[..., None] * (np.array(colour, np.float32) - part)
    np.rint(blended, out=blended)
    part[:] = blended.astype(np.uint8)
