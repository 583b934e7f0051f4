"""A graph with 8-bit values, taken apart: the graph that was quantised, and what each step keeps.

Every activation passes through a pair of QuantizeLinear and DequantizeLinear; every weight is an
integer and a DequantizeLinear. Without them, the graph has to be its float32 parent's, node by
node. So nothing has to be inferred from outputs, which say little of weights that nobody trained.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from cigpose_runtime.arrays import Floats
from cigpose_runtime.errors import quoted
from cigpose_runtime.estimation.session import CPU
from cigpose_verify.matrix import Setting, run
from cigpose_verify.stages.intervention import exposed

PAIR = ("QuantizeLinear", "DequantizeLinear")

LEAST_KEPT_DB = 6.0
"""Of each quantised activation by itself, over all crops, in dB of signal to noise. Measured, the
least of 128: the demonstration model 21.2, calibrated on drawn people and tried on photographs; a
tiny model with synthetic weights 10.1."""


def calibration_path(model: Path) -> Path:
    """The list of the crops that a model in int8 was calibrated on, beside it."""
    return model.with_name(f"{model.stem}.calibration.json")


@dataclass(frozen=True)
class Step:
    """How a tensor is quantised: value = (integer - zero_point) * scale, along an axis."""

    scale: NDArray[np.float32]
    zero_point: NDArray[Any]
    axis: int

    def restored(self, integers: NDArray[Any]) -> NDArray[np.float64]:
        """The values of integers."""
        shape = [1] * integers.ndim
        if self.scale.ndim:
            shape[self.axis] = -1
        zero_point = self.zero_point.astype(np.float64).reshape(shape)
        return (integers - zero_point) * self.scale.astype(np.float64).reshape(shape)

    def kept(self, values: NDArray[Any]) -> NDArray[np.float64]:
        """What is left of values that pass through it."""
        limits = np.iinfo(self.zero_point.dtype)
        integers = np.rint(values / self.scale.astype(np.float64)) + self.zero_point
        return self.restored(np.clip(integers, limits.min, limits.max))


@dataclass(frozen=True)
class TakenApart:
    """activations: by the tensor that is quantised. constants: integers and their step, by the
    name of the parent's constant."""

    activations: Mapping[str, Step]
    constants: Mapping[str, tuple[NDArray[Any], Step]]
    problems: Sequence[str]


def take_apart(model: onnx.ModelProto, parent: onnx.ModelProto) -> TakenApart:
    """What a graph is without its quantisation, held to its parent's."""
    makers = {name: node for node in model.graph.node for name in node.output}
    tensors = {t.name: t for t in model.graph.initializer}
    own = {n.name: n for n in model.graph.node if n.op_type not in PAIR}
    originals = {t.name: t for t in parent.graph.initializer}
    activations: dict[str, Step] = {}
    constants: dict[str, tuple[NDArray[Any], Step]] = {}
    problems: list[str] = []

    def step_of(node: onnx.NodeProto) -> Step:
        scale, zero_point = (numpy_helper.to_array(tensors[name]) for name in node.input[1:3])
        axis = next((a.i for a in node.attribute if a.name == "axis"), 1)
        return Step(scale, zero_point, axis)

    def follow(name: str, original: str) -> str:
        """The tensor before its quantisation, by the name that it has in the parent."""
        maker = makers.get(name)
        if maker is None or maker.op_type != "DequantizeLinear":
            return name
        integers, step = maker.input[0], step_of(maker)
        if integers in tensors:
            constants[original] = numpy_helper.to_array(tensors[integers]), step
            return original
        quantizer = makers[integers]
        source: str = quantizer.input[0]
        steps = [step, step_of(quantizer), activations.setdefault(source, step)]
        if len({(one.scale.tobytes(), one.zero_point.tobytes()) for one in steps}) > 1:
            problems.append(f"{source}: expected one scale and zero point, found several")
        return source

    if own.keys() != {n.name for n in parent.graph.node}:
        others = sorted(own.keys() ^ {n.name for n in parent.graph.node})
        problems.append(f"expected the nodes of the float32 file, found otherwise {quoted(others)}")
    in_head = False
    for node in parent.graph.node:
        in_head = in_head or node.op_type == "Reshape"
        if (found := own.get(node.name)) is None:
            continue
        inputs = [follow(*names) for names in zip(found.input, node.input, strict=False)]
        same = (found.op_type, list(found.attribute), list(found.output), inputs) == (
            node.op_type,
            list(node.attribute),
            list(node.output),
            list(node.input),
        )
        if not same or len(found.input) != len(node.input):
            problems.append(f"{node.name}: expected it as in the float32 file, found another")
        elif in_head and list(found.input) != list(node.input) and node.op_type != "Reshape":
            problems.append(f"{node.name}: expected the head in float32, found it quantised")
    for name, tensor in originals.items():
        if name in constants:
            problems += _of_constant(name, numpy_helper.to_array(tensor), *constants[name])
        elif name not in tensors or tensors[name].raw_data != tensor.raw_data:
            problems.append(f"{name}: expected the constant of the float32 file, found another")
    for name, step in activations.items():
        if step.zero_point.dtype != np.uint8 or step.scale.ndim or not step.scale > 0:
            problems.append(f"{name}: expected one scale above 0, and a zero point in uint8")
    return TakenApart(activations, constants, problems)


def _of_constant(
    name: str, exact: NDArray[Any], integers: NDArray[Any], step: Step
) -> Iterator[str]:
    """What is not so of a quantised weight (int8, by channel) or bias (int32)."""
    if integers.dtype not in (np.int8, np.int32) or integers.shape != exact.shape:
        yield f"{name}: expected int8 {exact.shape}, found {integers.dtype} {integers.shape}"
        return
    off = np.abs(step.restored(integers) - exact)
    half = step.restored(np.ones_like(integers) + step.zero_point.astype(integers.dtype)[0]) / 2
    if not (off <= half * (1 + 1e-3)).all():
        yield (
            f"{name}: expected the float32 weights to half a step, found them up to "
            f"{np.max(off / half) / 2:.3g} steps off"
        )


def least_kept(apart: TakenApart, parent: onnx.ModelProto, inputs: Floats) -> tuple[float, str]:
    """Of the quantised activations, the one that loses most by itself: SNR in dB, name.

    inputs (N, 3, h, w): run through the parent, whose values each step is given.
    """
    names = list(apart.activations)
    session = Setting(CPU, "all", 1).open(exposed(parent, [n for n in names if n != "input"]))
    signal, noise = np.zeros(len(names)), np.zeros(len(names))
    for picture in inputs:
        feed = {"input": picture[None]}
        values = run(session, [n for n in names if n != "input"], feed)
        by_name = {**dict(zip([n for n in names if n != "input"], values, strict=True)), **feed}
        for place, name in enumerate(names):
            exact = by_name[name].astype(np.float64)
            signal[place] += np.square(exact).sum()
            noise[place] += np.square(apart.activations[name].kept(exact) - exact).sum()
    decibels = 10 * np.log10(signal / np.maximum(noise, 1e-30))
    worst = int(np.argmin(decibels))
    return float(decibels[worst]), names[worst]
