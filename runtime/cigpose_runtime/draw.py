"""Draws skeletons with smooth edges: all lines and dots of a person at once, in numpy alone."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from cigpose_runtime.arrays import Pixels
from cigpose_runtime.errors import InputError
from cigpose_runtime.poses import Poses

Colour = tuple[int, int, int]
Reals = NDArray[np.floating]

THRESHOLD = 0.3
"""Least score of a keypoint that is drawn, MMPose's kpt_thr. Scores are raw SimCC peaks."""

# BGR. Blue and orange stay apart for all kinds of colour vision.
LEFT: Colour = (235, 170, 60)
RIGHT: Colour = (30, 130, 255)
CENTRE: Colour = (140, 220, 160)
OUTLINE: Colour = (20, 20, 20)

_FINE_PARTS = ("face", "left hand", "right hand")
_FINE = 0.45
"""How thick lines of face and hands are, as a share of the body's."""

_EDGE_OPACITY = np.float32(0.5)
_PIXELS_AT_ONCE = 1 << 15
"""Roughly: what is computed of so many stays in a cache, which halves the time of 1 << 20."""
_WIDTH_SHARE = 0.011
_MIN_WIDTH, _MAX_WIDTH = 1.5, 14.0
"""Line width in pixels: a share of the box's mean side, within these."""


def draw_poses(frame: Pixels, poses: Poses, *, threshold: float = THRESHOLD) -> Pixels:
    """A copy of the frame with each person's skeleton on it.

    frame: (H, W, 3) uint8 BGR. Left is blue, right orange, what is neither green; lines are as
    wide as the person's box is large. Keypoints below `threshold` and their lines are left out.
    Raises InputError for another frame.

    >>> from cigpose_runtime import PoseModel
    >>> frame = np.zeros((480, 640, 3), np.uint8)
    >>> poses = PoseModel("model.onnx")(frame, [[100, 40, 300, 460]])
    >>> draw_poses(frame, poses, threshold=0.3).shape
    (480, 640, 3)
    """
    if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3:
        raise InputError(
            f"frame: expected uint8 (height, width, 3), found {frame.dtype} {frame.shape}; "
            "convert the picture to 8-bit BGR"
        )
    canvas = frame.copy()
    colours = np.array([_side(name) for name in poses.names], np.float32)
    thickness = np.ones(len(poses.names))
    for part, where in poses.keypoint_set.parts.items():
        thickness[where] = _FINE if part in _FINE_PARTS else 1
    a, b = np.array(poses.skeleton, np.intp).reshape(-1, 2).T
    both = np.where((colours[a] == colours[b]).all(axis=1)[:, None], colours[a], CENTRE)
    thin = np.maximum(thickness[a], thickness[b])
    for person in range(len(poses)):
        box = poses.boxes_xyxy[person]
        share = _WIDTH_SHARE * float(np.sqrt(np.prod(np.maximum(box[2:] - box[:2], 1))))
        width = min(max(share, _MIN_WIDTH), _MAX_WIDTH)
        places = poses.keypoints[person].astype(np.float64)
        seen = (poses.scores[person] >= threshold) & np.isfinite(places).all(axis=1)
        lines = seen[a] & seen[b]
        _paint(
            canvas,
            starts=np.concatenate([places[a][lines], places[seen]]),
            ends=np.concatenate([places[b][lines], places[seen]]),
            radii=width * np.concatenate([0.5 * thin[lines], 0.85 * thickness[seen]]),
            colours=np.concatenate([both[lines], colours[seen]]),
        )
    return canvas


def _side(name: str) -> Colour:
    if name.startswith("left"):
        return LEFT
    return RIGHT if name.startswith("right") else CENTRE


