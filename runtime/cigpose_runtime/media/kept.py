"""Iterators that work ahead and lose nothing where what they read from fails."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TypeVar

Item = TypeVar("Item")


def ahead(items: Iterable[Item], count: int) -> Iterator[Item]:
    """The same items, so many of them made ahead; what making one raises comes after the last."""
    failures: list[Exception] = []
    made: deque[Item] = deque()
    for item in _until_failure(items, failures):
        made.append(item)
        if len(made) > count:
            yield made.popleft()
    yield from made
    for failure in failures:
        raise failure


def batched(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """The items in lists of this size, the last one of what is left; then as `ahead`."""
    failures: list[Exception] = []
    source = _until_failure(items, failures)
    while batch := list(islice(source, size)):
        yield batch
    for failure in failures:
        raise failure


def _until_failure(items: Iterable[Item], failures: list[Exception]) -> Iterator[Item]:
    """The items until making one raises, which is put into the list."""
    source = iter(items)
    while True:
        try:
            item = next(source)
        except StopIteration:
            return
        except Exception as error:  # noqa: BLE001 - raised behind the last item
            failures.append(error)
            return
        yield item
