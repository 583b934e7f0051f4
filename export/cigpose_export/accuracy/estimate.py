"""Estimates poses on a data set, picture after picture, and goes on where it was stopped."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from cigpose_export.accuracy.annotations import Picture
from cigpose_export.accuracy.evaluate import Estimate
from cigpose_runtime import PoseModel
from cigpose_runtime.arrays import Floats, Pixels
from cigpose_runtime.estimation.decode import decode_simcc, to_frame
from cigpose_runtime.estimation.preprocess import boxes_to_crops, make_input
from cigpose_runtime.media.images import read_image
from cigpose_runtime.media.threads import prefetched

BATCH = 16
"""People whose pictures are looked at together."""


class Estimator(Protocol):
    """Estimates poses in several frames at once."""

    def __call__(self, frames: Sequence[Pixels], boxes: Sequence[Floats]) -> list[Floats]:
        """Frames (H,W,3) uint8 BGR and their boxes (n,4) xyxy -> (n,K,3), x, y, score."""
        ...


class RuntimeEstimator:
    """The runtime's stages, with the people of several frames in one batch."""

    def __init__(self, model: PoseModel) -> None:
        self.model = model

    def __call__(self, frames: Sequence[Pixels], boxes: Sequence[Floats]) -> list[Floats]:
        contract = self.model.contract
        input_wh = contract.input_w, contract.input_h
        places = [boxes_to_crops(some, input_wh, contract.box_padding) for some in boxes]
        crops = [
            make_input(frame, *place, contract) for frame, place in zip(frames, places, strict=True)
        ]
        found = list(self._decoded(np.concatenate(crops)))
        in_crops, scores = (np.concatenate(part) for part in zip(*found, strict=True))
        centers, scales = (np.concatenate(part) for part in zip(*places, strict=True))
        keypoints = to_frame(in_crops, centers, scales, input_wh)
        poses = np.concatenate([keypoints, scores[..., None]], axis=-1).astype(np.float32)
        return np.split(poses, np.cumsum([len(some) for some in boxes])[:-1])

    def _decoded(self, crops: Floats) -> Iterator[tuple[Floats, Floats]]:
        at_once = BATCH // (1 + self.model.flip)
        for start in range(0, len(crops), at_once):
            simcc = self.model.simcc(crops[start : start + at_once])
            yield decode_simcc(*simcc, self.model.contract.split_ratio)


def estimate(
    pictures: Sequence[Picture],
    estimator: Estimator,
    journal: Path,
    key: dict[str, Any],
    area_of: Callable[[Floats], Floats],
    on_done: Callable[[int], None],
) -> list[Estimate]:
    """The poses of all people in the pictures.

    journal: what was estimated is written there, a line a picture; pictures that are in it are not
    estimated again, as long as `key` is the one it was begun with. area_of: boxes (n,4) -> areas
    (n,) of their crops. on_done: told how many more pictures are done.
    Raises FileError for a picture that cannot be read.
    """
    done = _read_journal(journal, key)
    on_done(sum(picture.image_id in done for picture in pictures))
    left = [picture for picture in pictures if picture.image_id not in done]
    with journal.open("a", encoding="utf-8") as lines:
        if not journal.stat().st_size:
            lines.write(json.dumps(key) + "\n")
        for some in prefetched(_together(left)):
            boxes = [np.array([p.box_xyxy for p in pic.people], np.float32) for pic, _ in some]
            poses = estimator([frame for _, frame in some], boxes)
            for (picture, _), found in zip(some, poses, strict=True):
                rows = [[round(float(v), 4) for v in pose.ravel()] for pose in found]
                done[picture.image_id] = rows
                lines.write(json.dumps([picture.image_id, rows]) + "\n")
            lines.flush()
            on_done(len(some))
    estimates = []
    for picture in pictures:
        boxes_xyxy = np.array([person.box_xyxy for person in picture.people], np.float32)
        areas = area_of(boxes_xyxy)
        for person, area, row in zip(picture.people, areas, done[picture.image_id], strict=True):
            pose = np.array(row, np.float32).reshape(-1, 3)
            box, score = person.box_xyxy, person.score
            estimates.append(
                Estimate(picture.image_id, person.number, box, score, float(area), pose)
            )
    return estimates


def _together(pictures: Sequence[Picture]) -> Iterator[list[tuple[Picture, Pixels]]]:
    """Pictures with their pixels, in groups that fill a batch."""
    group: list[tuple[Picture, Pixels]] = []
    for picture in pictures:
        group.append((picture, read_image(picture.path)))
        if sum(len(other.people) for other, _ in group) >= BATCH:
            yield group
            group = []
    if group:
        yield group


def _read_journal(path: Path, key: dict[str, Any]) -> dict[int, list[list[float]]]:
    """What earlier runs with this key have done; a line that was cut short is dropped."""
    try:
        lines = path.read_text("utf-8").splitlines(keepends=True)
    except FileNotFoundError:
        return {}
    whole = [line for line in lines if line.endswith("\n")]
    if not whole or json.loads(whole[0]) != key:
        path.unlink()
        return {}
    if len(whole) < len(lines):
        path.write_text("".join(whole), "utf-8")
    return dict(json.loads(line) for line in whole[1:])
