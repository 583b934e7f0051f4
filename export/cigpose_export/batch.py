"""Exports many variants: only those that are out of date, some at once, each in its own process.

Beside the artefacts, `.export/NAME.json` records what each was made from. An artefact is up to date
when that record, made anew from the content of checkpoint, config and code, is the same, and the
file is still the one that was written.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

import cigpose_export
import cigpose_runtime
from cigpose_export import errors
from cigpose_export.errors import ExportError
from cigpose_export.files import appears_whole, sha256_of
from cigpose_export.tools import tool_versions
from cigpose_export.variants import Project, Variant, WeightsKind
from cigpose_export.worker import Job
from cigpose_runtime import CigposeError

MEMORY_PER_JOB = 3 * 2**30
"""Bytes; the largest variant peaks at 2.5 GiB."""

WITHOUT_PART_IN_THE_BYTES = frozenset(
    {
        "batch.py",
        "bench.py",
        "cli.py",
        "console.py",
        "doctor.py",
        "straight_trace.py",
        "checkpoints/fetch.py",
    }
)
"""Modules of cigpose_export; any other is taken to shape the artefacts."""

RUNTIME_PART = ("contract.py", "keypoints.py")
"""Modules of cigpose_runtime that shape the artefacts."""


@dataclass(frozen=True)
class Figures:
    """What an export took and gave; sizes in bytes, `peak_memory` of its largest process."""

    nodes: int
    size: int
    seconds: float
    peak_memory: int


@dataclass(frozen=True)
class Outcome:
    """What became of one variant: exported, up to date, failed or interrupted."""

    name: str
    state: str
    path: Path
    figures: Figures | None = None
    error: CigposeError | None = None


@dataclass(frozen=True)
class Record:
    """What is kept of an export: what it was made from, what it made."""

    inputs: str
    sha256: str
    figures: Figures

    @classmethod
    def read(cls, path: Path) -> Record | None:
        """The record in a file, None if there is none that can be read."""
        try:
            content = json.loads(path.read_text("utf-8"))
            return cls(content["inputs"], content["sha256"], Figures(**content["figures"]))
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def write(self, path: Path) -> None:
        """Replaces the record in a file."""
        with appears_whole(path) as file:
            file.write(json.dumps(asdict(self), indent=1).encode())


OnStage = Callable[[str, str], None]
"""Called with a variant's name and the stage that it has reached, at last its state."""


