"""Runs many jobs: only those whose result is out of date, some at once, going on past failures."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from cigpose_export.errors import WorkError
from cigpose_export.jobs.processes import WorkerProcesses
from cigpose_runtime import CigposeError
from cigpose_runtime.machine import cores

Result = TypeVar("Result")

OnStage = Callable[[str, str], None]
"""Called with a model's name and the stage that it has reached, at last its state."""


MEMORY_PER_JOB = 3 * 2**30
"""Bytes; the largest variant peaks at 2.5 GiB."""


class State(StrEnum):
    """What became of one job."""

    EXPORTED = "exported"
    PASSED = "passed"
    UP_TO_DATE = "up to date"
    FAILED = "failed"
    INTERRUPTED = "interrupted"


@dataclass(frozen=True)
class Outcome(Generic[Result]):
    """The end of one job: its result where there is one, and the error of one that failed."""

    name: str
    state: State
    path: Path
    result: Result | None = None
    error: CigposeError | None = None


@dataclass(frozen=True)
class Work:
    """What a job has to work with: worker processes, and a share of the machine.

    threads: for one process. on_stage: told the stage that the job has reached.
    """

    name: str
    threads: int
    on_stage: Callable[[str], None]
    processes: WorkerProcesses

    def run(
        self, kind: str, arguments: Mapping[str, Any], environment: Mapping[str, str] = {}
    ) -> dict[str, Any]:
        """Runs one of the worker's functions; returns its last report, with `done` in it."""
        return self.processes.run(
            {"kind": kind, "name": self.name, **arguments},
            on_stage=self.on_stage,
            environment=environment,
        )


class Job(Protocol[Result]):
    """One file to bring up to date."""

    @property
    def name(self) -> str:
        """The model's."""

    @property
    def path(self) -> Path:
        """The file that it is about."""

    def standing(self) -> Result | None:
        """The result of an earlier run, where it still holds. Raises CigposeError."""

    def run(self, work: Work) -> Outcome[Result]:
        """Does the work. Raises CigposeError."""


def run_batch(
    jobs: Sequence[Job[Result]], *, at_once: int | None, on_stage: OnStage
) -> list[Outcome[Result]]:
    """Brings all jobs up to date; at_once: None for what the machine allows.

    Ctrl-C ends the processes under way; what was finished is kept, and the rest is returned as
    interrupted.
    """
    at_once = min(at_once or default_jobs(), max(1, len(jobs)))
    threads = max(1, cores() // at_once)
    processes = WorkerProcesses()

    def run(job: Job[Result]) -> Outcome[Result]:
        outcome = _bring_up_to_date(job, processes, threads, on_stage)
        on_stage(job.name, outcome.state)
        return outcome

    return processes.map(run, jobs, at_once)


def default_jobs() -> int:
    """As many jobs at once as the cores and three quarters of the memory allow."""
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return max(1, min(cores(), memory * 3 // 4 // MEMORY_PER_JOB))


def _bring_up_to_date(
    job: Job[Result], processes: WorkerProcesses, threads: int, on_stage: OnStage
) -> Outcome[Result]:
    try:
        processes.require_going_on(job.name)
        on_stage(job.name, "compare")
        if (result := job.standing()) is not None:
            return Outcome(job.name, State.UP_TO_DATE, job.path, result)
        return job.run(Work(job.name, threads, lambda s: on_stage(job.name, s), processes))
    except (CigposeError, OSError) as error:
        if processes.stopped:
            return Outcome(job.name, State.INTERRUPTED, job.path)
        if isinstance(error, OSError):
            error = WorkError(f"{job.name}: {error}; correct that and run it again")
        return Outcome(job.name, State.FAILED, job.path, error=error)
