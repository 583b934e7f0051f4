"""Draws docs/architecture.svg: the rooms of the three packages and the imports between them.

Run by `make docs`. A column is a package. A room stands in the lowest row that lies above all rooms
it imports. An arrow is an import; where a longer way of arrows says the same, it is left out. Pips
say that a room imports another package, too.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise
from pathlib import Path

from rooms import FOLDERS, ORDER, imports, modules, rooms_imported

TARGET = Path(__file__).with_name("architecture.svg")

HEIGHT = 860
MARGIN, GAP = 14, 16
TOP, BOTTOM = 112, 46
"""Space in a column above the middle of its first row of rooms, and below that of its last."""

ROOM_H, ROOM_GAP, LANE = 38, 12, 6
"""Height of a room, space between rooms, and the width of a lane for arrows that pass a row."""

SIDE = 18
"""Space beside the widest row of a column."""

LETTER = 9.0
"""Width of a letter of the rooms' names: 15 px of any monospaced font."""

TITLES = {
    "cigpose_export": ("export", "makes artefacts"),
    "cigpose_verify": ("verify", "judges artefacts"),
    "cigpose_runtime": ("runtime", "runs artefacts"),
}

STYLE = """
svg { font-family: ui-sans-serif, system-ui, "Segoe UI", Helvetica, Arial, sans-serif; }
.paper { fill: #ffffff; }
.title { font-size: 22px; font-weight: 650; }
.subtitle, .legend { font-size: 15px; fill: #57606a; }
.room text { font: 15px ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono",
  monospace; fill: #1f2328; text-anchor: middle; }
.room rect { fill: #ffffff; stroke-width: 1.4; }
.column { fill-opacity: 0.06; }
.arrow { fill: none; stroke-width: 1.4; stroke-opacity: 0.62; }
.export { --ink: #0969da; } .verify { --ink: #8250df; } .runtime { --ink: #1a7f37; }
.export, .verify, .runtime { stroke: none; }
.column, .title, .pip, .head { fill: var(--ink); }
.room rect, .arrow { stroke: var(--ink); }
@media (prefers-color-scheme: dark) {
  .paper { fill: #0d1117; }
  .subtitle, .legend { fill: #9198a1; }
  .room text { fill: #e6edf3; }
  .room rect { fill: #151b23; }
  .column { fill-opacity: 0.11; }
  .export { --ink: #58a6ff; } .verify { --ink: #bc8cff; } .runtime { --ink: #3fb950; }
}
"""

Arrows = Mapping[str, frozenset[str]]
"""For each room of a package, the rooms of the same package that it imports."""


@dataclass
class Place:
    """A room, or a lane in which an arrow passes a row. row: 0 at the bottom. x: of its middle."""

    name: str
    row: int
    width: float
    x: float = 0.0


@dataclass(frozen=True)
class Layout:
    """Where a package's rooms are. ways: for each arrow the places that it goes through."""

    rows: Sequence[list[Place]]
    ways: Sequence[Sequence[Place]]

    @property
    def width(self) -> float:
        """What the widest row takes."""
        return max(sum(p.width + ROOM_GAP for p in row) - ROOM_GAP for row in self.rows) + 2 * SIDE


def draw() -> str:
    """The picture as SVG."""
    found = modules()
    imported = rooms_imported(found, imports(found))
    columns, left = [], float(MARGIN)
    for package in FOLDERS:
        arrows = _arrows(package, imported)
        layout = _layout(arrows)
        _arrange(layout, left)
        others = {room: {o for o, _ in imported[package, room]} - {package} for room in arrows}
        columns.append(_column(package, layout, left, others))
        left += layout.width + GAP
    width = left - GAP + MARGIN
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {HEIGHT}" '
            'role="img">',
            "<title>The rooms of cigpose-toolchain and the imports between them</title>",
            f"<style>{STYLE}</style>",
            f'<rect class="paper" width="{width:.0f}" height="{HEIGHT}"/>',
            *columns,
            _legend(),
            "</svg>\n",
        ]
    )


