"""The CIGPose head as dense products.

Every module here is built *from* its reference counterpart:

- W [x_i ; x_j - x_i] = (W_a - W_b) x_i + W_b x_j: two products per node, then a gather per edge;
- a sum over edges, a mean over a group or over memberships is a product with a constant matrix;
- the complete graph of groups is a broadcast sum with a masked diagonal;
- the replacement of features is a `where` on a one-hot of the top-k.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cigpose_export.modeling.dense_layers import (
    FEATURE_SCALE,
    DenseGau,
    ScaledLinear,
    as_linear,
    bn_scale_shift,
    fold_linear_bn,
    scaled,
)


class DenseCigHead(nn.Module):
    """Feature maps, the last one (B,Cin,h/32,w/32) -> `simcc_x` (B,K,W), `simcc_y` (B,K,H)."""

    def __init__(self, reference: Any) -> None:
        super().__init__()
        self.final_layer = scaled(reference.final_layer, FEATURE_SCALE)
        norm, linear = reference.mlp_pre_gau
        self.mlp_pre_gau = ScaledLinear(norm, linear, input_scale=FEATURE_SCALE)
        self.gau = DenseGau(reference.gau)
        self.initial_pred_x = copy.deepcopy(reference.initial_pred_x)
        self.initial_pred_y = copy.deepcopy(reference.initial_pred_y)
        self.cim = DenseIntervention(reference.cim)
        self.gcn = DenseGraphNetwork(reference.gcn, reference.out_channels)
        self.cls_gx = copy.deepcopy(reference.cls_gx)
        self.cls_gy = copy.deepcopy(reference.cls_gy)

    def forward(self, feature_maps: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        features = self.gau(self.mlp_pre_gau(self.final_layer(feature_maps[-1]).flatten(2)))
        logits = self.initial_pred_x(features), self.initial_pred_y(features)
        features = self.gcn(self.cim(features, *logits))
        return self.cls_gx(features), self.cls_gy(features)


class DenseIntervention(nn.Module):
    """Replaces the chosen keypoints' features through a mask instead of an index."""

    canonical: Tensor
    keypoints: Tensor

    def __init__(self, reference: Any) -> None:
        super().__init__()
        self.strategy = reference.intervention_strategy
        self.k = reference.intervention_k_val
        self.threshold = reference.intervention_threshold
        canonical = reference.canonical_features.weight.detach().clone()
        self.register_buffer("canonical", canonical)
        self.register_buffer("keypoints", torch.arange(len(canonical)))

    def forward(self, features: Tensor, logits_x: Tensor, logits_y: Tensor) -> Tensor:
        peak_x = logits_x.softmax(dim=-1).amax(dim=-1)
        peak_y = logits_y.softmax(dim=-1).amax(dim=-1)
        # Peaks are small. 1 - (x + y) / 2, the confound score, would round off what ranks them.
        peaks = peak_x + peak_y
        if self.strategy == "threshold":
            chosen = peaks < 2 * (1 - self.threshold)
        else:
            count = min(self.k, len(self.keypoints))
            worst = peaks.topk(count, dim=1, largest=False).indices
            chosen = one_hot_any(worst, self.keypoints)
        return torch.where(chosen.unsqueeze(-1), self.canonical, features)


class DenseEdgeConv(nn.Module):
    """The two node-level products of an EdgeConv: what a node sends to its own and others' edges.

    Nodes (B,N,C) -> receiver part (B,N,C') with the bias in it, and sender part (B,N,C').
    """

    def __init__(self, edge_conv: Any) -> None:
        super().__init__()
        conv, bn = edge_conv.conv[0], edge_conv.conv[1]
        scale, shift = bn_scale_shift(bn)
        weight = conv.weight.double().flatten(1) * scale[:, None]
        own, difference = weight.chunk(2, dim=1)
        self.receiver = as_linear(own - difference, shift)
        self.sender = as_linear(difference, None)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.receiver(x), self.sender(x)


