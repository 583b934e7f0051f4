"""What the rows of a verdict say together, for its report: by case, and of the keypoints."""

from __future__ import annotations

import hashlib
import platform
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from cigpose_runtime.estimation.ort import ort
from cigpose_runtime.machine import cores
from cigpose_verify.measures.stage_texts import STAGES
from cigpose_verify.measures.tolerances import precision_limit
from cigpose_verify.reference_record import CHECKPOINT_NOTE, Outputs, Recorded, ReferenceRecord
from cigpose_verify.report.document import (
    CaseResult,
    Failure,
    Figure,
    KeypointResult,
    Precision,
    Report,
    figure,
)
from cigpose_verify.rows import Row, largest, rank
from cigpose_verify.stages.intervention import gap

Limit = Callable[[float], float]
"""How far from float64 a file may be on an input of this noise floor."""


def report_on(
    name: str, data: bytes, failures: Sequence[Failure], *, started: float, **measured: Any
) -> Report:
    """The verdict on a file of these bytes, which follows from what failed.

    started: of time.monotonic(). measured: the other fields of the report.
    """
    return Report(
        file=name,
        sha256=hashlib.sha256(data).hexdigest(),
        size=len(data),
        verdict="failed" if failures else "passed",
        failures=tuple(sorted(failures, key=lambda failure: STAGES.index(failure.stage))),
        environment=environment(),
        seconds=round(time.monotonic() - started, 1),
        **measured,
    )


def notes_of(record: ReferenceRecord) -> list[str]:
    """What a verdict by this record has to be read with."""
    notes = [note] if (note := record.origin.get(CHECKPOINT_NOTE)) else []
    return notes + [
        f"{recorded.case.name}: ill-conditioned, rounding alone moves the outputs by up to "
        f"{recorded.own.condition:.2%}"
        for recorded in ill_conditioned(record)
    ]


def ill_conditioned(record: ReferenceRecord) -> list[Recorded]:
    """The cases on which rounding alone moves the outputs far, the worst first."""
    ill = [recorded for recorded in record.cases if recorded.is_ill_conditioned]
    return sorted(ill, key=lambda recorded: -rank(recorded.own.condition))


def least_precise(rows: Sequence[Row]) -> Row:
    """The row that takes the largest share of what the precision gate allows."""
    return max(rows, key=lambda row: rank(row.share))


def worst_crop(rows: Sequence[tuple[Row, Outputs]]) -> tuple[Row, Outputs] | None:
    """The row of the largest error, of those that show a picture."""
    crops = [pair for pair in rows if pair[0].recorded.case.kind == "crop"]
    return max(crops, key=lambda pair: rank(pair[0].error), default=None)


def near_ties(
    rows: Sequence[Row], record: ReferenceRecord, limit: Limit = precision_limit
) -> tuple[int, int]:
    """Confident keypoints on sound crops: how many, and how many of them another bin rivals.

    Rounding is what was measured on each case, at most what the precision gate allows.
    """
    confident = near = 0
    for recorded in record.cases:
        if recorded.case.kind == "crop" and recorded.is_sound:
            measured = largest(row.error64 for row in rows if row.recorded is recorded)
            clarity = recorded.own.clarity
            confident += int(clarity.confident.sum())
            rivalled = clarity.near_ties(float(np.fmin(measured, limit(recorded.own.floor))))
            near += int((clarity.confident & rivalled).sum())
    return confident, near


def cases_of(
    rows: Sequence[Row], record: ReferenceRecord, limit: Limit = precision_limit
) -> Iterator[CaseResult]:
    """The largest figures of each case."""
    k = len(record.cases[0].own.choice)
    for recorded in record.cases:
        own, case = [row for row in rows if row.recorded is recorded], recorded.case
        yield CaseResult(
            name=case.name,
            kind=case.kind,
            sha256=case.sha256,
            source=case.source,
            box_xyxy=case.box_xyxy,
            gap=figure(gap(recorded.scores, k)),
            error=figure(largest(row.error for row in own)) if own else None,
            tolerance=figure(min(recorded.own.tolerances)),
            error_float64=figure(largest(row.error64 for row in own)) if own else None,
            floor_float64=figure(recorded.own.floor),
            limit_float64=figure(limit(recorded.own.floor)),
            condition=figure(recorded.own.condition),
        )


def precision_of(rows: Sequence[Row], limit: Limit = precision_limit) -> Precision:
    """The error against float64 that takes the largest share of what it may be."""
    worst = least_precise(rows)
    return Precision(
        case=worst.recorded.case.name,
        error_float64=figure(worst.error64),
        floor_float64=figure(worst.candidate.floor),
        limit=figure(limit(worst.candidate.floor)),
        ratio=figure(worst.error64 / worst.candidate.floor) if worst.candidate.floor else None,
        condition=figure(max(row.recorded.own.condition for row in rows)),
    )


def keypoints_of(
    rows: Sequence[Row], record: ReferenceRecord, limit: Limit = precision_limit
) -> KeypointResult:
    """Keypoints over the whole matrix."""
    contract = record.contract
    size = np.array([contract.input_w, contract.input_h])
    compared = len(rows) * contract.num_keypoints
    in_frame = [
        np.hypot(*(row.distance * (np.array(row.recorded.case.scale) / size)).T)
        for row in rows
        if row.recorded.case.scale is not None
    ]
    confident, near = near_ties(rows, record, limit)
    return KeypointResult(
        compared=compared,
        argmax_agreement=sum(row.agreeing for row in rows) / compared,
        misread=sum(row.misread for row in rows),
        epsilon=figure(largest(limit(recorded.own.floor) for recorded in record.cases)),
        confident=confident,
        near_tie_share=near / confident if confident else None,
        input_px=_quantiles(np.concatenate([np.hypot(*row.distance.T) for row in rows])),
        frame_px=_quantiles(np.concatenate(in_frame)) if in_frame else (),
        score_error=_quantiles(np.array([row.score_error for row in rows])),
    )


def environment() -> dict[str, str]:
    """What a verdict was reached with."""
    return {
        "onnxruntime": ort.__version__,
        "numpy": np.__version__,
        "onnx": onnx.__version__,
        "platform": platform.platform(),
        "cores": str(cores()),
    }


def _quantiles(values: NDArray[np.floating]) -> tuple[Figure, ...]:
    """p50, p99 and the maximum."""
    return tuple(figure(float(q)) for q in np.quantile(values, (0.5, 0.99, 1)))
