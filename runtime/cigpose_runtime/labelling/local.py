"""Shards on this machine: one after the other here, or by some processes at once."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from cigpose_runtime.errors import CheckError, CigposeError
from cigpose_runtime.labelling.children import Answer, Child, ChildError
from cigpose_runtime.labelling.shards import Shard
from cigpose_runtime.labelling.worker import ShardWorker
from cigpose_runtime.machine import cores

_POLL_S = 0.2
"""How often the main thread looks up, so that it sees Ctrl-C whenever that comes."""

MakeWorker = Callable[[int], ShardWorker]
"""Takes how many cores the worker has."""


def run(
    shards: Sequence[Shard],
    make_worker: MakeWorker,
    workers: int,
    on_picture: Callable[[int], None],
) -> None:
    """Labels all shards. make_worker: picklable; each process calls it once.

    on_picture: takes how many people were in the next picture. Raises the first error of a shard;
    the shards that are done by then stay.
    """
    if workers == 1:
        with make_worker(cores()) as worker:
            for shard in shards:
                for people in worker.label(shard):
                    on_picture(people)
    else:
        _run_processes(shards, make_worker, min(workers, len(shards)), on_picture)


def given_up(shard: Shard, said: str) -> CheckError:
    """What is raised for a shard that no worker can make."""
    return CheckError(
        f"{shard.name}: expected its {len(shard.items)} pictures to be labelled, {said}; run the "
        "same command again with fewer --workers"
    )


def _run_processes(
    shards: Sequence[Shard],
    make_worker: MakeWorker,
    workers: int,
    on_picture: Callable[[int], None],
) -> None:
    make = partial(_answer, make_worker, max(1, cores() // workers))
    children = [Child(make) for _ in range(workers)]
    to_do: queue.SimpleQueue[Shard] = queue.SimpleQueue()
    events: queue.SimpleQueue[Any] = queue.SimpleQueue()
    for shard in shards:
        to_do.put(shard)
    threads = [
        threading.Thread(target=_work, args=(child, to_do, events), daemon=True)
        for child in children
    ]
    for thread in threads:
        thread.start()
    running = workers
    try:
        while running:
            try:
                event = events.get(timeout=_POLL_S)
            except queue.Empty:
                continue
            if isinstance(event, CigposeError):
                raise event
            if event is None:
                running -= 1
            else:
                on_picture(event)
    finally:
        for child in children:
            child.kill()
        for thread in threads:
            thread.join()


def _answer(make_worker: MakeWorker, cores_each: int) -> Answer:
    return make_worker(cores_each).label


def _work(child: Child, to_do: queue.SimpleQueue[Shard], events: queue.SimpleQueue[Any]) -> None:
    try:
        while True:
            shard = to_do.get_nowait()
            for people in child.replies(shard):
                events.put(people)
    except queue.Empty:
        events.put(None)
    except ChildError as error:
        events.put(given_up(shard, str(error)))
    except CigposeError as error:
        events.put(error)
    finally:
        child.close()
