"""Runs jobs in processes of their own, some at once, and ends them all on Ctrl-C."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import IO, Any, TypeVar

import cigpose_runtime.errors
import cigpose_verify.errors
from cigpose_export import errors
from cigpose_export.errors import WorkError
from cigpose_runtime import CigposeError
from cigpose_runtime.errors import last_line

Item = TypeVar("Item")
Result = TypeVar("Result")

POLL_S = 0.2
"""How often the main thread looks up. A signal that comes just before it blocks, while it waits for
the interpreter's lock, is not seen until something wakes it. Without this, 49 of 995 Ctrl-Cs at the
start of a process were seen at its end; with it, 0 of 1,118 were late."""


class WorkerProcesses:
    """The processes under way."""

    def __init__(self) -> None:
        self.stopped = False
        self._processes: set[subprocess.Popen[str]] = set()
        self._lock = threading.Lock()

    def map(
        self, function: Callable[[Item], Result], items: Sequence[Item], jobs: int
    ) -> list[Result]:
        """Calls a function, which runs jobs here, on all items; some at once.

        Ctrl-C ends the processes: jobs under way and to come raise `WorkError`.
        """
        with ThreadPoolExecutor(jobs) as pool:
            futures: list[Future[Result]] = []
            try:
                futures.extend(pool.submit(function, item) for item in items)
                while wait(futures, timeout=POLL_S).not_done:
                    pass
            except KeyboardInterrupt:
                self._stop()
                # So early that some jobs were not handed out, or their futures lost: they end now.
                futures.extend(pool.submit(function, item) for item in items[len(futures) :])
        return [future.result() for future in futures]

    def run(
        self,
        job: Mapping[str, Any],
        *,
        on_stage: Callable[[str], None],
        environment: Mapping[str, str] = {},
        module: str = "cigpose_export.jobs.worker",
    ) -> dict[str, Any]:
        """Runs `python -m MODULE JOB` to its end; returns its last report, with `done` in it.

        job: as the worker takes it. Raises the error that the job reports, and `WorkError` when
        the process dies.
        """
        last: dict[str, Any] = {}
        with tempfile.TemporaryFile("w+") as complaints:
            with self._start(module, job, complaints, environment) as process:
                assert process.stdout is not None
                for line in process.stdout:
                    last = json.loads(line)
                    if "stage" in last:
                        on_stage(last["stage"])
                process.wait()  # before leaving closes its stdin
            with self._lock:
                self._processes.discard(process)
            complaints.seek(0)
            complaint = last_line(complaints.read())
        if "error" in last:
            raise _error_class(last["type"])(last["error"])
        if "done" not in last or process.returncode != 0:
            raise WorkError(
                f"{job['name']}: its process ended with status {process.returncode} ({complaint}); "
                "run the same command again"
            )
        return last

    def require_going_on(self, name: str) -> None:
        """Raises `WorkError` after Ctrl-C."""
        if self.stopped:
            raise WorkError(f"{name}: interrupted; run the same command again")

    def _start(
        self,
        module: str,
        job: Mapping[str, Any],
        complaints: IO[str],
        environment: Mapping[str, str],
    ) -> subprocess.Popen[str]:
        with self._lock:
            self.require_going_on(job["name"])
            process = subprocess.Popen(
                [sys.executable, "-P", "-m", module, json.dumps(job)],
                stdin=subprocess.PIPE,  # never written to: its end tells the child of ours
                stdout=subprocess.PIPE,
                stderr=complaints,
                text=True,
                process_group=0,  # Ctrl-C reaches this process alone, which then decides
                env={**os.environ, **environment},
            )
            self._processes.add(process)
        return process

    def _stop(self) -> None:
        with self._lock:
            self.stopped = True
            for process in self._processes:
                with contextlib.suppress(ProcessLookupError):  # it has just ended by itself
                    os.killpg(process.pid, signal.SIGKILL)  # and its own processes with it


def _error_class(name: str) -> type[CigposeError]:
    for module in (errors, cigpose_verify.errors, cigpose_runtime.errors):
        found = getattr(module, name, None)
        if isinstance(found, type) and issubclass(found, CigposeError):
            return found
    return WorkError
