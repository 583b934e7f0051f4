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
(`cigpose_export.reference.evaluations`). Measured on clean files with uncalibrated weights, of the
three m at 256x192 with 20 seeds each, 960 cases, at all optimisation levels: error / floor of 4
evaluations on the 806 sound cases p50 0.51, p90 0.75, p99 1.5, largest 3.1; of 16 evaluations on
the 154 others p50 0.27, p90 0.61, p99 0.93, largest 1.4. Four sound cases, in a file each, are
above 2.2; by 16 evaluations, which such a file is judged by, they are at most 1.2. Error / that of
PyTorch's one plain run: p50 1.0, p90 2.2, p99 15, largest 240. On calibrated weights, of the three
m at 256x192, limits are 0.16 to 1.00 times those of 4 times the worst plain run, which came before.
"""

SOUND_CONDITION = RELATIVE_TOLERANCE / (PRECISION_FACTOR + 1)
"""The noise floor as a share of the outputs, up to which a case is sound: the tolerance of the
parity gate covers all that rounding explains."""

WORST_CONDITION = 0.001
"""The noise floor as a share of the outputs; a case above it is ill-conditioned.

Of the same 960 cases p50 5.5e-6, p90 1.1e-4, p99 1.1e-3, largest 2.4e-2; 11 are above.
With calibrated weights, the largest of each of the three m at 256x192 is 1.5e-5 to 2.2e-5.
"""

MOST_ILL_CONDITIONED = 1 / 4
"""Precision gate: of the cases, 4 of 16; with more of them, agreement would say little. The most
in one of the 60 files is 2."""

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


def compare(
    output: NDArray[np.floating], reference: NDArray[np.floating], floor: float = 0.0
) -> Agreement:
    """Compares one output with its reference, both of one shape, on an input of this noise floor.

    Raises `ValueError` when the shapes or element types differ.
    """
    if output.shape != reference.shape or output.dtype != reference.dtype:
        raise ValueError(
            f"expected {reference.dtype} {reference.shape}, found {output.dtype} {output.shape}"
        )
    return Agreement(max_difference(output, reference), tolerance_of(reference, floor))


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
