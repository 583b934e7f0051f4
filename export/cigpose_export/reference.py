"""The PyTorch side: what the reference model answers, and how clear its discrete choice was."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from cigpose_export.modeling.cig_head import confound_score


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
    """`simcc_x` (B,K,W), `simcc_y` (B,K,H), and per person the margin (B,) of the intervention.

    The margin is the gap in confound score between the last keypoint that is replaced and the first
    that is not. Where it is within rounding, another backend may rightly choose another keypoint,
    and then all outputs of that person differ.
    """

    simcc_x: NDArray[np.floating]
    simcc_y: NDArray[np.floating]
    margin: NDArray[np.floating]


def run_reference(estimator: Any, images: NDArray[np.floating]) -> ReferenceOutputs:
    """Runs normalised images (B,3,h,w) through an estimator, in the dtype of both."""
    margins = []

    def watch(cim: nn.Module, inputs: tuple[Any, ...], _outputs: object) -> None:
        _features, (logits_x, logits_y) = inputs
        margins.append(intervention_margin(cim, logits_x, logits_y))

    handle = estimator.head.cim.register_forward_hook(watch)
    try:
        with torch.inference_mode():
            simcc_x, simcc_y = Reference(estimator)(torch.from_numpy(images))
    finally:
        handle.remove()
    return ReferenceOutputs(simcc_x.numpy(), simcc_y.numpy(), margins[0].numpy())


def intervention_margin(cim: Any, logits_x: Tensor, logits_y: Tensor) -> Tensor:
    """How clearly the intervention chooses: logits (B,K,W) and (B,K,H) -> (B,), >= 0."""
    score = confound_score(logits_x, logits_y)
    if cim.intervention_strategy == "threshold":
        threshold: float = cim.intervention_threshold
        return (score - threshold).abs().amin(dim=1)
    k: int = cim.intervention_k_val
    if k >= score.shape[1]:
        return torch.full_like(score[:, 0], torch.inf)
    ranked = score.sort(dim=1, descending=True).values
    return ranked[:, k - 1] - ranked[:, k]
