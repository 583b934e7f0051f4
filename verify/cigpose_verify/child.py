"""One job in a process of its own, which tells its parent how it goes.

A process per job bounds memory, measures it, and keeps a crash from taking the others down. One
JSON object a line goes to stdout: `{"stage": ...}` as the work proceeds, then `{"done": ...}` or
`{"error": ...}`. The child ends when its stdin does, so that it never outlives its parent, however
that one ended.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
import threading
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cigpose_runtime import CigposeError

OnStage = Callable[[str], None]
"""Called with the stage that a job has reached."""


def serve(name: str, do: Callable[[OnStage], dict[str, Any]]) -> None:
    """Runs `do` and reports on stdout; `name` stands in front of an error of the system."""
    reports = os.fdopen(os.dup(sys.stdout.fileno()), "w", buffering=1)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what libraries print is no report
    threading.Thread(target=_end_with_stdin, daemon=True).start()
    warnings.simplefilter("ignore")  # other people's deprecations; what fails raises

    def report(**message: Any) -> None:
        reports.write(json.dumps(message) + "\n")

    report(stage="start")
    try:
        done = do(lambda stage: report(stage=stage))
    except CigposeError as error:
        report(error=str(error), type=type(error).__name__)
    except OSError as error:
        reason = f"{name}: {error}; make room or correct the permissions, then run it again"
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
