"""Replays golden vectors of a packed file: a frame, boxes, and the poses that verification saw."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cigpose_runtime.model_file.frame_contract import FrameContract
from cigpose_runtime.releases.golden import (
    Replayed,
    difference,
    largest_tolerance,
    read_vector,
    require_tolerance,
    run_vectors,
)
from cigpose_runtime.releases.golden_document import GoldenSet

FRAME_OUTPUTS = ("keypoints", "scores")

KEYPOINT_TOLERANCE = 0.01
"""Frame pixels. A bin of a person 50 px wide is 0.16 px. Measured: boxes of detectors that return
the cells of their grid are within 2.4e-4 px."""


def replay_frame(
    session: Any, folder: Path, expected: GoldenSet, contract: FrameContract
) -> Replayed:
    """One set in `folder`, with a case for each person. Raises FileError and OnnxFileError.

    Its error is that of the scores; keypoints that are further off than their tolerance have moved.
    """
    people, k = len(expected.cases), contract.model.num_keypoints
    feed: dict[str, NDArray[Any]] = {
        "frame": read_vector(folder / "input_0.pb", (None, None, 3), np.uint8)
    }
    first = 0 if contract.detector is None else 2
    if contract.detector is None:
        feed["boxes"] = read_vector(folder / "input_1.pb", (people, 4))
    reference = read_vector(folder / f"output_{first + 1}.pb", (people, k))
    keypoint_tolerance, tolerance = expected.tolerances
    require_tolerance(folder, keypoint_tolerance, KEYPOINT_TOLERANCE)
    require_tolerance(folder, tolerance, largest_tolerance(reference, contract.model.precision))
    keypoints, scores = run_vectors(session, folder, FRAME_OUTPUTS, feed)
    error = difference(scores, reference)
    moved = 0
    if np.isfinite(error) and keypoints.shape == expected.keypoints.shape:
        off = np.abs(keypoints - expected.keypoints).max(axis=-1)
        moved = int((~(off <= keypoint_tolerance) & ~expected.near_ties).sum())
    elif np.isfinite(error):
        error = float("inf")
    return Replayed(expected.cases, error, tolerance, moved)
