"""One job in a process of its own: `python -m cigpose_export.jobs.worker JOB`.

JOB is a JSON object: `kind` names one of the functions in `KINDS`, `name` the model, the rest are
the function's arguments. A process per job bounds memory, measures it, and keeps a crash from
taking the others down. What a function imports decides when its result is stale (see staleness).

One JSON object a line goes to stdout: `{"stage": ...}` as the work proceeds, then `{"done": ...}`
or `{"error": ...}`. The process ends when its stdin does, so that it never outlives its parent,
however that one ended.

Long because all kinds of jobs stand here, and each imports in its function what it alone needs.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from cigpose_runtime import CigposeError

OnStage = Callable[[str], None]
"""Called with the stage that a job has reached."""


def export(
    on_stage: OnStage,
    *,
    project: str,
    name: str,
    model: dict[str, Any],
    weights: Any,
    checkpoint: str | None,
    weights_key: str | None,
    target: str,
    threads: int,
) -> dict[str, Any]:
    """Exports one model; paths as text. model: of `project.arguments_of`."""
    import torch

    from cigpose_export.pipeline import export_model
    from cigpose_export.project import Project

    torch.set_num_threads(threads)
    there = Project(Path(project))
    exported = export_model(
        there,
        there.model(**model),
        weights=weights,
        checkpoint_path=Path(checkpoint) if checkpoint else None,
        weights_key=weights_key,
        target=Path(target),
        on_stage=on_stage,
    )
    return asdict(exported)


def derive(
    on_stage: OnStage,
    *,
    name: str,
    parent: str,
    precision: Any,
    calibration: dict[str, Any] | None,
    batch: int | None,
    target: str,
) -> dict[str, Any]:
    """Makes a file in reduced precision, or a portable one, of one in float32. Needs no PyTorch.

    calibration: the source and the folder of a `CalibrationSet`, for int8. batch: of a portable
    file.
    """
    from cigpose_export.graph.calibration import CalibrationSet
    from cigpose_export.graph.derived_file import derive_file

    crops = None
    if calibration is not None:
        crops = CalibrationSet.read(calibration["source"], Path(calibration["folder"]))
    made = derive_file(
        Path(parent),
        precision,
        Path(target),
        calibration=crops,
        batch=batch,
        on_stage=on_stage,
    )
    return asdict(made)


def record(
    on_stage: OnStage,
    *,
    project: str,
    name: str,
    model: dict[str, Any],
    checkpoint: str,
    weights_key: str | None,
    images: str | None,
    fork: bool,
    thorough: bool,
    target: str,
    threads: int,
) -> dict[str, Any]:
    """Records what PyTorch answers for one model; `fork`: by a CIGPose fork's own head."""
    import torch

    from cigpose_export.project import Project
    from cigpose_export.reference.record import record_model

    torch.set_num_threads(threads)
    on_stage("reference")
    there = Project(Path(project))
    record_model(
        there,
        there.model(**model),
        checkpoint_path=Path(checkpoint),
        weights_key=weights_key,
        images=Path(images) if images else None,
        fork=fork,
        thorough=thorough,
        target=Path(target),
    )
    return {}


def judge(
    on_stage: OnStage,
    *,
    name: str,
    file: str,
    record: str,
    report: str,
    golden: str,
    providers: Sequence[str],
    key: str,
    foreign: bool,
    metadata: str | None,
    parent: str | None,
) -> dict[str, Any]:
    """Writes a report on a file, and golden vectors where it passes. Needs no PyTorch.

    foreign, metadata, parent: as of `judge`, the latter two as paths of files.
    """
    from cigpose_runtime import parse_onnx
    from cigpose_runtime.errors import error_context
    from cigpose_runtime.files import read_bytes
    from cigpose_verify.golden import write_golden
    from cigpose_verify.judge import judge as judge_file
    from cigpose_verify.matrix import Matrix
    from cigpose_verify.reference_record import ReferenceRecord
    from cigpose_verify.stages.foreign import fixed_batch

    on_stage("read")
    path = Path(file)
    data, there = read_bytes(path, "an ONNX file"), ReferenceRecord.read(Path(record))
    matrix = Matrix(providers=tuple(providers))
    with error_context(file):
        verdict = judge_file(
            path.name,
            data,
            there,
            matrix,
            key=key,
            foreign=foreign,
            metadata=read_bytes(metadata, "a JSON file with metadata") if metadata else None,
            parent=read_bytes(parent, "an ONNX file") if parent else None,
            on_stage=on_stage,
        )
    if verdict.passed:
        batch = fixed_batch(parse_onnx(data))
        write_golden(there, verdict.sha256, Path(golden), batch=batch)
    verdict.write(Path(report))
    return {}


