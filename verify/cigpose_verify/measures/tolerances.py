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

PRECISION_FACTOR = 4.0
PRECISION_FLOOR = 1e-6
"""Precision gate: error against float64 <= PRECISION_FACTOR * PyTorch's own + PRECISION_FLOOR."""

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
    """Compares one output with its reference, both of one shape.

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


def tolerance_of(reference: NDArray[np.floating]) -> float:
    """What the parity gate allows beside this reference."""
    with np.errstate(invalid="ignore"):  # infinity less infinity
        scale = float(np.quantile(np.abs(reference), SCALE_QUANTILE))
    return RELATIVE_TOLERANCE * max(1.0, scale)


def cosine(first: NDArray[np.floating], second: NDArray[np.floating]) -> float:
    """The cosine of the angle between two arrays, in float64; 1 between two zeros."""
    a, b = first.astype(np.float64).ravel(), second.astype(np.float64).ravel()
    norms = float(np.linalg.norm(a) * np.linalg.norm(b))
    if norms == 0:
        return 1.0 if np.array_equal(a, b) else 0.0
    return float(a @ b) / norms


def precision_limit(reference_error: float) -> float:
    """How far from float64 a backend may be where PyTorch's float32 is off by `reference_error`."""
    return PRECISION_FACTOR * reference_error + PRECISION_FLOOR


def reduced_limit(reference_error: float) -> float:
    """As `precision_limit`, of a file in reduced precision."""
    return REDUCED_FACTOR * reference_error
