"""Float32 evaluations of one model that differ in rounding alone: samples of its noise floor.

One float32 run is one sample of what rounding does, and may be off by much less than the next one.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

NUDGED = 3
"""How many evaluations have nudged weights."""


def evaluations(estimator: Any) -> Iterator[Any]:
    """Estimators that compute what one computes and round elsewhere, that one itself first.

    - In the channels-last memory format, other kernels sum in another order.
    - Averages over a feature map are sums of thousands of numbers, which PyTorch adds pairwise and
      onnxruntime one after another. Where a crop is padded, the numbers are equal and their
      rounding errors add up.
    - Nudged weights are off by as much as weights that a batch norm has been folded into.

    The exported form is none of them: its own defects would raise the floor that it is held to.
    The same ones come each time.
    """
    yield estimator
    yield copy.deepcopy(estimator).to(memory_format=torch.channels_last)
    yield averaged_in_order(estimator)
    for seed in range(NUDGED):
        yield nudged(estimator, seed)


class AverageInOrder(nn.Module):
    """The mean over a feature map (B,C,h,w) -> (B,C,1,1), one position after another."""

    def forward(self, x: Tensor) -> Tensor:
        positions = x.flatten(2).permute(2, 0, 1).contiguous()
        total = positions[0]
        for position in positions[1:]:
            total = total + position
        return (total / len(positions))[:, :, None, None]


def averaged_in_order(estimator: Any) -> Any:
    """A copy whose averages over whole feature maps are summed one position after another."""
    copied = copy.deepcopy(estimator)
    for parent in list(copied.modules()):
        for name, module in parent.named_children():
            if isinstance(module, nn.AdaptiveAvgPool2d) and module.output_size == 1:
                setattr(parent, name, AverageInOrder())
    return copied


def nudged(estimator: Any, seed: int) -> Any:
    """A copy with every parameter moved to the next float32 up or down, by chance; zeros stay."""
    generator = torch.Generator().manual_seed(seed)
    copied = copy.deepcopy(estimator)
    with torch.no_grad():
        for parameter in copied.parameters():
            sign = torch.rand(parameter.shape, generator=generator).round().double() * 2 - 1
            parameter.copy_(parameter.double() * (1 + sign * 2**-24))
    return copied
