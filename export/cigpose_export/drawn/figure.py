"""One drawn person: joints in space, seen from somewhere, and the shapes that are painted.

Space is measured in body heights: x to the person's left, y down, z to where the person looks.
What tells left from right is what does in photographs, so that a mirrored picture is a picture of
a mirrored person: the face and the feet, and a shirt that is of a red kind in front and of a blue
kind behind; what is farther away is darker.

Long because the measures of every part of the body and its painting stand in one order.
"""

from __future__ import annotations

import colorsys
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.float64]
Color = tuple[int, int, int]
"""Blue, green, red, 0 to 255."""

SIDES = {"left": 1.0, "right": -1.0}

_FACE = "face-{}".format
_FINGERS = ("thumb", "forefinger", "middle_finger", "ring_finger", "pinky_finger")
_CIRCLE = np.stack([(np.cos(a), np.sin(a)) for a in np.linspace(0, 2 * np.pi, 17)[:-1]])


@dataclass(frozen=True)
class Shape:
    """A convex polygon (n,2) in frame pixels, its colour, and how near it is (larger is nearer).

    joints: the names of those at its ends.
    """

    outline: Points
    color: Color
    depth: float
    joints: tuple[str, ...] = ()


@dataclass(frozen=True)
class Figure:
    """A person in a frame.

    points: by keypoint name of any of the three sets, x and y in frame pixels and z towards the
        viewer. hidden: the names of those that the person's own head or body covers. shapes: far to
        near.
    """

    points: dict[str, Points]
    hidden: frozenset[str]
    shapes: tuple[Shape, ...]


def make_figure(rng: np.random.Generator, center: tuple[float, float], height: float) -> Figure:
    """A person of `height` pixels, upright, whose hips are at `center`."""
    joints, head_axes = _joints(rng)
    view = _view(rng)
    points = {
        name: np.array([*center, 0.0]) + height * view @ point for name, point in joints.items()
    }
    head = points.pop("head")
    axes = height * (view @ head_axes)
    faces, hidden = _face(head, axes)
    points |= faces
    points |= {
        name: point for side in SIDES for name, point in _hand(rng, points, side, height).items()
    }
    skin = _color(rng, (0.05, 0.1), (0.25, 0.6), (0.35, 0.95))
    shapes = _body(rng, points, head, height, skin) + _head(rng, head, axes, points, hidden, skin)
    lit = [
        replace(s, color=_shade(s.color, np.clip(1 + 2 * s.depth / height, 0.65, 1.25)))
        for s in sorted(shapes, key=lambda shape: shape.depth)
    ]
    return Figure(points, hidden | _covered(points, lit), tuple(lit))


def _covered(points: dict[str, Points], shapes: list[Shape]) -> frozenset[str]:
    """The joints of limbs that a nearer shape of the same person covers. shapes: far to near."""
    last = {joint: index for index, shape in enumerate(shapes) for joint in shape.joints}
    covered = set()
    for joint, index in last.items():
        x, y = points[joint][:2].tolist()
        for shape in shapes[index + 1 :]:
            if cv2.pointPolygonTest(shape.outline.astype(np.float32), (x, y), False) > 0:
                covered.add(joint)
                break
    return frozenset(covered)


def _joints(rng: np.random.Generator) -> tuple[dict[str, Points], Points]:
    """Joints in body heights from the hips, and the head's axes: left, down, front half lengths."""

    def length(mean: float) -> float:
        return float(mean * rng.normal(1, 0.06))

    upper = _turn("z", rng.normal(0, 0.15)) @ _turn("x", rng.normal(0, 0.2))
    points = {"neck": upper @ np.array([0, -length(0.32), 0])}
    shoulder, hip = length(0.115), length(0.075)
    sitting = rng.random() < 0.15
    for side, sign in SIDES.items():
        arm = _direction(rng, (0.35 * sign, 1.0, 0.15), spread=0.33)
        forearm = _direction(rng, (arm[0], arm[1], arm[2] + 0.4), spread=0.28)
        thigh = _direction(rng, (0.25 * sign, 0.3, 1) if sitting else (0.15 * sign, 1, 0.1), 0.25)
        shin = _direction(rng, (0.05 * sign, 1, -0.1), 0.2)
        points[f"{side}_shoulder"] = upper @ np.array([sign * shoulder, -length(0.295), 0])
        points[f"{side}_elbow"] = points[f"{side}_shoulder"] + upper @ arm * length(0.165)
        points[f"{side}_wrist"] = points[f"{side}_elbow"] + upper @ forearm * length(0.145)
        points[f"{side}_hip"] = np.array([sign * hip, 0, 0])
        points[f"{side}_knee"] = points[f"{side}_hip"] + thigh * length(0.235)
        points[f"{side}_ankle"] = ankle = points[f"{side}_knee"] + shin * length(0.225)
        ahead = _turn("y", rng.normal(0.25 * sign, 0.2)) @ np.array([0, 0, 1.0])
        points[f"{side}_heel"] = ankle + np.array([0, 0.035, 0]) - 0.02 * ahead
        points[f"{side}_big_toe"] = ankle + np.array([-0.015 * sign, 0.04, 0]) + 0.095 * ahead
        points[f"{side}_small_toe"] = ankle + np.array([0.02 * sign, 0.04, 0]) + 0.075 * ahead
    axes = upper @ _turn("y", rng.normal(0, 0.45)) @ _turn("x", rng.normal(0, 0.2))
    axes = axes @ np.diag([length(0.062), length(0.085), length(0.07)])
    points["head"] = points["neck"] - upper @ np.array([0, 0.04, 0]) - axes[:, 1]
    points["top_head"] = points["head"] - axes[:, 1]
    return points, axes


