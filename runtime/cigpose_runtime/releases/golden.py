"""Replays golden vectors of a model: inputs, and what PyTorch computed for them.

The vectors come with a released model, as ONNX's backend tests have them, with tolerances and
keypoints in golden.json. golden_folder.py says where they lie.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cigpose_runtime.arrays import Floats
from cigpose_runtime.errors import FileError, OnnxFileError, first_line
from cigpose_runtime.estimation.decode import decode_simcc
from cigpose_runtime.files import open_file
from cigpose_runtime.model_file.contract import Contract, Precision
from cigpose_runtime.model_file.tensors import read_tensor
from cigpose_runtime.releases.golden_document import GoldenSet

OUTPUTS = ("simcc_x", "simcc_y")

LARGEST_SIDE = 16_384
"""Pixels of a frame in golden vectors, 800 MB."""

RELATIVE_TOLERANCE: Mapping[Precision, float] = {
    "fp32": 1e-4,
    "fp16": 0.05,
    "w16": 0.02,
    "int8": 0.1,
}
"""How far outputs may be from PyTorch's, as a multiple of the larger of 1 and their 99.9th
percentile. That of fp32 is the parity gate of verification. Measured of fp16 and w16: 0.0161 and
0.0075 for a synthetic m, 0.0034 and 0.0007 for the demonstration model. Vectors of int8 are what
the file itself answered; measured between onnxruntime's levels of optimisation: 0 on 13 of 16
inputs of the demonstration model, 0.023 at most."""


@dataclass(frozen=True)
class Replayed:
    """One set of golden vectors: its cases, the largest difference and what it may be.

    The difference is that of the output nearest to its tolerance, or furthest beyond it; infinity
    for an output of another shape, or with values that are no finite numbers. moved: how many
    keypoints are elsewhere, near ties aside.
    """

    cases: tuple[str, ...]
    error: float
    tolerance: float
    moved: int

    @property
    def holds(self) -> bool:
        """Outputs within tolerance, and no keypoint elsewhere that is clear."""
        return bool(np.isfinite(self.error)) and self.error <= self.tolerance and not self.moved


def largest_tolerance(reference: Floats, precision: Precision = "fp32") -> float:
    """How far from `reference` an output of a file in this precision may be."""
    scale = float(np.quantile(np.abs(reference), 0.999))
    return RELATIVE_TOLERANCE[precision] * max(1.0, scale)


def replay(session: Any, folder: Path, expected: GoldenSet, contract: Contract) -> Replayed:
    """One set in `folder`. Raises FileError and OnnxFileError, as of `selftest`."""
    count, points, split = len(expected.cases), contract.num_keypoints, contract.split_ratio
    width, height = contract.input_w, contract.input_h
    image = read_vector(folder / "input_0.pb", (count, 3, height, width))
    references = [
        read_vector(folder / "output_0.pb", (count, points, int(width * split))),
        read_vector(folder / "output_1.pb", (count, points, int(height * split))),
    ]
    for tolerance, reference in zip(expected.tolerances, references, strict=True):
        require_tolerance(folder, tolerance, largest_tolerance(reference, contract.precision))
    outputs = run_vectors(session, folder, OUTPUTS, {"input": image})
    errors = [difference(*both) for both in zip(outputs, references, strict=True)]
    worst = max(zip(errors, expected.tolerances, strict=True), key=lambda one: _excess(*one))
    moved = 0
    if np.isfinite(worst[0]):
        simcc_x, simcc_y = outputs
        keypoints, _ = decode_simcc(simcc_x, simcc_y, split)
        is_elsewhere = (keypoints != expected.keypoints).any(axis=-1)
        moved = int((is_elsewhere & ~expected.near_ties).sum())
    return Replayed(expected.cases, *worst, moved)


def require_tolerance(folder: Path, tolerance: float, allowed: float) -> None:
    """Raises FileError for vectors that allow more than verification does."""
    # Some last bits of float32 more: numpy's versions interpolate in different orders.
    if tolerance > allowed * (1 + 1e-6):
        raise FileError(
            f"{folder}: expected a tolerance of at most {allowed:.1e}, as verification has, "
            f"found {tolerance:.1e}; fetch the golden vectors again"
        )


def run_vectors(
    session: Any, folder: Path, names: Sequence[str], feed: Mapping[str, NDArray[Any]]
) -> list[Any]:
    """The outputs of these names. Raises OnnxFileError where the model does not run."""
    try:
        outputs: list[Any] = session.run(list(names), dict(feed))
    except Exception as error:  # onnxruntime has an exception for each of its status codes
        raise OnnxFileError(
            f"{folder}: expected a model that takes these inputs, found that it fails "
            f"({first_line(error)}); fetch it again, or try another onnxruntime"
        ) from error
    return outputs


def read_vector(
    path: Path, shape: tuple[int | None, ...], dtype: type[np.generic] = np.float32
) -> NDArray[Any]:
    """A tensor of this shape, of which None is a side of a frame; a much larger file is not read.

    Raises FileError for another one, and for numbers that are not finite.
    """
    with open_file(path, "a tensor of golden vectors") as file:
        size = os.fstat(file.fileno()).st_size
    sides = [LARGEST_SIDE if side is None else side for side in shape]
    wanted = ", ".join("any" if side is None else str(side) for side in shape)
    expected = f"{np.dtype(dtype)} ({wanted}), finite"
    if size > np.dtype(dtype).itemsize * math.prod(sides) + 1024:
        raise FileError(f"{path}: expected {expected}, found {size} bytes; fetch it again")
    tensor = read_tensor(path)
    fits = tensor.dtype == dtype and len(tensor.shape) == len(shape)
    if not (
        fits
        and all(side in (None, found) for side, found in zip(shape, tensor.shape, strict=True))
        and np.isfinite(tensor).all()
    ):
        raise FileError(
            f"{path}: expected {expected}, found {tensor.dtype} {tensor.shape}, or numbers that "
            "are not; fetch it again"
        )
    return tensor


def difference(output: Any, reference: Floats) -> float:
    """The largest one; infinity for an output of another shape, or with numbers not finite."""
    if output.shape != reference.shape:
        return float("inf")
    with np.errstate(invalid="ignore"):
        error = float(np.abs(output.astype(np.float64) - reference).max())
    return error if np.isfinite(error) else float("inf")


def _excess(error: float, tolerance: float) -> float:
    return error / tolerance if tolerance else float("inf" if error else 0)
