"""The tables in docs/engines.md, between two comments that say who writes them."""

from __future__ import annotations

import re
from collections.abc import Mapping

from benchmarks.engines.measure import GOOD, Cell, Verdict
from benchmarks.engines.results import Result, Row
from cigpose_runtime.errors import CheckError

PART = re.compile(
    r"(?<=<!-- engines: written by make engines -->\n).*(?=<!-- end of engines -->)", re.S
)

LONGEST_REASON = 90


def with_tables(
    page: str,
    reference: str,
    results: Mapping[str, Result],
    mobile: Mapping[tuple[str, str], Mapping[str, str]],
) -> str:
    """The page with these tables in the place of those that it has.

    reference: the title of the engine that the others are compared with. results: by engine.
    mobile: what the checkers for phones say, by model and form. Raises CheckError for a page
    without the place.
    """
    if not PART.search(page):
        raise CheckError(
            "docs/engines.md: expected two comments around its tables, found none; add "
            f"{PART.pattern}"
        )
    lines = [
        f"Compared with {reference}; of same bins, the person with the fewest:",
        "",
        "| engine | model | form | verdict | max\\|Δ\\| | same bins | speed at 1, 3, 8 | why |",
        "|---|---|---|---|--:|--:|--:|---|",
        *(line for title, result in results.items() for line in _lines(title, result)),
        "",
        *_mobile(mobile),
    ]
    text = "\n".join(lines) + "\n"
    return PART.sub(lambda _: text, page)


def _lines(engine: str, result: Result) -> list[str]:
    if result.absent is not None:
        return [f"| {engine} | | | not installed here | | | | {_cut(result.absent)} |"]
    return [_line(engine, row) for row in result.rows]


def _line(engine: str, row: Row) -> str:
    cells = row.cells.values()
    differences = [cell.difference for cell in cells if cell.difference is not None]
    same = [cell.same_bins for cell in cells if cell.same_bins is not None]
    speeds = ["–" if cell.speed is None else f"{cell.speed:.2f}" for cell in cells]
    reasons = [cell.failure for cell in cells if cell.failure is not None]
    fields = (
        engine,
        f"`{row.model}`",
        row.form,
        _verdicts(row.cells),
        f"{max(differences):.1e}" if differences else "",
        f"{min(same):.1%}" if same else "",
        ", ".join(speeds) if differences else "",
        _cut(reasons[0]) if reasons else "",
    )
    return f"| {' | '.join(fields)} |"


def _verdicts(cells: Mapping[int, Cell]) -> str:
    """One word if all batches agree; otherwise which batches get which."""
    by_verdict: dict[Verdict, list[int]] = {}
    for people, cell in cells.items():
        by_verdict.setdefault(cell.verdict, []).append(people)
    words = {
        verdict: verdict.value if verdict in GOOD else f"**{verdict}**" for verdict in by_verdict
    }
    if len(words) == 1:
        return next(iter(words.values()))
    return "; ".join(
        f"{words[verdict]} at {', '.join(map(str, some))}" for verdict, some in by_verdict.items()
    )


def _cut(reason: str) -> str:
    short = reason if len(reason) <= LONGEST_REASON else f"{reason[:LONGEST_REASON]}…"
    return short.replace("|", "\\|").replace("<", "&lt;")


def _mobile(mobile: Mapping[tuple[str, str], Mapping[str, str]]) -> list[str]:
    targets = list(next(iter(mobile.values()))) if mobile else []
    return [
        "Nodes that phones would take, and in how many pieces, by onnxruntime's checker:",
        "",
        f"| model | form | {' | '.join(targets)} |",
        f"|---|---|{'--:|' * len(targets)}",
        *(
            f"| `{name}` | {form} | {' | '.join(taken.values())} |"
            for (name, form), taken in mobile.items()
        ),
    ]
