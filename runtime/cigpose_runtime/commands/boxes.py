"""Boxes that a file gives: for all pictures, by name, or for each frame of a video."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path, PurePath, PurePosixPath
from typing import Any, Generic, TypeVar

import numpy as np

from cigpose_runtime.arrays import Pixels
from cigpose_runtime.commands.journal import MALFORMED
from cigpose_runtime.errors import FileError, InputError, error_context, first_line
from cigpose_runtime.estimation.detector import Detections
from cigpose_runtime.estimation.pose_model import check_overlap
from cigpose_runtime.estimation.preprocess import boxes_to_crops
from cigpose_runtime.files import read_bytes

MOST_BYTES = 32 << 20
"""Some 800,000 boxes. Unpacked, JSON takes up to 20 times its size in memory."""

MOST_ANNOTATION_BYTES = 512 << 20
"""COCO's largest file of annotations has 470 MB."""

MOST_SCORE = 1000
"""Of a box. Detectors give up to 1, and older ones up to some tens."""

PERSON = 1
"""Of COCO's categories, and of MOTChallenge's classes."""

_MOT_COLUMNS = 6
"""At least: frame, id, left, top, width, height; then a score, or whether to count it."""

_MOT_TRUTH_COLUMNS = 9
"""... with a class as the eighth and how much can be seen as the ninth."""

Scored = tuple[Any, float]
"""A box as the file has it, [left, top, right, bottom], and its score."""

_MOST_PARTS = 12
"""Of a path that are looked at."""

_TOO_MANY = 2

Value = TypeVar("Value")


class GivenBoxes:
    """A detector that gives the boxes of a file.

    frame: whose boxes are next, the number of it in its video; set by who has frames with numbers.
    by_frame: whether they differ. A box that cannot be used costs itself.
    """

    def __init__(
        self,
        boxes: Iterable[Scored] = (),
        *,
        of_frames: Mapping[int, list[Scored]] | None = None,
    ) -> None:
        self._boxes = list(boxes)
        self._of_frames = of_frames
        self.frame = 0
        self._errors: list[InputError] = []

    @property
    def by_frame(self) -> bool:
        return self._of_frames is not None

    def __call__(self, frame: Pixels) -> Detections:
        given = self._boxes if self._of_frames is None else self._of_frames.get(self.frame, [])
        usable = []
        for number, (box, score) in enumerate(given):
            try:
                boxes_to_crops([box], (1, 1))
                if not 0 <= score <= MOST_SCORE:
                    raise InputError(f"expected a score from 0 to {MOST_SCORE}, found {score}")
                check_overlap(np.array([box], np.float32), frame)
            except InputError as error:
                said = str(error).removeprefix("boxes[0]: ").removeprefix("boxes: ")
                self._errors.append(InputError(f"box {number}: {said}"))
            else:
                usable.append((box, score))
        return Detections(
            np.array([box for box, _ in usable], np.float32).reshape(-1, 4),
            np.array([score for _, score in usable], np.float32),
        )

    def take_errors(self, name: str) -> list[InputError]:
        """What was wrong with boxes since the last time. name: of the picture or frame."""
        taken = [InputError(f"{name}, {error}") for error in self._errors]
        self._errors.clear()
        return taken


GivenFor = Callable[[Path], GivenBoxes]
"""The boxes for a picture or video, by its path."""


def read_boxes(path: Path) -> GivenFor:
    """Boxes from a file, whose form shows in its content:

    - JSON, [[left, top, right, bottom], ...]: for all pictures and frames.
    - JSON, {name: such a list, ...}: by file name, or by the last parts of the path.
    - JSON lines, as --json writes them: by source, and by frame if they have seconds.
    - COCO results, [{image_id, bbox, score, category_id}, ...]: image_id is the number of the
      frame, or of the picture.
    - text of MOTChallenge, frame,id,left,top,width,height,...: frames are counted from 1.

    Raises FileError for another form or more than 32 MB of it, InputError for boxes without area
    for all pictures, and, when asked, for a picture that is not in the file.
    """
    text = read_bytes(path, "a file with boxes", most=MOST_BYTES)
    with error_context(path):
        content = _parsed(text)
        if content is None:
            return _of_frames(_mot(text))
        match content:
            case [{"people": _}, *_]:
                return _by_source(path, content)
            case [{"image_id": _}, *_]:
                return _of_frames(_coco(content))
            case dict():
                return _by_name(path, content)
        if not isinstance(content, list):
            raise InputError(
                "expected a list of [left, top, right, bottom] for all pictures, found "
                f"{type(content).__name__}; correct it"
            )
        boxes_to_crops(content, (1, 1))  # says what is wrong with them
    return lambda _path: GivenBoxes((box, 1.0) for box in content)


def _parsed(text: bytes) -> Any:
    """JSON, or a list of the JSON lines; None for numbers with commas between."""
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        if text[:1].isdigit():
            return None
        try:
            content = [json.loads(line) for line in text.splitlines() if line.strip()]
        except (ValueError, RecursionError):
            content = []
        if not content:
            raise FileError(
                f"expected JSON with boxes, found none ({first_line(error)}); correct it"
            ) from error
    return [content] if isinstance(content, dict) and "people" in content else content


