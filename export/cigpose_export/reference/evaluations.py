"""Float32 evaluations of one model that differ in rounding alone: samples of its noise floor.

One float32 run is one sample of what rounding does, and may be off by much less than the next one.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from cigpose_export.reference.run import run_reference
from cigpose_verify.measures.tolerances import max_difference

FURTHER = 12
"""How many evaluations `further_evaluations` adds.

Where one activation on a kink carries all of the error, samples are those of a normal distribution
around zero: after 4, the next one is more than 2.2 times the largest with a chance of 3 %, after 16
with one of 0.06 %. On other inputs errors are sums of many, and samples differ little.
"""


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
    yield channels_last(estimator)
    yield averaged_in_order(estimator)
    yield nudged(estimator, 0)


def further_evaluations(estimator: Any) -> Iterator[Any]:
    """More of them: in the memory format that rounds worst, with weights nudged in other ways."""
    other = channels_last(estimator)
    for seed in range(1, FURTHER + 1):
        yield nudged(other, seed)


def noise_floor(estimator: Any, images: NDArray[np.float32]) -> float:
    """The largest error against float64 of all evaluations, in the outputs for images (B,3,h,w)."""
    exact = run_reference(copy.deepcopy(estimator).double(), images.astype(np.float64))
    answers = (
        run_reference(one, images)
        for one in itertools.chain(evaluations(estimator), further_evaluations(estimator))
    )
    return max(
        max(max_difference(a.simcc_x, exact.simcc_x), max_difference(a.simcc_y, exact.simcc_y))
        for a in answers
    )


def channels_last(estimator: Any) -> Any:
    """A copy with its weights in the channels-last memory format, which activations follow."""
    return copy.deepcopy(estimator).to(memory_format=torch.channels_last)


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
            is_up = torch.randint(2, parameter.shape, generator=generator, dtype=torch.int32)
            step = (2 * is_up - 1) * (parameter != 0)
            parameter.view(torch.int32).add_(step)
    return copied
