"""Runs one engine on one file, and says how its answer compares with the reference's."""

from __future__ import annotations

import json
import os
import signal
import statistics
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray

from benchmarks.engines.runners import OUTPUTS, SECONDS, Images, Job
from cigpose_export.graph.portable import to_portable
from cigpose_runtime import Contract
from cigpose_runtime.errors import last_line
from cigpose_verify.cases import make_cases
from cigpose_verify.measures.tolerances import compare

LEAST_SAME_BINS = 0.25
"""A person with fewer keypoints in the same bins got another answer. Measured on the four files: in
bfloat16 41 to 96 % are the same; with another person's outputs, or those of the next keypoint, 12 %
at most, mirrored none."""

ROUNDS = 3

Outputs = tuple[NDArray[np.float32], ...]


class Verdict(StrEnum):
    """What a user of the engine gets."""

    RIGHT = "right"
    INEXACT = "inexact"
    LATE = "time limit"
    FAILS = "fails"
    WRONG = "silently wrong"


GOOD = (Verdict.RIGHT, Verdict.INEXACT)


@dataclass(frozen=True)
class Answer:
    """What a runner left: the raw outputs, and the median seconds of its runs; or why it failed."""

    outputs: Outputs = ()
    wall_s: float = 0
    cpu_s: float = 0
    failure: str | None = None
    is_late: bool = False


@dataclass(frozen=True)
class Cell:
    """One engine, file and batch. same_bins: the share of keypoints, of the person with the fewest.
    speed: times the reference's, in CPU seconds."""

    verdict: Verdict
    difference: float | None = None
    same_bins: float | None = None
    speed: float | None = None
    failure: str | None = None


def ask(
    command: Sequence[str], model: Path, images: Images, *, limit_s: float, threads: int = 1
) -> Answer:
    """Runs a runner's command, as of `install.command_of`, for at most so many seconds."""
    with tempfile.TemporaryDirectory(prefix="cigpose-engines-") as folder:
        images.tofile(Path(folder) / "images")
        job = Job(
            model=str(model.absolute()),
            images=str(Path(folder) / "images"),
            shape=list(images.shape),
            out=folder,
            threads=threads,
            rounds=ROUNDS,
        )
        (Path(folder) / "job.json").write_text(json.dumps(asdict(job)), "utf-8")
        with _child([*command, str(Path(folder) / "job.json")], threads) as child:
            try:
                _, complaints = child.communicate(timeout=limit_s)
            except subprocess.TimeoutExpired:
                return Answer(failure=f"nothing after {limit_s:.0f} s", is_late=True)
        if child.returncode != 0:
            return Answer(failure=last_line(complaints) if child.returncode > 0 else _died(child))
        outputs = tuple(np.fromfile(Path(folder) / name, np.float32) for name in OUTPUTS)
        walls, cpus = zip(*json.loads((Path(folder) / SECONDS).read_text("utf-8")), strict=True)
        return Answer(outputs, statistics.median(walls), statistics.median(cpus))


@contextmanager
def _child(command: Sequence[str], threads: int) -> Iterator[subprocess.Popen[str]]:
    """A process that ends here with all that it has started."""
    ours = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    environment = {**ours, "ORT_DISABLE_TELEMETRY": "1", "OMP_NUM_THREADS": str(threads)}
    with subprocess.Popen(
        command,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        start_new_session=True,
    ) as child:
        try:
            yield child
        finally:
            if child.poll() is None:
                os.killpg(child.pid, signal.SIGKILL)


def _died(child: subprocess.Popen[str]) -> str:
    return f"its process ends with {signal.Signals(-child.returncode).name}"


def judge(answer: Answer, reference: Answer, contract: Contract) -> Cell:
    """The verdict; an answer of other sizes, or with no numbers in it, is silently wrong, too."""
    if answer.failure is not None:
        verdict = Verdict.LATE if answer.is_late else Verdict.FAILS
        return Cell(verdict, failure=answer.failure)
    speed = reference.cpu_s / answer.cpu_s
    sizes = [output.size for output in answer.outputs]
    expected = [output.size for output in reference.outputs]
    if sizes != expected:
        return Cell(Verdict.WRONG, speed=speed, failure=f"{sizes} values in place of {expected}")
    if not all(np.isfinite(output).all() for output in answer.outputs):
        return Cell(Verdict.WRONG, speed=speed, failure="values that are no numbers")
    agreements = [compare(*pair) for pair in zip(answer.outputs, reference.outputs, strict=True)]
    same = _same_bins(answer.outputs, reference.outputs, contract)
    if all(agreement.holds for agreement in agreements):
        verdict = Verdict.RIGHT
    else:
        verdict = Verdict.INEXACT if same >= LEAST_SAME_BINS else Verdict.WRONG
    return Cell(verdict, max(agreement.error for agreement in agreements), same, speed)


def _same_bins(found: Outputs, expected: Outputs, contract: Contract) -> float:
    """The share of keypoints whose two bins are the same, of the person with the fewest."""
    same = []
    for first, second, side in zip(
        found, expected, (contract.input_w, contract.input_h), strict=True
    ):
        shape = -1, contract.num_keypoints, int(side * contract.split_ratio)
        same.append(first.reshape(shape).argmax(axis=2) == second.reshape(shape).argmax(axis=2))
    return float(np.logical_and(*same).mean(axis=1).min())


def make_images(contract: Contract, people: int) -> Images:
    """So many inputs: crops of photographs, and then noise."""
    cases = sorted(make_cases(contract), key=lambda case: case.kind != "crop")
    return np.stack([case.input for case in cases[:people]])


def make_portable(model: Path, people: int, target: Path) -> None:
    """Writes the portable form of a file, as `cigpose-tools export --target portable` does."""
    onnx.save(to_portable(onnx.load(model), people), target)


def fix_batch(model: Path, people: int, target: Path) -> None:
    """Writes the file with a fixed batch in the place of the free one: shapes alone, no node."""
    graph = onnx.load(model)
    for value in (*graph.graph.input, *graph.graph.output, *graph.graph.value_info):
        for dim in value.type.tensor_type.shape.dim:
            if dim.HasField("dim_param"):
                dim.dim_value = people
    onnx.save(graph, target)
