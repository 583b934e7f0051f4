"""Repeats a verdict without PyTorch: `python -m cigpose_verify FILE RECORD [REPORT.json]`.

RECORD is what `cigpose-tools verify` recorded of PyTorch, kept in .verify/ beside the models.
Exits 0 when the file passes, 1 when it does not, 2 when there is nothing to judge.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
from pathlib import Path

from cigpose_runtime import CigposeError, contract_of, parse_onnx
from cigpose_runtime.errors import InputError, MetadataError, OnnxFileError, error_context
from cigpose_runtime.estimation.session import CPU
from cigpose_runtime.files import read_bytes, require_apart
from cigpose_runtime.terminal import echo
from cigpose_verify.judge import judge
from cigpose_verify.matrix import Matrix
from cigpose_verify.reference_record import ReferenceRecord


def main(arguments: list[str] | None = None) -> int:
    """Runs the command line and returns its exit status."""
    parser = argparse.ArgumentParser(
        prog="cigpose_verify", description="Judges an ONNX file by a record of PyTorch's answers."
    )
    parser.add_argument("file", type=Path, metavar="FILE", help="ONNX file")
    parser.add_argument("record", type=Path, metavar="RECORD", help=".verify/NAME-KEY.npz")
    parser.add_argument("report", type=Path, nargs="?", metavar="REPORT.json", help="written anew")
    parser.add_argument("--foreign", action="store_true", help="somebody else exported the file")
    parser.add_argument("--metadata", type=Path, metavar="FILE", help="JSON, in place of its own")
    parser.add_argument("--provider", action="append", help="execution provider, may be repeated")
    given = parser.parse_args(arguments)

    def say(line: str) -> None:
        echo(line)
        sys.stdout.flush()

    try:
        if given.report is not None:
            require_apart(
                [("the report", given.report)],
                [("the model", given.file), ("the record", given.record)],
            )
        data = read_bytes(given.file, "an ONNX file")
        with error_context(given.file):
            _require_as_exported(data)
            record = ReferenceRecord.read(given.record)
            matrix = Matrix(providers=tuple(given.provider or [CPU]))
            report = judge(
                given.file.name,
                data,
                record,
                matrix,
                foreign=given.foreign,
                metadata=read_bytes(given.metadata, "a JSON file") if given.metadata else None,
                on_stage=say,
            )
        if given.report is not None:
            report.write(given.report)
    except CigposeError as error:
        echo(f"cigpose_verify: error: {error}", err=True)
        return error.exit_status
    for note in report.notes:
        say(f"note: {note}")
    for failure in report.failures:
        say(f"{failure.stage}: {failure.message}")
    say(f"{report.verdict} (sha256 {report.sha256})")
    return 0 if report.passed else 1


def _require_as_exported(data: bytes) -> None:
    """Raises InputError for a file that was made from another one, whose record is of that one."""
    with contextlib.suppress(OnnxFileError, MetadataError):  # which fail a stage
        if contract_of(parse_onnx(data)).derived_from is not None:
            raise InputError(
                "expected a file as exported, in float32, found one that was made from it; use "
                "cigpose-tools verify, with that file beside it"
            )


if __name__ == "__main__":
    sys.exit(main())
