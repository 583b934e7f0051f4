"""CIGHead in its reference form, written for clarity: edge lists, scatter, gather.

This is the side that parity is measured against. It says what the published head computes, in the
order in which it computes it, for any batch and any float dtype. What ships is
`cigpose_export.modeling.dense`, which is built from an instance of this class.

Source: the published CIGPose head (Apache-2.0); parameter names are those of its checkpoints.
Shapes: B people, K keypoints, C `hidden_dims`, W and H = input width and height x split ratio.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cigpose_export.openmmlab import RTMCCHead, ScaleNorm

Pairs = Sequence[tuple[int, int]]


class CausalIntervention(nn.Module):
    """Replaces the features of the keypoints that the model is least sure of.

    `intervention_strategy` is "topk" (the `intervention_k_val` most confounded keypoints of each
    person; `intervention_k` while training) or "threshold" (confound score above
    `intervention_threshold`).
    """

    def __init__(
        self,
        num_keypoints: int,
        feature_dim: int,
        intervention_strategy: str = "topk",
        intervention_k: int = 1,
        intervention_k_val: int = 1,
        intervention_threshold: float = 0.5,
    ) -> None:
        super().__init__()
        if intervention_strategy not in ("topk", "threshold"):
            raise ValueError(
                f"intervention_strategy is {intervention_strategy!r}; "
                "the head knows 'topk' and 'threshold'"
            )
        self.intervention_strategy = intervention_strategy
        self.intervention_k = intervention_k
        self.intervention_k_val = intervention_k_val
        self.intervention_threshold = intervention_threshold
        self.canonical_features = nn.Embedding(num_keypoints, feature_dim)

    def choose(self, score: Tensor) -> Tensor:
        """Which keypoints to replace: confound scores (B,K) -> bool (B,K)."""
        if self.intervention_strategy == "threshold":
            return score > self.intervention_threshold
        k = self.intervention_k if self.training else self.intervention_k_val
        worst = score.topk(min(k, score.shape[1]), dim=1).indices
        return torch.zeros_like(score, dtype=torch.bool).scatter(1, worst, True)

    def forward(self, features: Tensor, logits: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """Features (B,K,C) and initial logits -> features with rows replaced, and which (B,K)."""
        intervened = self.choose(confound_score(*logits))
        person, keypoint = torch.where(intervened)
        replaced = features.clone()
        replaced[person, keypoint] = self.canonical_features(keypoint)
        return replaced, intervened


class EdgeConv(nn.Module):
    """Sums, at each node i, the messages SiLU(BN(W [x_i ; x_j - x_i])) of its edges i <- j."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.out_channels = out_channels
        self.conv = nn.Sequential(
            nn.Conv2d(2 * in_channels, out_channels, kernel_size=1, bias=False),
            nn.BatchNorm2d(out_channels),
            nn.SiLU(),
        )

    def forward(self, x: Tensor, edges: Tensor) -> Tensor:
        """Nodes (B,N,C) and directed edges (E,2) of (i, j) -> (B,N,C'), zero without edges."""
        if not len(edges):
            return x.new_zeros(x.shape[0], x.shape[1], self.out_channels)
        receiver, sender = edges[:, 0], edges[:, 1]
        x_i, x_j = x[:, receiver], x[:, sender]
        pairs = torch.cat([x_i, x_j - x_i], dim=-1)  # (B,E,2C)
        messages = self.conv(pairs.transpose(1, 2).unsqueeze(-1)).squeeze(-1).transpose(1, 2)
        return self.sum_at(receiver, messages, x.shape[1])

    def sum_at(self, receiver: Tensor, messages: Tensor, nodes: int) -> Tensor:
        """Messages (B,E,C') to receivers (E,) -> their sums (B,nodes,C')."""
        out = messages.new_zeros(messages.shape[0], nodes, messages.shape[-1])
        return out.index_add(1, receiver, messages)


