"""What becomes of a picture in the forms of results that are text."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from cigpose_runtime.poses import Poses
from cigpose_runtime.writers import CSV_HEADER, to_coco, to_coco_wholebody, to_csv, to_json_line


@dataclass(frozen=True, eq=False)
class Entry:
    """The people of one picture or frame of `source`, the index-th one.

    seconds: of a frame of a video. image_id: COCO's. canvas_wh: the picture's size, if known.
    """

    poses: Poses
    source: str
    index: int
    seconds: float | None = None
    image_id: int = 0
    canvas_wh: tuple[int, int] | None = None


@dataclass(frozen=True)
class TextForm:
    """record: of an entry, "" where it has none. The others stand before, between and behind."""

    record: Callable[[Entry], str]
    header: str = ""
    separator: str = ""
    closing: str = ""


def _json_line(entry: Entry) -> str:
    seconds = {} if entry.seconds is None else {"seconds": round(entry.seconds, 6)}
    return to_json_line(entry.poses, source=entry.source, frame=entry.index, **seconds)


def _csv_lines(entry: Entry) -> str:
    return to_csv(entry.poses, entry.source, entry.index)


def _coco_people(entry: Entry) -> str:
    write = to_coco_wholebody if entry.poses.keypoint_set.parts else to_coco
    return ",".join(f"\n{json.dumps(person)}" for person in write(entry.poses, entry.image_id))


TEXT_FORMS: Mapping[str, TextForm] = {
    "json": TextForm(_json_line),
    "coco": TextForm(_coco_people, header="[", separator=",", closing="\n]\n"),
    "csv": TextForm(_csv_lines, header=CSV_HEADER),
}
"""By the names of their options."""
