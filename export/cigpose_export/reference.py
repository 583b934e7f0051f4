"""The PyTorch side: what the reference model answers, and how clear its discrete choice was."""

from __future__ import annotations

import contextlib
import copy
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from cigpose_export.errors import ExportError
from cigpose_export.modeling.cig_head import confound_score
from cigpose_runtime import Contract
from cigpose_verify.cases import Case
from cigpose_verify.intervention import gap
from cigpose_verify.parity import max_difference, precision_limit
from cigpose_verify.record import Candidate, Outputs, Record, Recorded, Sweep

SWEEP_BATCH = 16
"""Forced choices at once; bounds memory."""

MOST_CANDIDATES = 64
"""Choices within rounding of one case; with more of them, no outputs could be called wrong."""


class Reference(nn.Module):
    """An MMPose estimator as one function: image (B,3,h,w) -> `simcc_x` and `simcc_y`.

    One pass, no flip test, no decoding; any float dtype.
    """

    def __init__(self, estimator: Any) -> None:
        super().__init__()
        self.estimator = estimator

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        simcc: tuple[Tensor, Tensor] = self.estimator.head(self.estimator.backbone(image))
        return simcc


@dataclass(frozen=True)
class ReferenceOutputs:
    """`simcc_x` (B,K,W), `simcc_y` (B,K,H), and what they came from.

    scores: confound scores (B,K), of which the intervention takes the highest. features (B,K,C)
    are those of which it replaces rows.
    """

    simcc_x: NDArray[np.floating]
    simcc_y: NDArray[np.floating]
    scores: NDArray[np.floating]
    features: NDArray[np.floating]

    def row(self, index: int) -> Outputs:
        """The outputs of one person."""
        return Outputs(self.simcc_x[index], self.simcc_y[index])


def run_reference(estimator: Any, images: NDArray[np.floating]) -> ReferenceOutputs:
    """Runs normalised images (B,3,h,w) through an estimator, in the dtype of both."""
    head = estimator.head
    with watched(head.gau, head.initial_pred_x, head.initial_pred_y) as seen:
        with torch.inference_mode():
            simcc_x, simcc_y = Reference(estimator)(torch.from_numpy(images))
        scores = confound_score(seen[head.initial_pred_x], seen[head.initial_pred_y])
        features = seen[head.gau]
    return ReferenceOutputs(*(t.numpy() for t in (simcc_x, simcc_y, scores, features)))


def intervention_margin(estimator: Any, outputs: ReferenceOutputs) -> list[float]:
    """For each person by how much the last keypoint that is replaced leads the next one.

    Where that is within rounding, another backend may rightly choose another keypoint, and then all
    outputs of that person differ.
    """
    cim = estimator.head.cim
    if cim.intervention_strategy == "threshold":
        distances = np.abs(outputs.scores - cim.intervention_threshold)
        return [float(distance) for distance in distances.min(axis=1)]
    return [gap(scores, cim.intervention_k_val) for scores in outputs.scores]


def record_reference(
    estimator: Any, contract: Contract, cases: Sequence[Case], origin: Mapping[str, str]
) -> Record:
    """Runs all cases in float32 and float64, with every choice that rounding could make."""
    cim = estimator.head.cim
    if cim.intervention_strategy != "topk":
        raise ExportError(
            f"{contract.name}: expected the intervention strategy 'topk', as in all published "
            f"models, found {cim.intervention_strategy!r}; there is no parity protocol for it"
        )
    k = min(cim.intervention_k_val, contract.num_keypoints)
    double = copy.deepcopy(estimator).double()
    runs = []
    for case in cases:
        image = case.input[np.newaxis]
        runs.append((run_reference(estimator, image), run_reference(double, image.astype(float))))
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
    return Record(contract, origin, tuple(recorded), sweep, score_error)


def plausible_choices(scores: NDArray[np.floating], k: int, slack: float) -> list[tuple[int, ...]]:
    """The sets of k keypoints that scores (K,) off by up to slack / 2 could choose, best first."""
    order = np.argsort(-scores, kind="stable")
    last, following = scores[order[k - 1]], scores[order[k:]].max(initial=-np.inf)
    sure = [int(i) for i in order[:k] if scores[i] > following + slack]
    contested = [int(i) for i in order if i not in sure and scores[i] >= last - slack]
    return [
        tuple(sorted([*sure, *some])) for some in itertools.combinations(contested, k - len(sure))
    ]


def run_head(
    estimator: Any, features: NDArray[np.floating], choices: NDArray[np.integer]
) -> Outputs:
    """The head behind its attention unit: features (B,K,C), forced choices (B,k) -> outputs.

    The head's own code runs as it is, a fork's too: what comes before is replaced by a stub that
    returns the features, and the keypoints to choose are given flat logits, the least confident
    ones that there are.
    """
    head = estimator.head
    rows = torch.arange(len(features)).unsqueeze(1)
    chosen = torch.from_numpy(choices)

    def flatten(_module: nn.Module, _inputs: object, logits: Tensor) -> Tensor:
        forced = logits.clone()
        forced[rows, chosen] = 0
        return forced

    tokens = torch.from_numpy(features)
    with contextlib.ExitStack() as stack:
        # A feature map of one pixel, for what lies between the two.
        stubs = {"final_layer": tokens[..., :1, None], "mlp_pre_gau": tokens, "gau": tokens}
        for name, output in stubs.items():
            stack.enter_context(_stubbed(head, name, output))
        for layer in (head.initial_pred_x, head.initial_pred_y):
            stack.callback(layer.register_forward_hook(flatten).remove)
        with torch.inference_mode():
            simcc_x, simcc_y = head((tokens,))
    return Outputs(simcc_x.numpy(), simcc_y.numpy())


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


@contextlib.contextmanager
def watched(*modules: nn.Module) -> Iterator[dict[nn.Module, Tensor]]:
    """The last output of each module, from its next run on."""
    seen: dict[nn.Module, Tensor] = {}

    def see(module: nn.Module, _inputs: object, output: Tensor) -> None:
        seen[module] = output

    handles = [module.register_forward_hook(see) for module in modules]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


class _Stub(nn.Module):
    def __init__(self, output: Tensor) -> None:
        super().__init__()
        self.output = output

    def forward(self, _input: Tensor) -> Tensor:
        return self.output


@contextlib.contextmanager
def _stubbed(parent: nn.Module, name: str, output: Tensor) -> Iterator[None]:
    original = getattr(parent, name)
    setattr(parent, name, _Stub(output))
    try:
        yield
    finally:
        setattr(parent, name, original)
