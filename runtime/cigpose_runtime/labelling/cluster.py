"""Shards on a Ray cluster: actors on its nodes, with a worker each."""

from __future__ import annotations

import math
import os
import platform
import re
import socket
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from cigpose_runtime.errors import (
    CheckError,
    CigposeError,
    FileError,
    InputError,
    error_context,
    first_line,
)
from cigpose_runtime.labelling.children import TRIES, Child, ChildError
from cigpose_runtime.labelling.items import Item
from cigpose_runtime.labelling.local import MakeWorker, given_up
from cigpose_runtime.labelling.shards import Shard
from cigpose_runtime.sources import storage

ANY = "auto"
"""In place of an address: the cluster that RAY_ADDRESS or this machine belongs to."""

CPUS = 4
"""Of a worker, where the nodes have so many: it decodes, crops and runs the model at once."""

_REACHED_S = 5.0
"""For something to listen at the address."""

_CONNECTED_S = 60.0
"""For a cluster to answer, on nodes that are busy, too."""

_TELL_S = 1.0
"""Between two reports of an actor."""


@dataclass(frozen=True)
class Cluster:
    """Which cluster, and what each worker takes of it.

    address: HOST:PORT or ANY. threads: None for CPUS. gpu: whether it needs one.
    """

    address: str
    threads: int | None = None
    gpu: bool = False


def run(
    shards: Sequence[Shard],
    make_worker: MakeWorker,
    cluster: Cluster,
    workers: int | None,
    on_picture: Callable[[int], None],
) -> None:
    """As `local.run`, but the workers are on the cluster's nodes. workers: None for all that fit.

    A worker that is lost, alone or with its node, starts again where there is room. Raises
    InputError for a cluster that cannot be used, and CheckError for one that is lost.
    """
    address = os.environ.get("RAY_ADDRESS", ANY) if cluster.address == ANY else cluster.address
    if address != ANY:
        _require_reachable(address)
    driver = Child(
        partial(_Driver, shards, make_worker, replace(cluster, address=address), workers)
    )
    try:
        list(driver.replies(_Driver.import_ray))
        try:
            list(driver.replies(_Driver.connect, patience=_CONNECTED_S, tries=1))
        except ChildError as error:
            raise _unusable(address, str(error)) from error
        for people in driver.replies(_Driver.label, tries=1):
            on_picture(people)
    except ChildError as error:
        raise CheckError(
            f"--ray {address}: expected that the cluster goes on, {error}; see that it is up and "
            "run the same command again"
        ) from error
    finally:
        driver.kill()


def _require_reachable(address: str) -> None:
    """Raises InputError where nothing listens: Ray itself would try for minutes."""
    place = re.fullmatch(r"\[?([^\[\]/]+)\]?:(\d+)", address)
    if place is None:
        raise _unusable(address, "found no HOST:PORT")
    try:
        socket.create_connection((place[1], int(place[2])), _REACHED_S).close()
    except OSError as error:
        raise _unusable(address, f"found: {error.strerror or error}") from error


def _unusable(address: str, said: str) -> InputError:
    return InputError(
        f"--ray {address}: expected a Ray cluster, {said}; start one with `ray start --head` and "
        "give the HOST:PORT that it prints"
    )


