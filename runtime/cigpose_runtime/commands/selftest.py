"""`cigpose-runtime selftest`: replays a model's golden vectors on this machine."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from cigpose_runtime.errors import CheckError, CigposeError
from cigpose_runtime.releases.golden import Replayed
from cigpose_runtime.releases.selftest import selftest
from cigpose_runtime.terminal import echo

JSON_SCHEMA_VERSION = 1


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
                echo(line)
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
