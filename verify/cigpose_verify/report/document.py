"""The verdict on one file as data, and as versioned JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from cigpose_runtime.errors import FileError
from cigpose_runtime.files import appears_whole, read_bytes
from cigpose_verify.measures.stage_texts import STAGES
from cigpose_verify.report.typed import typed

SCHEMA_VERSION = 3
PICTURE = "data:image/jpeg;base64,"
VECTORS = {"torch_x", "onnx_x", "torch_y", "onnx_y"}

Figure = float | None
"""A measured number; None where it was NaN or infinite, which JSON cannot say."""


@dataclass(frozen=True)
class Failure:
    """One thing that does not hold."""

    stage: str
    message: str


@dataclass(frozen=True)
class CaseResult:
    """The largest figures of one case over the whole matrix, beside its noise floor.

    gap: by how much the intervention's choice leads in confound score. floor_float64: the largest
    error against float64 of several float32 evaluations by PyTorch; limit_float64: what follows
    from it for error_float64; condition: the floor as a share of the outputs.
    """

    name: str
    kind: str
    sha256: str
    source: str | None
    box_xyxy: tuple[float, ...] | None
    gap: Figure
    error: Figure
    tolerance: Figure
    error_float64: Figure
    floor_float64: Figure
    limit_float64: Figure
    condition: Figure


@dataclass(frozen=True)
class Cell:
    """All cases under one setting and batch.

    excess: the largest error / tolerance. against_single: the largest difference of a row from the
    same row run by itself. milliseconds: per person, None in a report `without_times`.
    """

    provider: str
    level: str
    threads: int
    batch: int
    rows: int
    error: Figure
    excess: Figure
    cosine: Figure
    error_float64: Figure
    against_single: Figure
    milliseconds: Figure


@dataclass(frozen=True)
class Precision:
    """Of the case that takes most of what the gate allows: error against float64, floor, limit.

    ratio: error / floor. condition: the worst of all cases, see CaseResult.
    """

    case: str
    error_float64: Figure
    floor_float64: Figure
    limit: Figure
    ratio: Figure
    condition: Figure


@dataclass(frozen=True)
class InterventionResult:
    """The choice inside the graph, over all cases and optimisation levels.

    score_error: max|confound score - float64's|, with its limit. agreeing of `choices` were the
    reference's own; `near_ties` cases had a gap within twice the score error; `forced` outputs of
    the matrix followed another choice rightly and were compared with PyTorch forced to it.
    sweep_error: with each keypoint forced in turn, error against float64, with its limit.
    """

    score_error: Figure
    score_limit: Figure
    choices: int
    agreeing: int
    near_ties: int
    forced: int
    sweep_error: Figure
    sweep_limit: Figure


@dataclass(frozen=True)
class KeypointResult:
    """In the units that people read, over the whole matrix.

    Distances are [p50, p99, max] between PyTorch's keypoint and ours: in pixels of the input over
    all cases, in pixels of the photograph over the crops. near_tie_share: of the confident
    keypoints on crops, how many have a rival within the error that was measured on their case.
    misread: keypoints that differ though the reference leads by more than twice the limit of the
    precision gate on their case, of which epsilon is the largest.
    """

    compared: int
    argmax_agreement: float
    misread: int
    epsilon: Figure
    confident: int
    near_tie_share: Figure
    input_px: tuple[Figure, ...]
    frame_px: tuple[Figure, ...]
    score_error: tuple[Figure, ...]


@dataclass(frozen=True)
class Pictured:
    """One keypoint of the worst crop, in pixels of the input: PyTorch's and ours."""

    keypoint: int
    name: str
    torch_xy: tuple[float, float]
    onnx_xy: tuple[float, float]
    torch_score: Figure
    onnx_score: Figure


@dataclass(frozen=True)
class Worst:
    """The crop with the largest error, all its keypoints, and the vectors of the worst one.

    picture: a data URI of the crop. keypoints: worst first. vectors: `torch_x`, `onnx_x`,
    `torch_y`, `onnx_y` of the first keypoint.
    """

    case: str
    setting: str
    error: Figure
    picture: str
    input_wh: tuple[int, int]
    split_ratio: float
    skeleton: tuple[tuple[int, int], ...]
    keypoints: tuple[Pictured, ...]
    vectors: Mapping[str, tuple[Figure, ...]]