@dataclass
class _Driver:
    """What talks to Ray, in a process of its own: Ray ends that when it loses the cluster."""

    shards: Sequence[Shard]
    make_worker: MakeWorker
    cluster: Cluster
    workers: int | None

    def __call__(self, step: Callable[[_Driver], Iterator[int]]) -> Iterator[int]:
        return step(self)

    def import_ray(self) -> Iterator[int]:
        """Which takes seconds, that are not the cluster's."""
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # Ray says much; what it means comes as errors
        import ray  # noqa: F401

        yield from ()

    def connect(self) -> Iterator[int]:
        """Raises ChildError where Ray says no."""
        import ray

        try:
            ray.init(self.cluster.address, log_to_driver=False)
        except (OSError, RuntimeError, ValueError) as error:
            raise ChildError(f"found: {' '.join(str(error).split()).rstrip('.')}") from error
        yield from ()

    def label(self) -> Iterator[int]:
        """Yields how many people are in the next picture, whichever shard that is in."""
        import ray
        from ray.exceptions import ActorUnavailableError, RayError, RayTaskError

        threads, workers = self._share(ray.nodes())
        actor_class = ray.remote(_Actor).options(
            num_cpus=threads, num_gpus=int(self.cluster.gpu), scheduling_strategy="SPREAD"
        )
        to_do, left = deque(self.shards), len(self.shards)
        at_work: dict[Any, _Work] = {}
        counted, deaths = Counter[int | None](), Counter[int | None]()

        def start_actor() -> None:
            actor = actor_class.remote(self.make_worker, threads, str(Path.cwd()))
            at_work[actor.open.remote()] = _Work(actor, None)

        for _ in range(min(workers, left)):
            start_actor()
        while left:
            (replies,), _ = ray.wait([*at_work], num_returns=1)
            work = at_work[replies]
            try:
                people = ray.get(next(replies))
            except StopIteration:
                del at_work[replies]
                deaths.pop(work.number, None)
                left -= work.shard is not None
                if to_do:
                    work = _Work(work.actor, to_do.popleft())
                    at_work[work.actor.label.remote(work.shard)] = work
                else:  # its place on the cluster is for others
                    ray.kill(work.actor)
            except RayTaskError as error:
                raise work.failed(error.cause) from error
            except RayError as error:
                del at_work[replies]
                ray.kill(work.actor)  # it may be at work where we cannot reach it
                if work.shard is not None:
                    to_do.appendleft(work.shard)
                if to_do:
                    start_actor()
                deaths[work.number] += not isinstance(error, ActorUnavailableError)
                if deaths[work.number] == TRIES:
                    raise work.died() from error
            else:
                yield from people[max(0, counted[work.number] - work.told) :]
                work.told += len(people)
                counted[work.number] = max(counted[work.number], work.told)

    def _share(self, nodes: Sequence[Mapping[str, Any]]) -> tuple[int, int]:
        """Threads of each worker, and how many workers."""
        wanted = self.cluster
        have = [Counter[str](node["Resources"]) for node in nodes if node["Alive"]]
        usable = [one for one in have if one["CPU"] >= 1 and one["GPU"] >= wanted.gpu]
        threads = wanted.threads or min(CPUS, max((int(one["CPU"]) for one in usable), default=1))
        fit = sum(
            int(min(one["CPU"] // threads, one["GPU"] if wanted.gpu else math.inf))
            for one in usable
        )
        if not self.workers and not fit:
            raise InputError(
                f"--ray {wanted.address}: expected a node for {threads} threads"
                f"{' and with a GPU' if wanted.gpu else ''}, found none; change --threads or "
                "--device, or give --workers to wait for nodes that are to come"
            )
        return threads, self.workers or fit


@dataclass(eq=False)
class _Work:
    """What an actor is at: a shard, of which so many pictures were told, or opening its model."""

    actor: Any
    shard: Shard | None
    told: int = 0

    @property
    def number(self) -> int | None:
        return None if self.shard is None else self.shard.number

    def failed(self, cause: Exception) -> CigposeError:
        """What is raised for an exception in the actor."""
        if isinstance(cause, CigposeError):
            return cause
        return self._given_up(f"found {type(cause).__name__}: {first_line(cause)}")

    def died(self) -> CigposeError:
        """What is raised when actors died of it in each try."""
        return self._given_up(f"found that a worker died of it in each of {TRIES} tries")

    def _given_up(self, said: str) -> CigposeError:
        if self.shard is None:
            return CheckError(
                f"expected workers that start on the cluster, {said}; see Ray's logs, or give each "
                "more of a node by --threads"
            )
        return given_up(self.shard, said)


class _Actor:
    """Holds a worker on some node. Relative paths are those of the folder, where that is there."""

    def __init__(self, make_worker: MakeWorker, threads: int, folder: str) -> None:
        self._make_worker, self._threads, self._folder = make_worker, threads, folder
        self._node = f"on node {platform.node()}"

    def open(self) -> Iterator[list[int]]:
        """Makes the worker; yields nothing."""
        with error_context(self._node):
            with suppress(OSError):  # only relative paths are missed
                os.chdir(self._folder)
            self._worker = self._make_worker(self._threads)
        yield from ()

    def label(self, shard: Shard) -> Iterator[list[int]]:
        """Yields how many people were in each of the pictures since the last time."""
        people, told = [], time.monotonic()
        with error_context(self._node):
            _require_there(shard.items)
            for count in self._worker.label(shard):
                people.append(count)
                if time.monotonic() - told > _TELL_S:
                    yield people
                    people, told = [], time.monotonic()
        yield people


def _require_there(items: Sequence[Item]) -> None:
    """Raises FileError where this node does not see what the run has listed: no picture of it is
    at fault for that."""
    for item in items:
        if item.stamp and not storage.is_url(item.file):
            if storage.stamp_of(item.file) != item.stamp:
                raise FileError(
                    f"{item.file}: expected the file that the run has listed, found another or "
                    "none; give sources that all nodes have, in a shared folder or behind a URL"
                )
            return
