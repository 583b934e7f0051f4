"""What the terminal shows: progress while work runs, and tables at its end."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.style import Style
from rich.table import Table
from rich.text import Text

from cigpose_export.accuracy.evaluate import UNDEFINED
from cigpose_export.accuracy.stage import Accuracy
from cigpose_export.jobs.batch import OnStage, Outcome, State
from cigpose_export.jobs.export import ExportFigures
from cigpose_runtime.errors import printable
from cigpose_runtime.terminal import echo, showable
from cigpose_verify.report.document import Report
from cigpose_verify.report.words import choices_agreeing

STATE_STYLE = {
    State.EXPORTED: "green",
    State.PASSED: "green",
    State.UP_TO_DATE: "dim",
    State.FAILED: "red",
    State.INTERRUPTED: "yellow",
}


class SafeConsole(Console):
    """A console to which text is text: no markup in it, and nothing that drives a terminal."""

    def render_str(self, text: str, *, style: str | Style = "", **_options: Any) -> Text:
        return Text(showable(text, self.encoding), style=style)


def byte_size(count: float) -> str:
    """A size in bytes for people: 56258633 -> '56.3 MB'."""
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.3g} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.2f} GB"


@contextlib.contextmanager
def progress(total: int) -> Iterator[OnStage]:
    """Shows what is under way and how many are done; without a terminal, a line for each end."""
    console = SafeConsole(stderr=True)
    if not console.is_terminal:

        def say(name: str, stage: str) -> None:
            if stage in STATE_STYLE:
                echo(f"{name}: {stage}", err=True)

        yield say
        return
    columns = (
        SpinnerColumn(finished_text=" "),
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.fields[stage]}", markup=False),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, transient=True) as bars:
        overall = bars.add_task(f"{total} models", total=total, stage="")
        tasks = {}

        def show(name: str, stage: str) -> None:
            if name not in tasks:
                tasks[name] = bars.add_task(printable(name), total=None, stage=stage)
            if stage in STATE_STYLE:
                bars.remove_task(tasks[name])
                bars.advance(overall)
            else:
                bars.update(tasks[name], stage=stage)

        yield show


@contextlib.contextmanager
def counted_progress(title: str, total: int) -> Iterator[Callable[[int], None]]:
    """Shows how many of a known number are done, and how long the rest will take."""
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.completed} of {task.total}"),
        TimeRemainingColumn(),
    )
    console = SafeConsole(stderr=True)
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as bar:
        task = bar.add_task(printable(title), total=total)
        yield lambda count: bar.advance(task, count)


@contextlib.contextmanager
def download_progress(name: str) -> Iterator[Callable[[int, int | None], None]]:
    """Shows how far a download is, with speed and time left; nothing without a terminal."""
    console = SafeConsole(stderr=True)
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as bars:
        task = bars.add_task(printable(name), total=None)
        yield lambda done, total: bars.update(task, completed=done, total=total)


@contextlib.contextmanager
def portions_progress(title: str, total: int) -> Iterator[Callable[[int], None]]:
    """As `download_progress`, told of each portion of a known number of bytes."""
    done = 0
    with download_progress(title) as on_bytes:

        def on_portion(count: int) -> None:
            nonlocal done
            done += count
            on_bytes(done, total)

        yield on_portion


def print_variants(rows: Sequence[Mapping[str, Any]]) -> None:
    """The table of `cigpose-tools list`."""
    table = Table("variant", box=None, header_style="bold")
    for heading in ("keypoints", "input (w x h)", "published AP"):
        table.add_column(heading, justify="right")
    table.add_column("checkpoint here")
    table.add_column("exported")
    for row in rows:
        published = row["published"]
        table.add_row(
            row["name"],
            str(row["keypoints"]),
            "{} x {}".format(*row["input"]),
            str(published.get("whole_ap", published.get("ap", ""))),
            ", ".join(row["checkpoints"]) or "-",
            ", ".join(row["artefacts"]) or "-",
        )
    print_table(table)


def print_outcomes(outcomes: Sequence[Outcome[ExportFigures]]) -> None:
    """The table at the end of an export."""
    table = Table("variant", "state", box=None, header_style="bold")
    for heading in ("nodes", "size", "seconds", "peak memory"):
        table.add_column(heading, justify="right")
    for outcome in outcomes:
        cells = ["", "", "", ""]
        if figures := outcome.result:
            cells = [
                str(figures.nodes),
                byte_size(figures.size),
                f"{figures.seconds:.1f}",
                byte_size(figures.peak_memory),
            ]
        table.add_row(outcome.name, _state(outcome.state), *cells)
    print_table(table)


def print_verified(outcomes: Sequence[Outcome[Report]]) -> None:
    """The table at the end of a verification."""
    table = Table("model", "verdict", box=None, header_style="bold")
    headings = ("error / limit", "error to float64", "intervention", "misread", "seconds")
    for heading in headings:
        table.add_column(heading, justify="right")
    for one in outcomes:
        cells = [""] * len(headings)
        report = one.result
        if report and report.precision and report.keypoints:
            excess = [cell.excess for cell in report.cells]
            ratio = report.precision.ratio
            cells = [
                "-" if None in excess else f"{max(filter(None, excess), default=0):.2f}",
                "-" if ratio is None else f"{ratio:.2f} x noise floor",
                choices_agreeing(report),
                f"{report.keypoints.misread} of {report.keypoints.compared}",
                "-" if report.seconds is None else f"{report.seconds:.0f}",
            ]
        stage = f" ({report.stage})" if report and report.stage else ""
        table.add_row(one.name, _state(one.state, stage), *cells)
    print_table(table)
    for one in outcomes:
        for note in one.result.notes if one.result else ():
            echo(f"{one.name}: note: {note}")


def _state(state: State, stage: str = "") -> Text:
    return Text(printable(f"{state}{stage}"), style=STATE_STYLE[state])


def print_table(table: Table) -> None:
    """Prints a table to stdout, in full width if stdout is not a terminal."""
    console = SafeConsole()
    if not console.is_terminal:
        console.width = 200
    console.print(table)


def in_percent(figure: float) -> str:
    """A figure of 0 to 1 in percent; "–" where nothing was there to evaluate."""
    return "–" if figure == UNDEFINED else f"{100 * figure:.2f}"


def print_accuracy(found: Accuracy) -> None:
    """The figures in percent, by side, beside the published ones, and how they were measured."""
    flip = "with flip test" if found.flip else "single pass"
    title = (
        f"{found.model} on {found.protocol}, {found.people} people in {found.pictures} pictures; "
        f"boxes: {found.boxes}; {flip}"
    )
    echo(title)
    table = Table("", box=None, header_style="bold")
    for side in found.figures:
        table.add_column(side, justify="right")
    if found.published:
        table.add_column("published", justify="right")
    for name in found.figures["runtime"]:
        cells = [in_percent(figures[name]) for figures in found.figures.values()]
        if found.published:
            value = found.published.get(name)
            cells.append("" if value is None else f"{value:.1f}")
        table.add_row(name, *cells)
    print_table(table)
    if found.published:
        say = "published figures are with flip test; those of COCO's 17 on annotated boxes, all "
        echo(f"{say}others on detected ones")
    if found.keypoint_difference is not None:
        echo(f"mean distance between the sides: {found.keypoint_difference:.4f} px")