def default_jobs() -> int:
    """As many exports at once as the cores and three quarters of the memory allow."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return max(1, min(cores or 1, memory * 3 // 4 // MEMORY_PER_JOB))


class Batch:
    """Exports variants of one project into one folder.

    With `checkpoint`, that file is exported in place of the project's own (for one variant).
    """

    def __init__(
        self,
        project: Project,
        *,
        weights: WeightsKind,
        out: Path,
        checkpoint: Path | None = None,
        jobs: int | None = None,
        on_stage: OnStage = lambda _name, _stage: None,
    ) -> None:
        self.project = project
        self.weights = weights
        self.out = out
        self.checkpoint = checkpoint
        self.jobs = jobs or default_jobs()
        self.on_stage = on_stage
        self._code = _hash_of_code()
        self._workers: set[subprocess.Popen[str]] = set()
        self._lock = threading.Lock()
        self._stopped = False

    def run(self, variants: Sequence[Variant]) -> list[Outcome]:
        """Exports what is out of date and goes on past failures.

        Ctrl-C stops the exports under way; what was finished is kept, and the rest is returned as
        interrupted.
        """
        with ThreadPoolExecutor(self.jobs) as pool:
            futures = [pool.submit(self._run_one, variant) for variant in variants]
            try:
                for future in futures:
                    future.result()
            except KeyboardInterrupt:
                self._stop()
            return [future.result() for future in futures]

    def _run_one(self, variant: Variant) -> Outcome:
        try:
            outcome = self._bring_up_to_date(variant)
        except CigposeError as error:
            path = self._target(variant)
            state = "interrupted" if self._stopped else "failed"
            outcome = Outcome(variant.name, state, path, error=error)
        self.on_stage(variant.name, outcome.state)
        return outcome

    def _bring_up_to_date(self, variant: Variant) -> Outcome:
        target = self._target(variant)
        record_path = self.out / ".export" / f"{variant.name}.json"
        if self.checkpoint is None and self.weights == "real":
            self.project.existing_checkpoint(variant.name, "real")
        checkpoint = self.checkpoint or self.project.checkpoint_path(variant.name, self.weights)
        if checkpoint.is_file() and target.is_file():
            self.on_stage(variant.name, "compare")
            record = Record.read(record_path)
            inputs = self._inputs(variant, sha256_of(checkpoint))
            if record and record.inputs == inputs and record.sha256 == sha256_of(target):
                return Outcome(variant.name, "up to date", target, record.figures)
        started = time.monotonic()
        result = self._run_worker(variant, target)
        done = result["done"]
        figures = Figures(
            nodes=done["nodes"],
            size=done["size"],
            seconds=round(time.monotonic() - started, 2),
            peak_memory=result["peak_memory"],
        )
        inputs = self._inputs(variant, done["checkpoint_sha256"])
        Record(inputs, done["sha256"], figures).write(record_path)
        return Outcome(variant.name, "exported", target, figures)

    def _run_worker(self, variant: Variant, target: Path) -> dict[str, Any]:
        job = Job(
            project=str(self.project.root),
            name=variant.name,
            weights=self.weights,
            checkpoint=str(self.checkpoint) if self.checkpoint else None,
            target=str(target),
            threads=1 if self.jobs > 1 else default_jobs(),
        )
        last: dict[str, Any] = {}
        with tempfile.TemporaryFile("w+") as complaints:
            with self._start_worker(job, complaints) as worker:
                assert worker.stdout is not None
                for line in worker.stdout:
                    last = json.loads(line)
                    if "stage" in last:
                        self.on_stage(variant.name, last["stage"])
            self._workers.discard(worker)
            complaints.seek(0)
            complaint = (complaints.read().strip().splitlines() or ["no message"])[-1]
        if "error" in last:
            raise getattr(errors, last["type"], ExportError)(last["error"])
        if "done" not in last:
            raise ExportError(
                f"{variant.name}: the export process ended with status {worker.returncode} "
                f"({complaint}); run the same command again"
            )
        return last

    def _start_worker(self, job: Job, complaints: IO[str]) -> subprocess.Popen[str]:
        with self._lock:
            if self._stopped:
                raise ExportError(f"{job.name}: interrupted; run the same command again")
            worker = subprocess.Popen(
                [sys.executable, "-m", "cigpose_export.worker", json.dumps(asdict(job))],
                stdin=subprocess.PIPE,  # never written to: its end tells the worker of ours
                stdout=subprocess.PIPE,
                stderr=complaints,
                text=True,
                process_group=0,  # Ctrl-C reaches this process alone, which then decides
            )
            self._workers.add(worker)
        return worker

    def _stop(self) -> None:
        with self._lock:
            self._stopped = True
            for worker in self._workers:
                worker.kill()

    def _target(self, variant: Variant) -> Path:
        return self.out / f"{variant.name}.onnx"

    def _inputs(self, variant: Variant, checkpoint_sha256: str) -> str:
        """A hash of all that decides the bytes of an artefact."""
        configs = self.project.root / "configs"
        base = sorted((configs / "_base_").glob("*.py"))
        parts = {
            "checkpoint": checkpoint_sha256,
            "config": [sha256_of(p) for p in (self.project.config_path(variant.name), *base)],
            "code": self._code,
            "tools": tool_versions(),
        }
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _hash_of_code() -> str:
    export, runtime = (Path(package.__path__[0]) for package in (cigpose_export, cigpose_runtime))
    modules = [
        path
        for path in sorted(export.rglob("*.py"))
        if path.relative_to(export).as_posix() not in WITHOUT_PART_IN_THE_BYTES
    ]
    modules += [runtime / name for name in RUNTIME_PART]
    digest = hashlib.sha256()
    for path in modules:
        digest.update(sha256_of(path).encode())
    return digest.hexdigest()
