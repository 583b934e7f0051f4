"""Judges one file in a process of its own: `python -m cigpose_verify.worker JOB`.

JOB is a JSON object of the arguments of `verify` or, with a `trace`, of `locate`. See `child` for
what goes to stdout. Nothing here needs PyTorch.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from cigpose_runtime.errors import error_context
from cigpose_runtime.files import open_file
from cigpose_verify.child import OnStage, serve
from cigpose_verify.diverge import Trace, find_divergence
from cigpose_verify.golden import write_golden
from cigpose_verify.judge import judge
from cigpose_verify.matrix import Matrix
from cigpose_verify.record import Record
from cigpose_verify.report.document import Report


def verify(
    on_stage: OnStage,
    *,
    file: str,
    record: str,
    report: str,
    golden: str | None,
    providers: Sequence[str],
    key: str,
) -> dict[str, Any]:
    """Writes a report on a file, and golden vectors where it passes; paths as text."""
    on_stage("read")
    data, there = _read(file), Record.read(Path(record))
    matrix = Matrix(providers=tuple(providers))
    with error_context(file):
        verdict = judge(Path(file).name, data, there, matrix, key=key, on_progress=on_stage)
    if verdict.passed and golden is not None:
        write_golden(there, verdict.sha256, Path(golden))
    verdict.write(Path(report))
    return {"verdict": verdict.verdict}


def locate(on_stage: OnStage, *, file: str, report: str, trace: str) -> dict[str, Any]:
    """Adds to a report where the graph leaves PyTorch."""
    on_stage("diverge")
    verdict = Report.read(Path(report))
    divergence = find_divergence(_read(file), Trace.read(Path(trace)))
    replace(verdict, divergence=divergence).write(Path(report))
    return {}


def _read(file: str) -> bytes:
    with open_file(file, "an ONNX file") as opened:
        return opened.read()


def main(job: dict[str, Any]) -> None:
    """Runs a job and reports on stdout."""
    do = locate if "trace" in job else verify
    serve(Path(job["file"]).name, lambda on_stage: do(on_stage, **job))


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