def _view(rng: np.random.Generator) -> Points:
    """The viewer's turn: all around, most often to the front; a tilt of the picture, some large."""
    around = rng.uniform(-np.pi, np.pi) if rng.random() < 0.25 else rng.normal(0, 0.6)
    tilt = rng.normal(0, 0.6) if rng.random() < 0.04 else rng.normal(0, 0.12)
    turned: Points = _turn("z", tilt) @ _turn("x", rng.normal(0, 0.12)) @ _turn("y", around)
    return turned


def _turn(axis: str, angle: float) -> Points:
    a, b = (i for i in range(3) if i != "xyz".index(axis))
    turn = np.eye(3)
    turn[a, a] = turn[b, b] = np.cos(angle)
    turn[a, b], turn[b, a] = np.sin(angle), -np.sin(angle)
    return turn


def _direction(rng: np.random.Generator, mean: tuple[float, ...], spread: float) -> Points:
    direction = np.array(mean) + rng.normal(0, spread, 3)
    unit: Points = direction / np.linalg.norm(direction)
    return unit


def _face_template() -> dict[str, tuple[float, float, float]]:
    """On a head of half lengths 1: to the person's left, down, and to the front."""
    flat: list[tuple[float, float]] = [
        (-0.95 * np.cos(t), 0.95 * np.sin(t)) for t in np.linspace(0.05, np.pi - 0.05, 17)
    ]
    brow = [(-0.62, -0.32), (-0.52, -0.4), (-0.4, -0.42), (-0.28, -0.4), (-0.16, -0.35)]
    flat += brow + [(-u, v) for u, v in reversed(brow)]
    flat += [(0, v) for v in (-0.16, -0.06, 0.04, 0.14)]
    flat += [(u, 0.22 - abs(u) / 5) for u in (-0.16, -0.08, 0, 0.08, 0.16)]
    eye = [(-0.15, 0), (-0.06, -0.07), (0.06, -0.07), (0.15, 0), (0.06, 0.06), (-0.06, 0.06)]
    flat += [(u + x, v - 0.15) for x in (-0.37, 0.37) for u, v in eye]
    for width, height, count in ((0.32, 0.11, 12), (0.25, 0.05, 8)):
        angles = -np.pi + np.arange(count) * 2 * np.pi / count
        flat += [(width * np.cos(a), 0.52 + height * np.sin(a)) for a in angles]
    points = {
        _FACE(i): (float(u), float(v), float(np.sqrt(max(0, 1 - u**2 - v**2))))
        for i, (u, v) in enumerate(flat)
    }
    points["nose"] = (0.0, 0.15, 1.15)
    for side, sign in SIDES.items():
        points[f"{side}_eye"] = (0.37 * sign, -0.15, 0.91)
        points[f"{side}_ear"] = (1.0 * sign, 0.0, 0.0)
    return points


_TEMPLATE = _face_template()
_TEMPLATE_NAMES = tuple(_TEMPLATE)
_TEMPLATE_POINTS = np.array(list(_TEMPLATE.values()))


def _face(head: Points, axes: Points) -> tuple[dict[str, Points], frozenset[str]]:
    placed = head + _TEMPLATE_POINTS @ axes.T
    behind = placed[:, 2] < head[2] - 0.3 * np.linalg.norm(axes[:, 0]) * np.isin(
        _TEMPLATE_NAMES, ("left_ear", "right_ear")
    )
    points = dict(zip(_TEMPLATE_NAMES, placed, strict=True))
    return points, frozenset(np.array(_TEMPLATE_NAMES)[behind].tolist())