def _paint(canvas: Pixels, *, starts: Reals, ends: Reals, radii: Reals, colours: Reals) -> None:
    """Blends strokes with round ends over a pixel of dark edge, which lies below all of them.

    Where strokes meet, the one that covers more of a pixel is seen, of equal ones the last.
    """
    reach = radii + 1.5
    low = np.maximum(np.minimum(starts, ends) - reach[:, None], 0)
    high = np.minimum(np.maximum(starts, ends) + reach[:, None], canvas.shape[1::-1])
    some = (low < high).all(axis=1)
    if not some.any():
        return
    left, top = (int(v) for v in low[some].min(axis=0))
    right, bottom = (int(v) + 1 for v in high[some].max(axis=0))
    part = canvas[top:bottom, left:right]
    starts, ends = starts - (left, top), ends - (left, top)
    height, width = part.shape[:2]
    most = np.full(height * width, -1, np.float32)
    seen = np.zeros(height * width, np.intp)
    for strokes in _groups(starts, ends, reach):
        pixel, index, distance = _near(starts[strokes], ends[strokes], reach[strokes], part)
        cover = np.minimum((radii[strokes] + 0.5).astype(np.float32)[index] - distance, 1)
        np.maximum.at(most, pixel, cover)
        shown = np.flatnonzero((cover > 0) & (cover >= most[pixel]))
        seen[pixel[shown]] = index[shown] + strokes.start
    touched = np.flatnonzero(most > -1)
    most, seen = most[touched], seen[touched]
    flat = part.reshape(-1, 3)  # a copy, unless the part is as wide as the canvas
    edge, inner = _EDGE_OPACITY * np.minimum(most + 1, 1), np.maximum(most, 0)
    for channel, outline, colour in zip(flat.T, OUTLINE, colours.T, strict=True):
        level = channel[touched].astype(np.float32)
        level += edge * (np.float32(outline) - level)
        level += inner * (colour.astype(np.float32)[seen] - level)
        channel[touched] = (level + np.float32(0.5)).astype(np.uint8)
    part[:] = flat.reshape(part.shape)


def _groups(starts: Reals, ends: Reals, reach: Reals) -> list[slice]:
    """Strokes in order, so few at once that their pixels fit in memory whatever their length."""
    sizes = (np.abs(ends - starts).max(axis=1) + 2 * reach) * 3 * reach
    bounds = np.flatnonzero(np.diff(sizes.cumsum() // _PIXELS_AT_ONCE)) + 1
    return [slice(a, b) for a, b in pairwise([0, *bounds.tolist(), len(starts)])]


def _near(
    starts: Reals, ends: Reals, reach: Reals, part: Pixels
) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float32]]:
    """The pixels of `part` near each stroke: which one, near which stroke, and how far from it.

    Each stroke is gone along its longer side, u; v is the other one.
    """
    height, width = part.shape[:2]
    steep = np.abs(ends - starts) @ (-1, 1) > 0
    starts, ends = (np.where(steep[:, None], p[:, ::-1], p) for p in (starts, ends))
    back = (ends[:, 0] < starts[:, 0])[:, None]
    starts, ends = np.where(back, ends, starts), np.where(back, starts, ends)
    (u0, v0), (du, dv) = starts.T, (ends - starts).T
    slope = dv / np.maximum(du, 1e-9)
    along_u, along_v = np.array([[width, height], [height, width]])[steep.astype(np.intp)].T
    first = np.maximum(np.floor(u0 - reach), 0).astype(np.intp)
    last = np.minimum(np.ceil(u0 + du + reach), along_u - 1).astype(np.intp)
    half = reach * np.sqrt(1 + slope**2)
    # One row for each step along a stroke, then one for each pixel across it.
    stroke, step = _counted(np.maximum(last - first + 1, 0))
    u = first[stroke] + step
    middle = v0[stroke] + np.clip(u - u0[stroke], 0, du[stroke]) * slope[stroke]
    low = np.maximum(np.ceil(middle - half[stroke]), 0).astype(np.intp)
    high = np.minimum(np.floor(middle + half[stroke]), along_v[stroke] - 1).astype(np.intp)
    row, across = _counted(np.maximum(high - low + 1, 0))
    across += low[row]
    length = np.hypot(du, dv)
    du, dv = np.where(length, (du, dv), [[1], [0]]) / np.where(length, length, 1)
    # Along the stroke and aside from it, in pixels; what lies before or behind it ends in a circle.
    ahead = ((u - u0[stroke]) * du[stroke]).astype(np.float32)[row]
    aside = ((u - u0[stroke]) * dv[stroke]).astype(np.float32)[row]
    stroke = stroke[row]
    v = (across - v0[stroke]).astype(np.float32)
    ahead += v * dv.astype(np.float32)[stroke]
    aside -= v * du.astype(np.float32)[stroke]
    beyond = ahead - np.clip(ahead, 0, length.astype(np.float32)[stroke])
    distance = np.sqrt(beyond * beyond + aside * aside)
    u = u[row]
    pixel = np.where(steep[stroke], u * width + across, across * width + u)
    return pixel, stroke, distance


def _counted(counts: NDArray[np.intp]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """For counts (2, 3): of which it is one, 0 0 1 1 1, and which of these, 0 1 0 1 2."""
    which = np.repeat(np.arange(len(counts)), counts)
    starts = np.cumsum(counts) - counts
    return which, np.arange(len(which)) - np.repeat(starts, counts)
