"""Runs what comes before and after in threads of their own, with short queues between."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Generic, TypeVar

from cigpose_runtime.errors import FileError
from cigpose_runtime.media.kept import ahead

Item = TypeVar("Item")
Result = TypeVar("Result")

DEPTH = 4
"""Items that wait in a queue: enough to even out, few enough to fit in memory."""

_END = object()
_POLL_S = 0.1


def prefetched(
    items: Iterable[Item], *, patience: float | None = None, depth: int = DEPTH
) -> Generator[Item]:
    """The same items, made ahead in another thread; what it raises is raised here.

    patience: seconds to wait for an item before raising FileError, for cameras that stall.
    Closing it, too, ends the other thread, after the item that it is making.
    """
    waiting: queue.Queue[Any] = queue.Queue(depth)
    stopped = threading.Event()

    def make() -> None:
        try:
            for item in items:
                if not _put(waiting, (item, None), stopped):
                    return
            _put(waiting, (_END, None), stopped)
        except BaseException as error:  # noqa: BLE001 - handed to the thread that waits for it
            _put(waiting, (_END, error), stopped)

    threading.Thread(target=make, daemon=True).start()
    try:
        while True:
            try:
                item, error = waiting.get(timeout=patience)
            except queue.Empty:
                raise FileError(
                    f"expected a frame within {patience:g} s, found none; check the camera, or "
                    "close what else uses it"
                ) from None
            if error is not None:
                raise error
            if item is _END:
                return
            yield item
    finally:
        stopped.set()


def in_order(
    function: Callable[[Item], Result], items: Iterable[Item], *, at_once: int
) -> Generator[Result]:
    """function(item) for each item, in the order of the items, several at once in other threads.

    at_once: how many. With 1, each is called here, and the next item is asked for only when its
    result has been taken. Closing it waits for those that run.
    """
    if at_once == 1:
        yield from map(function, items)
        return
    pool = ThreadPoolExecutor(at_once)
    try:
        # One more than run, so that no thread waits for an item.
        for future in ahead((pool.submit(function, item) for item in items), at_once):
            yield future.result()
    finally:
        pool.shutdown(cancel_futures=True)


class Behind(Generic[Item]):
    """Calls a function on items in another thread, in order; used as a context.

    At the end of the block all items have been worked on. What the function raises is raised by
    the next `put`, or at the end.
    """

    def __init__(self, function: Callable[[Item], None], *, depth: int = DEPTH) -> None:
        self._function = function
        self._waiting: queue.Queue[Any] = queue.Queue(depth)
        self._failed = threading.Event()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._work, daemon=True)

    def put(self, item: Item) -> None:
        """Hands over an item, waiting while too many are."""
        if not _put(self._waiting, item, self._failed):
            self._raise()

    def _work(self) -> None:
        while (item := self._waiting.get()) is not _END:
            try:
                self._function(item)
            except BaseException as error:  # noqa: BLE001 - handed to the thread that puts
                self._error = error
                self._failed.set()
                return

    def _raise(self) -> None:
        assert self._error is not None
        raise self._error

    def __enter__(self) -> Behind[Item]:
        self._thread.start()
        return self

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        _put(self._waiting, _END, self._failed)
        self._thread.join()
        if self._failed.is_set() and error is None:
            self._raise()


def _put(waiting: queue.Queue[Any], item: Any, stopped: threading.Event) -> bool:
    """Puts an item unless nobody takes any more."""
    while not stopped.is_set():
        try:
            waiting.put(item, timeout=_POLL_S)
        except queue.Full:
            continue
        return True
    return False
