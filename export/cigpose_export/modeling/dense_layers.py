"""The layers that dense forms of all heads are made of, and folding of norms into products."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval

from cigpose_export.errors import ExportError
from cigpose_export.openmmlab import ChannelAttention, ConvModule

FEATURE_SCALE = 2**-6
"""Of the features that the first norm takes. It divides by their length, so that the scale cancels,
and a power of two changes no digit; but the sum of their squares stays in float16's range: unscaled
it was measured up to 902,000 on photographs and 3e12 on extreme pictures, and x / inf is 0."""


class ScaledLinear(nn.Module):
    """ScaleNorm and a linear layer in one: W g x / max(|x| / sqrt(dim), eps).

    input_scale: by which its input has been multiplied; the output is the same for any.
    """

    def __init__(self, norm: Any, linear: nn.Linear, input_scale: float = 1.0) -> None:
        super().__init__()
        self.scale, self.eps = norm.scale, norm.eps * input_scale
        gain = norm.g.detach().double()
        self.linear = as_linear(linear.weight.double() * gain, linear.bias)

    def forward(self, x: Tensor) -> Tensor:
        length = torch.linalg.vector_norm(x, dim=-1, keepdim=True) * self.scale
        normed: Tensor = self.linear(x / length.clamp(min=self.eps))
        return normed


class DenseGau(nn.Module):
    """MMPose's RTMCCBlock as all published models set it up: self-attention, no position encoding.

    The activation is SiLU, or the head's default, ReLU.
    """

    gamma: Tensor
    beta: Tensor

    def __init__(self, block: Any) -> None:
        super().__init__()
        if block.attn_type != "self-attn" or block.use_rel_bias or block.pos_enc:
            raise ExportError(
                "the gated attention unit uses relative bias, position encoding or "
                "cross-attention, which no published model does: there is no dense form for it"
            )
        self.activation = F.relu if isinstance(block.act_fn, nn.ReLU) else F.silu
        self.split = [block.e, block.e, block.s]
        self.uv = ScaledLinear(block.ln, block.uv)
        # relu(q k / sqrt(s)) squared: the root's share goes to the query side.
        share = torch.tensor([[1 / block.sqrt_s], [1.0]], dtype=torch.float64)
        self.register_buffer("gamma", (block.gamma.double() * share).float())
        self.register_buffer("beta", (block.beta.double() * share).float())
        self.o = copy.deepcopy(block.o)
        self.res_scale = copy.deepcopy(block.res_scale) if block.shortcut else None

    def forward(self, x: Tensor) -> Tensor:
        u, v, base = torch.split(self.activation(self.uv(x)), self.split, dim=-1)
        query = base * self.gamma[0] + self.beta[0]
        key = base * self.gamma[1] + self.beta[1]
        attention = F.relu(query @ key.transpose(1, 2)).square()
        out: Tensor = self.o(u * (attention @ v))
        return out if self.res_scale is None else self.res_scale(x) + out


def bn_scale_shift(bn: Any) -> tuple[Tensor, Tensor]:
    """A batch norm in eval mode as y = scale x + shift, both (C,) float64."""
    scale = bn.weight.detach().double() / (bn.running_var.double() + bn.eps).sqrt()
    return scale, bn.bias.detach().double() - bn.running_mean.double() * scale


def as_linear(weight: Tensor, bias: Tensor | None) -> nn.Linear:
    """A float32 linear layer of the given weight (out,in) and bias (out,)."""
    linear = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None)
    linear.weight = nn.Parameter(weight.detach().float())
    if bias is not None:
        linear.bias = nn.Parameter(bias.detach().float())
    return linear


def fold_linear_bn(linear: nn.Linear, bn: Any) -> nn.Linear:
    """A linear layer and the batch norm behind it as one linear layer."""
    scale, shift = bn_scale_shift(bn)
    return as_linear(linear.weight.double() * scale[:, None], linear.bias.double() * scale + shift)


def scaled(layer: nn.Module, factor: float) -> nn.Module:
    """A copy of a linear or convolution layer whose output is multiplied by `factor`."""
    copied = copy.deepcopy(layer)
    for parameter in copied.parameters():
        parameter.data *= factor
    return copied


def fold_norms(part: Any) -> nn.Module:
    """A copy of a part of MMPose with batch norms and hard sigmoids folded into convolutions.

    Of hard sigmoid(x) = clip(x / 6 + 1/2, 0, 1), the clip remains: OpenCV takes a product with a
    HardSigmoid for HardSwish, whatever the other factor is.
    """
    folded: nn.Module = copy.deepcopy(part).double()
    folded.eval()  # not chained: MMPose's backbones return None from it
    for module in folded.modules():
        if isinstance(module, ConvModule) and module.with_norm:
            module.conv = fuse_conv_bn_eval(module.conv, module.norm)
            setattr(module, module.norm_name, nn.Identity())
        elif isinstance(module, ChannelAttention):
            module.fc = scaled(module.fc, 1 / 6)
            module.fc.bias.data += 1 / 2
            module.act = nn.Hardtanh(0, 1)
    return folded.float()
