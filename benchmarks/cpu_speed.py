"""`make bench`, the model alone on CPUs: ours, the published client's way, OpenVINO, and int8.

Each side is a process of its own that loads the file once; the sides take turns. Preprocessing and
decoding are left out: benchmarks/runtime_speed.py has them.

- ours: all people in one batch, in onnxruntime;
- one by one: the same file, person after person, as cigpose-onnx 1.0.1 runs it;
- OpenVINO, with float32 asked for and as it comes, in a Python of its own (`make engines`);
- int8: NAME_int8.onnx, where that lies beside the file.

Sides that do not give our outputs are marked as inexact, with how many keypoints are in the same
bins, of the person with the fewest.
`python -m benchmarks.cpu_speed MODEL.onnx...` prints this table alone.
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.table import Table

from benchmarks.engines.install import command_of
from benchmarks.engines.measure import Answer, Verdict, ask, judge, make_images
from benchmarks.engines.runners import Images
from benchmarks.engines.table import ENGINES, REFERENCE
from cigpose_export.cli.console import print_table
from cigpose_export.errors import ExportError
from cigpose_export.project import Project
from cigpose_runtime import read_contract
from cigpose_runtime.errors import InstallError
from cigpose_runtime.terminal import echo

MODELS = (
    "cigpose-m_coco-wholebody_256x192",
    "cigpose-l_coco-wholebody_256x192",
    "cigpose-x_coco-wholebody_384x288",
)
"""One of each size; all 14 would take an hour."""

THREADS = (1, 2)
PEOPLE = (1, 8)
TURNS = 3
LIMIT_S = 600.0


@dataclass(frozen=True)
class CpuSpeed:
    """One side of one file. ratio: our CPU seconds over its own. same_bins: None if it is exact."""

    threads: int
    people: int
    side: str
    people_per_second: float
    ratio: float
    same_bins: float | None


def measure_cpu(model: Path) -> list[CpuSpeed]:
    """All sides with each number of threads and people; ours comes first."""
    contract = read_contract(model)
    images = make_images(contract, max(PEOPLE))
    sides = _sides(model)
    measured = []
    for threads in THREADS:
        for people in PEOPLE:
            answers: dict[str, list[Answer]] = {side: [] for side in sides}
            for _ in range(TURNS):
                for side, (command, path) in sides.items():
                    answers[side].append(_ask(command, path, images[:people], threads))
            ours = next(iter(answers.values()))
            for side, some in answers.items():
                cell = judge(some[0], ours[0], contract)
                measured.append(
                    CpuSpeed(
                        threads,
                        people,
                        side,
                        round(people / statistics.median(answer.wall_s for answer in some), 2),
                        round(_cpu_s(ours) / _cpu_s(some), 3),
                        None if cell.verdict == Verdict.RIGHT else cell.same_bins,
                    )
                )
    return measured


def print_cpu_speeds(measured: Mapping[str, Sequence[CpuSpeed]]) -> None:
    """One row a model, side, and number of threads."""
    title = "The model alone: people per second (times as fast as ours in CPU seconds)"
    table = Table("model", "side", "threads", title=title, box=None, header_style="bold")
    table.title_justify = "left"
    for people in PEOPLE:
        table.add_column(f"{people} at once", justify="right")
    table.add_column("same bins, worst person", justify="right")
    for model, speeds in measured.items():
        rows: dict[tuple[int, str], list[CpuSpeed]] = {}
        for one in speeds:
            rows.setdefault((one.threads, one.side), []).append(one)
        for (threads, side), some in rows.items():
            same = [one.same_bins for one in some if one.same_bins is not None]
            table.add_row(
                model,
                side,
                str(threads),
                *(f"{one.people_per_second:.1f} ({one.ratio:.2f})" for one in some),
                f"inexact, {min(same):.1%}" if same else "exact",
            )
    print_table(table)


def _sides(model: Path) -> dict[str, tuple[list[str], Path]]:
    """What runs each, and its file."""
    folder = Project.of_this_clone().root / "build" / "engines"
    ours = command_of(REFERENCE, folder)
    sides = {"ours": (ours, model), "one by one": ([*ours[:-1], "one_by_one"], model)}
    for engine in ENGINES:
        if engine.package == "openvino":
            try:
                sides[engine.title] = command_of(engine, folder), model
            except InstallError as error:
                echo(f"{engine.title} is left out: {error}", err=True)
    quantised = model.with_name(f"{model.stem}_int8.onnx")
    if quantised.is_file():
        sides["int8"] = ours, quantised
    return sides


def _ask(command: Sequence[str], model: Path, images: Images, threads: int) -> Answer:
    answer = ask(command, model, images, limit_s=LIMIT_S, threads=threads)
    if answer.failure is not None:
        raise ExportError(
            f"{model.name}: expected {command[-1]} to run, found: {answer.failure}; run make doctor"
        )
    return answer


def _cpu_s(answers: Sequence[Answer]) -> float:
    return statistics.median(answer.cpu_s for answer in answers)


if __name__ == "__main__":
    print_cpu_speeds({Path(name).stem: measure_cpu(Path(name)) for name in sys.argv[1:]})
