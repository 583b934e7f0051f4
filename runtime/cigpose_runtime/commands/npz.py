"""All results as arrays in one file, which `numpy.load` opens."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from cigpose_runtime.commands.forms import Entry
from cigpose_runtime.files import output_file
from cigpose_runtime.poses import Poses


@dataclass
class NpzFile:
    """Collects results, and writes them when it is closed; a person takes 12 K bytes until then.

    Of F pictures or frames: `source` (F,) text, `frame` (F,), `seconds` (F,) (NaN for pictures). Of
    P people in all of them: `picture` (P,), the place in these; `keypoints` (P, K, 2), `scores`
    (P, K), `boxes_xyxy` (P, 4), `box_scores` (P,) (NaN without), `track_ids` (P,) (-1 without).
    And `names` (K,), `skeleton` (E, 2).
    """

    path: Path
    _pictures: list[tuple[str, int, float]] = field(default_factory=list)
    _poses: list[Poses] = field(default_factory=list)

    def add(self, entry: Entry) -> None:
        """Adds the people of a picture or frame."""
        seconds = float("nan") if entry.seconds is None else entry.seconds
        self._pictures.append((entry.source, entry.index, seconds))
        self._poses.append(entry.poses)

    def close(self) -> None:
        """Writes the file; none without a picture. Raises FileError."""
        if not self._poses:
            return
        counts = [len(poses) for poses in self._poses]
        sources, frames, seconds = zip(*self._pictures, strict=True)
        first = self._poses[0]
        with output_file(self.path) as file:
            np.savez_compressed(
                file,
                source=np.array(sources),
                frame=np.array(frames),
                seconds=np.array(seconds),
                picture=np.repeat(np.arange(len(counts)), counts),
                keypoints=np.concatenate([poses.keypoints for poses in self._poses]),
                scores=np.concatenate([poses.scores for poses in self._poses]),
                boxes_xyxy=np.concatenate([poses.boxes_xyxy for poses in self._poses]),
                box_scores=np.concatenate([_box_scores(poses) for poses in self._poses]),
                track_ids=np.concatenate([_track_ids(poses) for poses in self._poses]),
                names=np.array(first.names),
                skeleton=np.array(first.skeleton).reshape(-1, 2),
            )


def _box_scores(poses: Poses) -> np.ndarray[tuple[int], np.dtype[np.floating]]:
    none = np.full(len(poses), np.nan, np.float32)
    return none if poses.box_scores is None else poses.box_scores


def _track_ids(poses: Poses) -> np.ndarray[tuple[int], np.dtype[np.integer]]:
    return np.full(len(poses), -1) if poses.track_ids is None else poses.track_ids
