"""One model from checkpoint to what PyTorch answers, recorded for the verifier."""

from __future__ import annotations

import copy
import itertools
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from cigpose_export.errors import ConfigError, ExportError
from cigpose_export.modeling.build import class_path, register_head
from cigpose_export.modeling.dense import has_intervention
from cigpose_export.project import Model, Project
from cigpose_export.reference.load import load_reference
from cigpose_export.reference.run import run_head, run_reference
from cigpose_runtime import Contract
from cigpose_verify.cases import Case, make_cases
from cigpose_verify.measures.tolerances import max_difference, precision_limit
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
) -> None:
    """Records all cases of a model in `target`.

    images: more pictures to cut crops from. fork: the head has to be that of a CIGPose fork that
    is on the path. Raises `CigposeError`.
    """
    if fork and register_head().startswith("cigpose_export."):
        raise ConfigError(
            "--against: the MMPose in this folder registers no CIGHead; give "
            "the folder that its mmpose package lies in"
        )
    estimator, contract, checkpoint, note = load_reference(
        project, model, checkpoint_path, weights_key
    )
    origin = {
        "reference_head": class_path(type(estimator.head)),
        "checkpoint": checkpoint.path.name,
        "checkpoint_sha256": checkpoint.sha256,
        "torch": torch.__version__,
        "platform": platform.machine(),
        **({CHECKPOINT_NOTE: note} if note else {}),
    }
    record_reference(estimator, contract, make_cases(contract, images), origin).write(target)


def record_reference(
    estimator: Any, contract: Contract, cases: Sequence[Case], origin: Mapping[str, str]
) -> ReferenceRecord:
    """Runs all cases in float32 and float64, with every choice that rounding could make."""
    double = copy.deepcopy(estimator).double()
    runs = []
    for case in cases:
        image = case.input[np.newaxis]
        runs.append((run_reference(estimator, image), run_reference(double, image.astype(float))))
    if not has_intervention(estimator.head):
        recorded = [
            Recorded(case, exact.scores[0], (Candidate((), single.row(0), exact.row(0)),))
            for case, (single, exact) in zip(cases, runs, strict=True)
        ]
        return ReferenceRecord(contract, origin, tuple(recorded), sweep=None, score_error=0.0)
    cim = estimator.head.cim
    if cim.intervention_strategy != "topk":
        raise ExportError(
            f"{contract.name}: expected the intervention strategy 'topk', as in all published "
            f"models, found {cim.intervention_strategy!r}; there is no parity protocol for it"
        )
    k = min(cim.intervention_k_val, contract.num_keypoints)
    score_error = max(max_difference(single.scores, exact.scores) for single, exact in runs)
    recorded = []
    for case, (single, exact) in zip(cases, runs, strict=True):
        choices = plausible_choices(exact.scores[0], k, 2 * precision_limit(score_error))
        if len(choices) > MOST_CANDIDATES:
            raise ExportError(
                f"{contract.name}, case {case.name}: expected at most {MOST_CANDIDATES} choices of "
                f"the intervention within rounding, found {len(choices)}: the model is unsure of "
                "all keypoints alike; compare the checkpoint's source"
            )
        chosen = np.array(choices)
        features = [np.repeat(run.features, len(choices), axis=0) for run in (single, exact)]
        forced = [
            run_head(model, rows, chosen)
            for model, rows in zip((estimator, double), features, strict=True)
        ]
        candidates = tuple(
            Candidate(choice, *(Outputs(o.simcc_x[row], o.simcc_y[row]) for o in forced))
            for row, choice in enumerate(choices)
        )
        recorded.append(Recorded(case, exact.scores[0], candidates))
    sweep = _sweep(estimator, double, runs[0][0].features[0], k)
    return ReferenceRecord(contract, origin, tuple(recorded), sweep, score_error)


def plausible_choices(scores: NDArray[np.floating], k: int, slack: float) -> list[tuple[int, ...]]:
    """The sets of k keypoints that scores (K,) off by up to slack / 2 could choose, best first."""
    order = np.argsort(-scores, kind="stable")
    last, following = scores[order[k - 1]], scores[order[k:]].max(initial=-np.inf)
    sure = [int(i) for i in order[:k] if scores[i] > following + slack]
    contested = [int(i) for i in order if i not in sure and scores[i] >= last - slack]
    return [
        tuple(sorted([*sure, *some])) for some in itertools.combinations(contested, k - len(sure))
    ]


def _sweep(estimator: Any, double: Any, features: NDArray[np.float32], k: int) -> Sweep:
    count = len(features)
    choices = (np.arange(count)[:, None] + np.arange(k)) % count
    rows = []
    for start in range(0, count, SWEEP_BATCH):
        some = choices[start : start + SWEEP_BATCH]
        repeated = np.repeat(features[np.newaxis], len(some), axis=0)
        single = run_head(estimator, repeated, some)
        exact = run_head(double, repeated.astype(np.float64), some)
        own = np.arange(len(some)), np.arange(start, start + len(some))
        rows.append([v[own] for outputs in (single, exact) for v in outputs.vectors])
    x, y, x64, y64 = (np.concatenate(parts) for parts in zip(*rows, strict=True))
    return Sweep(features, choices, Outputs(x, y), Outputs(x64, y64))
