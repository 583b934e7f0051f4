"""Do two sets of outputs give the same keypoints, wherever the reference is clear about them?

A keypoint is the highest bin of two vectors. Where the second highest is within rounding, another
backend may rightly say that one: with errors up to epsilon, wherever the reference's margin is at
most 2 epsilon. The same holds for a score on the edge of 0, below which a keypoint is not found.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Bools = NDArray[np.bool_]

CONFIDENT_SCORE = 0.3
"""A keypoint of at least this score is one that people use (MMPose's visualizers: kpt_thr=0.3)."""

MOST_NEAR_TIES = 0.01
"""Of the confident keypoints on sound crops; with more of them, agreement would say little.

Of 60 files with uncalibrated weights (`tolerances.PRECISION_FACTOR`) 4 of 14,578, most in one file
2 of 665; on crops that are not sound 71 of 5,102. A model of 14 keypoints has fewer than a hundred
of them: one near tie is always allowed.
"""

LEAST_IN_PLACE = 0.99
"""Of a person's keypoints that a packed file finds, those in the same bins as MMPose's, behind its
own pipeline. Of 160 people, 133 and 17 keypoints, synthetic weights, with and without flip: all."""

MOST_ELSEWHERE = 1 / 20
"""People with less: where the intervention's choice hangs on rounding, all of a person's keypoints
may be elsewhere. Of fewer than 20 people, none."""


@dataclass(frozen=True)
class Readout:
    """What outputs say, per keypoint: `bins` (K,2) of x and y, -1 where it was not found, and the
    score (K,), the lower of the two peaks."""

    bins: NDArray[np.intp]
    scores: NDArray[np.floating]

    @classmethod
    def of(cls, simcc_x: NDArray[np.floating], simcc_y: NDArray[np.floating]) -> Readout:
        """Reads `simcc_x` (K,W) and `simcc_y` (K,H)."""
        scores = np.minimum(simcc_x.max(axis=1), simcc_y.max(axis=1))
        bins = np.stack([simcc_x.argmax(axis=1), simcc_y.argmax(axis=1)], axis=1)
        bins[scores <= 0] = -1
        return cls(bins, scores)


@dataclass(frozen=True)
class Clarity:
    """How clear a reference is: the margins (K,2) by which its bins lead, its scores (K,)."""

    margins: NDArray[np.floating]
    scores: NDArray[np.floating]

    @classmethod
    def of(cls, simcc_x: NDArray[np.floating], simcc_y: NDArray[np.floating]) -> Clarity:
        """Reads `simcc_x` (K,W) and `simcc_y` (K,H)."""
        ranked = [np.partition(vectors, -2, axis=1)[:, -2:] for vectors in (simcc_x, simcc_y)]
        margins = np.stack([top[:, 1] - top[:, 0] for top in ranked], axis=1)
        return cls(margins, np.minimum(*(top[:, 1] for top in ranked)))

    def near_ties(self, epsilon: float) -> Bools:
        """Which keypoints (K,) may differ on a backend with errors up to epsilon."""
        near: Bools = (self.margins <= 2 * epsilon).any(axis=1) | (np.abs(self.scores) <= epsilon)
        return near

    @property
    def lead(self) -> NDArray[np.floating]:
        """By how much (K,) each keypoint's place is decided: over other bins, and over none."""
        lead: NDArray[np.floating] = np.minimum(self.margins.min(axis=1), np.abs(self.scores))
        return lead

    @property
    def clearer_half(self) -> Bools:
        """Which keypoints (K,) are at least as clear as the median one."""
        half: Bools = self.lead >= np.median(self.lead)
        return half

    @property
    def confident(self) -> Bools:
        """Which keypoints (K,) have a score that people use."""
        confident: Bools = self.scores >= CONFIDENT_SCORE
        return confident


def misread(
    found: Readout, simcc_x: NDArray[np.floating], simcc_y: NDArray[np.floating], epsilon: float
) -> Bools:
    """Which keypoints (K,) differ from the reference's though it is clear about them.

    simcc_x (K,W) and simcc_y (K,H) are the reference's.
    """
    rows = np.arange(len(simcc_x))
    scores = np.minimum(simcc_x.max(axis=1), simcc_y.max(axis=1))
    wrong: Bools = ((found.scores > 0) != (scores > 0)) & (np.abs(scores) > epsilon)
    is_found = (found.scores > 0) & (scores > 0)
    for axis, vectors in enumerate((simcc_x, simcc_y)):
        behind = vectors.max(axis=1) - vectors[rows, found.bins[:, axis]]
        wrong |= is_found & (behind > 2 * epsilon)
    return wrong
