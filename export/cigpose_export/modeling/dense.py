"""The form of the model that is exported: the reference model as dense products.

Every module is built *from* its reference counterpart and computes the same function up to float
rounding, for any batch, with no scatter, no loop and no data-dependent shape. BatchNorm and
ScaleNorm gains are folded into the neighbouring product, in float64.

Some forms are chosen so that engines of lower precision and other vendors get the same answer
(docs/engines.md has the figures): the choice is ranked by the peaks themselves, features are scaled
down before their squares are summed, and hard sigmoids are clips.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from cigpose_export.errors import ExportError
from cigpose_export.modeling.dense_cig import DenseCigHead
from cigpose_export.modeling.dense_layers import fold_norms
from cigpose_export.modeling.dense_rtm import DenseRtmccHead, DenseRtmwHead
from cigpose_export.openmmlab import RTMWHead


def lower(model: Any) -> DenseModel:
    """Builds the exportable form of an MMPose estimator.

    It reads attributes that the published CIGPose head has too, so a fork's own can be lowered.
    """
    try:
        return DenseModel(model)
    except AttributeError as error:
        head = type(model.head)
        raise ExportError(
            f"the head {head.__module__}.{head.__qualname__} is not built as the published one "
            f"({error}); uninstall the package that registers it"
        ) from error


class DenseModel(nn.Module):
    """Image (B,3,h,w) -> `simcc_x` (B,K,W), `simcc_y` (B,K,H)."""

    def __init__(self, reference: Any) -> None:
        super().__init__()
        self.backbone = fold_norms(reference.backbone)
        neck = getattr(reference, "neck", None)
        self.neck = None if neck is None else fold_norms(neck)
        self.head = dense_head(reference.head)
        self.eval().requires_grad_(False)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        features = self.backbone(image)
        if self.neck is not None:
            features = self.neck(features)
        simcc: tuple[Tensor, Tensor] = self.head(features)
        return simcc


def dense_head(reference: Any) -> nn.Module:
    """The dense form of a head, by what it is built of: a fork's CIGPose head has its own class."""
    if has_intervention(reference):
        return DenseCigHead(reference)
    return (
        DenseRtmwHead(reference) if isinstance(reference, RTMWHead) else DenseRtmccHead(reference)
    )


def has_intervention(head: Any) -> bool:
    """Whether a head replaces features of keypoints, as CIGPose's does."""
    return hasattr(head, "cim")
