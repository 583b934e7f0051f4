"""Clips of people who walk, run, cross and leave, with the truth: for tests and `make bench`.

Nothing is painted. People are stick figures whose arms and legs swing; a camera that does not move
sees them, the nearer before the farther; a detector and a pose model look with the faults that
real ones have: boxes and keypoints shake, people are missed, above all behind others, and
keypoints of somebody behind land on who is in front. Lengths are in heights of a person.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cigpose_runtime.keypoints import COCO
from cigpose_runtime.poses import Poses

Reals = NDArray[np.float64]
Path = Callable[[float], tuple[float, float]]
"""Where somebody stands at a time in seconds: to the right and away, in heights."""

FRAME_WH = 1280, 720
HEIGHT_PX = 300
"""Of a person at depth 0, whose feet are at 0.85 of the frame."""

BOX_SHAKES, KEYPOINTS_SHAKE = 0.02, 0.012
"""Standard deviations, in heights."""

MISSED = 0.03
"""Of people who stand free."""

HIDDEN = 0.65
"""Who is covered by so much of the box is not found; at half of it, with a poor score."""

SNAPS = 0.5
"""Of keypoints behind somebody's box, how many land on that person's."""


@dataclass(frozen=True)
class Person:
    """Who is in a clip: walks along a path from one second to another."""

    path: Path
    start: float = 0.0
    end: float = np.inf
    steps_per_s: float = 1.8


@dataclass(frozen=True)
class Seen:
    """A frame: the poses that were found, whose they are, and where their keypoints truly are.

    true_boxes: of all who are in it, true_people.
    """

    poses: Poses
    people: NDArray[np.intp]
    true_keypoints: Reals
    true_boxes: Reals
    true_people: NDArray[np.intp]


def straight(x: float, speed: float, depth: float = 0.0, start: float = 0.0) -> Path:
    """From x at `start`, `speed` heights a second to the right."""
    return lambda t: (x + speed * (t - start), depth)


def back_and_forth(x: float, speed: float, turns_at: float, depth: float = 0.0) -> Path:
    """As straight, until a second at which they turn round."""
    return lambda t: (x + speed * (turns_at - abs(t - turns_at)), depth)


def look(people: Sequence[Person], *, fps: float, seconds: float, seed: int) -> Iterator[Seen]:
    """The frames of a clip, the same each time."""
    rng = np.random.default_rng(seed)
    phases = rng.uniform(0, 1, len(people))
    for frame in range(round(fps * seconds)):
        t = frame / fps
        yield _look_once(rng, people, phases, t)


def _look_once(rng: np.random.Generator, people: Sequence[Person], phases: Reals, t: float) -> Seen:
    width, height = FRAME_WH
    there = []
    for number, person in enumerate(people):
        if not person.start <= t <= person.end:
            continue
        x, depth = person.path(t)
        size = HEIGHT_PX / (1 + depth)
        ahead = person.path(t + 0.01)[0] - x
        figure = _figure(2 * np.pi * (phases[number] + person.steps_per_s / 2 * t))
        figure = figure * (np.sign(ahead) or 1, 1) * size
        feet = width / 2 + x * size, 0.85 * height - depth * 60
        box = _box_around(figure + feet, size)
        in_frame = np.clip(box, 0, (width, height, width, height))
        if np.prod(in_frame[2:] - in_frame[:2]) > 0.3 * np.prod(box[2:] - box[:2]):
            there.append((depth, number, figure + feet, in_frame, size))
    there.sort(key=lambda each: each[0])
    boxes, scores, keypoints, certain, whose, truth = [], [], [], [], [], []
    for index, (_, number, points, box, size) in enumerate(there):
        before = there[:index]
        covered = max((_covered(box, other[3]) for other in before), default=0.0)
        if covered > HIDDEN or rng.random() < MISSED:
            continue
        found, sure = points.copy(), np.full(len(points), 0.8)
        for _, _, points_before, box_before, _ in before:
            behind = _inside(points, box_before)
            sure[behind] = 0.45
            snapped = behind & (rng.random(len(points)) < SNAPS)
            found[snapped] = points_before[snapped]
        boxes.append(box + rng.normal(0, BOX_SHAKES * size, 4))
        keypoints.append(found + rng.normal(0, KEYPOINTS_SHAKE * size, found.shape))
        certain.append(np.clip(sure + rng.normal(0, 0.05, len(points)), 0.05, 1))
        scores.append(np.clip(rng.normal(0.9, 0.03) - 0.8 * covered, 0.36, 1))
        whose.append(number)
        truth.append(points)
    order = rng.permutation(len(boxes))
    return Seen(
        poses=Poses(
            keypoints=np.array(keypoints, np.float32).reshape(-1, 17, 2)[order],
            scores=np.array(certain, np.float32).reshape(-1, 17)[order],
            boxes_xyxy=np.array(boxes, np.float32).reshape(-1, 4)[order],
            box_scores=np.array(scores, np.float32)[order],
            keypoint_set=COCO,
        ),
        people=np.array(whose, np.intp)[order],
        true_keypoints=np.array(truth).reshape(-1, 17, 2)[order],
        true_boxes=np.array([each[3] for each in there]).reshape(-1, 4),
        true_people=np.array([each[1] for each in there], np.intp),
    )


def _figure(phase: float) -> Reals:
    """COCO's 17 keypoints (17, 2) of somebody who walks to the right, feet at (0, 0), y down."""
    swing = np.sin(phase)
    points = np.zeros((17, 2))
    points[:5] = [(0.04, -0.93), (0.03, -0.95), (0.02, -0.95), (-0.02, -0.94), (-0.02, -0.94)]
    for side, forward in ((0, swing), (1, -swing)):
        shoulder, hip = np.array([-0.01, -0.82]), np.array([0, -0.52])
        arm, leg = -0.5 * forward, 0.5 * forward
        elbow = shoulder + 0.17 * np.array([np.sin(arm), np.cos(arm)])
        wrist = elbow + 0.15 * np.array([np.sin(arm + 0.4), np.cos(arm + 0.4)])
        knee = hip + 0.25 * np.array([np.sin(leg), np.cos(leg)])
        bent = leg - 0.4 * max(0.0, float(np.cos(phase + np.pi * side)))
        ankle = knee + 0.24 * np.array([np.sin(bent), np.cos(bent)])
        points[[5 + side, 7 + side, 9 + side, 11 + side, 13 + side, 15 + side]] = (
            *(shoulder, elbow, wrist, hip, knee, ankle),
        )
    return points


