"""What a file in reduced precision loses: of its outputs, and of the keypoints in them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from cigpose_verify.measures.keypoints import Readout
from cigpose_verify.reference_record import Candidate, Outputs


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


def clearer_half(candidate: Candidate) -> NDArray[np.bool_]:
    """Which keypoints (K,) float64 is clear about, at least as much as about the median one."""
    lead = candidate.clarity.lead
    half: NDArray[np.bool_] = lead >= np.median(lead)
    return half


def misread(outputs: Outputs, candidate: Candidate) -> int:
    """How many keypoints of the clearer half are elsewhere."""
    found, exact = Readout.of(*outputs.vectors), Readout.of(*candidate.double.vectors)
    differs = (found.bins != exact.bins).any(axis=1)
    return int((differs & clearer_half(candidate)).sum())
