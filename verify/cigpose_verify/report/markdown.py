"""The verdicts of a set in Markdown, for a release page."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from cigpose_verify.measures.stage_texts import precision_factor, reduced_factor
from cigpose_verify.report.document import Report
from cigpose_verify.report.words import (
    choices_agreeing,
    first_reason,
    headline,
    largest_share,
    number,
    percent,
)


def render_markdown(reports: Sequence[Report]) -> str:
    """A summary with one table; models that failed and why stand above it."""
    return "\n".join(_lines(sorted(reports, key=lambda report: report.passed))) + "\n"


def _lines(reports: Sequence[Report]) -> Iterator[str]:
    sentence = headline(reports)
    yield f"# Parity: {sentence}"
    for report in reports:
        if not report.passed:
            yield ""
            reason = _cell(first_reason(report))
            yield f"- **{_cell(report.model)}** fails at {report.stage}: {reason}"
        for note in report.notes:
            yield ""
            yield f"- {_cell(report.file)}: {_cell(note)}"
    if not reports:
        return
    yield ""
    yield (
        "| model | verdict | error / limit | error to float64 / noise floor "
        f"(≤ {precision_factor()}; reduced precision: ≤ {reduced_factor()}) | "
        "worst noise floor / outputs | intervention | "
        "misread outside near ties | same bins, near ties too | near ties on crops | sha256 |"
    )
    yield "|---|---|--:|--:|--:|--:|--:|--:|--:|---|"
    for report in reports:
        yield f"| {' | '.join(map(_cell, _cells(report)))} |"
    yield ""
    yield "Repeat it: `make export-all verify-all`; the protocol is in the report's JSON beside it."
    versions = {**reports[0].origin, **reports[0].environment}
    named = [
        f"{n} {versions[n]}" for n in ("torch", "onnxruntime", "onnx", "numpy") if n in versions
    ]
    yield f"Compared with {_cell(', '.join(named))}."


def _cells(report: Report) -> Iterator[str]:
    points, precision = report.keypoints, report.precision
    yield report.model
    yield "passed" if report.passed else f"failed ({report.stage})"
    yield percent(largest_share(report)) if report.cells else "-"
    yield number(precision.ratio) if precision else "-"
    yield number(precision.condition) if precision else "-"
    yield choices_agreeing(report)
    yield f"{points.misread} of {points.compared}" if points else "-"
    yield percent(points.argmax_agreement) if points else "-"
    share = points.near_tie_share if points else None
    yield "-" if share is None else f"{share:.2%}"
    yield f"`{report.sha256[:12]}`"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ").replace("<", "&lt;")