def _box_around(points: Reals, size: float) -> Reals:
    margin = np.array([0.04, 0.06]) * size
    return np.concatenate([points.min(axis=0) - margin, points.max(axis=0) + margin])


def _covered(box: Reals, by: Reals) -> float:
    """The share of a box that lies in another one."""
    sides = np.minimum(box[2:], by[2:]) - np.maximum(box[:2], by[:2])
    return float(np.prod(np.maximum(sides, 0)) / np.prod(box[2:] - box[:2]))


def _inside(points: Reals, box: Reals) -> NDArray[np.bool_]:
    inside = (points >= box[:2]) & (points <= box[2:])
    return inside[:, 0] & inside[:, 1]


@dataclass(frozen=True)
class Clip:
    """people: in the order of their numbers. fps, seconds: of the clip."""

    people: Sequence[Person]
    fps: float
    seconds: float


def clips(seed: int) -> dict[str, Clip]:
    """A clip of each kind, by name; speeds, places and times differ with the seed."""
    rng = np.random.default_rng([seed, 1])

    def near(value: float, spread: float = 0.15) -> float:
        return float(value * (1 + rng.uniform(-spread, spread)))

    walk = 0.8  # heights a second: 1.4 m/s
    crossing = [
        Person(straight(-2, near(walk), depth=0.0)),
        Person(straight(2, -near(walk), depth=near(0.15))),
        Person(straight(-1.4, near(0.6 * walk), depth=near(0.4))),
        Person(straight(2.6, -near(walk), depth=near(0.55))),
    ]
    turning = [
        Person(back_and_forth(-1.5, near(walk), near(1.9, 0.05), depth=0.0)),
        Person(back_and_forth(1.6, -near(walk), near(1.9, 0.05), depth=near(0.15))),
    ]
    running = [
        Person(straight(-2.1, near(speed), depth, start), start, steps_per_s=3.2)
        for speed, depth, start in ((6, 0.0, 0.0), (10, 0.2, 0.8), (14, 0.5, 1.4))
    ] + [Person(straight(0.5, near(0.1), 0.7))]
    leaving = [
        Person(straight(1.2, near(walk))),
        Person(straight(2.5, -near(walk), start=near(2.3)), start=near(2.0, 0.1)),
        Person(straight(-1.2, -near(walk), 0.3)),
        Person(straight(-2.8, near(walk), 0.3, start=near(2.3)), start=near(2.0, 0.1)),
    ]
    sprint = [
        Person(straight(-2.1, near(3.0), 0.0), steps_per_s=3),
        Person(straight(2.3, -near(3.6), near(0.3), start=0.4), 0.4, steps_per_s=3),
    ]
    return {
        "crossing": Clip(crossing, 30, 5),
        "turning back": Clip(turning, 30, 4),
        "running": Clip(running, 30, 2.5),
        "leaving": Clip(leaving, 30, 5),
        "crossing, 5 fps": Clip(crossing, 5, 5),
        "running, 5 fps": Clip(sprint, 5, 2.4),
    }
