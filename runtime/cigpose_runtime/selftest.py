"""`cigpose-runtime selftest`: replays a model's golden vectors on this machine.

The vectors come with a released model: inputs and what PyTorch computed for them, as ONNX's
backend tests have them, and golden.json with tolerances and keypoints. They lie in golden/NAME/
beside NAME.onnx.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cigpose_runtime.decode import decode_simcc
from cigpose_runtime.errors import CheckError, CigposeError, FileError, error_context
from cigpose_runtime.files import file_sha256, open_file
from cigpose_runtime.reader import read_contract
from cigpose_runtime.wire_format import Message, WireFormatError

JSON_SCHEMA_VERSION = 1

_FLOAT = 1
"""TensorProto.DataType.FLOAT of onnx.proto; the field numbers below are from there, too."""
_DIMS, _DATA_TYPE, _RAW_DATA = 1, 2, 9


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


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds the subcommand to those of `cigpose-runtime`."""
    parser = commands.add_parser(
        "selftest",
        help="replay a model's golden vectors on this machine",
        description="Compares what models answer on this machine with what PyTorch answered when "
        "they were released.",
    )
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="ONNX file")
    parser.add_argument(
        "--golden", type=Path, metavar="DIR", help="golden vectors  [default: golden/NAME by FILE]"
    )
    parser.add_argument("--provider", default="CPUExecutionProvider", help="execution provider")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> list[CigposeError]:
    """Replays for each file and returns what does not hold."""
    errors: list[CigposeError] = []
    reports: list[dict[str, Any]] = []
    for path in args.files:
        try:
            replayed, is_released = selftest(path, golden=args.golden, provider=args.provider)
        except CigposeError as error:
            errors.append(error)
            continue
        holds = all(one.holds for one in replayed)
        sets = [{**vars(one), "holds": one.holds} for one in replayed]
        reports.append({"path": str(path), "verified_bytes": is_released, "sets": sets})
        if not args.json:
            for line in _lines(path, replayed, is_released):
                sys.stdout.write(line + "\n")
        if not holds:
            worst = max(replayed, key=lambda one: np.nan_to_num(one.error, nan=np.inf))
            errors.append(
                CheckError(
                    f"{path}: expected PyTorch's outputs to {worst.tolerance:.1e}, found them off "
                    f"by {worst.error:.1e} with {sum(one.moved for one in replayed)} keypoints "
                    "elsewhere; compare the file's hash with the published one, or try "
                    "--provider CPUExecutionProvider"
                )
            )
    if args.json:
        document = {"schema_version": JSON_SCHEMA_VERSION, "files": reports}
        sys.stdout.write(json.dumps(document, indent=1) + "\n")
    return errors


def _lines(path: Path, replayed: list[Replayed], is_released: bool) -> list[str]:
    lines = [str(path)]
    for one in replayed:
        mark = "ok" if one.holds else "FAILED"
        lines.append(
            f"  {mark}  {', '.join(one.cases)}: max|difference| {one.error:.1e} "
            f"(may be {one.tolerance:.1e})"
        )
    if not is_released:
        lines.append("  note: the vectors were written for a file of another sha256")
    return lines


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
    from cigpose_runtime.session import open_session

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
    with open_file(folder / "golden.json", "golden vectors") as file:
        text = file.read()
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


def read_tensor(path: Path) -> NDArray[np.float32]:
    """A float32 tensor from a TensorProto file. Raises FileError."""
    with open_file(path, "a tensor of golden vectors") as file, error_context(path):
        try:
            message = Message(file.read())
            shape, kind = message.integers(_DIMS), message.integer(_DATA_TYPE)
            data = message.content(_RAW_DATA)
            if kind != _FLOAT:
                raise ValueError(f"element type {kind}")
            return np.frombuffer(data, "<f4").reshape(shape).astype(np.float32, copy=False)
        except (WireFormatError, ValueError) as error:
            raise FileError(
                f"expected a float32 TensorProto, found another file ({error}); fetch it again"
            ) from error
