"""One static HTML page for a set of verdicts: no script, no request, nothing outside the file.

`page.html.j2` is the page; this module prepares what it shows, `plots` draws.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from itertools import groupby
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from cigpose_runtime.files import appears_whole
from cigpose_verify.measures.stage_texts import gates, precision_factor, reduced_factor
from cigpose_verify.report.document import Cell, Report
from cigpose_verify.report.page import plots
from cigpose_verify.report.words import (
    choices_agreeing,
    first_reason,
    headline,
    largest_share,
    number,
    percent,
)

FOLDER = Path(__file__).parent

POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
"""What a browser may load for the page: nothing that is not in it."""


def write_page(reports: Sequence[Report], path: Path) -> None:
    """Writes the page as a whole or not at all."""
    with appears_whole(path) as file:
        file.write(render_page(reports).encode())


def render_page(reports: Sequence[Report]) -> str:
    """The page on these verdicts, those that failed first."""
    ordered = sorted(reports, key=lambda report: report.passed)
    sentence = headline(ordered)
    page = (
        _environment()
        .get_template("page.html.j2")
        .render(
            reports=ordered,
            failed=[report for report in ordered if not report.passed],
            headline=sentence,
            policy=POLICY,
            style=Markup((FOLDER / "page.css").read_text("utf-8")),
            gates=gates(),
            precision_factor=precision_factor(),
            reduced_factor=reduced_factor(),
        )
    )
    return page.lstrip()  # of the lines between macros


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(number=number, percent=percent, place=_place)
    environment.globals.update(
        anchor=_anchor,
        facts=_facts,
        first_reason=first_reason,
        plots=plots,
        settings=_settings,
        summary=_summary,
    )
    return environment


def _summary(report: Report) -> Iterator[str]:
    """The cells of the summary after the verdict, in the order of its headings."""
    chosen, points, precision = report.intervention, report.keypoints, report.precision
    yield percent(largest_share(report)) if report.cells else "-"
    yield number(precision.ratio) if precision else "-"
    yield number(precision.condition) if precision else "-"
    yield choices_agreeing(report)
    yield f"{chosen.near_ties}, {chosen.forced}" if chosen else "-"
    yield str(points.misread) if points else "-"
    yield percent(points.argmax_agreement) if points else "-"
    share = points.near_tie_share if points else None
    yield f"{share:.2%}" if share is not None else "-"
    yield " / ".join(map(number, points.input_px)) if points else "-"
    yield "-" if report.seconds is None else f"{report.seconds:.0f}"


def _settings(cells: Iterable[Cell]) -> list[tuple[str, Mapping[int, Cell]]]:
    """The rows of the matrix: provider, level and threads, and the cells by batch."""

    def setting(cell: Cell) -> str:
        return f"{cell.provider.removesuffix('ExecutionProvider')}, {cell.level}, {cell.threads}"

    return [(name, {cell.batch: cell for cell in some}) for name, some in groupby(cells, setting)]


def _facts(report: Report) -> dict[str, str]:
    """What was compared, and with what."""
    facts = {
        "file": report.file,
        "sha256": report.sha256,
        "weights": report.weights or "not said",
        **report.origin,
        **report.environment,
    }
    if report.not_applicable:
        facts["stages that are not applicable"] = ", ".join(report.not_applicable)
    if report.notes:
        facts["notes"] = "; ".join(report.notes)
    if chosen := report.intervention:
        facts["confound score error"] = (
            f"{number(chosen.score_error)} (limit {number(chosen.score_limit)})"
        )
        facts["error with each keypoint replaced in turn"] = (
            f"{number(chosen.sweep_error)} (limit {number(chosen.sweep_limit)})"
        )
    return facts


def _place(xy: tuple[float, float]) -> str:
    return "not found" if min(xy) < 0 else f"{xy[0]:g}, {xy[1]:g}"


def _anchor(report: Report) -> str:
    return f"model-{report.sha256[:16]}"
