"""Replays golden vectors on this machine: inputs, and what PyTorch computed for them.

The vectors come with a released model, as ONNX's backend tests have them, with tolerances and
keypoints in golden.json. They lie in golden/NAME/ beside NAME.onnx.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from cigpose_runtime.errors import FileError
from cigpose_runtime.estimation.decode import decode_simcc
from cigpose_runtime.files import file_sha256, read_bytes
from cigpose_runtime.model_file.reader import read_contract
from cigpose_runtime.model_file.tensors import read_tensor


@dataclass(frozen=True)
class Replayed:
    """One set of golden vectors: its cases, the largest difference and what it may be."""

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

    golden: their folder, golden/NAME beside NAME.onnx unless given.
    Raises FileError for missing or damaged vectors, and what opening a model raises.
    """
    from cigpose_runtime.estimation.session import open_session

    path = Path(path)
    contract = read_contract(path)
    folder = path.parent / "golden" / path.stem if golden is None else Path(golden)
    document = _read_document(folder)
    session = open_session(path, providers=[provider])
    replayed = []
    try:
        for one in document["sets"]:
            replayed.append(_replay(session, folder / one["folder"], one, contract.split_ratio))
        is_released = document["sha256"] == file_sha256(path)
    except (KeyError, TypeError, ValueError) as error:
        raise FileError(
            f"{folder}: expected golden vectors, found damaged ones ({error}); fetch them again"
        ) from error
    return replayed, is_released


def _read_document(folder: Path) -> dict[str, Any]:
    text = read_bytes(folder / "golden.json", "golden vectors")
    try:
        document = json.loads(text)
    except ValueError as error:
        raise FileError(
            f"{folder / 'golden.json'}: expected JSON, found none ({error}); fetch it again"
        ) from error
    if not isinstance(document, dict) or document.get("schema_version") != 1:
        raise FileError(
            f"{folder / 'golden.json'}: expected golden vectors of schema version 1, found "
            "others; upgrade cigpose-runtime"
        )
    return document


def _replay(session: Any, folder: Path, expected: dict[str, Any], split_ratio: float) -> Replayed:
    image = read_tensor(folder / "input_0.pb")
    wanted = [read_tensor(folder / f"output_{index}.pb") for index in (0, 1)]
    simcc_x, simcc_y = outputs = session.run(["simcc_x", "simcc_y"], {"input": image})
    tolerances = [expected["tolerances"][name] for name in ("simcc_x", "simcc_y")]
    worst = max(
        (float(np.abs(output.astype(np.float64) - there).max()), tolerance)
        if output.shape == there.shape
        else (float("inf"), tolerance)
        for output, there, tolerance in zip(outputs, wanted, tolerances, strict=True)
    )
    moved = 0
    if np.isfinite(worst[0]):
        keypoints, _ = decode_simcc(simcc_x, simcc_y, split_ratio)
        is_elsewhere = (keypoints != np.array(expected["keypoints"], np.float32)).any(axis=-1)
        moved = int((is_elsewhere & ~np.array(expected["near_ties"])).sum())
    return Replayed(tuple(expected["cases"]), *worst, moved)
