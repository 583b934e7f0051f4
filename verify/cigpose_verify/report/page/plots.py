"""The drawings of the HTML page, as inline SVG; its style sheet colours them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from markupsafe import Markup, escape

from cigpose_verify.report.document import Divergence, Figure, Report, Worst

WIDTH = 1100
LABEL = 300
ROW = 24


def error_strip(reports: Sequence[Report]) -> Markup:
    """One row a model, three marks a case: error against float64, noise floor and limit."""
    rows = [report for report in reports if report.precision and report.cells]
    values = [
        value
        for report in rows
        for case in report.cases
        for value in (case.error_float64, case.floor_float64, case.limit_float64)
        if value and value > 0
    ]
    if not values:
        return Markup()
    low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
    high = max(high, low + 1)

    def x(value: float) -> float:
        share = (math.log10(max(value, 10**low)) - low) / (high - low)
        return LABEL + share * (WIDTH - LABEL - 20)

    bottom = len(rows) * ROW + 14
    parts = []
    for power in range(low, high + 1):
        at = x(10.0**power)
        parts.append(f'<line class="axis" x1="{at:.1f}" x2="{at:.1f}" y1="8" y2="{bottom}"/>')
        parts.append(f'<text class="tick" x="{at - 12:.1f}" y="{bottom + 16}">1e{power}</text>')
    for index, report in enumerate(rows):
        y = 20 + index * ROW
        parts.append(f'<text x="0" y="{y + 4}">{escape(report.model)}</text>')
        for case in report.cases:
            name, limit = escape(case.name), case.limit_float64 or 0
            at = x(limit)
            parts.append(
                f'<line class="limit" x1="{at:.1f}" x2="{at:.1f}" y1="{y - 9}" y2="{y + 9}"/>'
            )
            parts.append(_diamond(x(case.floor_float64 or 0), y + 4, name))
            if case.error_float64 is None:
                parts.append(f'<text class="bad" x="{WIDTH - 70}" y="{y + 4}">not finite</text>')
            else:
                kind = "dot-onnx" if case.error_float64 <= limit else "dot-bad"
                parts.append(
                    f'<circle class="{kind}" opacity="0.75" r="3.5" '
                    f'cx="{x(case.error_float64):.1f}" cy="{y - 4}"><title>{name}: '
                    f"{case.error_float64:.1e}</title></circle>"
                )
    label = "Errors against float64 of each case, one row a model"
    return _svg(WIDTH, bottom + 24, label, parts)


def _diamond(x: float, y: float, title: str) -> str:
    points = f"{x:.1f},{y - 4} {x + 4:.1f},{y} {x:.1f},{y + 4} {x - 4:.1f},{y}"
    return f'<polygon class="torch" points="{points}"><title>floor, {title}</title></polygon>'


def crop_picture(worst: Worst) -> Markup:
    """The crop with PyTorch's keypoints as circles and ours as crosses; the worst five named."""
    w, h = worst.input_wh
    unit = w / 192
    places = {p.keypoint: p for p in worst.keypoints}
    parts = [f'<image href="{escape(worst.picture)}" width="{w}" height="{h}"/>']
    for a, b in worst.skeleton:
        for kind, dash in (("torch", ""), ("onnx", f' stroke-dasharray="{2 * unit} {2 * unit}"')):
            ends = [getattr(places[k], f"{kind}_xy") for k in (a, b) if k in places]
            if len(ends) == 2 and all(min(end) >= 0 for end in ends):
                (x1, y1), (x2, y2) = ends
                parts.append(
                    f'<line class="{kind}" opacity="0.55" stroke-width="{unit:.2f}"{dash} '
                    f'x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}"/>'
                )
    for rank, p in enumerate(worst.keypoints):
        size = (3.2 if rank < 5 else 1.4) * unit
        stroke = f'stroke-width="{(1.4 if rank < 5 else 0.7) * unit:.2f}"'
        (tx, ty), (ox, oy) = p.torch_xy, p.onnx_xy
        title = f"<title>{escape(p.name)}</title>"
        parts.append(
            f'<circle class="torch" {stroke} r="{size:.2f}" cx="{tx}" cy="{ty}">{title}</circle>'
        )
        parts.append(
            f'<path class="onnx" {stroke} d="M{ox - size:.1f} {oy - size:.1f}l{2 * size:.1f} '
            f'{2 * size:.1f}m0 {-2 * size:.1f}l{-2 * size:.1f} {2 * size:.1f}">{title}</path>'
        )
    for p in worst.keypoints[:1]:
        x, y = min(max(p.torch_xy[0], 4), w * 0.55), min(max(p.torch_xy[1] - 6 * unit, 12), h - 4)
        style = f"font-size:{9 * unit:.0f}px"
        parts.append(f'<text style="{style}" x="{x:.1f}" y="{y:.1f}">{escape(p.name)}</text>')
    label = f"Keypoints of PyTorch and of the ONNX file on {worst.case}"
    return _svg(w, h, label, parts, extra=' class="crop"')


