"""From a frame and boxes to a model's input: cigpose_runtime.estimation.preprocess as a graph.

Every step is the runtime's, in its order and its element type, so that no pixel differs: OpenCV's
elimination in double, positions rounded to 1/1024 px and then to 1/32 px, exact blending.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from cigpose_export.graph.frame.builder import Value
from cigpose_export.graph.frame.pixels import Frame
from cigpose_runtime import Contract
from cigpose_runtime.estimation.preprocess import MAX_COORDINATE, MIN_SIDE, STEPS, UNITS

NOBODY = np.array([[0, 0, 1, 1]], np.float32)
"""The box that stands in for a bad one, and for none at all."""


class Neighbours(NamedTuple):
    """The pixels before and after positions along one axis, int32, and their shares, float32."""

    before: Value
    after: Value
    share_before: Value
    share_after: Value


def sound(boxes: Value, frame: Frame) -> Value:
    """(people, 1) bool: which boxes the runtime takes, boxes_to_crops and PoseModel's overlap."""
    low, high = boxes.slice(1, 0, 2), boxes.slice(1, 2, 4)
    graph = boxes.graph
    width, height = frame.width.reshape(1), frame.height.reshape(1)
    frame_wh = graph.concat([width, height], axis=0).to(np.float32)
    # NaN compares as false.
    holds = (
        (abs(low) <= MAX_COORDINATE)
        & (abs(high) <= MAX_COORDINATE)
        & (high - low >= MIN_SIDE)
        & (high > 0)
        & (low < frame_wh)
    )
    return holds.slice(1, 0) & holds.slice(1, 1)


def centers_and_scales(boxes: Value, contract: Contract) -> tuple[Value, Value]:
    """As boxes_to_crops: centers and scales (people, 2) of sound boxes, in frame pixels."""
    graph = boxes.graph
    low, high = boxes.slice(1, 0, 2), boxes.slice(1, 2, 4)
    centers = (high + low) * 0.5
    sides = (high - low) * contract.box_padding
    width, height = sides.slice(1, 0), sides.slice(1, 1)
    aspect = contract.input_w / contract.input_h
    scales = graph.where(
        width > height * aspect,
        graph.concat([width, width / aspect], axis=1),
        graph.concat([height * aspect, height], axis=1),
    )
    return centers, scales


def crops(frame: Frame, centers: Value, scales: Value, contract: Contract) -> Value:
    """As make_input: (people, 3, h, w) float32, normalised, in the model's colour order."""
    graph = centers.graph
    people = graph.op("Shape", centers, dtype=np.int64).gather(0, 0)
    w, h = contract.input_w, contract.input_h
    (x_step, x_drift, x_start), (y_step, y_start) = _crop_to_frame(centers, scales, w, h)
    rows, columns = np.arange(h)[:, None], np.arange(w)
    y = _neighbours(_to_units(y_step * rows + y_start), frame.height)
    # The rows start at one of two places, see _bands of the runtime: columns for both, of which
    # each row takes its own.
    starts = _to_units(x_drift * rows + x_start)
    first, last = starts.slice(1, 0), starts.slice(1, h - 1)
    both = graph.concat([first, last], axis=1) + _to_units(x_step * columns)
    is_last = graph.where(starts.equals(first), graph.constant(0, np.int64), 1)
    limits = (graph.constant(0, np.int64), people * 2, graph.constant(2, np.int64))
    start_of_row = graph.op("Range", *limits).reshape(-1, 1, 1) + is_last

    def of_row(by_start: Value) -> Value:
        taken = graph.op("Gather", by_start.reshape(-1, w), start_of_row, axis=0)
        return taken.reshape(-1, 1, h, w)

    x, y = _neighbours(both, frame.width), Neighbours(*(one.reshape(-1, 1, h, 1) for one in y))
    left, right = (of_row(column * frame.channels) for column in (x.before, x.after))
    share_left, share_right = of_row(x.share_before), of_row(x.share_after)
    upper, lower = (row * frame.stride for row in (y.before, y.after))
    offsets = frame.channel_offsets(contract.color_order)

    def blended(column: Value) -> Value:
        above, below = (
            frame.look_up(column + row + offsets, -1, 3, h, w) for row in (upper, lower)
        )
        return above * y.share_before + below * y.share_after

    levels = blended(left) * share_left + blended(right) * share_right
    mean, std = (np.reshape(by_channel, (3, 1, 1)) for by_channel in (contract.mean, contract.std))
    return ((levels + 0.5).floor() - mean) / std


