"""One model from checkpoint to what PyTorch answers, recorded for the verifier."""

from __future__ import annotations

import copy
import itertools
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from cigpose_export.errors import ExportError
from cigpose_export.modeling.build import class_path
from cigpose_export.modeling.dense import has_intervention
from cigpose_export.project import Model, Project
from cigpose_export.reference.evaluations import evaluations, further_evaluations
from cigpose_export.reference.load import load_reference
from cigpose_export.reference.run import ReferenceOutputs, run_head, run_reference
from cigpose_runtime import Contract
from cigpose_verify.cases import Case, make_cases
from cigpose_verify.measures.tolerances import SOUND_CONDITION, max_difference, precision_limit
from cigpose_verify.reference_record import (
    CHECKPOINT_NOTE,
    Candidate,
    Outputs,
    Recorded,
    ReferenceRecord,
    Sweep,
)

SWEEP_BATCH = 16
"""Forced choices at once; bounds memory."""

MOST_CANDIDATES = 64
"""Choices within rounding of one case; with more of them, no outputs could be called wrong."""


def record_model(
    project: Project,
    model: Model,
    *,
    checkpoint_path: Path,
    weights_key: str | None = None,
    images: Path | None,
    fork: bool,
    target: Path,
    thorough: bool = False,
) -> None:
    """Records all cases of a model in `target`.

    images: more pictures to cut crops from. fork: the head has to be that of a CIGPose fork that
    is on the path. thorough: with all samples of rounding, for a file of which few say too little.
    Raises `CigposeError`.
    """
    reference = load_reference(project, model, checkpoint_path, weights_key=weights_key, fork=fork)
    estimator, checkpoint = reference.estimator, reference.checkpoint
    contract = reference.contract()
    origin = {
        "reference_head": class_path(type(estimator.head)),
        "checkpoint": checkpoint.path.name,
        "checkpoint_sha256": checkpoint.sha256,
        "torch": torch.__version__,
        "platform": platform.machine(),
        **({CHECKPOINT_NOTE: reference.note} if reference.note else {}),
    }
    cases = make_cases(contract, images)
    record_reference(estimator, contract, cases, origin, thorough=thorough).write(target)


def record_reference(
    estimator: Any,
    contract: Contract,
    cases: Sequence[Case],
    origin: Mapping[str, str],
    *,
    thorough: bool = False,
) -> ReferenceRecord:
    """Runs all cases in float32, several times, and float64: every choice that rounding could make.

    The first of the float32 evaluations is what the model answers, all of them are samples of its
    noise floor. A case that is not beyond doubt by then (`SOUND_CONDITION`), or where the record is
    to be thorough any case, gets further ones.
    """
    k = _replaced(estimator.head, contract)
    inputs = {index: case.input[np.newaxis] for index, case in enumerate(cases)}
    double = _evaluate(copy.deepcopy(estimator).double(), inputs)
    singles = [_evaluate(one, inputs) for one in evaluations(estimator)]
    recorded = [
        _record(contract, case, index, k, singles, double) for index, case in enumerate(cases)
    ]
    if doubtful := [
        i for i, r in enumerate(recorded) if thorough or r.own.condition > SOUND_CONDITION
    ]:
        some = {index: inputs[index] for index in doubtful}
        further = [_evaluate(one, some) for one in further_evaluations(estimator)]
        for i in doubtful:
            recorded[i] = _record(contract, cases[i], i, k, [*singles, *further], double)
    sweep = _sweep((singles[0], singles[-1]), double, k) if k else None
    return ReferenceRecord(contract, origin, tuple(recorded), sweep)


def _replaced(head: Any, contract: Contract) -> int:
    """How many keypoints' features the head replaces; 0 for a head without intervention."""
    if not has_intervention(head):
        return 0
    if head.cim.intervention_strategy != "topk":
        raise ExportError(
            f"{contract.name}: expected the intervention strategy 'topk', as in all published "
            f"models, found {head.cim.intervention_strategy!r}; there is no parity protocol for it"
        )
    return int(min(head.cim.intervention_k_val, contract.num_keypoints))


