"""Replays golden vectors on this machine: inputs, and what PyTorch computed for them.

The vectors come with a released model, as ONNX's backend tests have them, with tolerances and
keypoints in golden.json. golden_folder.py says where they lie.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from cigpose_runtime.arrays import Floats
from cigpose_runtime.errors import FileError, OnnxFileError, first_line
from cigpose_runtime.estimation.decode import decode_simcc
from cigpose_runtime.files import file_sha256, open_file
from cigpose_runtime.model_file.contract import Contract, Precision
from cigpose_runtime.model_file.reader import read_contract
from cigpose_runtime.model_file.tensors import read_tensor
from cigpose_runtime.releases.golden_document import GoldenSet, read_golden_document
from cigpose_runtime.releases.golden_folder import golden_folder

_OUTPUTS = ("simcc_x", "simcc_y")

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


def selftest(
    path: str | PathLike[str],
    *,
    golden: str | PathLike[str] | None = None,
    provider: str = "CPUExecutionProvider",
) -> tuple[list[Replayed], bool]:
    """Replays golden vectors; also says whether they were written for these very bytes.

    golden: their folder, by default the one beside the model that `golden_folder` finds.
    Raises FileError for vectors that are missing, damaged, or that allow more than verification
    does; OnnxFileError for a model that does not run, and what opening a model raises.
    """
    from cigpose_runtime.estimation.session import open_session

    path = Path(path)
    contract = read_contract(path)
    name = contract.artefact_name
    found = golden_folder(path, name) if golden is None else nullcontext(Path(golden))
    with found as folder:
        sha256, sets = read_golden_document(folder, contract.num_keypoints)
        session = open_session(path, providers=[provider])
        replayed = [_replay(session, folder / one.folder, one, contract) for one in sets]
    return replayed, sha256 == file_sha256(path)


def largest_tolerance(reference: Floats, precision: Precision = "fp32") -> float:
    """How far from `reference` an output of a file in this precision may be."""
    scale = float(np.quantile(np.abs(reference), 0.999))
    return RELATIVE_TOLERANCE[precision] * max(1.0, scale)


def _replay(session: Any, folder: Path, expected: GoldenSet, contract: Contract) -> Replayed:
    count, points, split = len(expected.cases), contract.num_keypoints, contract.split_ratio
    width, height = contract.input_w, contract.input_h
    image = _read(folder / "input_0.pb", (count, 3, height, width))
    references = [
        _read(folder / "output_0.pb", (count, points, int(width * split))),
        _read(folder / "output_1.pb", (count, points, int(height * split))),
    ]
    for tolerance, reference in zip(expected.tolerances, references, strict=True):
        # Some last bits of float32 more: numpy's versions interpolate in different orders.
        if tolerance > (allowed := largest_tolerance(reference, contract.precision)) * (1 + 1e-6):
            raise FileError(
                f"{folder}: expected a tolerance of at most {allowed:.1e}, as verification has, "
                f"found {tolerance:.1e}; fetch the golden vectors again"
            )
    try:
        outputs = session.run(_OUTPUTS, {"input": image})
    except Exception as error:  # onnxruntime has an exception for each of its status codes
        raise OnnxFileError(
            f"{folder}: expected a model that takes these inputs, found that it fails "
            f"({first_line(error)}); fetch it again, or try another onnxruntime"
        ) from error
    errors = [_difference(*both) for both in zip(outputs, references, strict=True)]
    worst = max(zip(errors, expected.tolerances, strict=True), key=lambda one: _excess(*one))
    moved = 0
    if np.isfinite(worst[0]):
        simcc_x, simcc_y = outputs
        keypoints, _ = decode_simcc(simcc_x, simcc_y, split)
        is_elsewhere = (keypoints != expected.keypoints).any(axis=-1)
        moved = int((is_elsewhere & ~expected.near_ties).sum())
    return Replayed(expected.cases, *worst, moved)


def _read(path: Path, shape: tuple[int, ...]) -> Floats:
    """A tensor of this shape; a file that is much larger than such a one is not read."""
    with open_file(path, "a tensor of golden vectors") as file:
        size = os.fstat(file.fileno()).st_size
    if size > 4 * np.prod(shape) + 1024:
        raise FileError(
            f"{path}: expected a float32 tensor {shape}, found {size} bytes; fetch it again"
        )
    tensor = read_tensor(path)
    if tensor.shape != shape or not np.isfinite(tensor).all():
        raise FileError(
            f"{path}: expected {shape} finite numbers, found {tensor.shape}, or others; fetch it "
            "again"
        )
    return tensor


def _difference(output: Any, reference: Floats) -> float:
    if output.shape != reference.shape:
        return float("inf")
    with np.errstate(invalid="ignore"):
        error = float(np.abs(output.astype(np.float64) - reference).max())
    return error if np.isfinite(error) else float("inf")


def _excess(error: float, tolerance: float) -> float:
    return error / tolerance if tolerance else float("inf" if error else 0)
