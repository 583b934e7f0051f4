"""The crops that a model in int8 has its scales from, and the list of them beside its file."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from cigpose_runtime import Contract, FileError
from cigpose_runtime.arrays import Floats
from cigpose_runtime.commands.boxes import GivenBoxes, read_boxes
from cigpose_runtime.errors import error_context, first_line
from cigpose_runtime.estimation.detector import WholeFrameDetector
from cigpose_runtime.estimation.preprocess import boxes_to_crops, make_input
from cigpose_runtime.files import file_sha256
from cigpose_runtime.media.images import SUFFIXES, read_image
from cigpose_runtime.model_file.contract_fields import Calibration

BOXES = "boxes.json"
"""In a folder of pictures: who is in them, in any form that names them and `read_boxes` takes."""

LEAST_CROPS = 50
"""Of drawn people, 8 give the same AP (docs/precision.md); photographs differ more."""

BATCH = 4
"""Crops whose intermediate values are in memory at once."""


@dataclass(frozen=True)
class Crop:
    """Of which picture, the hash of its file, and the box in its pixels."""

    picture: str
    sha256: str
    box_xyxy: tuple[float, ...]


@dataclass(frozen=True)
class CalibrationSet:
    """Crops of the pictures in a folder. source: drawn, or pictures of the user's."""

    source: Literal["drawn", "pictures"]
    folder: Path
    crops: tuple[Crop, ...]

    @classmethod
    def read(cls, source: Literal["drawn", "pictures"], folder: Path) -> CalibrationSet:
        """The people in the boxes.json of a folder or, without one, each of its pictures whole.

        Raises `FileError` for a folder that is none, too few crops in it, and pictures or boxes
        that cannot be read, `InputError` for boxes that cannot be used.
        """
        try:
            files = sorted(folder.iterdir())
        except OSError as error:
            raise FileError(
                f"{folder}: expected a folder of pictures, found none that can be read "
                f"({first_line(error)}); correct --calibration"
            ) from error
        boxes_for = read_boxes(folder / BOXES) if folder / BOXES in files else None
        crops = []
        for path in files:
            if path.suffix.lower() in SUFFIXES:
                detector = boxes_for(path) if boxes_for else WholeFrameDetector()
                found = detector(read_image(path)).boxes_xyxy.tolist()
                if isinstance(detector, GivenBoxes) and (
                    unusable := detector.take_errors(path.name)
                ):
                    with error_context(folder / BOXES):
                        raise unusable[0]
                crops += [Crop(path.name, file_sha256(path), tuple(box)) for box in found]
        if len(crops) < LEAST_CROPS:
            raise FileError(
                f"{folder}: expected at least {LEAST_CROPS} people in pictures to calibrate on, "
                f"found {len(crops)}; add some, or correct --calibration"
            )
        return cls(source, folder, tuple(crops))

    def to_json(self) -> bytes:
        """The list of the crops, for the file beside the model."""
        crops = [
            {"picture": one.picture, "sha256": one.sha256, "box_xyxy": one.box_xyxy}
            for one in self.crops
        ]
        return json.dumps({"source": self.source, "crops": crops}, indent=1).encode()

    def named(self) -> Calibration:
        """What the metadata say of it."""
        digest = hashlib.sha256(self.to_json()).hexdigest()
        return Calibration(source=self.source, crops=len(self.crops), sha256=digest)


@dataclass(frozen=True)
class Batches(Sequence[Floats]):
    """The crops of a set as the runtime makes them, (B, 3, h, w), made when they are asked for."""

    crops: CalibrationSet
    contract: Contract

    def __len__(self) -> int:
        return math.ceil(len(self.crops.crops) / BATCH)

    def __getitem__(self, index: Any) -> Any:
        contract, start = self.contract, BATCH * range(len(self))[index]
        size = contract.input_w, contract.input_h
        return np.concatenate(
            [
                make_input(
                    read_image(self.crops.folder / crop.picture),
                    *boxes_to_crops(np.array([crop.box_xyxy]), size, contract.box_padding),
                    contract,
                )
                for crop in self.crops.crops[start : start + BATCH]
            ]
        )