class GroupAttention(nn.Module):
    """Scales each keypoint by the mean attention of the groups that it belongs to."""

    group_edges: Tensor

    def __init__(self, channels: int, keypoint_groups: Sequence[Sequence[int]]) -> None:
        super().__init__()
        inner = max(channels // 4, 1)
        self.keypoint_groups = keypoint_groups
        self.conv_down_linear = nn.Linear(channels, inner)
        self.bn_down = nn.BatchNorm1d(inner)
        self.edge_conv_groups = EdgeConv(inner, inner)
        self.aggregate_linear = nn.Linear(inner, channels)
        groups = range(len(keypoint_groups))
        complete = [(i, j) for i in groups for j in groups if i != j]
        self.register_buffer("group_edges", edge_tensor(complete), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B,K,C) -> (B,K,C)."""
        down = F.silu(over_rows(self.bn_down, self.conv_down_linear(x)))
        means = torch.stack([down[:, list(g)].mean(dim=1) for g in self.keypoint_groups], dim=1)
        attention = self.aggregate_linear(self.edge_conv_groups(means, self.group_edges)).sigmoid()
        total = torch.zeros_like(x)
        memberships = x.new_zeros(x.shape[1], 1)
        for index, group in enumerate(self.keypoint_groups):
            for keypoint in group:
                total[:, keypoint] += attention[:, index]
                memberships[keypoint] += 1
        mean = total / memberships.clamp(min=1)
        return x * torch.where(memberships > 0, mean, torch.ones_like(mean))


class GraphNetwork(nn.Module):
    """The anatomical graph: edge convolutions with group attention and a residual."""

    edges: Tensor

    def __init__(
        self,
        num_layers: int,
        input_dim: int,
        hidden_dim: int,
        keypoint_connections: Pairs,
        keypoint_groups: Sequence[Sequence[int]],
    ) -> None:
        super().__init__()
        self.keypoint_connections = keypoint_connections
        self.conv_input = nn.Linear(input_dim, hidden_dim)
        self.bn_input = nn.BatchNorm1d(hidden_dim)
        self.edgeconv_layers = nn.ModuleList(
            EdgeConv(hidden_dim, hidden_dim) for _ in range(num_layers)
        )
        self.attention_modules = nn.ModuleList(
            GroupAttention(hidden_dim, keypoint_groups) for _ in range(num_layers)
        )
        self.bn_layers = nn.ModuleList(nn.BatchNorm1d(hidden_dim) for _ in range(num_layers))
        both_ways = [edge for a, b in keypoint_connections for edge in ((a, b), (b, a))]
        self.register_buffer("edges", edge_tensor(both_ways), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B,K,C) -> (B,K,C)."""
        x = F.silu(over_rows(self.bn_input, self.conv_input(x)))
        for edge_conv, bn, attention in zip(
            self.edgeconv_layers, self.bn_layers, self.attention_modules, strict=True
        ):
            x = F.silu(attention(over_rows(bn, edge_conv(x, self.edges))) + x)
        return x


def confound_score(logits_x: Tensor, logits_y: Tensor) -> Tensor:
    """1 - mean peak probability: logits (B,K,W) and (B,K,H) -> (B,K) in 0..1."""
    peak_x = logits_x.softmax(dim=-1).amax(dim=-1)
    peak_y = logits_y.softmax(dim=-1).amax(dim=-1)
    return 1 - (peak_x + peak_y) / 2


def edge_tensor(pairs: Pairs) -> Tensor:
    """Directed edges (i, j) as an int64 tensor (E,2), also when there are none."""
    return torch.tensor(pairs, dtype=torch.int64).reshape(-1, 2)


def over_rows(bn: nn.Module, x: Tensor) -> Tensor:
    """Applies a BatchNorm1d over the B*K rows of (B,K,C)."""
    rows: Tensor = bn(x.flatten(0, 1))
    return rows.reshape(x.shape[0], x.shape[1], -1)


class CIGHead(RTMCCHead):  # type: ignore[misc]
    """MMPose's RTMCC head with causal intervention and a graph network; SimCC logits out.

    Args are RTMCCHead's, and: `gcn_cfg` (num_layers, input_dim, hidden_dim), `cim_cfg` (see
    `CausalIntervention`), `keypoint_connections` (undirected pairs) and `keypoint_groups` (lists
    of keypoint indices). `in_featuremap_num` above 1 and `loss_cf` exist in the published head for
    training; a config may carry `loss_cf`, which inference does not need.
    """

    def __init__(
        self,
        *,
        gcn_cfg: dict[str, Any],
        cim_cfg: dict[str, Any],
        keypoint_connections: Pairs,
        keypoint_groups: Sequence[Sequence[int]],
        in_featuremap_num: int = 1,
        loss_cf: dict[str, Any] | None = None,
        **rtmcc: Any,
    ) -> None:
        super().__init__(**rtmcc)
        if in_featuremap_num != 1:
            raise ValueError(f"in_featuremap_num is {in_featuremap_num}; all CIGPose models use 1")
        channels = rtmcc["gau_cfg"]["hidden_dims"]
        hidden = gcn_cfg["hidden_dim"]
        width, height = (int(side * self.simcc_split_ratio) for side in self.input_size)
        area = self.in_featuremap_size[0] * self.in_featuremap_size[1]
        self.mlp_pre_gau = nn.Sequential(ScaleNorm(area), nn.Linear(area, channels, bias=False))
        self.initial_pred_x = nn.Linear(channels, width)
        self.initial_pred_y = nn.Linear(channels, height)
        self.cim = CausalIntervention(self.out_channels, channels, **cim_cfg)
        self.gcn = GraphNetwork(
            **gcn_cfg, keypoint_connections=keypoint_connections, keypoint_groups=keypoint_groups
        )
        self.cls_gx = nn.Linear(hidden, width)
        self.cls_gy = nn.Linear(hidden, height)

    def forward(self, feats: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Feature maps, the last one (B,Cin,h/32,w/32) -> `simcc_x` (B,K,W), `simcc_y` (B,K,H)."""
        _, final = self.both_predictions(feats)
        return final

    def both_predictions(
        self, feats: Sequence[Tensor]
    ) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
        """As `forward`, before the initial logits, by which the intervention chooses."""
        tokens = self.mlp_pre_gau(self.final_layer(feats[-1]).flatten(2))
        features = self.gau(tokens)
        initial = self.initial_pred_x(features), self.initial_pred_y(features)
        features, _ = self.cim(features, initial)
        features = self.gcn(features)
        return initial, (self.cls_gx(features), self.cls_gy(features))
