"""What campaigns of hostile input share: a child that goes through cases, and who starts it.

Each case has CPU_S seconds of CPU; one of more ends the child by SIGPROF. The child prints one JSON
document, in which a case that ended in a traceback is named by its seed.
"""

import json
import os
import resource
import signal
import struct
import subprocess
import sys
import time
import traceback
from collections import Counter
from contextlib import contextmanager
from pathlib import Path

CPU_S = 10
MEMORY = 1_500_000_000


def peak_memory():
    """The largest resident size of this process in bytes.

    Linux counts in `ru_maxrss` what a process was started from, too: a large pytest.
    """
    if sys.platform == "darwin":
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    status = Path("/proc/self/status").read_text("ascii")
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


class Cases:
    """What has come of the cases of this process."""

    def __init__(self):
        self._statuses, self._failures, self._slowest = Counter(), [], 0.0

    @contextmanager
    def case(self, seed):
        """One case: yields what takes its status; an exception is noted as a failure."""
        signal.setitimer(signal.ITIMER_PROF, CPU_S)
        before = time.process_time()
        try:
            yield lambda status: self._statuses.update([status])
        except (Exception, SystemExit):  # noqa: BLE001 - the very thing that is looked for
            self._failures.append([seed, traceback.format_exc()[-3000:]])
        self._slowest = max(self._slowest, time.process_time() - before)
        signal.setitimer(signal.ITIMER_PROF, 0)

    def report(self):
        """Prints what has come of all of them."""
        report = {
            "statuses": self._statuses,
            "failures": self._failures,
            "cpu_s": self._slowest,
            "peak": peak_memory(),
        }
        sys.__stdout__.write(json.dumps(report))


def report_of(script, *arguments, count, where):
    """The report of a child that went through `count` cases without a failure.

    where: says, for a child that ended by itself, at which case that was.
    """
    ended = subprocess.run(
        [sys.executable, "-W", "ignore", script, *map(str, arguments)],
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, f"{where()}: {ended.returncode} {ended.stderr[-2000:]}"
    report = json.loads(ended.stdout)
    assert report["failures"] == []
    assert report["peak"] < MEMORY
    assert sum(report["statuses"].values()) == count
    return report


def fuzz(script, kind, first, count, folder):
    """The report of some cases of a kind; `script` keeps the seed at hand in a file."""
    seed = folder / "seed"
    return report_of(
        script,
        *(kind, seed, first, count),
        count=count,
        where=lambda: f"{kind} {seed.read_text()}",
    )


def fuzz_many(script, kind, count, folder, *, at_once):
    """Goes through many cases of a kind, so many in a process; returns what came of them."""
    reports = [fuzz(script, kind, at, at_once, folder) for at in range(0, count, at_once)]
    statuses = sum((Counter(report["statuses"]) for report in reports), Counter())
    slowest = max(report["cpu_s"] for report in reports)
    peak = max(report["peak"] for report in reports)
    return f"{count:,} cases, {dict(statuses)}, at most {slowest:.1f} CPU s, {peak / 1e6:.0f} MB"


def spoilt(content, rng, *, lengths=(1, 2, 8, 100), ways=4):
    """Bits flipped, pieces of these lengths cut, doubled or replaced, the 5th way by numbers."""
    content = bytearray(content)
    for _ in range(rng.choice([1, 1, 2, 8])):
        if not content:
            break
        start = rng.randrange(len(content))
        end = min(len(content), start + rng.choice(lengths))
        match rng.randrange(ways):
            case 0:
                content[start] ^= 1 << rng.randrange(8)
            case 1:
                del content[start:end]
            case 2:
                content[start:start] = content[start:end]
            case 3:
                content[start:end] = rng.randbytes(end - start)
            case 4:
                layout, size = rng.choice([("<H", 2), ("<L", 4), ("<Q", 8)])
                number = rng.choice([0, 1, 2**16 - 1, 2**31, 2**32 - 1, 2**63, 2**64 - 1])
                content[start : start + size] = struct.pack(layout, number % 256**size)
    return bytes(content)
