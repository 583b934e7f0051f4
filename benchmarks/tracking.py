"""`make bench`, tracking: our tracker beside others, on the same boxes of clips with known truth.

Judged by TrackEval 1.3.0, whose code the MOT benchmarks use: IDF1 (higher is better) and identity
switches. The clips are those of benchmarks/moving_people.py; their seeds are not those that our
constants were chosen with (0 to 9).

- rtmlib 0.0.16: the track_by_iou of its PoseTracker, which keeps its lists from frame to frame
  here: PoseTracker itself takes the numbers of people for places in a list, and ends with an
  IndexError once there are more of them than people;
- ByteTrack, OC-SORT and BoT-SORT (without the camera's motion, for which it needs the pictures):
  those of trackers 2.6.1, to which supervision has moved its own. They know the frame rate, and
  number people from their first frame on, as ours does;
- perfect: the boxes with the true numbers. What is missing to 100 are people whom the detector
  does not see.

`python -m benchmarks.tracking` prints this table alone.
"""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.table import Table

from benchmarks.moving_people import Seen, clips, look
from cigpose_export.cli.console import print_table
from cigpose_runtime import Poses, Tracker
from cigpose_runtime.arrays import Floats
from cigpose_runtime.overlap import iou

SEEDS = range(100, 120)

Numbered = tuple[NDArray[np.int64], Floats]
"""Track ids (N,) and their boxes (N, 4)."""

Track = Callable[[Seen], Numbered]
"""What a tracker makes of the next frame."""


@dataclass(frozen=True)
class Tracked:
    """Of all clips of one kind: IDF1 in percent, and identity switches."""

    idf1: float
    switches: int


def measure_tracking(seeds: Iterable[int] = SEEDS) -> dict[str, dict[str, Tracked]]:
    """By kind of clip, then by tracker."""
    kinds = list(clips(0))
    return {
        kind: {name: _judge(kind, seeds, make) for name, make in SIDES.items()} for kind in kinds
    }


def print_tracking(measured: dict[str, dict[str, Tracked]]) -> None:
    """One row a kind of clip."""
    table = Table("clip", title="Tracking: IDF1 (switches)", box=None, header_style="bold")
    table.title_justify = "left"
    for name in SIDES:
        table.add_column(name, justify="right")
    for kind, sides in measured.items():
        table.add_row(kind, *(f"{side.idf1:.1f} ({side.switches})" for side in sides.values()))
    print_table(table)


def _judge(kind: str, seeds: Iterable[int], make: Callable[[float], Track]) -> Tracked:
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from trackeval.metrics import CLEAR, Identity  # says what else it could import

        identity, clear = (metric({"PRINT_CONFIG": False}) for metric in (Identity, CLEAR))
        found: dict[str, list[dict[str, Any]]] = {"identity": [], "clear": []}
        for seed in seeds:
            clip = clips(seed)[kind]
            track = make(clip.fps)
            frames = list(look(clip.people, fps=clip.fps, seconds=clip.seconds, seed=seed))
            data = _as_trackeval([(seen, *track(seen)) for seen in frames])
            found["identity"].append(identity.eval_sequence(data))
            found["clear"].append(clear.eval_sequence(data))
    by_clip = {name: dict(enumerate(results)) for name, results in found.items()}
    idf1 = identity.combine_sequences(by_clip["identity"])["IDF1"]
    return Tracked(
        round(float(idf1) * 100, 1), int(clear.combine_sequences(by_clip["clear"])["IDSW"])
    )


def _as_trackeval(frames: list[tuple[Seen, NDArray[np.int64], Floats]]) -> dict[str, Any]:
    """Numbers from 0 without gaps, and the overlap of all boxes with all, by frame."""
    true = np.unique(np.concatenate([seen.true_people for seen, _, _ in frames]))
    given = np.unique(np.concatenate([ids for _, ids, _ in frames]))
    return {
        "gt_ids": [np.searchsorted(true, seen.true_people) for seen, _, _ in frames],
        "tracker_ids": [np.searchsorted(given, ids) for _, ids, _ in frames],
        "similarity_scores": [
            iou(seen.true_boxes.astype(np.float32), boxes) for seen, _, boxes in frames
        ],
        "num_gt_dets": sum(len(seen.true_people) for seen, _, _ in frames),
        "num_tracker_dets": sum(len(ids) for _, ids, _ in frames),
        "num_gt_ids": len(true),
        "num_tracker_ids": len(given),
        "num_timesteps": len(frames),
    }


def _ours(_: float) -> Track:
    tracker = Tracker()

    def track(seen: Seen) -> Numbered:
        poses = tracker(seen.poses)
        assert poses.track_ids is not None
        return poses.track_ids, poses.boxes_xyxy

    return track


def _rtmlib(_: float) -> Track:
    from rtmlib import PoseTracker
    from rtmlib.tools.solution.pose_tracker import pose_to_bbox

    class NoModel:
        def __init__(self, **_: Any) -> None:
            self.pose_model = None

    with contextlib.redirect_stdout(io.StringIO()):
        tracker = PoseTracker(NoModel)

    def track(seen: Seen) -> Numbered:
        boxes = [pose_to_bbox(keypoints) for keypoints in seen.poses.keypoints]
        numbers = [tracker.track_by_iou(box)[0] for box in boxes]
        kept = [index for index, number in enumerate(numbers) if number >= 0]
        tracker.track_ids_last_frame = [numbers[index] for index in kept]
        tracker.bboxes_last_frame = [boxes[index] for index in kept]
        ids = np.array(tracker.track_ids_last_frame, np.int64)
        return ids, seen.poses.boxes_xyxy[np.array(kept, np.intp)]

    return track


def _of_trackers(name: str, **options: Any) -> Callable[[float], Track]:
    def make(fps: float) -> Track:
        import supervision
        import trackers

        tracker = getattr(trackers, name)(frame_rate=fps, minimum_consecutive_frames=1, **options)

        def track(seen: Seen) -> Numbered:
            poses: Poses = seen.poses
            given = supervision.Detections(
                xyxy=poses.boxes_xyxy.astype(float), confidence=poses.box_scores
            )
            found = tracker.update(given)
            known = found.tracker_id >= 0
            return found.tracker_id[known], found.xyxy[known].astype(np.float32)

        return track

    return make


def _perfect(_: float) -> Track:
    return lambda seen: (seen.people.astype(np.int64), seen.poses.boxes_xyxy)


SIDES: dict[str, Callable[[float], Track]] = {
    "ours": _ours,
    "rtmlib": _rtmlib,
    "ByteTrack": _of_trackers("ByteTrackTracker"),
    "OC-SORT": _of_trackers("OCSORTTracker"),
    "BoT-SORT": _of_trackers("BoTSORTTracker", enable_cmc=False),
    "perfect": _perfect,
}


if __name__ == "__main__":
    print_tracking(measure_tracking())
