"""From a model's SimCC outputs to keypoints in the frame, with MMPose's arithmetic."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cigpose_runtime.arrays import Floats
from cigpose_runtime.errors import InputError


def decode_simcc(simcc_x: Floats, simcc_y: Floats, split_ratio: float) -> tuple[Floats, Floats]:
    """The keypoint that each pair of SimCC vectors encodes, as SimCCLabel.decode of MMPose 1.3.2.

    simcc_x: (N, K, W) and simcc_y: (N, K, H), raw logits with split_ratio bins per input pixel.
    Returns keypoints (N, K, 2), x and y in input pixels, and scores (N, K). A keypoint is at the
    first of the highest bins, its score is the lower of the two peaks. Where that is not above 0
    the keypoint was not found: it is at bin (-1, -1), which is -1 / split_ratio pixels.
    Raises InputError for a peak that is NaN or infinite (MMPose would let it through, or hide a
    NaN of simcc_y): the model or what ran it overflowed.
    """
    peaks_x, peaks_y = simcc_x.max(axis=-1), simcc_y.max(axis=-1)
    _check_finite("simcc_x", peaks_x)
    _check_finite("simcc_y", peaks_y)
    scores = np.where(peaks_x > peaks_y, peaks_y, peaks_x)
    bins = np.stack([simcc_x.argmax(axis=-1), simcc_y.argmax(axis=-1)], axis=-1)
    bins[scores <= 0] = -1
    keypoints: Floats = bins.astype(np.float32) / np.float32(split_ratio)
    return keypoints, scores


def to_frame(
    keypoints: Floats, centers: Floats, scales: Floats, input_wh: tuple[int, int]
) -> Floats:
    """Keypoints (N, K, 2) in input pixels -> in frame pixels, as TopdownPoseEstimator of MMPose.

    centers, scales: (N, 2) each, from boxes_to_crops.
    """
    center, scale = centers[:, None], scales[:, None]
    in_double = keypoints / np.array(input_wh) * scale + center - 0.5 * scale
    in_frame: Floats = in_double.astype(np.float32)
    return in_frame


def average_flipped(
    simcc: tuple[Floats, Floats], simcc_flipped: tuple[Floats, Floats], flip_indices: Sequence[int]
) -> tuple[Floats, Floats]:
    """The mean of a model's outputs for crops and for their mirror images, as MMPose's flip test.

    simcc, simcc_flipped: simcc_x (N, K, W) and simcc_y (N, K, H).
    flip_indices: (K,), as KeypointSet.flip_indices.
    Returns the averaged simcc_x and simcc_y.
    """
    (x, y), (x_flipped, y_flipped) = simcc, simcc_flipped
    swapped = list(flip_indices)
    return (x + x_flipped[:, swapped, ::-1]) * 0.5, (y + y_flipped[:, swapped]) * 0.5


def _check_finite(name: str, peaks: Floats) -> None:
    bad = np.argwhere(~np.isfinite(peaks))
    if len(bad):
        person, keypoint = bad[0]
        raise InputError(
            f"{name}: expected finite peaks, found {peaks[person, keypoint]} for keypoint "
            f"{keypoint} of person {person} ({len(bad)} of {peaks.size} such peaks); "
            "run the model on the CPU provider, or export it again"
        )
