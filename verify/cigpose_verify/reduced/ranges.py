"""Does every tensor stay in float16's range, on pictures that are harder than photographs, too?

Overflow hides: x / infinity is 0, and no NaN comes out. So the tensors are looked at, not the
outputs, just before they are rounded.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from cigpose_runtime import Contract
from cigpose_runtime.arrays import Floats, Pixels
from cigpose_runtime.estimation.preprocess import make_input
from cigpose_runtime.estimation.session import CPU
from cigpose_runtime.machine import cores
from cigpose_verify.matrix import Setting, run
from cigpose_verify.reduced.emulate import Emulated
from cigpose_verify.stages.choice import exposed

LARGEST = float(np.finfo(np.float16).max)

HEADROOM = 2.0
"""Of float16's range, what is left to pictures that nobody has tried. Measured: the demonstration
model reaches 27, extreme pictures included; a synthetic m 89 on noise and photographs."""


def extreme_inputs(contract: Contract) -> Iterator[tuple[str, Floats]]:
    """Names and inputs (3, h, w) of pictures that drive activations further than photographs do.

    None for synthetic weights: drawn at random, they let such pictures grow from layer to layer as
    no trained weights do (measured: m to 5,068, l to 96,797, x to 134,336 on binary noise).
    """
    if contract.weights == "synthetic":
        return
    width, height = contract.input_w, contract.input_h
    center = np.array([[width / 2, height / 2]], np.float32)
    scale = np.array([[width, height]], np.float32)
    for name, frame in _extreme_frames(height, width).items():
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


def range_problem(emulated: Emulated, inputs: Iterable[tuple[str, Floats]]) -> str | None:
    """The first tensor that goes further than is safe, on inputs (3, h, w) with their names."""
    values = list(emulated.unrounded.values())
    session = Setting(CPU, "disabled", max(2, cores())).open(exposed(emulated.model, values))
    most = LARGEST / HEADROOM
    for name, picture in inputs:
        found = run(session, ["simcc_x", *values], {"input": picture[np.newaxis]})[1:]
        for tensor, value in zip(emulated.unrounded, found, strict=True):
            reach = float(np.abs(value).max())
            if not reach <= most:
                return f"{name}: expected values up to {most:,.0f}, found {tensor} at {reach:.3g}"
    return None
