"""One row for each case under each setting of the matrix: its outputs beside PyTorch's."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cigpose_runtime.estimation.ort import ort
from cigpose_verify.matrix import Setting, run_all
from cigpose_verify.measures.keypoints import Readout, misread
from cigpose_verify.measures.tolerances import cosine
from cigpose_verify.reference_record import Candidate, Outputs, Recorded, ReferenceRecord
from cigpose_verify.report.document import Cell, figure


@dataclass(frozen=True)
class Row:
    """One case's outputs under one setting and batch, beside PyTorch's.

    candidate: the recorded choice that the outputs follow. error: against PyTorch's float32, and
    `excess` the larger error / tolerance of the two vectors; error64: against float64, and `share`
    of what the precision gate allows.
    against_single: against the same case run by itself, as the larger difference / tolerance.
    distance (K,2): from PyTorch's keypoint to ours, in input pixels.
    """

    recorded: Recorded
    candidate: Candidate
    setting: str
    error: float
    excess: float
    cosine: float
    error64: float
    share: float
    against_single: float
    misread: int
    agreeing: int
    distance: NDArray[np.floating]
    score_error: float

    @property
    def agrees(self) -> bool:
        """Whether it passes the parity gate."""
        return self.excess <= 1 and self.cosine >= self.candidate.least_cosine


def run_cell(
    session: ort.InferenceSession,
    setting: Setting,
    batch: int,
    record: ReferenceRecord,
    inputs: Mapping[str, NDArray[Any]],
    singles: dict[int, tuple[Row, Outputs]],
) -> tuple[Cell, list[tuple[Row, Outputs]]]:
    """Runs all cases in batches of one size; a batch of one fills `singles`, others are held to it.

    inputs: as of `run_all`. Raises `RunError`.
    """
    new, seconds = [], 0.0
    for ran in run_all(session, inputs, batch):
        seconds += ran.seconds
        for index, case in enumerate(ran.cases):
            outputs = ran.row(index)
            row = _row_of(outputs, record.cases[case], record, f"{setting}, batch {batch}")
            if batch == 1:
                singles[case] = row, outputs
            elif case in singles:
                row = _held_to(*singles[case], row, outputs)
            new.append((row, outputs))
    rows = [row for row, _ in new]
    cell = Cell(
        provider=setting.provider,
        level=setting.level,
        threads=setting.threads,
        batch=batch,
        rows=len(rows),
        error=figure(max(row.error for row in rows)),
        excess=figure(max(row.excess for row in rows)),
        cosine=figure(min(row.cosine for row in rows)),
        error_float64=figure(max(row.error64 for row in rows)),
        against_single=figure(max(row.against_single for row in rows)),
        milliseconds=round(seconds / len(rows) * 1000, 2),
    )
    return cell, new


def _row_of(outputs: Outputs, recorded: Recorded, record: ReferenceRecord, setting: str) -> Row:
    """Compares with the recorded choice that the outputs follow: the one that they are nearest."""
    candidate = min(recorded.candidates, key=lambda c: largest(outputs.errors(c.double)))
    single, errors = candidate.single, outputs.errors(candidate.single)
    error64 = largest(outputs.errors(candidate.double))
    said, there = Readout.of(*outputs.vectors), candidate.said
    return Row(
        recorded=recorded,
        candidate=candidate,
        setting=setting,
        error=largest(errors),
        excess=largest(e / t for e, t in zip(errors, candidate.tolerances, strict=True)),
        cosine=min(cosine(a, b) for a, b in zip(outputs.vectors, single.vectors, strict=True)),
        error64=error64,
        share=error64 / candidate.limit,
        against_single=0.0,
        misread=int(misread(said, *candidate.double.vectors, candidate.limit).sum()),
        agreeing=int((said.bins == there.bins).all(axis=1).sum()),
        distance=np.abs(said.bins - there.bins) / record.contract.split_ratio,
        score_error=largest(np.abs(said.scores - there.scores)),
    )


def _held_to(single: Row, by_itself: Outputs, row: Row, outputs: Outputs) -> Row:
    """The row with its difference from the same case run by itself, where both chose alike."""
    if single.candidate is not row.candidate:
        return row
    differences = outputs.errors(by_itself)
    excess = (d / t for d, t in zip(differences, row.candidate.tolerances, strict=True))
    return replace(row, against_single=largest(excess))


def largest(values: Iterable[float]) -> float:
    """The maximum; NaN if there is one, which max() may pass over."""
    return float(np.max(list(values)))


def rank(value: float) -> float:
    """For sorting: NaN is worse than anything."""
    return float("inf") if np.isnan(value) else value
