"""The inputs that a file is judged on: seeded noise, flat colours, crops of real photographs."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cigpose_runtime import Contract
from cigpose_runtime.arrays import Floats, Pixels
from cigpose_runtime.errors import FileError
from cigpose_runtime.estimation.preprocess import boxes_to_crops, make_input
from cigpose_runtime.media.images import read_image

Box = tuple[float, float, float, float]

NOISE_SEEDS = range(8)

PHOTOGRAPHS = Path(__file__).parent / "photographs"

# name -> photograph, box (left, top, right, bottom in pixels), patch that hides part of the person
CROPS: dict[str, tuple[str, Box, Box | None]] = {
    "astronaut": ("astronaut.jpg", (20, 10, 400, 505), None),
    "astronaut off-frame": ("astronaut.jpg", (180, 180, 640, 900), None),
    "astronaut occluded": ("astronaut.jpg", (20, 10, 400, 505), (120, 60, 330, 420)),
    "astronaut tiny": ("astronaut.jpg", (196, 40, 214, 70), None),
    "cameraman off-frame": ("cameraman.jpg", (-160, 40, 210, 760), None),
    "portrait": ("grace_hopper.jpg", (20, 20, 500, 598), None),
}

PICTURE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp"})


@dataclass(frozen=True)
class Case:
    """One input of a model.

    kind: noise, flat or crop. input: (3, h, w) float32, normalised. For a crop, `center` and
    `scale` (x, y in frame pixels) say which part of the photograph it shows, and `box_xyxy` and
    `source` where that came from.
    """

    name: str
    kind: str
    input: Floats
    source: str | None = None
    box_xyxy: Box | None = None
    center: tuple[float, float] | None = None
    scale: tuple[float, float] | None = None

    @property
    def sha256(self) -> str:
        """Of the input's bytes."""
        return hashlib.sha256(self.input.tobytes()).hexdigest()


def make_cases(contract: Contract, images: Path | None = None) -> list[Case]:
    """The cases for models of this contract, the same ones each time.

    images: a folder; each picture in it adds two crops, the whole frame and one over its edge.
    Raises `FileError` for a folder that is none or has no picture, and for a damaged picture.
    """
    cases = [*_noise(contract), *_flat(contract)]
    frames = {name: read_image(PHOTOGRAPHS / name) for name in sorted(_sources())}
    for name, (source, box, patch) in CROPS.items():
        cases.append(_crop(name, frames[source], source, box, contract, patch))
    if images is not None:
        cases.extend(_crops_of(images, contract))
    return cases


def _sources() -> set[str]:
    return {source for source, _, _ in CROPS.values()}


def _noise(contract: Contract) -> Iterator[Case]:
    shape = 3, contract.input_h, contract.input_w
    for seed in NOISE_SEEDS:
        noise = np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)
        yield Case(f"noise {seed}", "noise", noise)


def _flat(contract: Contract) -> Iterator[Case]:
    w, h = contract.input_w, contract.input_h
    yield Case("zeros", "flat", np.zeros((3, h, w), np.float32))
    channels = slice(None, None, -1 if contract.color_order == "rgb" else 1)
    colour = np.rint(contract.mean).astype(np.uint8)[channels]  # frames are BGR
    frame = np.broadcast_to(colour, (h, w, 3)).copy()
    center, scale = np.array([[w / 2, h / 2]], np.float32), np.array([[w, h]], np.float32)
    yield Case("mean colour", "flat", make_input(frame, center, scale, contract)[0])


def _crop(
    name: str, frame: Pixels, source: str, box: Box, contract: Contract, patch: Box | None = None
) -> Case:
    if patch is not None:
        frame = frame.copy()
        left, top, right, bottom = map(int, patch)
        frame[top:bottom, left:right] = 96
    input_wh = contract.input_w, contract.input_h
    centers, scales = boxes_to_crops([box], input_wh, contract.box_padding)
    (x, y), (width, height) = centers[0].tolist(), scales[0].tolist()
    return Case(
        name,
        "crop",
        make_input(frame, centers, scales, contract)[0],
        source=source,
        box_xyxy=box,
        center=(x, y),
        scale=(width, height),
    )


def _crops_of(folder: Path, contract: Contract) -> Iterator[Case]:
    if not folder.is_dir():
        raise FileError(
            f"{folder}: expected a folder of pictures, but there is none; correct --images"
        )
    paths = sorted(p for p in folder.iterdir() if p.suffix.lower() in PICTURE_SUFFIXES)
    if not paths:
        raise FileError(
            f"{folder}: expected pictures ({', '.join(sorted(PICTURE_SUFFIXES))}), found none; "
            "put some there or correct --images"
        )
    for path in paths:
        frame = read_image(path)
        height, width = frame.shape[:2]
        yield _crop(path.name, frame, path.name, (0, 0, width, height), contract)
        beyond = (width / 2, height / 2, width * 1.5, height * 1.5)
        yield _crop(f"{path.name} off-frame", frame, path.name, beyond, contract)
