"""Poses in the forms that other programs read: COCO, COCO-WholeBody, OpenPose, JSON lines, CSV."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from cigpose_runtime.arrays import Floats
from cigpose_runtime.errors import InputError, printable, quoted
from cigpose_runtime.poses import Poses

Person = dict[str, Any]

CATEGORY_ID = 1
"""Of people in COCO."""

SCHEMA_VERSION = 1

WHOLE_BODY_FIELDS = {
    "body": "keypoints",
    "foot": "foot_kpts",
    "face": "face_kpts",
    "left hand": "lefthand_kpts",
    "right hand": "righthand_kpts",
}
"""The fields of COCO-WholeBody's annotations and results, by the part in `KeypointSet.parts`."""

# OpenPose's BODY_25 from COCO-WholeBody's body and feet; neck and mid-hip are means of two.
_NECK, _MID_HIP = (5, 6), (11, 12)
_BODY_25: tuple[int | tuple[int, int], ...] = (
    *(0, _NECK, 6, 8, 10, 5, 7, 9, _MID_HIP, 12, 14, 16, 11, 13, 15, 2, 1, 4, 3),
    *(17, 18, 19, 20, 21, 22),
)
# Its face has 68 keypoints, as ours, and two pupils, which COCO-WholeBody has not.
_FACE_PUPILS = 2


def to_coco(poses: Poses, image_id: int | str) -> list[Person]:
    """COCO keypoint results, one dict a person: keypoints as x, y, score in a row."""
    triples = _triples(poses)
    return [
        {
            "image_id": image_id,
            "category_id": CATEGORY_ID,
            "keypoints": _flat(person),
            "score": _rounded(score),
        }
        for person, score in zip(triples, poses.person_scores, strict=True)
    ]


def to_coco_wholebody(poses: Poses, image_id: int | str) -> list[Person]:
    """COCO-WholeBody results: as COCO's, with feet, face and hands in fields of their own.

    Raises InputError for models of other keypoints than COCO-WholeBody's.
    """
    parts = _whole_body_parts(poses, "COCO-WholeBody")
    return [
        {
            "image_id": image_id,
            "category_id": CATEGORY_ID,
            **{field: _flat(person[parts[part]]) for part, field in WHOLE_BODY_FIELDS.items()},
            "score": _rounded(score),
        }
        for person, score in zip(_triples(poses), poses.person_scores, strict=True)
    ]


def to_openpose(poses: Poses, *, canvas_wh: tuple[int, int] | None = None) -> dict[str, Any]:
    """OpenPose's JSON (version 1.3): BODY_25, face and hands in frame pixels.

    What was not found (a score of 0 or less) is 0, 0, 0, and so are the neck and the middle of the
    hips without both sides, and the pupils, which the model has not. canvas_wh: the frame's size,
    which tools that draw such files again want. Raises InputError for models of other keypoints
    than COCO-WholeBody's.
    """
    parts = _whole_body_parts(poses, "OpenPose")
    people = []
    for index, person in enumerate(_triples(poses)):
        person[~(person[:, 2] > 0)] = 0
        body = np.stack(
            [person[k] if isinstance(k, int) else _between(person, k) for k in _BODY_25]
        )
        face = np.concatenate([person[parts["face"]], np.zeros((_FACE_PUPILS, 3), np.float32)])
        number = -1 if poses.track_ids is None else int(poses.track_ids[index])
        people.append(
            {
                "person_id": [number],
                "pose_keypoints_2d": _flat(body),
                "face_keypoints_2d": _flat(face),
                "hand_left_keypoints_2d": _flat(person[parts["left hand"]]),
                "hand_right_keypoints_2d": _flat(person[parts["right hand"]]),
            }
        )
    document: dict[str, Any] = {"version": 1.3, "people": people}
    if canvas_wh is not None:
        document["canvas_width"], document["canvas_height"] = canvas_wh
    return document


def to_json(poses: Poses, **about: Any) -> dict[str, Any]:
    """One frame as a JSON object under a schema version; `about` it: a file, a number, a time."""
    people = []
    for index in range(len(poses)):
        person = {
            "box_xyxy": [_rounded(v) for v in poses.boxes_xyxy[index]],
            "score": _rounded(poses.person_scores[index]),
            "keypoints": [[_rounded(v) for v in xy] for xy in poses.keypoints[index]],
            "keypoint_scores": [_rounded(v) for v in poses.scores[index]],
        }
        if poses.box_scores is not None:
            person["box_score"] = _rounded(poses.box_scores[index])
        if poses.track_ids is not None:
            person["track_id"] = int(poses.track_ids[index])
        people.append(person)
    return {"schema_version": SCHEMA_VERSION, **about, "people": people}


def to_json_line(poses: Poses, **about: Any) -> str:
    """`to_json` on one line, with its line break."""
    return json.dumps(to_json(poses, **about), allow_nan=False, separators=(",", ":")) + "\n"


_FORMULA_SIGNS = tuple("=+-@\uff1d\uff0b\uff0d\uff20")
"""What a formula begins with, also in full width; tabs and line breaks are escaped anyway."""

CSV_HEADER = "source,frame,person,track_id,keypoint,x,y,score\n"


def to_csv(poses: Poses, source: str, frame: int) -> str:
    """Lines under CSV_HEADER, one a keypoint of each person.

    Names are written as `printable` shows them, and after an apostrophe where a spreadsheet would
    take them for a formula.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    for person, values in enumerate(_triples(poses)):
        track = "" if poses.track_ids is None else int(poses.track_ids[person])
        for name, value in zip(poses.names, values, strict=True):
            numbers = map(_rounded, value)
            writer.writerow([_cell(source), frame, person, track, _cell(name), *numbers])
    return text.getvalue()


def _cell(text: str) -> str:
    """Text that a spreadsheet shows and does not compute (OWASP, CSV injection)."""
    shown = printable(text)
    return f"'{shown}" if shown.startswith(_FORMULA_SIGNS) else shown


def _triples(poses: Poses) -> Iterator[Floats]:
    """Each person as (K, 3): x, y, score."""
    for keypoints, scores in zip(poses.keypoints, poses.scores, strict=True):
        yield np.concatenate([keypoints, scores[:, None]], axis=1)


def _between(person: Floats, pair: tuple[int, int]) -> Floats:
    """The middle of two keypoints with the lower score, as OpenPose's neck and hip.

    0, 0, 0 if one of them was not found.
    """
    sides = person[list(pair)]
    middle: Floats = sides.mean(axis=0)
    middle[2] = sides[:, 2].min()
    return middle if middle[2] > 0 else np.zeros_like(middle)


def _flat(triples: Floats) -> list[float]:
    return [_rounded(value) for value in triples.ravel()]


def _rounded(value: Any) -> float:
    """Three decimals: a thousandth of a pixel, and of a score."""
    return round(float(value), 3)


def _whole_body_parts(poses: Poses, form: str) -> Mapping[str, slice]:
    keypoints = poses.keypoint_set
    if not keypoints.parts:
        raise InputError(
            f"expected COCO-WholeBody's keypoints for {form} results, found the "
            f"{len(keypoints.names)} of {quoted(keypoints.dataset)}; use a whole-body model, or "
            "another form"
        )
    return keypoints.parts