def vector_plot(worst: Worst, axis: str) -> Markup:
    """The SimCC vectors along one axis of the worst keypoint: PyTorch's and ours, with peaks."""
    pairs = [(kind, worst.vectors[f"{kind}_{axis}"]) for kind in ("torch", "onnx")]
    finite = [v for _, vector in pairs for v in vector if v is not None]
    if not finite:
        return Markup()
    low, high = min(finite), max(finite)
    width, height = 640, 110
    count = len(pairs[0][1])

    def point(index: int, value: float) -> tuple[float, float]:
        rise = (value - low) / ((high - low) or 1)
        return index / max(count - 1, 1) * width, 12 + (1 - rise) * (height - 12)

    parts = [f'<line class="axis" x1="0" x2="{width}" y1="{height + 2}" y2="{height + 2}"/>']
    for kind, vector in pairs:
        dash = "" if kind == "torch" else ' stroke-dasharray="5 4"'
        points = " ".join(
            "{:.1f},{:.1f}".format(*point(i, v)) for i, v in enumerate(vector) if v is not None
        )
        stroke = 1.2 if kind == "torch" else 1.6
        parts.append(f'<polyline class="{kind}" stroke-width="{stroke}"{dash} points="{points}"/>')
        peak = (
            max((v, -i) for i, v in enumerate(vector) if v is not None)
            if any(v is not None for v in vector)
            else None
        )
        if peak:
            x, y = point(-peak[1], peak[0])
            mark = "M{0:.1f} {1:.1f}l-4 -7h8z" if kind == "torch" else "M{0:.1f} {1:.1f}v-11"
            parts.append(f'<path class="{kind}" stroke-width="1.6" d="{mark.format(x, y)}"/>')
    pixels = count / worst.split_ratio
    parts.append(f'<text class="tick" x="0" y="{height + 16}">{axis} = 0</text>')
    parts.append(f'<text class="tick" x="{width - 40}" y="{height + 16}">{pixels:g} px</text>')
    label = f"SimCC vector along {axis} of {worst.keypoints[0].name}"
    return _svg(width, height + 22, label, parts)


def divergence_plot(divergence: Divergence) -> Markup:
    """Error / tolerance of each compared tensor, in graph order, on a log axis."""
    shares = [_share(t.error, t.tolerance) for t in divergence.tensors]
    if not shares:
        return Markup()
    low, high = -6.0, float(math.ceil(math.log10(max(10.0, *shares))))
    height = 130

    def y(share: float) -> float:
        power = min(max(math.log10(max(share, 1e-12)), low), high)
        return 6 + (high - power) / (high - low) * (height - 12)

    step = (WIDTH - 60) / max(len(shares) - 1, 1)
    parts = list(_log_grid(low, high, y))
    for index, (tensor, share) in enumerate(zip(divergence.tensors, shares, strict=True)):
        kind = "dot-bad" if share > 1 else "dot-onnx"
        radius = 5.5 if tensor == divergence.first else 2.2
        parts.append(
            f'<circle class="{kind}" r="{radius}" cx="{50 + index * step:.1f}" cy="{y(share):.1f}">'
            f"<title>{escape(tensor.tensor)}, {escape(tensor.module)}</title></circle>"
        )
    return _svg(WIDTH, height + 6, "Error over tolerance of each tensor in graph order", parts)


def _log_grid(low: float, high: float, y: object) -> Iterator[str]:
    assert callable(y)
    for power in range(int(low), int(high) + 1, 2):
        at = y(10.0**power)
        kind = "limit" if power == 0 else "axis"
        name = "limit" if power == 0 else f"1e{power}"
        yield f'<line class="{kind}" x1="46" x2="{WIDTH}" y1="{at:.1f}" y2="{at:.1f}"/>'
        yield f'<text class="tick" x="0" y="{at + 4:.1f}">{name}</text>'


def _share(error: Figure, tolerance: float) -> float:
    if error is None:
        return 1e9
    return min(error / tolerance, 1e9) if tolerance else (0.0 if error == 0 else 1e9)


def _svg(width: float, height: float, label: str, parts: Sequence[str], extra: str = "") -> Markup:
    """parts: all that is text in them is escaped, all else is a number or a word of ours."""
    return Markup(
        f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{escape(label)}"{extra}>'
        f"{''.join(parts)}</svg>"
    )