def _by_name(path: Path, content: Mapping[str, Any]) -> GivenFor:
    named = ByPath(content)

    def given(picture: Path) -> GivenBoxes:
        boxes = named.get(picture)
        if boxes is None:
            raise InputError(
                f"{path}: expected boxes for {picture.name}, found none; add an entry, an empty "
                "list if nobody is there"
            )
        if not isinstance(boxes, list):
            raise InputError(
                f"{path}: expected a list of [left, top, right, bottom] for {picture.name}, found "
                f"{type(boxes).__name__}; correct it"
            )
        return GivenBoxes((box, 1.0) for box in boxes)

    return given


def _by_source(path: Path, lines: list[Any]) -> GivenFor:
    pictures: dict[str, list[Scored]] = {}
    videos: dict[str, dict[int, list[Scored]]] = {}
    try:
        for line in lines:
            boxes = [(one["box_xyxy"], float(one.get("box_score", 1))) for one in line["people"]]
            if "seconds" in line:
                videos.setdefault(str(line["source"]), {})[int(line["frame"])] = boxes
            else:
                pictures[str(line["source"])] = boxes
    except MALFORMED as error:
        raise _other("what --json writes", error) from error

    frames_of, boxes_of = ByPath(videos), ByPath(pictures)

    def given(picture: Path) -> GivenBoxes:
        frames, boxes = frames_of.get(picture), boxes_of.get(picture)
        if frames is None and boxes is None:
            raise InputError(
                f"{path}: expected boxes for {picture.name}, found none; give the results of the "
                "same source"
            )
        return GivenBoxes(boxes or (), of_frames=frames)

    return given


def _of_frames(frames: Mapping[int, list[Scored]]) -> GivenFor:
    return lambda _path: GivenBoxes(of_frames=frames)


def _coco(results: list[Any]) -> dict[int, list[Scored]]:
    frames: dict[int, list[Scored]] = {}
    try:
        for one in results:
            if one.get("category_id", PERSON) == PERSON:
                left, top, width, height = map(float, one["bbox"])
                box = [left, top, left + width, top + height]
                frames.setdefault(int(one["image_id"]), []).append(
                    (box, float(one.get("score", 1)))
                )
    except MALFORMED as error:
        raise _other("COCO results with bbox", error) from error
    return frames


def _mot(text: bytes) -> dict[int, list[Scored]]:
    frames: dict[int, list[Scored]] = {}
    try:
        for line in text.decode("ascii").splitlines():
            values = [float(value) for value in line.split(",")] if line.strip() else []
            if not values:
                continue
            number, _, left, top, width, height = values[:_MOT_COLUMNS]
            score = values[6] if len(values) > _MOT_COLUMNS else 1.0
            is_truth = len(values) == _MOT_TRUTH_COLUMNS
            if score == 0 or (is_truth and values[7] != PERSON):
                continue  # it does not count, or is no person
            box = [left, top, left + width, top + height]
            scored = (box, score if 0 < score < 1 else 1.0)
            frames.setdefault(int(number) - 1, []).append(scored)
    except MALFORMED as error:
        raise _other("frame,id,left,top,width,height,... in each line", error) from error
    return frames


def _other(expected: str, error: Exception) -> FileError:
    return FileError(
        f"expected {expected}, found something else ({type(error).__name__}: {first_line(error)}); "
        "correct the file"
    )


class ByPath(Generic[Value]):
    """Values by the paths of files, as others have named them: `a/0.png` for `/data/a/0.png`.

    It finds the longest name that is the end of a path, else the only one that ends in it.
    """

    def __init__(self, named: Mapping[str, Value]) -> None:
        self._named = {PurePosixPath(name).as_posix(): value for name, value in named.items()}
        self._ending: dict[str, list[Value]] = {}
        for name, value in self._named.items():
            for end in _ends(name):
                if len(alike := self._ending.setdefault(end, [])) < _TOO_MANY:
                    alike.append(value)

    def get(self, path: PurePath) -> Value | None:
        """The value of a path, None if there is none, or more than one."""
        for end in _ends(path.as_posix()):
            if end in self._named:
                return self._named[end]
        alike = self._ending.get(path.as_posix(), [])
        return alike[0] if len(alike) == 1 else None


def _ends(path: str) -> Iterator[str]:
    """The last parts of a path, the longest first."""
    yield path
    parts = PurePosixPath(path).parts[-_MOST_PARTS:]
    yield from ("/".join(parts[start:]) for start in range(len(parts)))


def read_image_ids(path: Path) -> ByPath[int]:
    """The id of each picture in a file of COCO annotations, by its name there."""
    text = read_bytes(path, "a file of COCO annotations", most=MOST_ANNOTATION_BYTES)
    try:
        images = json.loads(text)["images"]
        return ByPath({str(one["file_name"]): int(one["id"]) for one in images})
    except MALFORMED as error:
        with error_context(path):
            raise _other("COCO annotations with images, file_name and id", error) from error
