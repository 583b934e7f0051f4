"""One static HTML page for a set of verdicts: no script, no request, nothing outside the file."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from html import escape
from itertools import groupby
from pathlib import Path

from cigpose_runtime.files import appears_whole
from cigpose_verify.report.document import STAGES, Cell, Figure, Report
from cigpose_verify.report.page.plots import crop_picture, divergence_plot, error_strip, vector_plot

STYLE = Path(__file__).with_name("page.css")

POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
"""What a browser may load for the page: nothing that is not in it."""


def write_page(reports: Sequence[Report], path: Path) -> None:
    """Writes the page as a whole or not at all."""
    with appears_whole(path) as file:
        file.write(render_page(reports).encode())


def render_page(reports: Sequence[Report]) -> str:
    """The page on these verdicts, those that failed first."""
    ordered = sorted(reports, key=lambda report: report.passed)
    body = "\n".join(
        [
            *_banner(ordered),
            *(_summary(ordered) if ordered else ()),
            *(_model(report) for report in ordered),
        ]
    )
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>CIGPose parity: {escape(headline(ordered))}</title>"
        f"<style>{STYLE.read_text('utf-8')}</style></head>\n<body>\n{body}\n</body></html>\n"
    )


def headline(reports: Sequence[Report]) -> str:
    """The verdict on the set in one sentence."""
    failed = sum(not report.passed for report in reports)
    if not reports:
        return "no model has been verified"
    if failed:
        return f"{failed} of {_models(len(reports))} failed"
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


def largest_share(report: Report) -> Figure:
    """The largest error / tolerance in the matrix; None where it was not finite."""
    shares = [cell.excess for cell in report.cells]
    return None if None in shares else max((s for s in shares if s is not None), default=None)


def percent(share: Figure) -> str:
    """A share for people."""
    if share is None:
        return "not finite"
    return f"{share:.2%}" if share < 10 else f"{share:,.0f} x"


def _models(count: int) -> str:
    return "1 model" if count == 1 else f"{count} models"


def _banner(reports: Sequence[Report]) -> Iterator[str]:
    failed = [report for report in reports if not report.passed]
    kind, mark = ("banner failed", "✗") if failed else ("banner", "✓")
    sentence = headline(reports)
    yield f'<header class="{kind}"><h1>{mark} {sentence[0].upper() + sentence[1:]}</h1>'
    yield (
        '<p class="soft">Each ONNX file is compared with the PyTorch model that it was exported '
        "from, on the same inputs, under every setting of the matrix below.</p></header>"
    )
    for report in failed:
        stage = report.stage or ""
        yield (
            f'<div class="why"><strong><a href="#{escape(_anchor(report))}">'
            f"{escape(report.model)}</a></strong> "
            f'<span class="bad verdict">✗ fails at {escape(stage)}</span> '
            f'<span class="soft">(expected: {escape(STAGES.get(stage, ""))})</span>'
            f"<div>{escape(first_reason(report))}</div>{_where(report)}</div>"
        )


def _where(report: Report) -> str:
    first = report.divergence.first if report.divergence else None
    if first is None:
        return ""
    return (
        f"<div>First tensor beyond tolerance: <code>{escape(first.tensor)}</code>, made by "
        f"<code>{escape(first.op_type)} {escape(first.node)}</code> in module "
        f"<code>{escape(first.module)}</code>: off by {number(first.error)}, "
        f"may be {number(first.tolerance)}.</div>"
    )


def _summary(reports: Sequence[Report]) -> Iterator[str]:
    headings = (
        "verdict",
        "error / limit",
        "error to float64, PyTorch's = 1 (≤ 4)",
        "intervention agrees",
        "near ties, forced",
        "misread outside near ties",
        "same bins, near ties too",
        "near-tie share on crops",
        "px off: p50 / p99 / max",
        "seconds",
    )
    yield '<h2>Summary</h2><div class="scroll"><table><thead><tr><th>model</th>'
    yield "".join(f"<th>{heading}</th>" for heading in headings) + "</tr></thead><tbody>"
    for report in reports:
        yield f"<tr>{''.join(_summary_cells(report))}</tr>"
    yield "</tbody></table></div>"
    if strip := error_strip(reports):
        yield "<h2>Error against float64</h2>"
        yield (
            '<p class="soft">One mark a case: ● ONNX Runtime at its worst over the matrix, '
            "◇ PyTorch's own float32. The dashed line is the limit, 4 times PyTorch's.</p>"
        )
        yield strip
    yield "<h2>Models</h2>"


def _summary_cells(report: Report) -> Iterator[str]:
    yield (
        f'<td><a href="#{escape(_anchor(report))}">{escape(report.model)}</a> '
        f'<span class="soft figure">{escape(report.sha256[:8])}</span></td>'
    )
    yield f'<td class="verdict">{_verdict(report)}</td>'
    chosen, points, precision = report.intervention, report.keypoints, report.precision
    cells = [percent(largest_share(report)) if report.cells else "-"]
    cells.append(number(precision.ratio) if precision else "-")
    cells.append(f"{chosen.agreeing} of {chosen.choices}" if chosen else "-")
    cells.append(f"{chosen.near_ties}, {chosen.forced}" if chosen else "-")
    cells.append(str(points.misread) if points else "-")
    cells.append(percent(points.argmax_agreement) if points else "-")
    share = points.near_tie_share if points else None
    cells.append(f"{share:.2%}" if share is not None else "-")
    cells.append(" / ".join(map(number, points.input_px)) if points else "-")
    cells.append(f"{report.seconds:.0f}")
    yield from (f"<td>{cell}</td>" for cell in cells)


def _verdict(report: Report) -> str:
    if report.passed:
        return '<span class="good">✓ passed</span>'
    return f'<span class="bad">✗ {escape(report.stage or "failed")}</span>'


def _model(report: Report) -> str:
    parts = [
        f'<details id="{escape(_anchor(report))}"{"" if report.passed else " open"}>'
        f"<summary>{escape(report.model)} {_verdict(report)}</summary>"
    ]
    if report.failures:
        parts.append(_failures(report))
    if report.divergence and report.divergence.tensors:
        parts.append("<h3>Where it leaves PyTorch</h3>" + _where(report))
        parts.append(
            f'<p class="soft">Every tensor of the graph that PyTorch has too, in order, on '
            f"{escape(report.divergence.case)}: error / tolerance.</p>"
        )
        parts.append(divergence_plot(report.divergence))
    if report.worst is not None:
        parts.append(_worst(report))
    if report.cells:
        parts.append(_matrix(report))
        parts.append(_timing(report.cells))
    parts.append(_origin(report))
    return "\n".join([*parts, "</details>"])


def _failures(report: Report) -> str:
    items = "".join(
        f"<li><strong>{escape(f.stage)}</strong> "
        f'<span class="soft">(expected: {escape(STAGES.get(f.stage, ""))})</span><br>'
        f"{escape(f.message)}</li>"
        for f in report.failures
    )
    return f'<div class="why"><strong>What does not hold</strong><ul>{items}</ul></div>'


def _worst(report: Report) -> str:
    worst = report.worst
    assert worst is not None
    first = worst.keypoints[0]
    rows = "".join(
        f"<tr><td>{escape(p.name)}</td><td>{_place(p.torch_xy)}</td><td>{_place(p.onnx_xy)}</td>"
        f"<td>{number(p.torch_score)}</td><td>{number(p.onnx_score)}</td></tr>"
        for p in worst.keypoints[:5]
    )
    return (
        '<h3>The crop with the largest error</h3><div class="pair"><figure>'
        f"{crop_picture(worst)}<figcaption>{escape(worst.case)}, {escape(worst.setting)}: "
        f"max|difference| {number(worst.error)}. ○ solid: PyTorch, &times; dashed: ONNX."
        f"</figcaption></figure><div>"
        f'<p class="soft">SimCC vectors of {escape(first.name)}, where they differ most; solid '
        "with ▽ at its peak: PyTorch, dashed with | at its peak: ONNX.</p>"
        f"{vector_plot(worst, 'x')}{vector_plot(worst, 'y')}"
        '<div class="scroll"><table><thead><tr><th>keypoint</th><th>PyTorch (x, y)</th>'
        "<th>ONNX (x, y)</th><th>score</th><th>score</th></tr></thead>"
        f"<tbody>{rows}</tbody></table></div></div></div>"
    )


def _place(xy: tuple[float, float]) -> str:
    return "not found" if min(xy) < 0 else f"{xy[0]:g}, {xy[1]:g}"


def _matrix(report: Report) -> str:
    batches = sorted({cell.batch for cell in report.cells})
    heads = "".join(f"<th>batch {batch}</th>" for batch in batches)
    rows = []
    for setting, cells in _by_setting(report.cells):
        shares = {cell.batch: cell for cell in cells}
        columns = "".join(
            _share_cell(shares[b]) if b in shares else "<td>did not run</td>" for b in batches
        )
        rows.append(f"<tr><td>{escape(setting)}</td>{columns}</tr>")
    return (
        '<h3>The matrix</h3><div class="scroll"><table class="matrix">'
        f"<caption>Largest error over all {len(report.cases)} cases, as a share of what is allowed"
        "</caption>"
        f"<thead><tr><th>provider, level, threads</th>{heads}</tr></thead>"
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def _share_cell(cell: Cell) -> str:
    share = cell.excess
    over = share is None or share > 1
    kind = "share over" if over else "share"
    style = "" if share is None else f' style="--share:{min(share, 1):.3f}"'
    title = (
        f"max|difference| {number(cell.error)}, cosine {number(cell.cosine)}, to float64 "
        f"{number(cell.error_float64)}, rows against themselves {percent(cell.against_single)}"
    )
    return f'<td class="{kind}"{style} title="{escape(title)}">{percent(share)}</td>'


def _timing(cells: Sequence[Cell]) -> str:
    batches = sorted({cell.batch for cell in cells})
    heads = "".join(f"<th>batch {batch}</th>" for batch in batches)
    rows = []
    for setting, some in _by_setting(cells):
        times = {cell.batch: cell.milliseconds for cell in some}
        columns = "".join(
            f"<td>{times[b]:.1f}</td>" if b in times else "<td>-</td>" for b in batches
        )
        rows.append(f"<tr><td>{escape(setting)}</td>{columns}</tr>")
    return (
        '<h3>Time</h3><div class="scroll"><table class="matrix"><caption>Milliseconds per person, '
        "as measured while verifying</caption>"
        f"<thead><tr><th>provider, level, threads</th>{heads}</tr></thead>"
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def _by_setting(cells: Iterable[Cell]) -> Iterator[tuple[str, list[Cell]]]:
    def setting(cell: Cell) -> str:
        return f"{cell.provider.removesuffix('ExecutionProvider')}, {cell.level}, {cell.threads}"

    for name, group in groupby(cells, key=setting):
        yield name, list(group)


def _origin(report: Report) -> str:
    facts = {
        "file": report.file,
        "sha256": report.sha256,
        "weights": report.weights or "not said",
        **report.origin,
        **report.environment,
    }
    if chosen := report.intervention:
        facts["confound score error"] = (
            f"{number(chosen.score_error)} (limit {number(chosen.score_limit)})"
        )
        facts["error with each keypoint replaced in turn"] = (
            f"{number(chosen.sweep_error)} (limit {number(chosen.sweep_limit)})"
        )
    rows = "".join(
        f'<tr><td>{escape(name)}</td><td class="left figure">{escape(value)}</td></tr>'
        for name, value in facts.items()
    )
    return (
        f'<h3>What was compared</h3><div class="scroll"><table><tbody>{rows}</tbody></table></div>'
    )


def _anchor(report: Report) -> str:
    return f"model-{report.sha256[:16]}"
