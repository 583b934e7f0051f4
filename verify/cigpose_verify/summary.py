"""What the rows of a verdict say together, for its report: by case, and of the keypoints."""

from __future__ import annotations

import platform
from collections.abc import Iterator, Sequence

import numpy as np
import onnx
from numpy.typing import NDArray

from cigpose_runtime.estimation.ort import ort
from cigpose_runtime.machine import cores
from cigpose_verify.reference_record import Outputs, ReferenceRecord
from cigpose_verify.report.document import CaseResult, Figure, KeypointResult, Precision, figure
from cigpose_verify.rows import Row, largest, rank
from cigpose_verify.stages.intervention import gap


def worst_crop(rows: Sequence[tuple[Row, Outputs]]) -> tuple[Row, Outputs] | None:
    """The row of the largest error, of those that show a picture."""
    crops = [pair for pair in rows if pair[0].recorded.case.kind == "crop"]
    return max(crops, key=lambda pair: rank(pair[0].error), default=None)


def near_ties(rows: Sequence[Row], record: ReferenceRecord, epsilon: float) -> tuple[int, int]:
    """Confident keypoints on crops: how many, and how many of them another bin rivals.

    Rounding is what was measured on each case, at most epsilon, what the precision gate allows.
    """
    confident = near = 0
    for recorded in record.cases:
        if recorded.case.kind == "crop":
            measured = largest(row.error64 for row in rows if row.recorded is recorded)
            clarity = recorded.own.clarity
            confident += int(clarity.confident.sum())
            rivalled = clarity.near_ties(float(np.fmin(measured, epsilon)))
            near += int((clarity.confident & rivalled).sum())
    return confident, near


def cases_of(rows: Sequence[Row], record: ReferenceRecord) -> Iterator[CaseResult]:
    """The largest figures of each case."""
    k = len(record.cases[0].own.choice)
    for recorded in record.cases:
        own, case = [row for row in rows if row.recorded is recorded], recorded.case
        torch_errors = recorded.own.single.errors(recorded.own.double)
        yield CaseResult(
            name=case.name,
            kind=case.kind,
            sha256=case.sha256,
            source=case.source,
            box_xyxy=case.box_xyxy,
            gap=figure(gap(recorded.scores, k)),
            error=figure(largest(row.error for row in own)) if own else None,
            tolerance=min(recorded.own.tolerances),
            error_float64=figure(largest(row.error64 for row in own)) if own else None,
            torch_error_float64=largest(torch_errors),
        )


def precision_of(rows: Sequence[Row], record: ReferenceRecord, limit: float) -> Precision:
    """The largest error against float64, and what it may be."""
    error = largest(row.error64 for row in rows)
    return Precision(
        error_float64=figure(error),
        torch_error_float64=record.error,
        limit=limit,
        ratio=figure(error / record.error),
    )


def keypoints_of(rows: Sequence[Row], record: ReferenceRecord, epsilon: float) -> KeypointResult:
    """Keypoints over the whole matrix; epsilon: as of `near_ties`."""
    contract = record.contract
    size = np.array([contract.input_w, contract.input_h])
    compared = len(rows) * contract.num_keypoints
    in_frame = [
        np.hypot(*(row.distance * (np.array(row.recorded.case.scale) / size)).T)
        for row in rows
        if row.recorded.case.scale is not None
    ]
    confident, near = near_ties(rows, record, epsilon)
    return KeypointResult(
        compared=compared,
        argmax_agreement=sum(row.agreeing for row in rows) / compared,
        misread=sum(row.misread for row in rows),
        epsilon=epsilon,
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
