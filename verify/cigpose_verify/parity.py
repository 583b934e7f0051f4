"""Does one set of outputs agree with another to what float32 rounding explains?"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

RELATIVE_TOLERANCE = 1e-4
"""Parity gate: max|difference| <= 1e-4 * max(1, p99.9 |reference|)."""


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
    with np.errstate(invalid="ignore"):  # infinity less infinity
        scale = float(np.quantile(np.abs(reference), 0.999))
        error = float(np.abs(output.astype(np.float64) - reference).max())
    return Agreement(error=error, tolerance=RELATIVE_TOLERANCE * max(1.0, scale))
