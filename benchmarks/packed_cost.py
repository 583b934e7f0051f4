"""`make bench`, packed files: processor time from frame to keypoints, beside PoseModel.

Both run the same model on the same noise of 1920 x 1080 and the same boxes, with one thread, in
turn.
`python -m benchmarks.packed_cost MODEL.onnx...` prints this table alone.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table

from cigpose_export.cli.console import print_table
from cigpose_export.graph.frame.pack import pack_file
from cigpose_runtime import PoseModel
from cigpose_runtime.estimation.session import open_session

PEOPLE = (1, 8)
ROUNDS = {1: 41, 8: 15}
FRAME_HW = 1080, 1920


@dataclass(frozen=True)
class PackedCost:
    """The least processor time of some frames with so many people, in seconds.

    Other work on the machine adds to all but the least.
    """

    runtime: float
    packed: float

    @property
    def ratio(self) -> float:
        """Of the packed file to the runtime."""
        return self.packed / self.runtime


def measure_packed(path: Path) -> dict[int, PackedCost]:
    """By how many people are in the frame."""
    with tempfile.TemporaryDirectory(prefix="cigpose-bench-") as folder:
        session = open_session(pack_file(path, Path(folder) / "packed.onnx"), threads=1)
    model = PoseModel(path, threads=1)
    rng = np.random.default_rng(0)
    rgb = rng.integers(0, 256, (*FRAME_HW, 3), np.uint8)
    bgr = np.ascontiguousarray(rgb[..., ::-1])
    costs = {}
    for people in PEOPLE:
        low = rng.random((people, 2)) * np.array([1600, 600])
        boxes = np.hstack([low, low + np.array([200, 450])]).astype(np.float32)
        sides: tuple[Callable[[], Any], ...] = (
            partial(model, bgr, boxes),
            partial(session.run, None, {"frame": rgb, "boxes": boxes}),
        )
        times: tuple[list[float], ...] = ([], [])
        for turn in range(ROUNDS[people] + 1):
            for side, some in zip(sides, times, strict=True):
                started = time.process_time()
                side()
                if turn:  # the first warms up
                    some.append(time.process_time() - started)
        costs[people] = PackedCost(*map(min, times))
    return costs


def print_packed(costs: dict[str, dict[int, PackedCost]]) -> None:
    """One row a file and number of people."""
    table = Table("model", "people", title="Packed files, processor time a frame", box=None)
    table.title_justify = "left"
    for heading in ("runtime, ms", "packed, ms", "ratio"):
        table.add_column(heading, justify="right")
    for name, by_people in costs.items():
        for people, cost in by_people.items():
            cells = (f"{cost.runtime * 1000:.1f}", f"{cost.packed * 1000:.1f}", f"{cost.ratio:.3f}")
            table.add_row(name, str(people), *cells)
    print_table(table)


if __name__ == "__main__":
    print_packed({Path(name).stem: measure_packed(Path(name)) for name in sys.argv[1:]})
