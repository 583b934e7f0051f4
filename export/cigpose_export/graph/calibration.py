"""The pictures that a model in int8 is calibrated on, and the list of them beside its file."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cigpose_runtime import Contract, FileError
from cigpose_runtime.arrays import Floats
from cigpose_runtime.estimation.preprocess import boxes_to_crops, make_input
from cigpose_runtime.files import file_sha256, read_bytes
from cigpose_runtime.media.images import read_image
from cigpose_runtime.model_file.contract_fields import Calibration
from cigpose_verify.cases import PICTURE_SUFFIXES

BOXES = "boxes.json"
"""In a folder of pictures: {file name: [[left, top, right, bottom], ...]}, in pixels."""


@dataclass(frozen=True)
class Person:
    """One crop: of which picture, the hash of its file, the box in its pixels."""

    picture: str
    sha256: str
    box_xyxy: tuple[float, float, float, float]


@dataclass(frozen=True)
class CalibrationSet:
    """People in the pictures of a folder. source: drawn, or pictures of the user's."""

    source: str
    folder: Path
    people: tuple[Person, ...]

    @classmethod
    def read(cls, source: str, folder: Path) -> CalibrationSet:
        """Of a folder: the people in its boxes.json or, without one, each whole picture.

        Raises `FileError` for a folder that is none or has no pictures, and for boxes of another
        form.
        """
        paths = sorted(p for p in folder.glob("*") if p.suffix.lower() in PICTURE_SUFFIXES)
        if not paths:
            raise FileError(
                f"{folder}: expected a folder of pictures ({', '.join(sorted(PICTURE_SUFFIXES))}), "
                "found none; correct --calibration"
            )
        people = []
        boxes = _read_boxes(folder / BOXES) if (folder / BOXES).is_file() else None
        for path in paths:
            if boxes is None:
                height, width = read_image(path).shape[:2]
                own: Any = [(0, 0, width, height)]
            else:
                own = boxes.get(path.name, [])
            people += [Person(path.name, file_sha256(path), tuple(box)) for box in own]
        return cls(source, folder, tuple(people))

    def crops(self, contract: Contract) -> Iterator[Floats]:
        """Inputs (3, h, w) as the runtime makes them."""
        size = contract.input_w, contract.input_h
        for person in self.people:
            place = boxes_to_crops([person.box_xyxy], size, contract.box_padding)
            yield make_input(read_image(self.folder / person.picture), *place, contract)[0]

    def to_json(self) -> bytes:
        """The list of the people, for the file beside the model."""
        people = [
            {"picture": one.picture, "sha256": one.sha256, "box": list(one.box_xyxy)}
            for one in self.people
        ]
        return json.dumps({"source": self.source, "crops": people}, indent=1).encode()

    def named(self) -> Calibration:
        """What the metadata say of it."""
        digest = hashlib.sha256(self.to_json()).hexdigest()
        return Calibration(source=self.source, crops=len(self.people), sha256=digest)


def _read_boxes(path: Path) -> dict[str, list[list[float]]]:
    try:
        content = json.loads(read_bytes(path, "boxes"))
        if not all(
            len(box) == 4 and all(type(edge) in (int, float) for edge in box)
            for boxes in content.values()
            for box in boxes
        ):
            raise ValueError("another form of boxes")
    except (AttributeError, TypeError, ValueError, RecursionError) as error:
        raise FileError(
            f"{path}: expected {{file name: [[left, top, right, bottom], ...]}}, found another "
            f"file ({error}); correct it"
        ) from error
    found: dict[str, list[list[float]]] = content
    return found