@dataclass(frozen=True)
class _Evaluation:
    """A model's head, and what the model answers to cases, by their index."""

    head: Any
    answers: Mapping[int, ReferenceOutputs]

    def forced(self, index: int, choices: NDArray[np.integer]) -> Outputs:
        """The outputs (N,K,W) and (N,K,H) on one case for each of the choices (N,k).

        Of a head without intervention, the answer for the one choice of none.
        """
        answer = self.answers[index]
        if not has_intervention(self.head):
            return Outputs(answer.simcc_x, answer.simcc_y)
        features = np.repeat(answer.features, len(choices), axis=0)
        return run_head(self.head, features, choices)


def _evaluate(estimator: Any, inputs: Mapping[int, NDArray[np.float32]]) -> _Evaluation:
    dtype = next(estimator.parameters()).numpy().dtype
    answers = {i: run_reference(estimator, image.astype(dtype)) for i, image in inputs.items()}
    return _Evaluation(estimator.head, answers)


def _record(
    contract: Contract,
    case: Case,
    index: int,
    k: int,
    singles: Sequence[_Evaluation],
    double: _Evaluation,
) -> Recorded:
    """The case at `index`: every choice that rounding could make, and what follows from each."""
    scores = double.answers[index].scores
    score_floor = 0.0
    choices: list[tuple[int, ...]] = [()]
    if k:
        score_floor = max(max_difference(one.answers[index].scores, scores) for one in singles)
        choices = plausible_choices(scores[0], k, 2 * precision_limit(score_floor))
    if len(choices) > MOST_CANDIDATES:
        raise ExportError(
            f"{contract.name}, case {case.name}: expected at most {MOST_CANDIDATES} choices of "
            f"the intervention within rounding, found {len(choices)}: the model is unsure of "
            "all keypoints alike; compare the checkpoint's source"
        )
    exact, *forced = (one.forced(index, np.array(choices)) for one in (double, *singles))
    candidates = tuple(
        Candidate(
            choice,
            forced[0].row(row),
            exact.row(row),
            floor=max(max(one.row(row).errors(exact.row(row))) for one in forced),
        )
        for row, choice in enumerate(choices)
    )
    return Recorded(case, scores[0], score_floor, candidates)


def plausible_choices(scores: NDArray[np.floating], k: int, slack: float) -> list[tuple[int, ...]]:
    """The sets of k keypoints that scores (K,) off by up to slack / 2 could choose, best first."""
    order = np.argsort(-scores, kind="stable")
    last, following = scores[order[k - 1]], scores[order[k:]].max(initial=-np.inf)
    sure = [int(i) for i in order[:k] if scores[i] > following + slack]
    contested = [int(i) for i in order if i not in sure and scores[i] >= last - slack]
    return [
        tuple(sorted([*sure, *some])) for some in itertools.combinations(contested, k - len(sure))
    ]


def _sweep(singles: Sequence[_Evaluation], double: _Evaluation, k: int) -> Sweep:
    """The sweep on the features of the first case, by heads that differ in their weights."""
    features = singles[0].answers[0].features[0]
    count = len(features)
    choices = (np.arange(count)[:, None] + np.arange(k)) % count
    heads = [(double.head, np.float64), *((one.head, np.float32) for one in singles)]
    exact, *swept = (_swept(head, features.astype(dtype), choices) for head, dtype in heads)
    floor = max(max(outputs.errors(exact)) for outputs in swept)
    return Sweep(features, choices, swept[0], exact, floor)


def _swept(head: Any, features: NDArray[np.floating], choices: NDArray[np.integer]) -> Outputs:
    """Of each choice (K,k) on features (K,C), the row of its first keypoint."""
    rows = []
    for start in range(0, len(choices), SWEEP_BATCH):
        some = choices[start : start + SWEEP_BATCH]
        outputs = run_head(head, np.repeat(features[np.newaxis], len(some), axis=0), some)
        rows.append([v[np.arange(len(some)), some[:, 0]] for v in outputs.vectors])
    return Outputs(*(np.concatenate(parts) for parts in zip(*rows, strict=True)))
