"""The heads of RTMPose, DWPose and RTMW as dense products, built from MMPose's own."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from cigpose_export.modeling.dense_layers import (
    FEATURE_SCALE,
    DenseGau,
    ScaledLinear,
    fold_norms,
    scaled,
)


class DenseRtmccHead(nn.Module):
    """Feature maps, the last one (B,Cin,h/32,w/32) -> `simcc_x` (B,K,W), `simcc_y` (B,K,H)."""

    def __init__(self, reference: Any) -> None:
        super().__init__()
        self.final_layer = scaled(reference.final_layer, FEATURE_SCALE)
        norm, linear = reference.mlp
        self.mlp = ScaledLinear(norm, linear, input_scale=FEATURE_SCALE)
        self.gau = DenseGau(reference.gau)
        self.cls_x = copy.deepcopy(reference.cls_x)
        self.cls_y = copy.deepcopy(reference.cls_y)

    def forward(self, feature_maps: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        features = self.gau(self.mlp(self.final_layer(feature_maps[-1]).flatten(2)))
        return self.cls_x(features), self.cls_y(features)


class DenseRtmwHead(nn.Module):
    """Two feature maps, (B,Cin/2,h/16,w/16) and (B,Cin,h/32,w/32) -> `simcc_x`, `simcc_y`."""

    def __init__(self, reference: Any) -> None:
        super().__init__()
        self.ps = reference.ps
        self.conv_dec = fold_norms(reference.conv_dec)
        self.final_layer = fold_norms(reference.final_layer)
        self.final_layer2 = fold_norms(reference.final_layer2)
        self.mlp = ScaledLinear(*reference.mlp)
        self.mlp2 = ScaledLinear(*reference.mlp2)
        self.gau = DenseGau(reference.gau)
        self.cls_x = copy.deepcopy(reference.cls_x)
        self.cls_y = copy.deepcopy(reference.cls_y)

    def forward(self, feature_maps: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        fine, coarse = feature_maps
        of_coarse = self.mlp(self.final_layer(coarse).flatten(2))
        fine = torch.cat([self.conv_dec(self.ps(coarse)), fine], dim=1)
        of_fine = self.mlp2(self.final_layer2(fine).flatten(2))
        features = self.gau(torch.cat([of_coarse, of_fine], dim=2))
        return self.cls_x(features), self.cls_y(features)
