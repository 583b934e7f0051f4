"""Reads annotations of COCO, COCO-WholeBody and CrowdPose, and detected boxes.

What counts as a person, and how its box is cut to the picture, is MMPose 1.3.2's rule
(`BaseCocoStyleDataset`): crowds, people without keypoints and empty boxes are left out.
"""

from __future__ import annotations

import json
import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cigpose_export.accuracy.protocols import Protocol
from cigpose_runtime.errors import FileError, quoted
from cigpose_runtime.estimation.detector import surest
from cigpose_runtime.files import read_bytes

PERSON = 1
"""The category of people in all three data sets."""


@dataclass(frozen=True)
class Person:
    """One box to estimate a pose in.

    number: the annotation's id, or the place in the file of detected boxes. box_xyxy: in frame
    pixels. score: the detector's, 1 for annotated boxes.
    """

    number: int
    box_xyxy: tuple[float, float, float, float]
    score: float


@dataclass(frozen=True)
class Selection:
    """Which detected boxes count: by score, overlap (IoU), and number in a picture."""

    score_threshold: float = -math.inf
    nms_threshold: float = 1.0
    max_people: int | None = None

    def of(self, people: Sequence[Person]) -> list[Person]:
        """Those of a picture, the surest first."""
        kept = surest(
            np.array([person.box_xyxy for person in people], np.float32),
            np.array([person.score for person in people], np.float32),
            score_threshold=self.score_threshold,
            nms_threshold=self.nms_threshold,
        )
        return [people[index] for index in kept[: self.max_people]]


@dataclass(frozen=True)
class Picture:
    """A picture of the data set and the people to estimate in it."""

    image_id: int
    path: Path
    people: tuple[Person, ...]


def read_pictures(
    annotations: Path,
    images: Path,
    boxes: Path | None,
    protocol: Protocol,
    selection: Selection | None = None,
) -> list[Picture]:
    """The pictures that have people, in the order of the annotations.

    boxes: detected boxes in COCO's results form, in place of the annotated ones. selection: which
    of these count, None for all. Raises FileError
    in one line for a file that is no such annotation, for an unknown category or picture, and
    for pictures that are not in the folder `images`.
    """
    content = _read_json(annotations, "annotations in COCO's form", dict)
    for part in ("images", "annotations", "categories"):
        if not isinstance(content.get(part), list):
            raise FileError(
                f"{annotations}: expected a list {part!r}, found {quoted(content.get(part))}; "
                "give an annotation file in COCO's form"
            )
    sizes = dict(_images(annotations, content["images"]))
    files = {image["id"]: image["file_name"] for image in content["images"]}
    known = {c.get("id") for c in content["categories"] if isinstance(c, dict)}
    people: defaultdict[int, list[Person]] = defaultdict(list)
    numbers: Counter[Any] = Counter()
    for index, annotation in enumerate(content["annotations"]):
        where = f"{annotations}, annotations[{index}]"
        _check_annotation(where, annotation, sizes, known, protocol)
        numbers[annotation["id"]] += 1
        if boxes is None and _counts(annotation):
            box = _clipped(annotation["bbox"], *sizes[annotation["image_id"]])
            if box is not None:
                people[annotation["image_id"]].append(Person(annotation["id"], box, 1.0))
    twice = [number for number, count in numbers.items() if count > 1]
    if twice:
        raise FileError(
            f"{annotations}: expected each annotation's id once, found {quoted(twice[0])} "
            f"{numbers[twice[0]]} times; number them anew"
        )
    if boxes is not None:
        _read_boxes(boxes, sizes, people)
        if selection is not None:
            people.update({image: selection.of(found) for image, found in people.items()})
    pictures = [
        Picture(image_id, images / files[image_id], tuple(people[image_id]))
        for image_id in sizes
        if people.get(image_id)
    ]
    if not pictures:
        raise FileError(f"{boxes or annotations}: expected people, found none; give another file")
    _require_files(pictures, images)
    return pictures


def _require_files(pictures: Sequence[Picture], folder: Path) -> None:
    missing = [picture.path for picture in pictures if not picture.path.is_file()]
    if missing:
        raise FileError(
            f"{folder}: expected {len(pictures)} pictures of the annotations, found {len(missing)} "
            f"missing, the first is {missing[0].name}; give their folder as --images"
        )