@dataclass(frozen=True)
class TensorError:
    """One intermediate tensor beside PyTorch's: who makes it, how far off it is."""

    tensor: str
    node: str
    op_type: str
    module: str
    error: Figure
    tolerance: float


@dataclass(frozen=True)
class Divergence:
    """Where the graph leaves PyTorch: all compared tensors of one case in graph order.

    first: the first that is out of tolerance; None where each is within it.
    """

    case: str
    first: TensorError | None
    tensors: tuple[TensorError, ...]


@dataclass(frozen=True, kw_only=True)
class Report:
    """The verdict on one file and all that it rests on; `summary.report_on` makes it.

    key: a hash of what the verdict follows from besides the file. not_applicable: the stages that
    ask for something that the model's head does not have. What was not reached is None.
    foreign: somebody else exported the file; only what it computes and says counts. notes: what is
    worth knowing and fails nothing, as what such a file does not say.
    """

    key: str
    file: str
    sha256: str
    size: int
    model: str
    weights: str | None
    verdict: str
    failures: tuple[Failure, ...]
    origin: Mapping[str, str]
    environment: Mapping[str, str]
    cases: tuple[CaseResult, ...] = ()
    cells: tuple[Cell, ...] = ()
    precision: Precision | None = None
    intervention: InterventionResult | None = None
    keypoints: KeypointResult | None = None
    worst: Worst | None = None
    divergence: Divergence | None = None
    not_applicable: tuple[str, ...] = ()
    foreign: bool = False
    notes: tuple[str, ...] = ()
    seconds: Figure
    schema_version: int = SCHEMA_VERSION

    @property
    def passed(self) -> bool:
        """Whether nothing failed."""
        return self.verdict == "passed"

    @property
    def stage(self) -> str | None:
        """The first stage that failed."""
        failed = {failure.stage for failure in self.failures}
        return next((stage for stage in STAGES if stage in failed), None)

    def without_times(self) -> Report:
        """The same verdict without what differs from one run to the next: how long it took."""
        cells = tuple(replace(cell, milliseconds=None) for cell in self.cells)
        return replace(self, cells=cells, seconds=None)

    def to_json(self) -> str:
        """The report as JSON without NaN or infinities."""
        return json.dumps(asdict(self), allow_nan=False, indent=1)

    def write(self, path: Path) -> None:
        """Writes the JSON as a whole or not at all."""
        with appears_whole(path) as file:
            file.write(self.to_json().encode())

    @classmethod
    def read(cls, path: Path) -> Report:
        """The report in a file that `write` made. Raises `FileError`."""
        text = read_bytes(path, "a parity report")
        try:
            content = json.loads(text)
            if isinstance(content, dict) and content.get("schema_version") != SCHEMA_VERSION:
                raise ValueError(f"schema version {content.get('schema_version')!r:.40}")
            report: Report = typed(cls, content, "report")
            for problem in _problems(report):
                raise ValueError(problem)
            return report
        except (ValueError, OverflowError, RecursionError) as error:
            raise FileError(
                f"{path}: expected a parity report of schema version {SCHEMA_VERSION}, found "
                f"another file ({error}); delete it and run verify again"
            ) from error


def _problems(report: Report) -> Iterator[str]:
    """What no verdict of ours says, though its types are right; the pages rely on it."""
    if (report.verdict, bool(report.failures)) not in (("passed", False), ("failed", True)):
        yield "expected the verdict passed, or failed with its failures"
    named = {*report.not_applicable, *(failure.stage for failure in report.failures)}
    if unknown := named - set(STAGES):
        yield f"expected stages of the protocol, found {sorted(unknown)[0]!r}"
    limit = report.precision.limit if report.precision else None
    positive = [] if limit is None else [limit]
    if (worst := report.worst) is not None:
        positive += [worst.split_ratio, *worst.input_wh]
        if not worst.picture.startswith(PICTURE):
            yield "expected the worst crop as a JPEG in a data URI"
        if not worst.keypoints or set(worst.vectors) != VECTORS:
            yield f"expected keypoints, and vectors {', '.join(sorted(VECTORS))}"
    if not all(value > 0 for value in positive):
        yield "expected limits, sizes and ratios above 0"


def figure(value: float) -> Figure:
    """A number for a report, rounded to 6 significant digits; None for NaN and infinities."""
    return float(f"{value:.6g}") if math.isfinite(value) else None
