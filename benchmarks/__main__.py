"""`make bench`: exports beside a straight trace, the runtime beside its peers, verifying."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import click
from rich.console import Console

from benchmarks.cpu_speed import MODELS, measure_cpu, print_cpu_speeds
from benchmarks.export_cost import (
    LEAST_DRAWN_PER_S,
    TRACED,
    Measured,
    measure_drawing,
    measure_export,
    measure_trace,
    measure_verification,
    print_figures,
    print_ratios,
    print_verification,
)
from benchmarks.label_scaling import measure_costs, print_costs
from benchmarks.label_speed import measure_labelling, print_label_speeds
from benchmarks.packed_cost import measure_packed, print_packed
from benchmarks.runtime_speed import measure_speed, print_speeds
from benchmarks.tracking import measure_tracking, print_tracking
from benchmarks.video_speed import measure_video, print_video_speeds
from cigpose_export.checkpoints.synthesize import synthesize
from cigpose_export.errors import UsageError
from cigpose_export.project import Project
from cigpose_export.variants import Variant


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
            ours[variant.name] = measure_export(project, variant, Path(folder))
            if variant.name in TRACED:
                traced[variant.name] = measure_trace(variant, Path(folder))
        speeds = {
            name: measure_speed(
                Path(folder) / f"{name}.onnx",
                Path(folder) / f"{name}.traced.onnx" if name in traced else None,
            )
            for name in ours
        }
        packed = {name: measure_packed(Path(folder) / f"{name}.onnx") for name in ours}
        on_cpu = {
            name: measure_cpu(Path(folder) / f"{name}.onnx") for name in ours if name in MODELS
        }
        videos = {name: measure_video(Path(folder) / f"{name}.onnx") for name in ours}
        labelled = measure_labelling(Path(folder) / f"{variants[0].name}.onnx")
        costs, simulated = measure_costs(Path(folder) / f"{variants[0].name}.onnx")
        verified = measure_verification(project, list(ours), Path(folder))
    print_figures("Export", ours)
    if traced:
        print_figures("Straight trace of the reference head", traced)
        print_ratios(ours, traced)
    print_speeds(speeds)
    print_packed(packed)
    print_cpu_speeds(on_cpu)
    print_video_speeds(videos)
    print_verification(verified)
    print_label_speeds(variants[0].name, labelled)
    print_costs(costs, simulated)
    tracked = measure_tracking()
    print_tracking(tracked)
    drawn = measure_drawing()
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
            "packed": {
                name: {people: asdict(cost) for people, cost in by_people.items()}
                for name, by_people in packed.items()
            },
            "cpu": {name: [asdict(one) for one in sides] for name, sides in on_cpu.items()},
            "videos": {
                name: {side: asdict(speed) for side, speed in sides.items()}
                for name, sides in videos.items()
            },
            "labelling": {
                "model": variants[0].name,
                "pictures_per_second": labelled,
                "costs": [asdict(cost) for cost in costs],
                "million_pictures": [asdict(one) for one in simulated],
            },
            "tracking": {
                kind: {name: asdict(side) for name, side in sides.items()}
                for kind, sides in tracked.items()
            },
            "verify": asdict(verified),
            "drawn_pictures_per_second": drawn,
        }
        json_path.write_text(json.dumps(document, indent=1), "utf-8")


@click.command()
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="Write figures here.")
@click.argument("names", nargs=-1, metavar="[NAME]...")
def bench(names: tuple[str, ...], json_path: Path | None) -> None:
    """Measure exports beside a straight trace, and the runtime beside its peers."""
    project = Project.of_this_clone()
    run_bench(project, project.select(names or project.variants), json_path)


if __name__ == "__main__":
    bench()