def _crop_to_frame(
    centers: Value, scales: Value, w: int, h: int
) -> tuple[tuple[Value, Value, Value], tuple[Value, Value]]:
    """The affine matrix from crop to frame: x_step, x_drift, x_start; y_step, y_start.

    Each is (people, 1, 1) in double. The equations for x and for y are solved side by side, on
    axis 1.
    """
    graph = centers.graph
    x, y = centers.slice(1, 0), centers.slice(1, 1)
    left = (x.to(np.float64) - scales.slice(1, 0).to(np.float64) / 2).to(np.float32)
    y_down = y + (x - left)
    center, middle_left, corner = (
        graph.concat(list(point), axis=1).to(np.float64).reshape(-1, 1, 2)
        for point in ((x, y), (left, y), (left, y_down))
    )
    solution = _solve(
        _row(center, middle_left, (w / 2, h / 2)),
        _row(middle_left, center, (0, h / 2)),
        _row(corner, corner, (0, (h + w) / 2)),
    )
    (a, d), (b, e), (c, f) = ((one.slice(1, 0), one.slice(1, 1)) for one in solution)
    inverse = 1 / (a * e - b * d)
    a, b, d, e = e * inverse, b * -inverse, d * -inverse, a * inverse
    return (a, b, -a * c - b * f), (e, -d * c - e * f)


def _row(x_point: Value, y_point: Value, right: tuple[float, float]) -> Value:
    """One equation of each system, (people, 2, 4): a point, 1, and the right-hand side."""
    graph = x_point.graph
    points = graph.concat([x_point, y_point], axis=1)
    padded = graph.op("Pad", points, graph.constant([0, 0, 0, 0, 0, 2], np.int64))
    return padded + np.array([[0, 0, 1, right[0]], [0, 0, 1, right[1]]])


def _solve(first: Value, second: Value, third: Value) -> tuple[Value, Value, Value]:
    """Three linear equations, (people, 2, 4) each, by elimination with row pivoting.

    Of equal pivots the first one is taken. Returns the unknowns, (people, 2, 1) each.
    """
    where = first.graph.where

    def size(row: Value, column: int) -> Value:
        return abs(row.slice(2, column))

    def without(row: Value, pivot: Value, column: int) -> Value:
        factor = row.slice(2, column) * (-1 / pivot.slice(2, column))
        return row + factor * pivot

    is_second = size(second, 0) > size(first, 0)
    larger = where(is_second, second, first)
    is_third = size(third, 0) > size(larger, 0)
    first, second, third = (
        where(is_third, third, larger),
        where(is_third, second, where(is_second, first, second)),
        where(is_third, first, third),
    )
    second, third = without(second, first, 0), without(third, first, 0)
    is_third = size(third, 1) > size(second, 1)
    second, third = where(is_third, third, second), where(is_third, second, third)
    third = without(third, second, 1)

    a, b, c, right = ([row.slice(2, k) for row in (first, second, third)] for k in range(4))
    z = right[2] / c[2]
    y = (right[1] - c[1] * z) / b[1]
    x = (right[0] - b[0] * y - c[0] * z) / a[0]
    return x, y, z


def _to_units(pixels: Value) -> Value:
    return (pixels * UNITS).rint()


def _neighbours(units: Value, size: Value) -> Neighbours:
    """As the runtime's: a pixel outside has share 0, and the nearest one inside stands for it."""
    graph = units.graph
    per_step = UNITS // STEPS
    steps = ((units + per_step / 2) / per_step).floor()
    before = (steps / STEPS).floor()
    beyond = steps - before * STEPS
    pixels, shares = [], []
    for pixel, weight in ((before, STEPS - beyond), (before + 1, beyond)):
        inside = pixel.clip(0, size.to(np.float64) - 1)
        share = graph.where(inside.equals(pixel), weight, 0) / STEPS
        shares.append(share.to(np.float32))
        # Once more as integers: whatever an engine makes of the above, no index is outside.
        pixels.append(inside.to(np.int32).clip(0, size - 1))
    return Neighbours(*pixels, *shares)
