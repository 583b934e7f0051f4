"""From a frame and boxes to a model's input, with the top-down geometry of MMPose.

A crop has in every pixel what MMPose 1.3.2 gets from TopdownAffine with OpenCV 4.13.0 on x86-64
(measured: no difference). That takes OpenCV's arithmetic and not only its formula: cv2.warpAffine
rounds the source position of each pixel to 1/32 px, and where rounding noise decides which way,
a pixel of a noisy picture changes by up to 8 grey levels.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cigpose_runtime.arrays import Floats, Pixels
from cigpose_runtime.errors import InputError, quoted
from cigpose_runtime.model_file.contract import Contract
from cigpose_runtime.model_file.contract_fields import BOX_PADDING

Size = tuple[int, int]
Indices = NDArray[np.intp]
Weights = NDArray[np.uint16]

_UNIT_BITS = 10
_STEP_BITS = 5

UNITS = 1 << _UNIT_BITS
"""cv2.warpAffine adds positions in units of 1/1024 px (AB_BITS)."""

STEPS = 1 << _STEP_BITS
"""It then rounds them to steps of 1/32 px (INTER_BITS)."""

_BAND_VALUES = 1 << 17
"""Channel values of the frame that are worked on at a time (measured: what is fast)."""

MAX_COORDINATE = 100_000.0
MIN_SIDE = 0.01
"""Limits of a box in pixels; within them float32 tells the corners of its crop apart."""


def boxes_to_crops(
    boxes_xyxy: ArrayLike, input_wh: Size, padding: float = BOX_PADDING
) -> tuple[Floats, Floats]:
    """The part of the frame that each person's crop shows; it may reach beyond the frame.

    boxes_xyxy: (N, 4) left, top, right, bottom in frame pixels; (0,) is no boxes, too.
    Returns centers (N, 2) and scales (N, 2): x, y and width, height in frame pixels. The box grows
    by `padding`, then in one direction to the input's aspect ratio, as MMPose's GetBBoxCenterScale
    and TopdownAffine compute it from float32 boxes.
    Raises InputError for another shape or type, and for a box that is not finite, inverted, less
    than 0.01 px wide or high, or beyond 100,000 px.
    """
    boxes = _checked_boxes(boxes_xyxy)
    centers = (boxes[:, 2:] + boxes[:, :2]) * 0.5
    width, height = np.hsplit((boxes[:, 2:] - boxes[:, :2]) * padding, 2)
    aspect = input_wh[0] / input_wh[1]
    scales = np.where(
        width > height * aspect,
        np.hstack([width, width / aspect]),
        np.hstack([height * aspect, height]),
    )
    return centers, scales


def crop(frame: Pixels, center: Floats, scale: Floats, input_wh: Size) -> Pixels:
    """One person's crop, (h, w, 3) uint8 BGR; what lies outside the frame is black.

    frame: (H, W, 3) uint8 BGR. center, scale: (2,) each, from boxes_to_crops.
    Raises InputError for another frame.
    """
    check_frame(frame)
    pixels = np.empty((input_wh[1], input_wh[0], 3), np.uint8)
    for rows, grey_levels in _bands(frame, center, scale, input_wh):
        pixels[rows] = grey_levels.transpose(0, 2, 1)
    return pixels


def make_input(frame: Pixels, centers: Floats, scales: Floats, contract: Contract) -> Floats:
    """The crops of N people as a model's input, (N, 3, h, w), normalised, in its colour order.

    frame: (H, W, 3) uint8 BGR. centers, scales: (N, 2) each, from boxes_to_crops.
    Raises InputError for another frame.
    """
    check_frame(frame)
    input_wh = contract.input_w, contract.input_h
    mean, std = np.array([contract.mean, contract.std], np.float32)[:, :, None, None]
    channels = slice(None, None, -1 if contract.color_order == "rgb" else 1)
    batch = np.empty((len(centers), 3, contract.input_h, contract.input_w), np.float32)
    for planes, center, scale in zip(batch, centers, scales, strict=True):
        for rows, grey_levels in _bands(frame, center, scale, input_wh):
            np.subtract(grey_levels.transpose(1, 0, 2)[channels], mean, out=planes[:, rows])
        np.divide(planes, std, out=planes)
    return batch


def _checked_boxes(boxes_xyxy: ArrayLike) -> Floats:
    """The boxes as (N, 4) float32."""
    try:
        given = np.asarray(boxes_xyxy)
    except ValueError:  # rows of different lengths
        given = np.asarray(boxes_xyxy, object)
    if given.shape == (0,):
        given = given.reshape(0, 4)
    if given.dtype.kind not in "iuf" or given.ndim != 2 or given.shape[1] != 4:
        raise InputError(
            f"boxes: expected numbers of shape (N, 4), found {given.dtype} {given.shape}; "
            "pass one row of left, top, right, bottom per person"
        )
    in_range = np.all(np.abs(given.astype(np.float64)) <= MAX_COORDINATE, axis=1)
    _check_each_box(in_range, given, f"finite coordinates within {MAX_COORDINATE:,.0f} px")
    boxes = given.astype(np.float32)
    has_area = np.all(boxes[:, 2:] - boxes[:, :2] >= MIN_SIDE, axis=1)
    _check_each_box(has_area, given, f"left < right and top < bottom by {MIN_SIDE} px or more")
    return boxes


def _check_each_box(holds: NDArray[np.bool_], boxes: NDArray[np.generic], expected: str) -> None:
    bad = np.flatnonzero(~holds)
    if bad.size:
        raise InputError(
            f"boxes[{bad[0]}]: expected {expected}, found {quoted(boxes[bad[0]].tolist())}"
            f"{f' and {bad.size - 1} more such boxes' if bad.size > 1 else ''}; drop such boxes"
        )


def check_frame(frame: object) -> None:
    """Raises InputError for anything but a picture, (H, W, 3) uint8."""
    if not isinstance(frame, np.ndarray):
        found = type(frame).__name__
    elif frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3 or not frame.size:
        found = f"{frame.dtype} {frame.shape}"
    else:
        return
    raise InputError(
        f"frame: expected a uint8 array of shape (height, width, 3), found {found}; "
        "convert the picture to 8-bit BGR"
    )


def _bands(
    frame: Pixels, center: Floats, scale: Floats, input_wh: Size
) -> Iterator[tuple[slice, Floats]]:
    """The crop from top to bottom: some of its rows, and their grey levels (rows, 3, w)."""
    w, h = input_wh
    (x_step, x_drift, x_start), (_, y_step, y_start) = _crop_to_frame(center, scale, input_wh)
    rows = np.arange(h)
    row_pairs, row_weights = _neighbours(_to_units(y_step * rows + y_start), frame.shape[0])
    columns = _to_units(x_step * np.arange(w))
    # x_drift is rounding noise, but where x_start is right between two units it makes the lower
    # rows start one unit beside the upper ones (in 0.6 % of random boxes).
    starts = _to_units(x_drift * rows + x_start)
    seams = np.flatnonzero(starts[1:] != starts[:-1]) + 1
    for top, bottom in pairwise([0, *seams, h]):
        pairs, weights = _neighbours(starts[top] + columns, frame.shape[1])
        part = frame[:, pairs[0, 0] : pairs[1, -1] + 1]
        pairs -= pairs[0, 0]
        height = max(1, _BAND_VALUES // part[0].size)
        for first in range(top, bottom, height):
            band = slice(first, min(first + height, bottom))
            picked = row_pairs[:, band], row_weights[:, band]
            yield band, _interpolate(part, *picked, pairs, weights)


def _crop_to_frame(
    center: Floats, scale: Floats, input_wh: Size
) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
    """The affine matrix from crop pixels to frame pixels, bit by bit that of MMPose and OpenCV.

    In exact arithmetic it is x = (x_crop - w/2) * scale_w/w + center_x, and likewise for y.
    MMPose's get_warp_matrix rounds three points to float32: the crop's centre, the middle of its
    left edge, and that point moved down by half the crop's width. cv2.getAffineTransform solves
    for the matrix by elimination with row pivoting, and cv2.warpAffine inverts it.
    """
    w, h = input_wh
    left = np.float32(float(center[0]) - float(scale[0]) / 2)
    x, x_left = float(center[0]), float(left)
    y, y_down = float(center[1]), float(center[1] + (center[0] - left))
    # One equation for each point. OpenCV's elimination has moved the first row of y by then.
    a, b, c = _solve([[x, y, 1, w / 2], [x_left, y, 1, 0], [x_left, y_down, 1, 0]])
    d, e, f = _solve([[x_left, y, 1, h / 2], [x, y, 1, h / 2], [x_left, y_down, 1, (h + w) / 2]])
    inverse = 1 / (a * e - b * d)
    a, b, d, e = e * inverse, b * -inverse, d * -inverse, a * inverse
    return (a, b, -a * c - b * f), (d, e, -d * c - e * f)


def _solve(rows: list[list[float]]) -> tuple[float, float, float]:
    """Three linear equations, each as coefficients and right-hand side."""
    for i in range(3):
        sizes = [abs(row[i]) for row in rows[i:]]
        pivot = i + sizes.index(max(sizes))
        rows[i], rows[pivot] = rows[pivot], rows[i]
        for row in rows[i + 1 :]:
            factor = row[i] * (-1 / rows[i][i])
            for k in range(i + 1, 4):
                row[k] += factor * rows[i][k]
    first, second, third = rows
    z = third[3] / third[2]
    y = (second[3] - second[2] * z) / second[1]
    x = (first[3] - first[1] * y - first[2] * z) / first[0]
    return x, y, z


def _to_units(pixels: NDArray[np.floating[Any]]) -> Indices:
    units: Indices = np.rint(pixels * UNITS).astype(np.intp)
    return units


def _neighbours(units: Indices, size: int) -> tuple[Indices, Weights]:
    """The pixels before and after each position, (2, n), and their weights in steps, (2, n).

    A pixel outside the frame has weight 0, and the nearest one inside stands for it.
    """
    shift = _UNIT_BITS - _STEP_BITS
    steps = (units + (1 << shift - 1)) >> shift  # rounded to the nearest, halves up
    pixels = (steps >> _STEP_BITS) + np.array([[0], [1]])
    weights = np.abs(np.array([[STEPS], [0]]) - (steps & STEPS - 1))
    inside = np.minimum(np.maximum(pixels, 0), size - 1)
    weights[inside != pixels] = 0
    return inside, weights.astype(np.uint16)


def _interpolate(
    part: Pixels,
    row_pairs: Indices,
    row_weights: Weights,
    column_pairs: Indices,
    column_weights: Weights,
) -> Floats:
    """Blends pairs of rows, then pairs of columns: (rows, 3, columns) whole grey levels.

    Nothing is rounded before the end: what comes before are multiples of 1/1024 of a grey level,
    and uint16 and float32 hold them exactly.
    """
    upper, lower = (part[rows].reshape(len(rows), -1) for rows in row_pairs)
    blended = upper * row_weights[0, :, None]
    blended += lower * row_weights[1, :, None]
    # From interleaved channels to one channel after the other.
    left, right = (3 * column_pairs[:, None] + np.arange(3)[:, None]).reshape(2, -1)
    weights = np.tile(column_weights / np.float32(STEPS * STEPS), 3)
    grey_levels: Floats = blended[:, left] * weights[0]
    grey_levels += blended[:, right] * weights[1]
    grey_levels += 0.5
    return np.floor(grey_levels, out=grey_levels).reshape(len(blended), 3, -1)
