"""`make bench`: what labelling costs a picture, on one and two workers, and what more would make.

`python -m benchmarks.label_scaling MODEL.onnx` prints that, below the table of label_speed.

CPU seconds and bytes of a picture are what is added by more of the same pictures, so that starting
does not count; that is told apart. More workers than this machine has cores for are simulated from
these: shards are handed out as on a cluster, and workers are lost at random.
"""

from __future__ import annotations

import heapq
import os
import random
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from benchmarks.label_speed import measure_labelling, print_label_speeds, write_pictures

PICTURES = 64
MORE = 3
"""Times as many in the second run."""

SHARD_SIZE = 16

MILLION = 1_000_000


@dataclass(frozen=True)
class Cost:
    """Of labelling with some workers of one thread each. The figures of a picture are without the
    start of the run, start_cpu_s, which is there once a worker."""

    workers: int
    cpu_s: float
    wall_s: float
    nbytes: float
    start_cpu_s: float


@dataclass(frozen=True)
class Simulated:
    """A million pictures in shards of 1000, by workers that live for `lifetime_h` on average.

    again: the share of pictures that were labelled twice, as their worker was lost.
    """

    workers: int
    lifetime_h: float
    hours: float
    efficiency: float
    again: float


def measure_cost(path: Path, workers: int) -> Cost:
    """Runs the command on some pictures, and on MORE times as many."""
    (cpu, wall, nbytes), (cpu_more, wall_more, nbytes_more) = (
        _run(path, workers, count) for count in (PICTURES, MORE * PICTURES)
    )
    added = (MORE - 1) * PICTURES
    each = (cpu_more - cpu) / added
    return Cost(
        workers,
        cpu_s=each,
        wall_s=(wall_more - wall) / added,
        nbytes=(nbytes_more - nbytes) / added,
        start_cpu_s=(cpu - PICTURES * each) / workers,
    )


def _run(path: Path, workers: int, count: int) -> tuple[float, float, int]:
    """CPU and wall seconds, and the bytes of the results."""
    with tempfile.TemporaryDirectory(prefix="cigpose-bench-") as folder:
        write_pictures(Path(folder, "pictures"), count)
        command = [
            sys.executable,
            "-P",
            "-m",
            "cigpose_runtime.cli",
            "label",
            path,
            f"{folder}/pictures",
        ]
        given = ["--whole-frame", "--out", f"{folder}/out", "--shard-size", SHARD_SIZE]
        given += ["--workers", workers, "--threads", 1]
        started = time.perf_counter()
        process = subprocess.Popen([*map(str, [*command, *given])], stderr=subprocess.DEVNULL)
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        assert process.returncode == 0
        wall = time.perf_counter() - started
        nbytes = sum(shard.stat().st_size for shard in Path(folder, "out").glob("shard*"))
    return used.ru_utime + used.ru_stime, wall, nbytes


def simulate(
    picture_s: float, workers: int, *, start_s: float = 30.0, lifetime_h: float = 24.0
) -> Simulated:
    """How long a million pictures take: picture_s seconds each, and start_s for a worker to start,
    and to be found lost and start again."""
    rng = random.Random(workers)
    shard_s = picture_s * 1000
    left, again, end = MILLION // 1000, 0.0, 0.0
    free = [(start_s, rng.expovariate(1 / (3600 * lifetime_h))) for _ in range(workers)]
    heapq.heapify(free)  # by when a worker is free, with when it is lost
    while left:
        now, lost = heapq.heappop(free)
        done = now + shard_s
        if done > lost:
            again += max(0.0, lost - now) / picture_s
            now = max(now, lost) + start_s
            heapq.heappush(free, (now, now + rng.expovariate(1 / (3600 * lifetime_h))))
            continue
        left -= 1
        end = max(end, done)
        heapq.heappush(free, (done, lost))
    alone = MILLION * picture_s
    return Simulated(workers, lifetime_h, end / 3600, alone / end / workers, again / MILLION)


def print_costs(costs: list[Cost], simulated: list[Simulated]) -> None:
    """As two tables."""
    from rich.console import Console
    from rich.table import Table

    table = Table("workers", "CPU s a picture", "wall s", "bytes", "CPU s to start a worker")
    for cost in costs:
        figures = f"{cost.cpu_s:.4f}", f"{cost.wall_s:.4f}", f"{cost.nbytes:.0f}"
        table.add_row(str(cost.workers), *figures, f"{cost.start_cpu_s:.1f}")
    many = Table("workers, simulated", "lifetime", "hours", "efficiency", "labelled twice")
    for one in simulated:
        lifetime, hours = f"{one.lifetime_h:g} h", f"{one.hours:.2f}"
        many.add_row(str(one.workers), lifetime, hours, f"{one.efficiency:.1%}", f"{one.again:.2%}")
    console = Console()
    console.print("A picture of 640 x 480 with one person", table)
    console.print("A million of them", many)


def measure_costs(path: Path) -> tuple[list[Cost], list[Simulated]]:
    """Of 1 and 2 workers as measured, and of more as simulated from one."""
    costs = [measure_cost(path, workers) for workers in (1, 2)]
    simulated = [
        simulate(costs[0].cpu_s, workers, lifetime_h=lifetime_h)
        for workers in (8, 64, 256)
        for lifetime_h in (1000, 2)
    ]
    return costs, simulated


if __name__ == "__main__":
    model = Path(sys.argv[1])
    print_label_speeds(model.stem, measure_labelling(model))
    print_costs(*measure_costs(model))
