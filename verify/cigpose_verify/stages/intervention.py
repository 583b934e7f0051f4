"""The discrete choice inside the graph: which keypoints the intervention replaces.

The shipped file does not tell; `choice` makes variants of the graph that do, or that are told.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from cigpose_verify.errors import RunError
from cigpose_verify.matrix import Matrix, Setting, run, run_all
from cigpose_verify.measures.tolerances import max_difference, precision_limit
from cigpose_verify.reference_record import Outputs, Recorded, ReferenceRecord, Sweep
from cigpose_verify.report.document import Failure, InterventionResult, figure
from cigpose_verify.stages.choice import (
    Intervention,
    choosing_part,
    exposed,
    head_with_choice,
)

SWEEP_BATCH = 16
"""Forced choices at once; bounds memory."""


@dataclass(frozen=True)
class Examined:
    """What the choice inside the graph did on all cases, at each optimisation level.

    slack: by how much the scores of a case, by its name, may be out of order for rounding alone.
    score_error and its limit are those of the case that takes the largest share of its limit.
    """

    failures: tuple[Failure, ...]
    slack: Mapping[str, float]
    score_error: float
    score_limit: float
    choices: int
    agreeing: int
    near_ties: int
    sweep_error: float
    sweep_limit: float

    def result(self, forced: int) -> InterventionResult:
        """For the report; `forced` outputs followed another choice than the reference's."""
        return InterventionResult(
            score_error=figure(self.score_error),
            score_limit=figure(self.score_limit),
            choices=self.choices,
            agreeing=self.agreeing,
            near_ties=self.near_ties,
            forced=forced,
            sweep_error=figure(self.sweep_error),
            sweep_limit=figure(self.sweep_limit),
        )


def examine(
    model: onnx.ModelProto,
    intervention: Intervention,
    record: ReferenceRecord,
    matrix: Matrix,
    limit: Callable[[float], float] = precision_limit,
) -> Examined:
    """Compares scores, choices and every single replacement with PyTorch's.

    On each provider and at each level of the matrix: the graph with score and index as outputs. On
    each provider: the part behind the intervention with each keypoint forced in turn. limit: what
    errors may be on an input of this noise floor. Raises `RunError` where the graph is
    not built in this way, `OnnxFileError` where it does not load.
    """
    sweep = record.sweep
    assert sweep is not None  # a model without intervention is not examined
    seen = list(_look(model, intervention, record, matrix))
    errors = {
        r.case.name: max(
            (max_difference(s.scores, r.scores) for s in seen if s.recorded is r), key=_nan_first
        )
        for r in record.cases
    }
    limits = {r.case.name: limit(r.score_floor) for r in record.cases}
    slack = {r.case.name: 2 * max(errors[r.case.name], r.score_floor) for r in record.cases}
    least_precise = max(
        record.cases, key=lambda r: _nan_first(errors[r.case.name] / limits[r.case.name])
    )
    score_error, score_limit = errors[least_precise.case.name], limits[least_precise.case.name]
    swept = [_sweep(model, intervention, sweep, matrix, p) for p in matrix.providers]
    sweep_error, keypoint = max(swept, key=lambda pair: _nan_first(pair[0]))
    sweep_limit = limit(sweep.floor)
    failures = []
    if not score_error <= score_limit:
        failures.append(
            Failure(
                "precision",
                f"{least_precise.case.name}: confound scores are off by {score_error:.2e} against "
                f"float64, PyTorch's own by up to {least_precise.score_floor:.2e}; expected at "
                f"most {score_limit:.2e}",
            )
        )
    k = len(record.cases[0].own.choice)
    wrong = [
        s
        for s in seen
        if len(s.choice) != k
        or not plausible(s.choice, s.recorded.scores, slack[s.recorded.case.name])
    ]
    if wrong:
        failures.append(
            Failure(
                "intervention",
                f"{wrong[0].recorded.case.name}: expected keypoints {wrong[0].recorded.own.choice} "
                f"to be replaced, found {wrong[0].choice}, though no error of the scores explains "
                f"it ({len(wrong)} of {len(seen)} choices)",
            )
        )
    if not sweep_error <= sweep_limit:
        name = record.contract.keypoint_names[keypoint]
        failures.append(
            Failure(
                "replacement",
                f"keypoint {keypoint} ({name}) replaced: its outputs are off by {sweep_error:.2e} "
                f"against float64; expected at most {sweep_limit:.2e}",
            )
        )
    if intervention.is_mask and (broken := _breaks_ties(model, intervention, record, matrix, k)):
        failures.append(Failure("intervention", broken))
    return Examined(
        failures=tuple(failures),
        slack=slack,
        score_error=score_error,
        score_limit=score_limit,
        choices=len(seen),
        agreeing=sum(one.choice == one.recorded.own.choice for one in seen),
        near_ties=sum(gap(r.scores, k) <= slack[r.case.name] for r in record.cases),
        sweep_error=sweep_error,
        sweep_limit=sweep_limit,
    )


@dataclass(frozen=True)
class _Seen:
    """Scores (K,) and choice inside the graph for one case under one setting."""

    recorded: Recorded
    scores: NDArray[np.floating]
    choice: tuple[int, ...]


