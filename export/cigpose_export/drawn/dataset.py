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
from cigpose_runtime.keypoints import KEYPOINT_SETS


def write_dataset(
    folder: Path, *, pictures: int, num_keypoints: int, seed: int, on_done: Callable[[int], None]
) -> Path:
    """Writes `images/` and `annotations.json`; returns the latter.

    The annotations are in the form of COCO (17 keypoints), COCO-WholeBody (133) or CrowdPose (14).
    """
    (folder / "images").mkdir(parents=True, exist_ok=True)
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number in range(pictures):
        scene = draw_scene([seed, number], num_keypoints)
        name = f"{number:06d}.png"
        cv2.imwrite(str(folder / "images" / name), scene.picture)
        height, width = scene.picture.shape[:2]
        images.append({"id": number, "file_name": name, "width": width, "height": height})
        if num_keypoints == 14:
            images[-1]["crowdIndex"] = crowd_index(scene)
        for person in scene.people:
            annotation = annotation_of(person, num_keypoints)
            annotations.append({"id": len(annotations), "image_id": number, **annotation})
        on_done(1)
    keypoints = KEYPOINT_SETS[17 if num_keypoints == 133 else num_keypoints]
    category: dict[str, Any] = {
        "id": 1,
        "name": "person",
        "supercategory": "person",
        "keypoints": list(keypoints.names),
        "skeleton": [[a + 1, b + 1] for a, b in keypoints.skeleton],
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
