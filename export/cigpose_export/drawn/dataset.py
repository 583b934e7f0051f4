"""Writes drawn pictures as a data set in COCO's form."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from cigpose_export.drawn.scene import Scene, annotation_of, draw_scene
from cigpose_runtime.files import appears_whole
from cigpose_runtime.keypoints import COCO, CROWDPOSE, KeypointSet


def write_dataset(
    folder: Path,
    *,
    pictures: int,
    keypoints: KeypointSet,
    seed: int,
    on_done: Callable[[int], None],
) -> Path:
    """Writes `images/` and `annotations.json`; returns the latter.

    The annotations are in the form of the keypoints' data set: COCO, COCO-WholeBody or CrowdPose.
    """
    (folder / "images").mkdir(parents=True, exist_ok=True)
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number in range(pictures):
        scene = draw_scene([seed, number], keypoints)
        name = f"{number:06d}.png"
        cv2.imwrite(str(folder / "images" / name), scene.picture)
        height, width = scene.picture.shape[:2]
        images.append({"id": number, "file_name": name, "width": width, "height": height})
        if keypoints == CROWDPOSE:
            images[-1]["crowdIndex"] = crowd_index(scene)
        for person in scene.people:
            annotation = annotation_of(person, keypoints)
            annotations.append({"id": len(annotations), "image_id": number, **annotation})
        on_done(1)
    named = COCO if keypoints.parts else keypoints  # the body alone, as in COCO-WholeBody
    category: dict[str, Any] = {
        "id": 1,
        "name": "person",
        "supercategory": "person",
        "keypoints": list(named.names),
        "skeleton": [[a + 1, b + 1] for a, b in named.skeleton],
    }
    document = {
        "info": {"description": f"drawn people, seed {seed}"},
        "images": images,
        "annotations": annotations,
        "categories": [category],
    }
    path = folder / "annotations.json"
    with appears_whole(path) as file:
        file.write(json.dumps(document).encode())
    return path


def crowd_index(scene: Scene) -> float:
    """CrowdPose's measure of crowding: of the keypoints in a person's box, the share of others'."""
    shares = []
    for index, person in enumerate(scene.people):
        left, top, right, bottom = person.box_xyxy
        inside = []
        for other in scene.people:
            x, y = other.keypoints[other.visibility > 0].T
            within = (x >= left) & (x <= right) & (y >= top) & (y <= bottom)
            inside.append(int(within.sum()))
        own = inside[index]
        if own:
            shares.append((sum(inside) - own) / own)
    return round(min(1.0, float(np.mean(shares))), 4) if shares else 0.0
