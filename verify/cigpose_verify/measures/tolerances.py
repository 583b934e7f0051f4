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
(`cigpose_export.reference.evaluations`). Measured on clean files of uncalibrated weights, 8 seeds
of a tiny model, 128 cases: error / floor p50 0.57, p90 0.88, p99 1.3, largest 1.7; error / that of
PyTorch's one plain run p50 1.1, p90 1.9, p99 3.7, largest 16. On calibrated weights of that model,
limits are 0.21 to 1.01 times those of 4 times the worst plain run, which came before. On m/coco of
full size, 8 seeds, the largest error / floor of a file is 0.66 to 1.3.
"""

WORST_CONDITION = 0.01
"""Precision gate: the noise floor as a share of the outputs; above, agreement would say little.

On the same 128 cases p50 2.5e-6, p90 1.2e-5, p99 1.6e-4, largest 8.0e-4. On m/coco of full size,
the largest of a file is 3.5e-5 to 3.0e-4 with 7 of 8 seeds; with seed 3 it is 2.4e-2, and the clean
file is refused.
"""


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

    On an ill-conditioned input, that is what rounding explains: the reference is off by up to its
    noise floor, the other side by up to what the precision gate allows.
    """
    return max(RELATIVE_TOLERANCE * scale_of(reference), precision_limit(floor) + floor)


def least_cosine(reference: NDArray[np.floating], floor: float = 0.0) -> float:
    """The cosine that the parity gate asks for: LEAST_COSINE on a well-conditioned input.

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
