"""Poses of picture after picture, with crops of different pictures in one batch of the model.

A packed file takes frames, each by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np

from cigpose_runtime.arrays import Floats, Pixels
from cigpose_runtime.errors import CigposeError, InputError, error_context
from cigpose_runtime.estimation.decode import decode_simcc, to_frame
from cigpose_runtime.estimation.detector import Detections, Detector, FixedBoxesDetector
from cigpose_runtime.estimation.frame_model import FrameModel
from cigpose_runtime.estimation.pose_model import PoseModel, check_overlap
from cigpose_runtime.estimation.preprocess import boxes_to_crops, make_input
from cigpose_runtime.labelling.decoding import Decoded
from cigpose_runtime.media.threads import in_order, prefetched
from cigpose_runtime.poses import Poses

DetectorOrNoneFor = Callable[[Path], Detector | None]

_Step = TypeVar("_Step")
_Answer = TypeVar("_Answer")

_MOST_PICTURES = 256
"""That go through with one batch, however few people are in them."""


@dataclass(eq=False)
class Labelled:
    """A picture or frame on its way through the model, and at the end its poses, or its error.

    frame and seconds are as in Decoded; size_wh is None where it cannot be decoded.
    """

    source: str
    frame: int | None
    seconds: float | None
    size_wh: tuple[int, int] | None
    error: str | None
    poses: Poses | None = None
    _found: Detections | None = None
    _keypoints: list[Floats] = field(default_factory=list)
    _scores: list[Floats] = field(default_factory=list)

    @classmethod
    def of(cls, decoded: Decoded) -> Labelled:
        """At the start of the way."""
        size_wh = None if decoded.pixels is None else decoded.pixels.shape[1::-1]
        return cls(decoded.item.source, decoded.frame, decoded.seconds, size_wh, decoded.error)

    def finish(self, model: PoseModel) -> None:
        """Puts the people together, whose crops have all been run."""
        if self.error is None and self._found is not None:
            none = Poses.none(model.keypoint_set)
            self.poses = Poses(
                keypoints=np.concatenate([none.keypoints, *self._keypoints]),
                scores=np.concatenate([none.scores, *self._scores]),
                boxes_xyxy=self._found.boxes_xyxy,
                keypoint_set=model.keypoint_set,
                box_scores=self._found.scores,
            )


@dataclass(frozen=True, eq=False)
class _Person:
    """Someone in a picture; center and scale (2,) say which part of it the crop shows."""

    picture: Labelled
    center: Floats
    scale: Floats


@dataclass(frozen=True, eq=False)
class _Batch:
    """People whose crops (n, 3, h, w) run at once, and the pictures that have none after these."""

    people: list[_Person]
    crops: Floats | None
    finished: list[Labelled]


def label(
    model: PoseModel | FrameModel,
    detector_for: DetectorOrNoneFor,
    pictures: Iterable[Decoded],
    *,
    at_once: int = 1,
) -> Iterator[Labelled]:
    """The poses of each picture, in order.

    detector_for: gives None for a model that finds the people itself. at_once: how many runs of the
    model.

    Detecting and cropping go on in another thread while the model runs. What a batch holds
    follows from the pictures alone, so that the same pictures give the same numbers.
    """
    # Of a packed file, a picture; of others, a batch.
    if isinstance(model, FrameModel):
        steps = _with_people(detector_for, pictures)
        with _answers(partial(_posed, model), steps, at_once) as posed:
            yield from posed
        return
    batches = _batches(model, detector_for, pictures)
    with _answers(partial(_answered, model), batches, at_once) as answered:
        for batch, simcc in answered:
            if simcc is not None:
                _decode(model, batch.people, *simcc)
            for picture in batch.finished:
                picture.finish(model)
                yield picture


@contextmanager
def _answers(
    answer: Callable[[_Step], _Answer], steps: Iterator[_Step], at_once: int
) -> Iterator[Iterator[_Answer]]:
    """The answers in order, while the next steps are made in another thread."""
    with (
        closing(prefetched(steps)) as made,
        closing(in_order(answer, made, at_once=at_once)) as answers,
    ):
        yield answers


def _answered(model: PoseModel, batch: _Batch) -> tuple[_Batch, tuple[Floats, Floats] | None]:
    """The batch and the model's outputs; None for one without crops."""
    return batch, None if batch.crops is None else model.simcc(batch.crops)


