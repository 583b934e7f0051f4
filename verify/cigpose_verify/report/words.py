"""Verdicts and figures in words, for every form of a report."""

from __future__ import annotations

from collections.abc import Sequence

from cigpose_verify.report.document import Figure, Report


def headline(reports: Sequence[Report]) -> str:
    """The verdict on the set in one sentence."""
    failed = sum(not report.passed for report in reports)
    if not reports:
        return "no model has been verified"
    if failed:
        return f"{failed} of {'1 model' if len(reports) == 1 else f'{len(reports)} models'} failed"
    if len(reports) == 1:
        return "the model computes what PyTorch computes"
    return f"all {len(reports)} models compute what PyTorch computes"


def first_reason(report: Report) -> str:
    """The message of the first stage that failed."""
    return next(f.message for f in report.failures if f.stage == report.stage)


def number(value: Figure) -> str:
    """A figure for people: 0.13, 2.4e-05, not finite."""
    if value is None:
        return "not finite"
    if value == 0 or 1e-3 <= abs(value) < 1e4:
        return f"{value:.3g}"
    return f"{value:.1e}"


def percent(share: Figure) -> str:
    """A share for people."""
    if share is None:
        return "not finite"
    return f"{share:.2%}" if share < 10 else f"{share:,.0f} x"


def largest_share(report: Report) -> Figure:
    """The largest error / tolerance in the matrix; None where it was not finite."""
    shares = [cell.excess for cell in report.cells]
    return None if None in shares else max((s for s in shares if s is not None), default=None)


def choices_agreeing(report: Report) -> str:
    """How many choices of the intervention agree, for a cell of a table."""
    if "intervention" in report.not_applicable:
        return "not applicable"
    chosen = report.intervention
    return f"{chosen.agreeing} of {chosen.choices}" if chosen else "-"
