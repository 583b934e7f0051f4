"""JSON lines of an earlier run, read again to go on where it stopped."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from cigpose_runtime.errors import CigposeError, FileError, first_line
from cigpose_runtime.keypoints import KeypointSet
from cigpose_runtime.poses import Poses

Document = dict[str, Any]
"""What a line holds, as `writers.to_json` makes it."""

MALFORMED = (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError)
"""What Python raises for JSON of another form than expected."""

MOST_BYTES = 64 << 20
"""Of a line: some 8000 people. Unpacked, JSON takes up to 20 times its size in memory."""


def read_lines(
    file: BinaryIO, path: Path, keypoint_set: KeypointSet
) -> Iterator[tuple[int, Document, Poses]]:
    """The byte behind each whole line from here on, what it says, and its poses.

    A last line without its end, as SIGKILL leaves one, is left out. Raises FileError for a line
    that `--json` does not write, or of a model with other keypoints.
    """
    number, end = 0, file.tell()
    while (line := file.readline(MOST_BYTES)).endswith(b"\n"):
        number, end = number + 1, end + len(line)
        try:
            document = json.loads(line)
            if not isinstance(document["source"], str) or not isinstance(document["frame"], int):
                raise TypeError("source and frame")
            poses = _poses_of(document, keypoint_set)
        except (*MALFORMED, CigposeError) as error:
            raise FileError(
                f"{path}, line {number}: expected what --json wrote for a model of "
                f"{len(keypoint_set.names)} keypoints, found something else "
                f"({type(error).__name__}: {first_line(error)}); give --json another file"
            ) from error
        yield end, document, poses
    if len(line) == MOST_BYTES:
        raise FileError(
            f"{path}: expected lines of at most {MOST_BYTES} bytes, found a longer one; give "
            "--json another file"
        )


def _poses_of(document: Document, keypoint_set: KeypointSet) -> Poses:
    people = document["people"]
    if not people:
        return Poses.none(keypoint_set)

    def array(key: str, dtype: Any) -> NDArray[Any] | None:
        return np.array([one[key] for one in people], dtype) if key in people[0] else None

    return Poses(
        keypoints=np.array([person["keypoints"] for person in people], np.float32),
        scores=np.array([person["keypoint_scores"] for person in people], np.float32),
        boxes_xyxy=np.array([person["box_xyxy"] for person in people], np.float32),
        keypoint_set=keypoint_set,
        box_scores=array("box_score", np.float32),
        track_ids=array("track_id", np.int64),
    )
