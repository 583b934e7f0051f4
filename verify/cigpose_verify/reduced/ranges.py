"""Does every tensor stay in float16's range, on pictures that are harder than photographs, too?

Overflow hides: x / infinity is 0, and no NaN comes out. So the tensors are looked at, not the
outputs, just before they are rounded.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from cigpose_runtime import Contract
from cigpose_runtime.arrays import Floats, Pixels
from cigpose_runtime.estimation.preprocess import make_input
from cigpose_verify.matrix import Setting, run
from cigpose_verify.reduced.emulate import Emulated
from cigpose_verify.stages.intervention import exposed

LARGEST = float(np.finfo(np.float16).max)

HEADROOM = 2.0
"""What is left to pictures that nobody has tried. TODO measured."""


def extreme_inputs(contract: Contract) -> Iterator[tuple[str, Floats]]:
    """Names and inputs (3, h, w) of pictures that drive activations further than photographs do."""
    size = contract.input_h, contract.input_w
    for name, frame in _extreme_frames(*size).items():
        height, width = size
        center = np.array([[width / 2, height / 2]], np.float32)
        scale = np.array([[width, height]], np.float32)
        yield name, make_input(frame, center, scale, contract)[0]


def _extreme_frames(height: int, width: int) -> dict[str, Pixels]:
    shape = height, width, 3
    red, stripes, checks = (np.zeros(shape, np.uint8) for _ in range(3))
    red[..., 2] = 255
    stripes[:, ::2] = 255
    rows, columns = np.arange(height) // 8, np.arange(width) // 8
    checks[np.add.outer(rows, columns) % 2 == 0] = 255
    binary = np.random.default_rng(0).integers(0, 2, shape, np.uint8) * 255
    return {
        "white": np.full(shape, 255, np.uint8),
        "black": np.zeros(shape, np.uint8),
        "red": red,
        "stripes": stripes,
        "checks": checks,
        "binary noise": binary,
    }


def range_problem(emulated: Emulated, inputs: Iterator[tuple[str, Floats]]) -> str | None:
    """Which tensor goes furthest beyond what is allowed, on inputs (3, h, w) with their names."""
    tensors = list(emulated.unrounded)
    session = Setting("CPUExecutionProvider", "disabled", 2).open(
        exposed(emulated.model, emulated.unrounded.values())
    )
    furthest, where = 0.0, ""
    for name, picture in inputs:
        values = run(session, list(emulated.unrounded.values()), {"input": picture[np.newaxis]})
        for tensor, value in zip(tensors, values, strict=True):
            reach = float(np.abs(value).max())
            if np.isnan(reach):
                return f"{name}: {tensor} is not finite"
            if reach > furthest:
                furthest, where = reach, f"{name}: {tensor}"
    if furthest * HEADROOM <= LARGEST:
        return None
    return (
        f"{where} reaches {furthest:.3g}; expected at most {LARGEST / HEADROOM:,.0f}, which leaves "
        f"float16 a factor of {HEADROOM:g}"
    )
