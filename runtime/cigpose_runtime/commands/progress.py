"""How far the work is: a bar on a terminal, a line at the end elsewhere. Both on stderr."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from cigpose_runtime.terminal import echo


@contextmanager
def progress(what: str, total: int | None, unit: str) -> Iterator[Callable[[int], None]]:
    """Yields a function that takes how many people were in the next picture."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
    )
    started = time.monotonic()
    done = people = 0

    def rate() -> str:
        return f"{done / max(time.monotonic() - started, 1e-9):.1f} {unit}/s"

    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as bars:
        task = bars.add_task(what, total=total, rate="")

        def advance(count: int) -> None:
            nonlocal done, people
            done, people = done + 1, people + count
            bars.update(task, advance=1, rate=rate())

        try:
            yield advance
        finally:
            bars.stop()
            echo(f"{what}: {done} {unit}, {people} people, {rate()}", err=True)
