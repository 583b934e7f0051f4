"""The jobs that take PyTorch, each in a process of its own: `python -m cigpose_export.worker JOB`.

JOB is a JSON object: `kind` names one of `JOBS`, the rest are its arguments. See
`cigpose_verify.child` for what goes to stdout.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from cigpose_export.variants import Project, WeightsKind
from cigpose_verify.child import OnStage, serve


def export(
    on_stage: OnStage,
    *,
    project: str,
    name: str,
    weights: WeightsKind,
    checkpoint: str | None,
    target: str,
    threads: int,
) -> dict[str, Any]:
    """Exports one variant; paths as text."""
    from cigpose_export.pipeline import export_variant, set_threads

    set_threads(threads)
    there = Project(Path(project))
    exported = export_variant(
        there,
        *there.select([name]),
        weights=weights,
        checkpoint_path=Path(checkpoint) if checkpoint else None,
        target=Path(target),
        on_stage=on_stage,
    )
    return asdict(exported)


def record(
    on_stage: OnStage,
    *,
    project: str,
    name: str,
    checkpoint: str,
    images: str | None,
    fork: bool,
    target: str,
    threads: int,
) -> dict[str, Any]:
    """Records what PyTorch answers for one variant; `fork`: by a CIGPose fork's own head."""
    from cigpose_export.pipeline import set_threads
    from cigpose_export.recording import record_variant

    set_threads(threads)
    on_stage("reference")
    there = Project(Path(project))
    record_variant(
        there,
        *there.select([name]),
        checkpoint_path=Path(checkpoint),
        images=Path(images) if images else None,
        fork=fork,
        target=Path(target),
    )
    return {}


def trace(
    on_stage: OnStage,
    *,
    project: str,
    name: str,
    checkpoint: str,
    images: str | None,
    case: str,
    target: str,
    threads: int,
) -> dict[str, Any]:
    """Records all intermediate tensors of one case."""
    from cigpose_export.pipeline import set_threads
    from cigpose_export.recording import trace_variant

    set_threads(threads)
    on_stage("trace")
    there = Project(Path(project))
    trace_variant(
        there,
        *there.select([name]),
        checkpoint_path=Path(checkpoint),
        images=Path(images) if images else None,
        case=case,
        target=Path(target),
    )
    return {}


JOBS: dict[str, Callable[..., dict[str, Any]]] = {
    "export": export,
    "record": record,
    "trace": trace,
}


def main(job: dict[str, Any]) -> None:
    """Runs a job and reports on stdout."""
    do = JOBS[job.pop("kind")]
    serve(job["name"], lambda on_stage: do(on_stage, **job))


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