def _hand(
    rng: np.random.Generator, points: dict[str, Points], side: str, height: float
) -> dict[str, Points]:
    """Fingers spread from the wrist, on from the forearm."""
    root = points[f"{side}_wrist"]
    along = root - points[f"{side}_elbow"]
    along = along / max(float(np.linalg.norm(along)), 1e-9)
    across = np.array([-along[1], along[0], 0]) * SIDES[side] * rng.choice((-1.0, 1.0))
    hand = {f"{side}_hand_root": root}
    spread = rng.uniform(0.12, 0.3)
    for finger, name in enumerate(_FINGERS):
        angle = (finger - 2) * spread - (0.3 if name == "thumb" else 0)
        toward = np.cos(angle) * along + np.sin(angle) * across
        reach = height * (0.06 if name == "thumb" else 0.085)
        for joint, part in enumerate((0.45, 0.65, 0.83, 1.0), start=1):
            hand[f"{side}_{name}{joint}"] = root + toward * reach * part
    return hand


def _body(
    rng: np.random.Generator, points: dict[str, Points], head: Points, height: float, skin: Color
) -> list[Shape]:
    build = rng.uniform(1.0, 1.45) * height
    bare_arms, bare_legs = rng.random(2) < (0.4, 0.2)
    corners = [points[f"{side}_{joint}"] for side in SIDES for joint in ("shoulder", "hip")]
    ahead = np.cross(corners[0] - corners[2], corners[1] - corners[0])
    ahead = ahead / max(float(np.linalg.norm(ahead)), 1e-9)
    shapes = [_limb(head, points["neck"], (0.03 * build, 0.035 * build), skin, 0.0)]
    for toward, hues in ((1, (-0.07, 0.09)), (-1, (0.53, 0.7))):
        shift = 0.025 * toward * build * ahead
        half = [corner + shift for corner in corners]
        torso = _hull([(corner[:2], 0.035 * build) for corner in half])
        depth = float(np.mean([corner[2] for corner in half]))
        cloth = _color(rng, hues, (0.55, 1), (0.4, 1))
        shapes.append(Shape(torso, cloth, depth))
        if toward == 1:
            middle = np.mean(half, axis=0)
            for part in (0.35, 0.6, 0.85):
                spot = middle + part * (points["neck"] + shift - middle)
                button = spot[:2] + 0.012 * build * _CIRCLE
                shapes.append(Shape(button, _shade(cloth, 0.4), depth + 1e-3))
    sleeve, leg, shoe = (_color(rng, (0, 1), (0.1, 0.9), (0.3, 1)) for _ in range(3))
    for side in SIDES:
        elbow, wrist, knee, ankle = (f"{side}_{n}" for n in ("elbow", "wrist", "knee", "ankle"))
        arm = [points[f"{side}_shoulder"], points[elbow], points[wrist]]
        legs = [points[f"{side}_hip"], points[knee], points[ankle]]
        forearm = skin if bare_arms else _shade(sleeve, 0.85)
        shin = skin if bare_legs else _shade(leg, 0.85)
        nudge = 0.03 * height  # limbs hang before the torso unless they reach behind it
        widths = np.array([0.036, 0.03, 0.022]) * build, np.array([0.055, 0.04, 0.028]) * build
        shapes += [
            _limb(arm[0], arm[1], (widths[0][0], widths[0][1]), sleeve, nudge, (elbow,)),
            _limb(
                arm[1], arm[2], (widths[0][1], widths[0][2]), forearm, nudge + 1e-3, (elbow, wrist)
            ),
            _limb(legs[0], legs[1], (widths[1][0], widths[1][1]), leg, 0.0, (knee,)),
            _limb(legs[1], legs[2], (widths[1][1], widths[1][2]), shin, 1e-3, (knee, ankle)),
        ]
        toes = [points[f"{side}_{part}"] for part in ("heel", "big_toe", "small_toe")]
        sole = _hull([(toe[:2], 0.018 * build) for toe in [legs[2], *toes]])
        shapes.append(Shape(sole, shoe, float(np.mean([toe[2] for toe in toes])) + 2e-3, (ankle,)))
        palm = [points[f"{side}_{name}1"] for name in _FINGERS]
        hand_depth = float(arm[2][2]) + nudge + 2e-3
        shapes.append(
            Shape(
                _hull([(p[:2], 0.008 * build) for p in [arm[2], *palm]]), skin, hand_depth, (wrist,)
            )
        )
        for name in _FINGERS:
            chain = points[f"{side}_{name}1"], points[f"{side}_{name}4"]
            finger = _hull([(p[:2], 0.008 * build) for p in chain])
            shapes.append(Shape(finger, skin, hand_depth, (wrist,)))
    return shapes