class DenseGroupAttention(nn.Module):
    """Group attention with groups, memberships and the complete graph as constant matrices."""

    group_mean: Tensor
    membership_mean: Tensor
    ungrouped: Tensor
    off_diagonal: Tensor

    def __init__(self, reference: Any, num_keypoints: int) -> None:
        super().__init__()
        groups = reference.keypoint_groups
        members = torch.zeros(len(groups), num_keypoints, dtype=torch.float64)
        for index, group in enumerate(groups):
            for keypoint in group:
                members[index, keypoint] += 1
        sizes = members.sum(dim=1, keepdim=True)
        memberships = members.sum(dim=0).unsqueeze(-1)
        self.register_buffer("group_mean", (members / sizes).float())
        self.register_buffer("membership_mean", (members.T / memberships.clamp(min=1)).float())
        self.register_buffer("ungrouped", (memberships == 0).float())
        self.register_buffer("off_diagonal", (1 - torch.eye(len(groups))).unsqueeze(-1))
        self.down = fold_linear_bn(reference.conv_down_linear, reference.bn_down)
        self.edges = DenseEdgeConv(reference.edge_conv_groups)
        self.aggregate = copy.deepcopy(reference.aggregate_linear)

    def forward(self, x: Tensor) -> Tensor:
        means = self.group_mean @ F.silu(self.down(x))
        receiver, sender = self.edges(means)
        messages = F.silu(receiver.unsqueeze(2) + sender.unsqueeze(1)) * self.off_diagonal
        attention: Tensor = self.aggregate(messages.sum(dim=2)).sigmoid()
        return x * (self.membership_mean @ attention + self.ungrouped)


class DenseGraphNetwork(nn.Module):
    """The anatomical graph with its edge sum as a product with the K x E incidence matrix."""

    def __init__(self, reference: Any, num_keypoints: int) -> None:
        super().__init__()
        self.input = fold_linear_bn(reference.conv_input, reference.bn_input)
        both_ways = [e for a, b in reference.keypoint_connections for e in ((a, b), (b, a))]
        self.layers = nn.ModuleList(
            DenseGraphLayer(*parts, both_ways, num_keypoints)
            for parts in zip(
                reference.edgeconv_layers,
                reference.bn_layers,
                reference.attention_modules,
                strict=True,
            )
        )

    def forward(self, x: Tensor) -> Tensor:
        x = F.silu(self.input(x))
        for layer in self.layers:
            x = layer(x)
        return x


class DenseGraphLayer(nn.Module):
    """One edge convolution, its batch norm, group attention and the residual."""

    receivers: Tensor
    senders: Tensor
    incidence: Tensor
    scale: Tensor
    shift: Tensor

    def __init__(
        self,
        edge_conv: Any,
        bn: Any,
        attention: Any,
        edges: Sequence[tuple[int, int]],
        num_keypoints: int,
    ) -> None:
        super().__init__()
        self.edges = DenseEdgeConv(edge_conv)
        receivers = torch.tensor([i for i, _ in edges], dtype=torch.int64)
        senders = torch.tensor([j for _, j in edges], dtype=torch.int64)
        self.register_buffer("receivers", receivers)
        self.register_buffer("senders", senders)
        self.register_buffer("incidence", F.one_hot(receivers, num_keypoints).T.float())
        scale, shift = bn_scale_shift(bn)
        self.register_buffer("scale", scale.float())
        self.register_buffer("shift", shift.float())
        self.attention = DenseGroupAttention(attention, num_keypoints)

    def forward(self, x: Tensor) -> Tensor:
        receiver, sender = self.edges(x)
        at_edges = receiver.index_select(1, self.receivers) + sender.index_select(1, self.senders)
        summed = self.incidence @ F.silu(at_edges)
        return F.silu(self.attention(summed * self.scale + self.shift) + x)


def one_hot_any(indices: Tensor, classes: Tensor) -> Tensor:
    """Indices (B,k) and classes (K,) -> bool (B,K): is the class among the row's indices?"""
    if indices.shape[1] == 1:
        return indices == classes
    return (indices.unsqueeze(-1) == classes).any(dim=1)
