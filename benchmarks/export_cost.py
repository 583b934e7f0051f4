"""What an export costs beside a straight trace, and what verifying costs."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import cv2
from rich.table import Table

from cigpose_export.cli.console import byte_size, print_table
from cigpose_export.drawn.scene import draw_scene
from cigpose_export.errors import ExportError
from cigpose_export.jobs.batch import default_jobs
from cigpose_export.jobs.export import export_models
from cigpose_export.jobs.verify import verify_files
from cigpose_export.project import Project
from cigpose_export.variants import Variant
from cigpose_runtime.errors import last_line
from cigpose_runtime.estimation.ort import ort

TRACED = ("cigpose-m_coco-wholebody_256x192", "cigpose-l_coco-wholebody_256x192")
"""The variants that are also traced: one m, one l, with the largest graph."""

LOADS = 5
DRAWN = 300
LEAST_DRAWN_PER_S = 50
"""Drawn pictures per second and core that are enough to train by."""


@dataclass(frozen=True)
class Measured:
    """Figures of one export.

    `seconds` run from the start of a process to the file: for ours with all checks of its outputs,
    for the trace with none. `peak_memory` and `size` are in bytes, `load_ms` is a median.
    """

    seconds: float
    peak_memory: int
    nodes: int
    size: int
    load_ms: float


@dataclass(frozen=True)
class VerifyCost:
    """What verifying all files took, some at once: seconds together and of each by itself.

    excess: the largest error / tolerance of each. ratio: error against float64 / noise floor.
    """

    seconds: float
    jobs: int
    each: dict[str, float]
    excess: dict[str, float]
    ratio: dict[str, float]


def measure_export(project: Project, variant: Variant, folder: Path) -> Measured:
    """One export by itself, all checks included."""
    checkpoint = project.checkpoint_path(variant.name, "synthetic")
    (outcome,) = export_models(
        project, [variant], weights="synthetic", checkpoint=checkpoint, out=folder, jobs=1
    )
    if outcome.result is None:
        raise outcome.error or ExportError(f"{variant.name}: interrupted; run the bench again")
    figures = outcome.result
    return Measured(
        seconds=figures.seconds,
        peak_memory=figures.peak_memory,
        nodes=figures.nodes,
        size=figures.size,
        load_ms=_load_ms(outcome.path),
    )


def measure_trace(variant: Variant, folder: Path) -> Measured:
    """One straight trace by itself."""
    path = folder / f"{variant.name}.traced.onnx"
    script = Path(__file__).with_name("straight_trace.py")
    command = [sys.executable, "-P", str(script), variant.name, str(path)]
    started = time.monotonic()
    child = subprocess.run(command, capture_output=True, text=True, check=False)
    seconds = time.monotonic() - started
    if child.returncode != 0:
        raise ExportError(
            f"{variant.name}: the straight trace failed ({last_line(child.stderr)}); "
            "compare the versions with the lock (make doctor)"
        )
    figures = json.loads(child.stdout.splitlines()[-1])
    return Measured(
        seconds=round(seconds, 2),
        peak_memory=figures["peak_memory"],
        nodes=figures["nodes"],
        size=path.stat().st_size,
        load_ms=_load_ms(path),
    )


def measure_verification(project: Project, names: list[str], folder: Path) -> VerifyCost:
    """Verifies all of them, some at once."""
    started = time.monotonic()
    outcomes = verify_files(project, [folder / f"{name}.onnx" for name in names])
    seconds = time.monotonic() - started
    for outcome in outcomes:
        if outcome.error:
            raise outcome.error
    reports = {outcome.name: outcome.result for outcome in outcomes if outcome.result}
    return VerifyCost(
        seconds=round(seconds, 1),
        jobs=min(default_jobs(), len(names)),
        each={name: report.seconds or 0 for name, report in reports.items()},
        excess={
            name: max(cell.excess or 0 for cell in report.cells) for name, report in reports.items()
        },
        ratio={
            name: report.precision.ratio or 0
            for name, report in reports.items()
            if report.precision
        },
    )


def measure_drawing() -> float:
    """Pictures per second on one core."""
    cv2.setNumThreads(1)
    started = time.perf_counter()
    for seed in range(DRAWN):
        draw_scene(seed)
    return DRAWN / (time.perf_counter() - started)


def _load_ms(path: Path) -> float:
    def load() -> float:
        started = time.perf_counter()
        ort.InferenceSession(path, providers=["CPUExecutionProvider"])
        return (time.perf_counter() - started) * 1000

    return round(statistics.median(load() for _ in range(LOADS)), 1)


def print_figures(title: str, measured: dict[str, Measured]) -> None:
    """One table of figures."""
    table = Table("variant", title=title, box=None, header_style="bold", title_justify="left")
    for heading in ("seconds", "peak memory", "nodes", "size", "session load"):
        table.add_column(heading, justify="right")
    for name, figures in measured.items():
        table.add_row(
            name,
            f"{figures.seconds:.1f}",
            byte_size(figures.peak_memory),
            str(figures.nodes),
            byte_size(figures.size),
            f"{figures.load_ms:.0f} ms",
        )
    print_table(table)


def print_verification(verified: VerifyCost) -> None:
    """The table of what verifying took."""
    title = (
        f"Verify: {len(verified.each)} models in {verified.seconds:.0f} s, {verified.jobs} at once"
    )
    table = Table("variant", title=title, box=None, header_style="bold", title_justify="left")
    for heading in ("seconds", "error / limit", "error to float64 / noise floor"):
        table.add_column(heading, justify="right")
    for name, seconds in verified.each.items():
        cells = verified.excess[name], verified.ratio[name]
        table.add_row(name, f"{seconds:.0f}", *(f"{cell:.2f}" for cell in cells))
    print_table(table)


def print_ratios(ours: dict[str, Measured], traced: dict[str, Measured]) -> None:
    """The trace's figures over the export's."""
    table = Table("variant", title="Straight trace / export", box=None, header_style="bold")
    table.title_justify = "left"
    fields = ("seconds", "peak_memory", "nodes", "size", "load_ms")
    for heading in ("seconds", "peak memory", "nodes", "size", "session load"):
        table.add_column(heading, justify="right")
    for name, trace in traced.items():
        ratios = (getattr(trace, f) / getattr(ours[name], f) for f in fields)
        table.add_row(name, *(f"{ratio:.2f} x" for ratio in ratios))
    print_table(table)
