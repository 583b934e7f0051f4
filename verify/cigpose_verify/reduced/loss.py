"""What a file in reduced precision loses: of its outputs, and of the keypoints in them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from cigpose_verify.measures.keypoints import Readout
from cigpose_verify.reference_record import Candidate, Outputs, Recorded


def rms_error(pairs: Iterable[tuple[Outputs, Candidate]]) -> float:
    """Of outputs against what float64 computes for a choice, over all of them together."""
    squares = [
        np.square(found - exact).ravel()
        for outputs, candidate in pairs
        for found, exact in zip(outputs.vectors, candidate.double.vectors, strict=True)
    ]
    return float(np.sqrt(np.concatenate(squares).mean()))


def loss(pairs: Sequence[tuple[Outputs, Candidate]]) -> float:
    """The rms error of outputs as a multiple of that of PyTorch's float32."""
    return rms_error(pairs) / rms_error((one.single, one) for _, one in pairs)


def misread(outputs: Outputs, recorded: Recorded) -> int:
    """How many keypoints are elsewhere of those that float64 is clear about."""
    found, exact = Readout.of(*outputs.vectors), Readout.of(*recorded.own.double.vectors)
    differs = (found.bins != exact.bins).any(axis=1)
    return int((differs & recorded.clear).sum())
