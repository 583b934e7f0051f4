"""Drawn people to calibrate on, where there are no pictures like those that a model will see."""

from __future__ import annotations

import json
from pathlib import Path

import cv2

from cigpose_export.drawn.scene import draw_scene
from cigpose_export.graph.calibration import BOXES

PEOPLE = 200
SEED = 2_000_000
"""Training draws from seeds of [0, ...], tests from [1_000_000, ...]."""


def write_calibration(folder: Path, least_people: int = PEOPLE) -> None:
    """Pictures with so many people or a few more, and their boxes; the same ones each time."""
    boxes: dict[str, list[list[float]]] = {}
    while sum(map(len, boxes.values())) < least_people:
        scene = draw_scene([SEED, len(boxes)])
        name = f"{len(boxes):06d}.png"
        cv2.imwrite(str(folder / name), scene.picture)
        boxes[name] = [list(map(float, person.box_xyxy)) for person in scene.people]
    (folder / BOXES).write_text(json.dumps(boxes), "utf-8")
