"""golden.json: which sets of golden vectors there are, and how closely each is to be met."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cigpose_runtime.arrays import Floats
from cigpose_runtime.errors import FileError, quoted
from cigpose_runtime.files import read_bytes

_DOCUMENT_BYTES = 1 << 20
"""At most. That of three sets of 133 keypoints has 40 kB."""

_MOST_SETS = 16

_MOST_CASES = 256
"""In one set: as many people as a packed file finds in a frame."""

_FOLDER = re.compile(r"test_data_set_\d{1,3}")
_SHA256 = re.compile("[0-9a-f]{64}")


@dataclass(frozen=True)
class GoldenSet:
    """One set of golden vectors: n cases of k keypoints.

    folder: its name in that of golden.json. tolerances: of the outputs that were asked for,
    absolute. keypoints: (n, k, 2), x before y, in pixels of the input or frame. near_ties: (n, k)
    bool, the keypoints whose place hangs on rounding.
    """

    folder: str
    cases: tuple[str, ...]
    tolerances: tuple[float, float]
    keypoints: Floats
    near_ties: NDArray[np.bool_]


def read_golden_document(
    folder: Path, num_keypoints: int, outputs: tuple[str, str]
) -> tuple[str, list[GoldenSet]]:
    """Reads golden.json: the sha256 of the file that the vectors are for, and the sets.

    outputs: the names of those that have a tolerance.
    Raises FileError for one that is missing or damaged, or by which nothing would be checked.
    """
    path = folder / "golden.json"
    text = read_bytes(path, "golden vectors", most=_DOCUMENT_BYTES)
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise FileError(f"{path}: expected JSON, found none ({error}); fetch it again") from error
    if not isinstance(document, dict) or document.get("schema_version") != 1:
        raise FileError(
            f"{path}: expected golden vectors of schema version 1, found others; upgrade "
            "cigpose-runtime"
        )
    try:
        sha256, sets = document.get("sha256"), document.get("sets")
        if not isinstance(sha256, str) or not _SHA256.fullmatch(sha256):
            raise ValueError(f"sha256 {quoted(sha256)}")
        if not isinstance(sets, list) or not 1 <= len(sets) <= _MOST_SETS:
            raise ValueError(f"sets {quoted(sets)}, not 1 to {_MOST_SETS}")
        return sha256, [_read_set(one, num_keypoints, outputs) for one in sets]
    except ValueError as error:
        raise FileError(
            f"{path}: expected golden vectors, found damaged ones ({error}); fetch them again"
        ) from error


def _read_set(one: Any, num_keypoints: int, outputs: tuple[str, str]) -> GoldenSet:
    """Raises ValueError saying what is wrong."""
    if not isinstance(one, dict):
        raise ValueError(f"a set {quoted(one)}")
    folder, cases, tolerances = one.get("folder"), one.get("cases"), one.get("tolerances")
    if not isinstance(folder, str) or not _FOLDER.fullmatch(folder):
        raise ValueError(f"a folder {quoted(folder)}")
    if not isinstance(cases, list) or not 1 <= len(cases) <= _MOST_CASES:
        raise ValueError(f"cases {quoted(cases)}, not 1 to {_MOST_CASES}")
    if not all(isinstance(case, str) for case in cases):
        raise ValueError(f"cases {quoted(cases)}")
    if not isinstance(tolerances, dict):
        raise ValueError(f"tolerances {quoted(tolerances)}")
    limits: list[Any] = [tolerances.get(name) for name in outputs]
    if not all(_is_number(limit) and limit >= 0 for limit in limits):
        raise ValueError(f"tolerances {quoted(limits)}")
    shape = (len(cases), num_keypoints)
    keypoints, near_ties = one.get("keypoints"), one.get("near_ties")
    if not _has_shape(keypoints, (*shape, 2), _is_number):
        raise ValueError(f"keypoints {quoted(keypoints)}, not {shape} places")
    if not _has_shape(near_ties, shape, lambda tie: isinstance(tie, bool)):
        raise ValueError(f"near ties {quoted(near_ties)}, not {shape} truth values")
    ties = np.array(near_ties, np.bool_)
    if ties.all():
        raise ValueError("near ties alone: no keypoint would be compared")
    x, y = limits
    return GoldenSet(
        folder, tuple(cases), (float(x), float(y)), np.array(keypoints, np.float32), ties
    )


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) < 1e9


def _has_shape(value: Any, shape: tuple[int, ...], is_one: Any) -> bool:
    """Asked before numpy sees it, to which one long text among numbers is gigabytes."""
    if not shape:
        return bool(is_one(value))
    return (
        isinstance(value, list)
        and len(value) == shape[0]
        and all(_has_shape(one, shape[1:], is_one) for one in value)
    )