def _head(
    rng: np.random.Generator,
    head: Points,
    axes: Points,
    points: dict[str, Points],
    hidden: frozenset[str],
    skin: Color,
) -> list[Shape]:
    hair = _color(rng, (0.0, 0.15), (0.1, 0.8), (0.05, 0.7))
    size = float(np.linalg.norm(axes[:, 0]))
    ball = head[:2] + _ellipse(axes)
    depth = float(head[2]) + 0.5 * size
    shapes = [Shape(ball, skin, depth)]
    for side in SIDES:
        ear = points[f"{side}_ear"]
        shapes.append(
            Shape(ear[:2] + 0.25 * size * _CIRCLE, _shade(skin, 0.8), depth + ear[2] - head[2])
        )
    # Hair: a cap on top and behind, which from the back covers all of the head.
    cap = head - 0.35 * axes[:, 1] - 0.45 * axes[:, 2]
    backwards = float(axes[2, 2]) < 0
    shapes.append(
        Shape(cap[:2] + 0.95 * _ellipse(axes), hair, depth + (2e-3 if backwards else -2e-3))
    )
    crown = head - 0.62 * axes[:, 1] - 0.1 * axes[:, 2]
    shapes.append(Shape(crown[:2] + _ellipse(axes) * (0.75, 0.5), hair, depth + 1e-3))
    features = (
        ("right_eye", range(36, 42), (235, 240, 240)),
        ("left_eye", range(42, 48), (235, 240, 240)),
        ("", range(48, 60), _shade((60, 60, 190), rng.uniform(0.7, 1))),
    )
    near = depth + 1.5 * size
    for name, indices, color in features:
        if any(_FACE(i) in hidden for i in indices):
            continue
        outline = np.array([points[_FACE(i)][:2] for i in indices])
        shapes.append(Shape(convex(outline), color, near))
        if name:
            pupil = points[name][:2] + 0.09 * size * _CIRCLE
            shapes.append(Shape(pupil, _shade(hair, 0.5), near + 1e-3))
    if "nose" not in hidden:
        bridge = [points[_FACE(27)][:2], points["nose"][:2]]
        nose = _hull([(bridge[0], 0.05 * size), (bridge[1], 0.16 * size)])
        shapes.append(Shape(nose, _shade(skin, 0.7), near + 2e-3))
    for first in (17, 22):
        brow = [points[_FACE(i)][:2] for i in (first, first + 4)]
        if not {_FACE(first), _FACE(first + 4)} & hidden:
            shapes.append(Shape(_hull([(p, 0.05 * size) for p in brow]), _shade(hair, 0.6), near))
    return shapes


def _limb(
    start: Points,
    end: Points,
    radii: tuple[float, float],
    color: Color,
    nudge: float,
    joints: tuple[str, ...] = (),
) -> Shape:
    outline = _hull([(start[:2], radii[0]), (end[:2], radii[1])])
    return Shape(outline, color, float(start[2] + end[2]) / 2 + nudge, joints)


def _hull(disks: list[tuple[Points, float]]) -> Points:
    """The convex outline around disks of a centre and a radius."""
    return convex(np.concatenate([center + radius * _CIRCLE for center, radius in disks]))


def convex(points: Points) -> Points:
    """The corners (m,2) of the hull of points (n,2)."""
    hull: Points = cv2.convexHull(points.astype(np.float32))[:, 0].astype(np.float64)
    return hull


def _ellipse(axes: Points) -> Points:
    """The outline of an ellipsoid of these half axes (columns), seen along z."""
    shadow = axes[:2] @ axes[:2].T
    values, vectors = np.linalg.eigh(shadow)
    outline: Points = _CIRCLE * np.sqrt(np.maximum(values, 0)) @ vectors.T
    return outline


def _color(
    rng: np.random.Generator,
    hue: tuple[float, float],
    saturation: tuple[float, float],
    value: tuple[float, float],
) -> Color:
    h, s, v = (rng.uniform(*limits) for limits in (hue, saturation, value))
    red, green, blue = colorsys.hsv_to_rgb(h % 1, s, v)
    return int(255 * blue), int(255 * green), int(255 * red)


def _shade(color: Color, factor: float) -> Color:
    blue, green, red = (min(255, int(channel * factor)) for channel in color)
    return blue, green, red
