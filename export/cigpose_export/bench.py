"""`make bench`: exports beside a straight trace, the runtime beside its peers, verifying."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import cv2
import onnxruntime as ort
from rich.console import Console
from rich.table import Table

from cigpose_export import verification as verify
from cigpose_export.batch import Batch
from cigpose_export.bench_runtime import measure_speed, print_speeds
from cigpose_export.checkpoints.synthesize import synthesize
from cigpose_export.console import byte_size, print_table
from cigpose_export.drawn.scene import draw_scene
from cigpose_export.errors import ExportError, UsageError, last_line
from cigpose_export.variants import Project, Variant

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
class Verification:
    """What verifying all files took, some at once: seconds together and of each by itself.

    excess: the largest error / tolerance of each. ratio: error against float64 / PyTorch's own.
    """

    seconds: float
    jobs: int
    each: dict[str, float]
    excess: dict[str, float]
    ratio: dict[str, float]


def run_bench(project: Project, variants: Sequence[Variant], json_path: Path | None) -> None:
    """Measures, one export at a time, prints tables and optionally writes the figures as JSON.

    Both ways start from the same synthetic checkpoint and use all cores.
    """
    if json_path and not json_path.absolute().parent.is_dir():
        raise UsageError(f"--json {json_path}: expected a folder that exists; create it first")
    ours: dict[str, Measured] = {}
    traced: dict[str, Measured] = {}
    with tempfile.TemporaryDirectory(prefix="cigpose-bench-") as folder:
        for variant in variants:
            if not project.checkpoint_path(variant.name, "synthetic").is_file():
                synthesize(project, variant)
            ours[variant.name] = _measure_export(project, variant, Path(folder))
            if variant.name in TRACED:
                traced[variant.name] = _measure_trace(variant, Path(folder))
        speeds = {
            name: measure_speed(
                Path(folder) / f"{name}.onnx",
                Path(folder) / f"{name}.traced.onnx" if name in traced else None,
            )
            for name in ours
        }
        verified = _measure_verification(project, list(ours), Path(folder))
    _print_figures("Export", ours)
    if traced:
        _print_figures("Straight trace of the reference head", traced)
        _print_ratios(ours, traced)
    print_speeds(speeds)
    _print_verification(verified)
    drawn = _measure_drawing()
    Console().print(
        f"Drawn people: {drawn:.0f} pictures/s on one core, "
        f"{drawn / LEAST_DRAWN_PER_S:.1f} times what training takes at least"
    )
    if json_path:
        document = {
            "schema_version": 1,
            "export": {name: asdict(measured) for name, measured in ours.items()},
            "straight_trace": {name: asdict(measured) for name, measured in traced.items()},
            "runtime": {name: asdict(speed) for name, speed in speeds.items()},
            "verify": asdict(verified),
            "drawn_pictures_per_second": drawn,
        }
        json_path.write_text(json.dumps(document, indent=1), "utf-8")


def _measure_export(project: Project, variant: Variant, folder: Path) -> Measured:
    checkpoint = project.checkpoint_path(variant.name, "synthetic")
    batch = Batch(project, weights="synthetic", checkpoint=checkpoint, out=folder, jobs=1)
    (outcome,) = batch.run([variant])
    if outcome.figures is None:
        raise outcome.error or ExportError(f"{variant.name}: interrupted; run the bench again")
    figures = outcome.figures
    return Measured(
        seconds=figures.seconds,
        peak_memory=figures.peak_memory,
        nodes=figures.nodes,
        size=figures.size,
        load_ms=_load_ms(outcome.path),
    )


def _measure_trace(variant: Variant, folder: Path) -> Measured:
    path = folder / f"{variant.name}.traced.onnx"
    command = [sys.executable, "-m", "cigpose_export.straight_trace", variant.name, str(path)]
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


def _measure_verification(project: Project, names: list[str], folder: Path) -> Verification:
    verification = verify.Verification(project)
    started = time.monotonic()
    outcomes = verification.run([folder / f"{name}.onnx" for name in names])
    seconds = time.monotonic() - started
    for outcome in outcomes:
        if outcome.error:
            raise outcome.error
    reports = {outcome.name: outcome.report for outcome in outcomes if outcome.report}
    return Verification(
        seconds=round(seconds, 1),
        jobs=verification.jobs,
        each={name: report.seconds for name, report in reports.items()},
        excess={
            name: max(cell.excess or 0 for cell in report.cells) for name, report in reports.items()
        },
        ratio={
            name: report.precision.ratio or 0
            for name, report in reports.items()
            if report.precision
        },
    )


def _measure_drawing() -> float:
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


def _print_figures(title: str, measured: dict[str, Measured]) -> None:
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


def _print_verification(verified: Verification) -> None:
    title = (
        f"Verify: {len(verified.each)} models in {verified.seconds:.0f} s, {verified.jobs} at once"
    )
    table = Table("variant", title=title, box=None, header_style="bold", title_justify="left")
    for heading in ("seconds", "error / limit", "error to float64 / PyTorch's"):
        table.add_column(heading, justify="right")
    for name, seconds in verified.each.items():
        cells = verified.excess[name], verified.ratio[name]
        table.add_row(name, f"{seconds:.0f}", *(f"{cell:.2f}" for cell in cells))
    print_table(table)


def _print_ratios(ours: dict[str, Measured], traced: dict[str, Measured]) -> None:
    table = Table("variant", title="Straight trace / export", box=None, header_style="bold")
    table.title_justify = "left"
    fields = ("seconds", "peak_memory", "nodes", "size", "load_ms")
    for heading in ("seconds", "peak memory", "nodes", "size", "session load"):
        table.add_column(heading, justify="right")
    for name, trace in traced.items():
        ratios = (getattr(trace, f) / getattr(ours[name], f) for f in fields)
        table.add_row(name, *(f"{ratio:.2f} x" for ratio in ratios))
    print_table(table)