def judge_reduced(
    on_stage: OnStage,
    *,
    name: str,
    file: str,
    parent: str,
    record: str,
    report: str,
    golden: str,
    providers: Sequence[str],
    key: str,
) -> dict[str, Any]:
    """As `judge`, of a file in reduced precision; parent: the float32 file beside it."""
    from cigpose_runtime import contract_of, parse_onnx
    from cigpose_runtime.errors import error_context
    from cigpose_runtime.files import file_sha256, read_bytes
    from cigpose_verify.golden import write_golden
    from cigpose_verify.matrix import Matrix
    from cigpose_verify.reduced.judge import judge_reduced as judge_file
    from cigpose_verify.reduced.judge_int8 import judge_int8, own_answers
    from cigpose_verify.reduced.quantisation import calibration_path
    from cigpose_verify.reference_record import ReferenceRecord

    on_stage("read")
    path = Path(file)
    data, there = read_bytes(path, "an ONNX file"), ReferenceRecord.read(Path(record))
    matrix = Matrix(providers=tuple(providers))
    with error_context(file):
        precision = contract_of(parse_onnx(data)).precision
        if precision == "int8":
            whole, listed = read_bytes(Path(parent), "an ONNX file"), calibration_path(path)
            crops = read_bytes(listed, "a list of crops") if listed.is_file() else None
            verdict = judge_int8(
                path.name, data, there, whole, crops, matrix, key=key, on_stage=on_stage
            )
            there = own_answers(there, data) if verdict.passed else there
        else:
            sha256 = file_sha256(Path(parent))
            verdict = judge_file(path.name, data, there, sha256, matrix, key=key, on_stage=on_stage)
    if verdict.passed:
        write_golden(there, verdict.sha256, Path(golden), precision)
    verdict.write(Path(report))
    return {}


def judge_packed(
    on_stage: OnStage,
    *,
    name: str,
    file: str,
    model: str,
    detector: str | None,
    report: str,
    golden: str,
    key: str,
    reference: dict[str, Any] | None,
) -> dict[str, Any]:
    """As `judge`, of a packed file; reference: PyTorch's side, as of `record`, or None."""
    from cigpose_runtime.errors import error_context
    from cigpose_runtime.files import read_bytes
    from cigpose_verify.packed.golden import write_packed_golden
    from cigpose_verify.packed.judge import Campaign
    from cigpose_verify.packed.judge import judge_packed as judge_file

    on_stage("read")
    data, yolox = read_bytes(Path(file), "an ONNX file"), Path(detector) if detector else None
    trial = data, Path(model), yolox, Campaign.full()
    mmpose = None
    if reference is not None:
        from cigpose_export.reference.mmpose_pipeline import mmpose_beside

        on_stage("reference")
        mmpose = mmpose_beside(data, **reference)
    with error_context(file):
        verdict = judge_file(Path(file).name, *trial, mmpose=mmpose, key=key, on_stage=on_stage)
    if verdict.passed:
        write_packed_golden(*trial, Path(golden))
    verdict.write(Path(report))
    return {}


def trace(
    on_stage: OnStage,
    *,
    project: str,
    name: str,
    model: dict[str, Any],
    checkpoint: str,
    weights_key: str | None,
    images: str | None,
    case: str,
    target: str,
    threads: int,
) -> dict[str, Any]:
    """Records all intermediate tensors of one case."""
    import torch

    from cigpose_export.project import Project
    from cigpose_export.reference.trace import trace_model

    torch.set_num_threads(threads)
    on_stage("trace")
    there = Project(Path(project))
    trace_model(
        there,
        there.model(**model),
        checkpoint_path=Path(checkpoint),
        weights_key=weights_key,
        images=Path(images) if images else None,
        case=case,
        target=Path(target),
    )
    return {}


def locate(on_stage: OnStage, *, name: str, file: str, report: str, trace: str) -> dict[str, Any]:
    """Adds to a report where the graph leaves PyTorch. Needs no PyTorch."""
    from cigpose_runtime.files import read_bytes
    from cigpose_verify.diverge import Trace, find_divergence
    from cigpose_verify.report.document import Report

    on_stage("diverge")
    verdict = Report.read(Path(report))
    data = read_bytes(Path(file), "an ONNX file")
    divergence = find_divergence(data, Trace.read(Path(trace)))
    replace(verdict, divergence=divergence).write(Path(report))
    return {}


KINDS: dict[str, Callable[..., dict[str, Any]]] = {
    function.__name__: function
    for function in (export, derive, record, judge, judge_reduced, judge_packed, trace, locate)
}


def main(job: dict[str, Any]) -> None:
    """Runs a job and reports on stdout."""
    reports = os.fdopen(os.dup(sys.stdout.fileno()), "w", buffering=1)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what libraries print is no report
    threading.Thread(target=_end_with_stdin, daemon=True).start()
    warnings.simplefilter("ignore")  # other people's deprecations; what fails raises

    def report(**message: Any) -> None:
        reports.write(json.dumps(message) + "\n")

    report(stage="start")
    do = KINDS[job.pop("kind")]
    try:
        done = do(lambda stage: report(stage=stage), **job)
    except CigposeError as error:
        report(error=str(error), type=type(error).__name__)
    except OSError as error:
        reason = f"{job['name']}: {error}; make room or correct the permissions, then run it again"
        report(error=reason, type="WorkError")
    else:
        report(done=done, peak_memory=peak_memory())


def _end_with_stdin() -> None:
    # Unbuffered: a buffered read would hold a lock that the interpreter wants at its end.
    while os.read(0, 1):
        pass
    if os.getpgrp() == os.getpid():
        os.killpg(0, signal.SIGKILL)  # processes of its own, too
    os._exit(1)


def peak_memory() -> int:
    """The largest resident size in bytes of this process or any that it ran."""
    unit = 1 if sys.platform == "darwin" else 1024
    children = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    try:  # Linux counts in `ru_maxrss` what a process was started from, too
        status = Path("/proc/self/status").read_text("ascii")
        own = int(status.partition("VmHWM:")[2].split()[0])
    except (OSError, IndexError, ValueError):
        own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return max(own, children) * unit


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