def _look(
    model: onnx.ModelProto, intervention: Intervention, record: ReferenceRecord, matrix: Matrix
) -> Iterator[_Seen]:
    inputs = {"input": record.inputs}
    data = exposed(model, (intervention.ranked, intervention.choice))
    for provider in matrix.providers:
        for level in matrix.levels:
            session = Setting(provider, level, matrix.threads[-1]).open(data)
            for ran in run_all(session, inputs, max(matrix.batches)):
                ranked, choice = (
                    ran.outputs[name] for name in (intervention.ranked, intervention.choice)
                )
                expected = len(ran.cases), record.contract.num_keypoints
                fits = choice.shape == (*expected, 1) if intervention.is_mask else choice.ndim == 2
                if ranked.shape != expected or not fits:
                    raise RunError(
                        f"expected confound scores {expected} and a choice for each person, found "
                        f"{ranked.shape} and {choice.shape}"
                    )
                scores = _confound(ranked, np.stack([record.cases[i].scores for i in ran.cases]))
                for row, (case, chosen) in enumerate(
                    zip(ran.cases, intervention.read(choice), strict=True)
                ):
                    yield _Seen(record.cases[case], scores[row], chosen)


def _confound(ranked: NDArray[np.floating], expected: NDArray[np.floating]) -> NDArray[np.floating]:
    """Confound scores (B,K) from what a graph ranks: them, or the sum of a keypoint's two peaks.

    A confound score is 1 less the mean of the peaks. Of both readings the one nearer to PyTorch's
    scores counts; what is right in neither fails in both.
    """
    readings = ranked, 1 - ranked.astype(np.float64) / 2
    return min(readings, key=lambda scores: _nan_first(max_difference(scores, expected)))


def _sweep(
    model: onnx.ModelProto,
    intervention: Intervention,
    sweep: Sweep,
    matrix: Matrix,
    provider: str,
) -> tuple[float, int]:
    """Forces each keypoint in turn: the largest error against float64, and whose it is."""
    setting = Setting(provider, matrix.levels[0], matrix.threads[-1])
    session = setting.open(head_with_choice(model, intervention))
    worst = (-1.0, 0)
    for start in range(0, len(sweep.choices), SWEEP_BATCH):
        choices = sweep.choices[start : start + SWEEP_BATCH]
        features = np.broadcast_to(sweep.features, (len(choices), *sweep.features.shape))
        feed: dict[str, NDArray[Any]] = {
            intervention.features: features,
            intervention.choice: intervention.written(choices, len(sweep.features)),
        }
        batch = Outputs(*run(session, ["simcc_x", "simcc_y"], feed))
        for row, keypoint in enumerate(range(start, start + len(choices))):
            found = Outputs(batch.simcc_x[row, keypoint], batch.simcc_y[row, keypoint])
            there = Outputs(sweep.double.simcc_x[keypoint], sweep.double.simcc_y[keypoint])
            error = max(found.errors(there), key=_nan_first)
            worst = max(worst, (error, keypoint), key=lambda pair: _nan_first(pair[0]))
    return worst


def _breaks_ties(
    model: onnx.ModelProto,
    intervention: Intervention,
    record: ReferenceRecord,
    matrix: Matrix,
    k: int,
) -> str | None:
    """Where a mask is not what TopK chooses: the smallest, and of equal ones the first.

    On sums of two peaks that are equal, one step of float32 apart, and in between, at both ends of
    what softmax gives: no picture leads there.
    """
    contract, rng = record.contract, np.random.default_rng(0)
    bins = max(contract.input_w, contract.input_h) * contract.split_ratio
    shape = len(record.cases), contract.num_keypoints
    rows = [rng.uniform(2 / bins, 2, shape).astype(np.float32)]
    for end, towards in ((np.float32(2 / bins), 2), (np.float32(2), 0)):
        steps = rng.integers(3, size=shape)
        rows += [np.where(steps == 0, end, np.nextafter(end, np.float32(towards)))]
        rows += [np.full(shape, end), np.where(steps == 0, end, np.float32(0.25))]
    ranked = np.concatenate(rows)
    expected = np.sort(np.argsort(ranked, axis=1, kind="stable")[:, :k], axis=1).tolist()
    data = choosing_part(model, intervention)
    for provider in matrix.providers:
        for level in matrix.levels:
            session = Setting(provider, level, matrix.threads[-1]).open(data)
            (mask,) = run(session, [intervention.choice], {intervention.ranked: ranked})
            if not np.isin(mask, (0, 1)).all():
                return "expected a mask of 0 and 1, found other values"
            for chosen, wanted in zip(intervention.read(mask), expected, strict=True):
                if list(chosen) != wanted:
                    return (
                        f"of equal or nearly equal sums of peaks: expected keypoints {wanted} to "
                        f"be chosen, found {list(chosen)}"
                    )
    return None


def _nan_first(value: float) -> float:
    return float("inf") if np.isnan(value) else value


def plausible(choice: Iterable[int], scores: NDArray[np.floating], slack: float) -> bool:
    """Could scores (K,) that are off by up to half of `slack` have led to this choice?"""
    chosen = list(choice)
    others = np.delete(scores, chosen)
    return not others.size or bool(scores[chosen].min() >= others.max() - slack)


def gap(scores: NDArray[np.floating], k: int) -> float:
    """By how much the k-th highest of scores (K,) leads the next; infinite where there is none."""
    if k >= len(scores):
        return float("inf")
    ranked = np.sort(scores)[::-1]
    return float(ranked[k - 1] - ranked[k])