def _arrows(package: str, imported: Mapping[tuple[str, str], set[tuple[str, str]]]) -> Arrows:
    """Those between the rooms of a package; a room with none is left out."""
    arrows = {
        room: frozenset(other for owner, other in imported[package, room] if owner == package)
        for room in ORDER[package]
    }
    used = frozenset[str]().union(*arrows.values())
    return {room: targets for room, targets in arrows.items() if targets or room in used}


def reduced(arrows: Arrows) -> dict[str, frozenset[str]]:
    """Without the arrows that a longer way says, too (the transitive reduction)."""
    below: dict[str, frozenset[str]] = {}

    def reachable(room: str) -> frozenset[str]:
        if room not in below:
            below[room] = arrows[room].union(*(reachable(target) for target in arrows[room]))
        return below[room]

    return {
        room: frozenset(
            target
            for target in targets
            if not any(target in reachable(other) for other in targets - {target})
        )
        for room, targets in arrows.items()
    }


def rows_of(arrows: Arrows) -> dict[str, int]:
    """The row of each room, 0 at the bottom: one above the highest that it imports."""
    rows: dict[str, int] = {}

    def row(room: str) -> int:
        if room not in rows:
            rows[room] = 1 + max((row(target) for target in arrows[room]), default=-1)
        return rows[room]

    for room in arrows:
        row(room)
    return rows


def _layout(arrows: Arrows) -> Layout:
    """Rooms in their rows, and lanes for the arrows that pass rows."""
    heights = rows_of(arrows)
    rows: list[list[Place]] = [[] for _ in range(max(heights.values()) + 1)]
    rooms = {room: Place(room, row, LETTER * len(room) + 18) for room, row in heights.items()}
    for place in rooms.values():
        rows[place.row].append(place)
    ways = []
    for room, targets in reduced(arrows).items():
        for target in sorted(targets):
            passed = range(heights[room] - 1, heights[target], -1)
            lanes = [Place(f"{room} to {target}", row, LANE) for row in passed]
            for lane in lanes:
                rows[lane.row].append(lane)
            ways.append([rooms[room], *lanes, rooms[target]])
    return Layout(rows, ways)


def _arrange(layout: Layout, left: float) -> None:
    """Sorts the rows and sets every x so that arrows are short and cross little.

    The layered drawing of Sugiyama, Tagawa and Toda (1981), with places at the mean of their
    neighbours.
    """
    above: dict[int, list[Place]] = defaultdict(list)
    below: dict[int, list[Place]] = defaultdict(list)
    for way in layout.ways:
        for upper, lower in pairwise(way):
            below[id(upper)].append(lower)
            above[id(lower)].append(upper)

    def mean(place: Place, *sides: Mapping[int, list[Place]]) -> float:
        near = [p.x for side in sides for p in side.get(id(place), [])]
        return sum(near) / len(near) if near else place.x

    def settle(row: list[Place], *sides: Mapping[int, list[Place]]) -> None:
        _spread(row, [mean(place, *sides) for place in row], left, layout.width)

    for row in layout.rows:
        for place in row:
            place.x = left + layout.width / 2
        settle(row)
    for sweep in range(60):  # down and up in turn, by the row that was just settled
        side, down = (above, True) if sweep % 2 == 0 else (below, False)
        for row in reversed(layout.rows) if down else layout.rows:
            by_mean = sorted((mean(p, side), p.name, n) for n, p in enumerate(row))
            row[:] = [row[n] for _, _, n in by_mean]
            settle(row, side)
    for _ in range(30):  # the order stays, and both sides pull
        for row in layout.rows:
            settle(row, above, below)


def _spread(row: Sequence[Place], wanted: Sequence[float], left: float, width: float) -> None:
    """Puts a row's places near where each is wanted, in order, none over another.

    Neighbours that would overlap form a block, which starts where its members want it on the mean.
    """
    blocks: list[list[tuple[Place, float]]] = []

    def size(block: Sequence[tuple[Place, float]]) -> float:
        return sum(place.width + ROOM_GAP for place, _ in block)

    def start(block: Sequence[tuple[Place, float]]) -> float:
        offset, total = 0.0, 0.0
        for place, x in block:
            total += x - place.width / 2 - offset
            offset += place.width + ROOM_GAP
        last = left + width - SIDE - (offset - ROOM_GAP)
        return max(left + SIDE, min(total / len(block), last))

    for one in zip(row, wanted, strict=True):
        blocks.append([one])
        while len(blocks) > 1 and start(blocks[-2]) + size(blocks[-2]) > start(blocks[-1]):
            last = blocks.pop()
            blocks[-1] += last
    for block in blocks:
        x = start(block)
        for place, _ in block:
            place.x = x + place.width / 2
            x += place.width + ROOM_GAP