def _read_json(path: Path, expected: str, kind: type) -> Any:
    data = read_bytes(path, expected)
    try:
        content = json.loads(data)
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise FileError(
            f"{path}: expected {expected}, but it is not JSON ({error}); fix it"
        ) from error
    if not isinstance(content, kind):
        raise FileError(f"{path}: expected {expected}, found {quoted(content)}; give another file")
    return content


def _images(path: Path, images: list[Any]) -> Iterator[tuple[int, tuple[float, float]]]:
    for index, image in enumerate(images):
        good = (
            isinstance(image, dict)
            and isinstance(image.get("id"), int)
            and isinstance(image.get("file_name"), str)
            and _are_numbers([image.get("width"), image.get("height")], 2)
        )
        if not good:
            raise FileError(
                f"{path}, images[{index}]: expected id, file_name, width and height, found "
                f"{quoted(image)}; correct it"
            )
        yield image["id"], (image["width"], image["height"])


def _check_annotation(
    where: str, annotation: Any, sizes: dict[int, Any], known: set[Any], protocol: Protocol
) -> None:
    if not isinstance(annotation, dict) or not isinstance(annotation.get("id"), int):
        raise FileError(f"{where}: expected an id, found {quoted(annotation)}; correct it")
    if annotation.get("image_id") not in sizes:
        raise FileError(
            f"{where}: expected the id of one of the images, found "
            f"{quoted(annotation.get('image_id'))}; add the image or drop the annotation"
        )
    category = annotation.get("category_id")
    if category not in known or category != PERSON:
        raise FileError(
            f"{where}: expected category_id {PERSON}, the person, as one of the categories, found "
            f"{quoted(category)}; give annotations of people"
        )
    if not _are_numbers(annotation.get("bbox"), 4):
        raise FileError(
            f"{where}: expected bbox as [x, y, width, height], found "
            f"{quoted(annotation.get('bbox'))}; correct it"
        )
    for field, count in protocol.fields.items():
        values = annotation.get(field)
        if not _are_numbers(values, 3 * count):
            found = f"{len(values)} values" if isinstance(values, list) else quoted(values)
            raise FileError(
                f"{where}: expected {field} as {count} times x, y, visibility, found {found}; "
                f"give annotations for {protocol.num_keypoints} keypoints"
            )
    if not protocol.crowded and not _are_numbers([annotation.get("area")], 1):
        raise FileError(
            f"{where}: expected area, found {quoted(annotation.get('area'))}; correct it"
        )


def _are_numbers(values: Any, count: int) -> bool:
    return (
        isinstance(values, list)
        and len(values) == count
        and all(isinstance(v, int | float) and math.isfinite(v) for v in values)
    )


def _counts(annotation: dict[str, Any]) -> bool:
    keypoints = annotation["keypoints"]
    labelled = annotation.get("num_keypoints", sum(v > 0 for v in keypoints[2::3]))
    return not annotation.get("iscrowd") and labelled > 0 and max(keypoints) > 0


def _clipped(
    bbox: Sequence[float], width: float, height: float
) -> tuple[float, float, float, float] | None:
    x, y, w, h = bbox
    left, right = (min(max(v, 0), width - 1) for v in (x, x + w))
    top, bottom = (min(max(v, 0), height - 1) for v in (y, y + h))
    return (left, top, right, bottom) if right > left and bottom > top else None


def _read_boxes(path: Path, sizes: dict[int, Any], people: defaultdict[int, list[Person]]) -> None:
    detections = _read_json(path, "detected boxes in COCO's results form", list)
    for index, found in enumerate(detections):
        good = (
            isinstance(found, dict)
            and found.get("image_id") in sizes
            and isinstance(found.get("category_id"), int)
            and _are_numbers(found.get("bbox"), 4)
            and _are_numbers([found.get("score")], 1)
        )
        if not good:
            raise FileError(
                f"{path}[{index}]: expected image_id of the annotations, category_id, bbox and "
                f"score, found {quoted(found)}; correct it"
            )
        if found["category_id"] == PERSON:
            x, y, w, h = found["bbox"]
            if w > 0 and h > 0:
                person = Person(index, (x, y, x + w, y + h), float(found["score"]))
                people[found["image_id"]].append(person)
