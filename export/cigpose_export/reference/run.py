"""The PyTorch side: what the reference model answers, and how clear its discrete choice was."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from cigpose_export.modeling.cig_head import confound_score
from cigpose_export.modeling.dense import has_intervention
from cigpose_verify.reference_record import Outputs
from cigpose_verify.stages.intervention import gap


class Reference(nn.Module):
    """An MMPose estimator as one function: image (B,3,h,w) -> `simcc_x` and `simcc_y`.

    One pass, no flip test, no decoding; any float dtype.
    """

    def __init__(self, estimator: Any) -> None:
        super().__init__()
        self.estimator = estimator

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        simcc: tuple[Tensor, Tensor] = self.estimator.head(self.estimator.extract_feat(image))
        return simcc


@dataclass(frozen=True)
class ReferenceOutputs:
    """`simcc_x` (B,K,W), `simcc_y` (B,K,H), and what they came from.

    scores: confound scores (B,K), of which the intervention takes the highest. features (B,K,C)
    are those of which it replaces rows. A head without intervention has scores of no keypoint,
    (B,0).
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
    initial = [head.initial_pred_x, head.initial_pred_y] if has_intervention(head) else []
    with watched(head.gau, *initial) as seen:
        with torch.inference_mode():
            simcc_x, simcc_y = Reference(estimator)(torch.from_numpy(images))
        scores = (
            confound_score(*(seen[layer] for layer in initial)) if initial else simcc_x[:, :0, 0]
        )
        features = seen[head.gau]
    return ReferenceOutputs(*(t.numpy() for t in (simcc_x, simcc_y, scores, features)))


def intervention_margin(estimator: Any, outputs: ReferenceOutputs) -> list[float]:
    """For each person by how much the last keypoint that is replaced leads the next one.

    Where that is within rounding, another backend may rightly choose another keypoint, and then all
    outputs of that person differ. Infinite for a head without intervention.
    """
    if not has_intervention(estimator.head):
        return [float("inf")] * len(outputs.simcc_x)
    cim = estimator.head.cim
    if cim.intervention_strategy == "threshold":
        distances = np.abs(outputs.scores - cim.intervention_threshold)
        return [float(distance) for distance in distances.min(axis=1)]
    return [gap(scores, cim.intervention_k_val) for scores in outputs.scores]


def run_head(head: Any, features: NDArray[np.floating], choices: NDArray[np.integer]) -> Outputs:
    """The head behind its attention unit: features (B,K,C), forced choices (B,k) -> outputs.

    The head's own code runs as it is, a fork's too: what comes before is replaced by a stub that
    returns the features, and the keypoints to choose are given flat logits, the least confident
    ones that there are.
    """
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
