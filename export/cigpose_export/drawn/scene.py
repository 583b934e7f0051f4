"""A drawn picture with its people, as COCO annotates them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from cigpose_export.drawn.figure import Figure, Points, Shape, convex, make_figure
from cigpose_runtime.arrays import Pixels
from cigpose_runtime.keypoints import COCO, KeypointSet
from cigpose_runtime.writers import WHOLE_BODY_FIELDS

SIZES_WH = ((320, 240), (240, 320), (384, 256), (288, 288))

_SHIFT = 4  # cv2 takes fixed-point coordinates with so many binary places
_OCCLUDER = 255
_LEAST_SEEN = 0.3


@dataclass(frozen=True)
class Drawn:
    """One person of a scene.

    keypoints: (K,2) float64, frame pixels. visibility: (K,) as COCO has it: 2 seen, 1 covered by
    somebody or something else, 0 not annotated (out of the frame, or covered by the own head, or
    hardly anything is seen of the person). box_xyxy: around the silhouette within the frame.
    area: in pixels, of what is seen.
    """

    keypoints: Points
    visibility: NDArray[np.int64]
    box_xyxy: tuple[float, float, float, float]
    area: int


@dataclass(frozen=True)
class Scene:
    """picture: (H,W,3) uint8 BGR, and the people in it."""

    picture: Pixels
    people: tuple[Drawn, ...]


def draw_scene(
    seed: int | Sequence[int],
    keypoints: KeypointSet = COCO,
    size_wh: tuple[int, int] | None = None,
) -> Scene:
    """Draws the scene of a seed: the same bytes each time.

    keypoints: one of KEYPOINT_SETS. size_wh: one of SIZES_WH at random if None.
    """
    rng = np.random.default_rng(seed)
    width, height = size_wh or SIZES_WH[rng.integers(len(SIZES_WH))]
    canvas = draw_background(rng, width, height)
    figures = _place(rng, width, height)
    return compose(rng, canvas, figures, _occluders(rng, figures), keypoints.names)


def compose(
    rng: np.random.Generator,
    canvas: Pixels,
    figures: Sequence[Figure],
    occluders: Sequence[Shape],
    names: Sequence[str],
) -> Scene:
    """Paints people, far to near, on a background, and what stands before them."""
    labels = np.zeros(canvas.shape[:2], np.uint8)
    painted = []
    for label, figure in enumerate(figures, start=1):
        paint(canvas, labels, figure.shapes, label)
        painted.append(int((labels == label).sum()))
    paint(canvas, labels, occluders, _OCCLUDER)
    people = [
        _annotate(figure, names, labels, label, whole)
        for label, (figure, whole) in enumerate(zip(figures, painted, strict=True), start=1)
        if whole
    ]
    return Scene(_photograph(rng, canvas), tuple(people))


def paint(canvas: Pixels, labels: NDArray[np.uint8], shapes: Sequence[Shape], label: int) -> None:
    """Paints shapes in their order, with dark edges, and marks where they are."""
    for shape in shapes:
        outline = np.rint(shape.outline * (1 << _SHIFT)).astype(np.int32)
        cv2.fillConvexPoly(canvas, outline, shape.color, cv2.LINE_AA, _SHIFT)
        edge = [channel * 0.55 for channel in shape.color]
        cv2.polylines(canvas, [outline], True, edge, 1, cv2.LINE_AA, _SHIFT)
        cv2.fillConvexPoly(labels, outline, label, cv2.LINE_8, _SHIFT)


def _place(rng: np.random.Generator, width: int, height: int) -> list[Figure]:
    """One to four people, far (small) to near, who overlap in part at most."""
    figures: list[Figure] = []
    taken: list[Points] = []
    sizes = sorted(rng.uniform(0.4, 1.05, rng.choice(4, p=(0.35, 0.3, 0.2, 0.15)) + 1))
    for size in sizes:
        for _ in range(6):
            tall = float(size * height)
            center = rng.uniform(0.08, 0.92) * width, rng.uniform(0.38, 0.68) * height
            half = np.array([0.16 * tall, 0.5 * tall])
            corners = np.concatenate([np.array(center) - half, np.array(center) + half])
            if all(_overlap(corners, other) < 0.25 for other in taken):
                taken.append(corners)
                figures.append(make_figure(rng, center, tall))
                break
    return figures


def _overlap(a: Points, b: Points) -> float:
    """Of two boxes, as a share of the smaller one."""
    sides = np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])
    smaller = min(np.prod(a[2:] - a[:2]), np.prod(b[2:] - b[:2]))
    return float(np.prod(np.maximum(sides, 0)) / smaller)


def _occluders(rng: np.random.Generator, figures: Sequence[Figure]) -> list[Shape]:
    """Things that stand before some of the people."""
    shapes = []
    for figure in figures:
        if rng.random() < 0.25:
            hips, neck = figure.points["left_hip"][:2], figure.points["neck"][:2]
            torso = float(np.linalg.norm(hips - neck))
            center = hips + rng.normal(0, 0.9, 2) * torso
            corners = center + rng.uniform(-0.4, 0.4, (7, 2)) * torso
            blue, green, red = (int(c) for c in rng.integers(0, 256, 3))
            shapes.append(Shape(convex(corners), (blue, green, red), 0.0))
    return shapes


def _annotate(
    figure: Figure, names: Sequence[str], labels: NDArray[np.uint8], label: int, painted: int
) -> Drawn:
    height, width = labels.shape
    keypoints = np.array([figure.points[name][:2] for name in names])
    x, y = np.rint(keypoints).astype(np.int64).T
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    seen = labels[y.clip(0, height - 1), x.clip(0, width - 1)] == label
    visibility = np.where(seen, 2, 1) * (inside & ~np.isin(names, list(figure.hidden)))
    area = int((labels == label).sum())
    if area < _LEAST_SEEN * painted:
        visibility[:] = 0
    corners = np.concatenate([shape.outline for shape in figure.shapes])
    left, top = np.maximum(corners.min(0), 0)
    right, bottom = np.minimum(corners.max(0), (width - 1, height - 1))
    box = float(left), float(top), float(right), float(bottom)
    return Drawn(keypoints, visibility.astype(np.int64), box, area)


def draw_background(rng: np.random.Generator, width: int, height: int) -> Pixels:
    """Clouds of colour with things in them."""
    cells = rng.integers(2, 7, 2)
    clouds = rng.integers(20, 236, (cells[1], cells[0], 3), np.uint8)
    pale = 0.5 * clouds + 0.5 * clouds.mean(-1, keepdims=True)
    canvas: Any = cv2.resize(pale.astype(np.uint8), (width, height), interpolation=cv2.INTER_CUBIC)
    scale = np.array([width, height])
    for _ in range(rng.integers(2, 8)):
        color = [int(c) for c in rng.integers(0, 256, 3)]
        a, b = (rng.random((2, 2)) * scale).astype(int)
        kind = rng.integers(4)
        if kind == 0:
            size = rng.uniform(0.05, 0.4, 2) * scale
            cv2.rectangle(canvas, a, (a + size).astype(int), color, -1)
        elif kind == 1:
            cv2.circle(canvas, a, int(rng.uniform(3, 40)), color, -1, cv2.LINE_AA)
        else:
            cv2.line(canvas, a, b, color, int(rng.integers(1, 12)), cv2.LINE_AA)
    texture = rng.integers(-14, 15, (height // 3 + 1, width // 3 + 1), np.int8)
    rough = cv2.resize(texture.astype(np.int16), (width, height), interpolation=cv2.INTER_LINEAR)
    textured: Pixels = np.clip(canvas + rough[..., None], 0, 255).astype(np.uint8)
    return textured


def _photograph(rng: np.random.Generator, canvas: Pixels) -> Pixels:
    """Blur, exposure and noise of a camera."""
    blurred: Any
    if rng.random() < 0.15:
        kernel = np.zeros((5, 5), np.float32)
        kernel[2] = 0.2
        blurred = cv2.filter2D(canvas, -1, kernel if rng.random() < 0.5 else kernel.T)
    else:
        blurred = cv2.GaussianBlur(canvas, (0, 0), rng.uniform(0.3, 1.1))
    gain, offset = rng.uniform(0.75, 1.2), rng.uniform(-20, 20)
    noise = rng.integers(-6, 7, canvas.shape, np.int8)
    exposed: Pixels = np.clip(blurred * gain + offset + noise, 0, 255).astype(np.uint8)
    return exposed


def annotation_of(person: Drawn, keypoints: KeypointSet) -> dict[str, Any]:
    """A person in the form of COCO, of COCO-WholeBody for its keypoints; without the ids."""
    rows = np.column_stack([person.keypoints.round(2), person.visibility])
    rows[person.visibility == 0] = 0
    left, top, right, bottom = person.box_xyxy
    parts = dict(keypoints.parts)
    body = rows[parts.pop("body", slice(None))]
    annotation: dict[str, Any] = {
        "category_id": 1,
        "iscrowd": 0,
        "area": person.area,
        "bbox": [round(v, 2) for v in (left, top, right - left, bottom - top)],
        "keypoints": _flat(body),
        "num_keypoints": int((body[:, 2] > 0).sum()),
    }
    for part, where in parts.items():
        field, points = WHOLE_BODY_FIELDS[part], rows[where]
        annotation[field] = _flat(points)
        annotation[field.replace("_kpts", "_valid")] = bool((points[:, 2] > 0).any())
        if part != "foot":
            annotation[field.replace("_kpts", "_box")] = _extent(points)
    return annotation


def _flat(rows: Points) -> list[float]:
    return [float(value) if i % 3 < 2 else int(value) for i, value in enumerate(rows.ravel())]


def _extent(rows: Points) -> list[float]:
    found = rows[rows[:, 2] > 0, :2]
    if not len(found):
        return [0.0, 0.0, 0.0, 0.0]
    corner, size = found.min(0), np.ptp(found, axis=0)
    return [float(value) for value in (*corner, *size)]
