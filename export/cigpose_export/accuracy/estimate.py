"""PyTorch's poses on a data set, picture after picture; goes on where it was stopped."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from cigpose_export.accuracy.annotations import Picture
from cigpose_runtime.arrays import Floats, Pixels
from cigpose_runtime.media.images import read_image
from cigpose_runtime.media.threads import prefetched

BATCH = 16
"""People whose pictures are looked at together."""


class Estimator(Protocol):
    """Estimates poses in several frames at once."""

    def __call__(self, frames: Sequence[Pixels], boxes: Sequence[Floats]) -> list[Floats]:
        """Frames (H,W,3) uint8 BGR and their boxes (n,4) xyxy -> (n,K,3), x, y, score."""
        ...


def estimate(
    pictures: Sequence[Picture],
    estimator: Estimator,
    journal: Path,
    key: dict[str, Any],
    on_done: Callable[[int], None],
) -> list[Floats]:
    """The poses (n, K, 3) of the people in each picture: x, y, score.

    journal: what was estimated is written there, a line a picture; pictures that are in it are not
    estimated again, as long as `key` is the one it was begun with. on_done: told how many more
    pictures are done.
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
    return [
        np.array(done[picture.image_id], np.float32).reshape(len(picture.people), -1, 3)
        for picture in pictures
    ]


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
