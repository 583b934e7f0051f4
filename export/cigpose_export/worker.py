"""Exports one variant in a process of its own: `python -m cigpose_export.worker JOB`.

A process per variant bounds memory, measures it, and keeps a crash from taking the others down.
JOB is a JSON object (see `Job`). One JSON object a line goes to stdout: `{"stage": ...}` as the
export proceeds, then `{"done": ...}` or `{"error": ...}`. The worker ends when its stdin does, so
that it never outlives the process that started it, however that one ended.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
import threading
import warnings
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from cigpose_export.variants import Project, WeightsKind
from cigpose_runtime import CigposeError


@dataclass(frozen=True)
class Job:
    """What a worker is to do; paths as text."""

    project: str
    name: str
    weights: WeightsKind
    checkpoint: str | None
    target: str
    threads: int


def main(job: Job) -> None:
    """Runs a job and reports on stdout."""
    reports = os.fdopen(os.dup(sys.stdout.fileno()), "w", buffering=1)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what libraries print is no report
    threading.Thread(target=_end_with_stdin, daemon=True).start()
    warnings.simplefilter("ignore")  # other people's deprecations; what fails raises

    def report(**message: Any) -> None:
        reports.write(json.dumps(message) + "\n")

    report(stage="start")
    try:
        from cigpose_export.pipeline import export_variant, set_threads

        project = Project(Path(job.project))
        set_threads(job.threads)
        exported = export_variant(
            project,
            *project.select([job.name]),
            weights=job.weights,
            checkpoint_path=Path(job.checkpoint) if job.checkpoint else None,
            target=Path(job.target),
            on_stage=lambda stage: report(stage=stage),
        )
    except CigposeError as error:
        report(error=str(error), type=type(error).__name__)
    except OSError as error:
        reason = f"{job.name}: {error}; make room or correct the permissions, then run it again"
        report(error=reason, type="ExportError")
    else:
        report(done=asdict(exported), peak_memory=peak_memory())


def _end_with_stdin() -> None:
    # Unbuffered: a buffered read would hold a lock that the interpreter wants at its end.
    while os.read(0, 1):
        pass
    if os.getpgrp() == os.getpid():
        os.killpg(0, signal.SIGKILL)  # onnxsim's process too
    os._exit(1)


def peak_memory() -> int:
    """The largest resident size in bytes of this process or any that it ran."""
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    unit = 1 if sys.platform == "darwin" else 1024
    return max(usage.ru_maxrss for usage in usages) * unit


if __name__ == "__main__":
    main(Job(**json.loads(sys.argv[1])))