def _column(package: str, layout: Layout, left: float, others: Mapping[str, set[str]]) -> str:
    """A package. others: for each room, the other packages that it imports."""
    name, does = TITLES[package]
    height = HEIGHT - 2 * MARGIN - 40
    step = (height - TOP - BOTTOM) / (len(layout.rows) - 1)

    def y(place: Place) -> float:
        return MARGIN + height - BOTTOM - place.row * step

    return "\n".join(
        [
            f'<g class="{name}">',
            f'<marker id="{name}-head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" '
            'markerHeight="7" orient="auto"><path class="head" d="M0 .6 7.4 4 0 7.4z"/></marker>',
            f'<rect class="column" x="{left:.1f}" y="{MARGIN}" width="{layout.width:.1f}" '
            f'height="{height}" rx="14"/>',
            f'<text class="title" x="{left + 20:.1f}" y="{MARGIN + 37}">{name}</text>',
            f'<text class="subtitle" x="{left + 20:.1f}" y="{MARGIN + 59}">{does}</text>',
            *(_way(way, y, name) for way in layout.ways),
            *(
                _room(place, y(place), others[place.name])
                for row in reversed(layout.rows)
                for place in row
                if place.name in others
            ),
            "</g>",
        ]
    )


def _way(stops: Sequence[Place], y: Callable[[Place], float], name: str) -> str:
    path = f"M{stops[0].x:.1f} {y(stops[0]) + ROOM_H / 2:.1f}"
    for upper, lower in pairwise(stops):
        top = y(upper) + (ROOM_H / 2 if upper is stops[0] else 0)
        bottom = y(lower) - (ROOM_H / 2 + 2 if lower is stops[-1] else 0)
        middle = (top + bottom) / 2
        path += (
            f" C{upper.x:.1f} {middle:.1f} {lower.x:.1f} {middle:.1f} {lower.x:.1f} {bottom:.1f}"
        )
    return f'<path class="arrow" d="{path}" marker-end="url(#{name}-head)"/>'


def _room(place: Place, y: float, others: Iterable[str]) -> str:
    x = place.x - place.width / 2
    pips = "".join(
        f'<circle class="pip {TITLES[package][0]}" cx="{x + place.width - 9 - 11 * number:.1f}" '
        f'cy="{y - ROOM_H / 2:.1f}" r="4.5"/>'
        for number, package in enumerate(sorted(others, key=list(FOLDERS).index, reverse=True))
    )
    return (
        f'<g class="room"><rect x="{x:.1f}" y="{y - ROOM_H / 2:.1f}" width="{place.width:.1f}" '
        f'height="{ROOM_H}" rx="8"/><text x="{place.x:.1f}" y="{y + 5:.1f}">'
        f"{escape(place.name)}</text>{pips}</g>"
    )


def _legend() -> str:
    y = HEIGHT - 26
    return (
        f'<circle class="pip verify" cx="{MARGIN + 26}" cy="{y - 5}" r="4.5"/>'
        f'<text class="legend" x="{MARGIN + 38}" y="{y}">also imports verify</text>'
        f'<circle class="pip runtime" cx="{MARGIN + 206}" cy="{y - 5}" r="4.5"/>'
        f'<text class="legend" x="{MARGIN + 218}" y="{y}">also imports the runtime</text>'
        f'<text class="legend" x="{MARGIN + 440}" y="{y}">an arrow points to what is imported; '
        "one that a longer way implies is not drawn</text>"
    )


if __name__ == "__main__":
    TARGET.write_text(draw(), "utf-8")
