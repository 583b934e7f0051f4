"""What has been measured, a file for each engine, so that one can be measured again."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.engines.measure import GOOD, Cell, Verdict


@dataclass(frozen=True)
class Row:
    """One engine and file, in one form; a cell for each number of people."""

    model: str
    form: str
    cells: Mapping[int, Cell]

    @property
    def is_good(self) -> bool:
        """Whether all batches can be used."""
        return all(cell.verdict in GOOD for cell in self.cells.values())


@dataclass(frozen=True)
class Result:
    """The rows of an engine, or why it could not be installed."""

    rows: Sequence[Row] = ()
    absent: str | None = None


def write_result(folder: Path, title: str, result: Result) -> None:
    """Keeps it under the engine's title."""
    _path(folder, title).write_text(json.dumps(asdict(result), indent=1), "utf-8")


def read_results(folder: Path, titles: Sequence[str]) -> dict[str, Result]:
    """Those that have been kept, in the order of the titles."""
    found = {title: _path(folder, title) for title in titles}
    return {
        title: _result(json.loads(path.read_text("utf-8")))
        for title, path in found.items()
        if path.is_file()
    }


def _path(folder: Path, title: str) -> Path:
    return folder / f"{title}.json"


def _result(kept: dict[str, Any]) -> Result:
    rows = [
        Row(row["model"], row["form"], {int(n): _cell(cell) for n, cell in row["cells"].items()})
        for row in kept["rows"]
    ]
    return Result(rows, kept["absent"])


def _cell(kept: dict[str, Any]) -> Cell:
    return Cell(**{**kept, "verdict": Verdict(kept["verdict"])})
