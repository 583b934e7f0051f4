"""Does one set of outputs agree with another to what float32 rounding explains?"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

RELATIVE_TOLERANCE = 1e-4
"""Parity gate: max|difference| <= RELATIVE_TOLERANCE * max(1, SCALE_QUANTILE of |reference|)."""

SCALE_QUANTILE = 0.999
"""Of the absolute values of a reference: its scale, which a few outliers do not decide."""

LEAST_COSINE = 0.999999
"""Parity gate: the cosine between outputs and reference."""

PRECISION_FACTOR = 2.2
PRECISION_FLOOR = 1e-6
"""Precision gate: error against float64 <= PRECISION_FACTOR * noise floor + PRECISION_FLOOR.

The noise floor of a case is the largest error of several float32 evaluations by PyTorch
(`cigpose_export.reference.evaluations`). Measured on clean files of m/coco with uncalibrated
weights, 15 seeds, 240 cases, at the optimisation levels `disabled` and `all`: error / floor of 4
evaluations on the 200 sound cases p50 0.50, p90 0.69, p99 1.4, largest 1.8; on the 40 others, of 6
evaluations, p50 0.42, p90 1.1, p99 1.9, largest 2.1, and once 2.2 in the confound scores, so they
get 16. Error / that of PyTorch's one plain run: p50 0.99, p90 2.1, p99 15, largest 76. On
calibrated weights, of the three m at 256x192, limits are 0.16 to 1.00 times those of 4 times the
worst plain run, which came before.
"""

SOUND_CONDITION = RELATIVE_TOLERANCE / (PRECISION_FACTOR + 1)
"""The noise floor as a share of the outputs, up to which a case is sound: the tolerance of the
parity gate covers all that rounding explains."""

WORST_CONDITION = 0.01
"""The noise floor as a share of the outputs; a case above it is ill-conditioned.

Of the same 240 cases p50 4.4e-6, p90 8.5e-5, p99 6.8e-4, largest 2.4e-2, which is the only one.
With calibrated weights, the largest of each of the three m at 256x192 is 1.5e-5 to 2.2e-5.
"""

MOST_ILL_CONDITIONED = 1 / 8
"""Precision gate: of the cases, 2 of 16; with more of them, agreement would say little. The most
in one of the 15 files is 1."""

REDUCED_FACTOR = 2.0**13
"""Of files in reduced precision: error against float64 <= REDUCED_FACTOR * PyTorch's own. Float16
has 13 bits less than float32. Measured, rms over all cases: fp16 1,767 (synthetic m) and 3,601
(demonstration model), w16 822 and 974."""


@dataclass(frozen=True)
class Agreement:
    """The largest difference between two outputs, and how large it may be."""

    error: float
    tolerance: float

    @property
    def holds(self) -> bool:
        """False also when either side has a NaN or an infinity: they equal nothing."""
        return math.isfinite(self.error) and self.error <= self.tolerance


def compare(output: NDArray[np.floating], reference: NDArray[np.floating]) -> Agreement:
    """Compares one output with its reference, both of one shape, on a well-conditioned input.

    Raises `ValueError` when the shapes or element types differ.
    """
    if output.shape != reference.shape or output.dtype != reference.dtype:
        raise ValueError(
            f"expected {reference.dtype} {reference.shape}, found {output.dtype} {output.shape}"
        )
    return Agreement(max_difference(output, reference), tolerance_of(reference))


def max_difference(first: NDArray[np.floating], second: NDArray[np.floating]) -> float:
    """max|first - second| in float64; no finite number if either has none."""
    with np.errstate(invalid="ignore"):  # infinity less infinity
        return float(np.abs(first.astype(np.float64) - second).max())


def scale_of(reference: NDArray[np.floating]) -> float:
    """The size of outputs that errors are seen in proportion to, at least 1."""
    with np.errstate(invalid="ignore"):  # infinity less infinity
        return max(1.0, float(np.quantile(np.abs(reference), SCALE_QUANTILE)))


def tolerance_of(reference: NDArray[np.floating], floor: float = 0.0) -> float:
    """What the parity gate allows beside this reference.

    Above SOUND_CONDITION, that is what rounding explains: the reference is off by up to its noise
    floor, the other side by up to what the precision gate allows.
    """
    return max(RELATIVE_TOLERANCE * scale_of(reference), precision_limit(floor) + floor)


def least_cosine(reference: NDArray[np.floating], floor: float = 0.0) -> float:
    """The cosine that the parity gate asks for: LEAST_COSINE up to SOUND_CONDITION.

    Where errors may be n times as large, the cosine may be n squared times as far from 1.
    """
    looser = tolerance_of(reference, floor) / tolerance_of(reference)
    return 1 - (1 - LEAST_COSINE) * looser**2


def condition_of(reference: NDArray[np.floating], floor: float) -> float:
    """A noise floor as a share of the outputs: how ill-conditioned the input is for the model."""
    return floor / scale_of(reference)


def cosine(first: NDArray[np.floating], second: NDArray[np.floating]) -> float:
    """The cosine of the angle between two arrays, in float64; 1 between two zeros."""
    a, b = first.astype(np.float64).ravel(), second.astype(np.float64).ravel()
    norms = float(np.linalg.norm(a) * np.linalg.norm(b))
    if norms == 0:
        return 1.0 if np.array_equal(a, b) else 0.0
    return float(a @ b) / norms


def precision_limit(floor: float) -> float:
    """How far from float64 a backend may be on an input of this noise floor."""
    return PRECISION_FACTOR * floor + PRECISION_FLOOR


def reduced_limit(floor: float) -> float:
    """As `precision_limit`, of a file in reduced precision.

    PRECISION_FLOOR is nothing beside the rest; without it, an input that PyTorch computes exactly
    would have the limit 0, and errors no share of it.
    """
    return REDUCED_FACTOR * floor + PRECISION_FLOOR