def _posed(model: FrameModel, step: tuple[Labelled, Pixels | None]) -> Labelled:
    """The picture with its poses, or what is wrong with it."""
    picture, pixels = step
    found = picture._found
    if pixels is not None and picture.error is None:
        try:
            with error_context(picture.source):
                picture.poses = (
                    model(pixels)
                    if found is None
                    else model(pixels, found.boxes_xyxy, box_scores=found.scores)
                )
        except InputError as error:
            picture.error = str(error)
    return picture


def _with_people(
    detector_for: DetectorOrNoneFor, pictures: Iterable[Decoded]
) -> Iterator[tuple[Labelled, Pixels | None]]:
    for decoded in pictures:
        picture = Labelled.of(decoded)
        try:
            picture._found = _found(detector_for, decoded)
        except CigposeError as error:
            picture.error = str(error)
        yield picture, decoded.pixels


def _found(detector_for: DetectorOrNoneFor, decoded: Decoded) -> Detections | None:
    """The people in a picture; None where it has no pixels, or the model is to find them."""
    item = decoded.item
    if decoded.pixels is None:
        return None
    with error_context(item.source):
        given = None if item.boxes is None else FixedBoxesDetector(item.boxes)
        detector = given or detector_for(Path(item.source))
        return None if detector is None else detector(decoded.pixels)


def _batches(
    model: PoseModel, detector_for: DetectorOrNoneFor, pictures: Iterable[Decoded]
) -> Iterator[_Batch]:
    people: list[_Person] = []
    crops: list[Floats] = []
    finished: list[Labelled] = []

    def batch() -> _Batch:
        full = _Batch([*people], np.stack(crops) if crops else None, [*finished])
        for collected in (people, crops, finished):
            collected.clear()
        return full

    for decoded in pictures:
        picture = Labelled.of(decoded)
        for person, crop in _people(model, detector_for, decoded, picture):
            people.append(person)
            crops.append(crop)
            if len(crops) == model.crops_at_once:
                yield batch()
        finished.append(picture)
        if len(finished) == _MOST_PICTURES:
            yield batch()
    yield batch()


def _people(
    model: PoseModel, detector_for: DetectorOrNoneFor, decoded: Decoded, picture: Labelled
) -> Iterator[tuple[_Person, Floats]]:
    """The people of a picture, and their crops. What is wrong with its boxes becomes its error."""
    contract = model.contract
    input_wh = contract.input_w, contract.input_h
    try:
        found = _found(detector_for, decoded)
        if decoded.pixels is None or found is None:
            return
        with error_context(picture.source):
            centers, scales = boxes_to_crops(found.boxes_xyxy, input_wh, contract.box_padding)
            check_overlap(found.boxes_xyxy, decoded.pixels)
    except CigposeError as error:
        picture.error = str(error)
        return
    picture._found = found
    for center, scale in zip(centers, scales, strict=True):
        (crop,) = make_input(decoded.pixels, center[None], scale[None], contract)
        yield _Person(picture, center, scale), crop


def _decode(model: PoseModel, people: list[_Person], simcc_x: Floats, simcc_y: Floats) -> None:
    contract = model.contract
    input_wh = contract.input_w, contract.input_h
    for index, person in enumerate(people):
        one, picture = slice(index, index + 1), person.picture
        try:
            in_crop, scores = decode_simcc(simcc_x[one], simcc_y[one], contract.split_ratio)
        except InputError as error:
            picture.error = f"{picture.source}: {error}"
            continue
        picture._keypoints.append(
            to_frame(in_crop, person.center[None], person.scale[None], input_wh)
        )
        picture._scores.append(scores)
