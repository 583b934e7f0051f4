"""A graph with 8-bit values beside the float32 graph that it was made from.

Every activation passes through a pair of QuantizeLinear and DequantizeLinear; every weight is an
integer and a DequantizeLinear. Without them, the graph has to be its parent's, node by node. So
nothing has to be inferred from outputs, which say little of weights that nobody trained.
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
from cigpose_verify.stages.choice import exposed

BETWEEN = ("QuantizeLinear", "DequantizeLinear")

LEAST_REACH = 63
"""Of the largest weight of each channel as an integer: 7 bits with the sign, whose products every
processor adds up without overflow."""

LEAST_KEPT_DB = 6.0
"""Of each activation by itself, over all photographs, in dB of signal to noise. Measured, the least
of each model, calibrated on drawn people: the demonstration model 22.7, synthetic weights 9.8
(m, 207 activations), 7.5 (l, 266) and 10.4 (a tiny model, 128). The synthetic x (325) answers drawn
people with values beside which those of photographs vanish: 0; calibrated on photographs, 21.0."""

MOST_SATURATED = 0.02
MOST_SATURATED_OF_FEW = 0.1
FEW = 10_000
"""The share of an activation's values on photographs that is beyond its 8 bits, and which is more
where there are few values, as after a mean over the picture. Measured of the same models, the most:
1.4 %, and of few values 5.3 %."""

CALIBRATE = "calibrate on pictures like those that the model will see"


def calibration_path(model: Path) -> Path:
    """The list of the crops that a model in int8 was calibrated on, beside it."""
    return model.with_name(f"{model.stem}.calibration.json")


def nodes_of_head(graph: onnx.GraphProto) -> list[str]:
    """The names of the nodes from the first Reshape on, which makes features of a picture's map."""
    operators = [node.op_type for node in graph.node]
    start = operators.index("Reshape") if "Reshape" in operators else len(operators)
    return [node.name for node in graph.node[start:]]


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

    def passed(self, values: NDArray[Any]) -> tuple[NDArray[np.float64], int]:
        """What is left of values that pass through 8 bits, and how many are beyond them."""
        limits = np.iinfo(self.zero_point.dtype)
        integers = np.rint(values / self.scale.astype(np.float64)) + self.zero_point
        within = np.clip(integers, limits.min, limits.max)
        return self.restored(within), int((np.abs(integers - within) > 1).sum())


@dataclass(frozen=True)
class Unquantised:
    """A graph without its quantisation.

    nodes: by name, as they are without it. narrow: those of them that take 8 bits. activations: by
    the tensor that is quantised, the steps of all that do it. constants: integers and their step,
    by the name of the parent's constant.
    """

    nodes: Mapping[str, onnx.NodeProto]
    narrow: frozenset[str]
    activations: Mapping[str, Sequence[Step]]
    constants: Mapping[str, tuple[NDArray[Any], Step]]

    @classmethod
    def of(cls, graph: onnx.GraphProto) -> Unquantised:
        """Raises KeyError or IndexError for quantisation of another form."""
        tensors = {t.name: t for t in graph.initializer}
        makers = {name: node for node in graph.node for name in node.output}
        activations: dict[str, list[Step]] = {}
        constants, originals = {}, {}
        for node in graph.node:
            if node.op_type not in BETWEEN:
                continue
            scale, zero_point = (numpy_helper.to_array(tensors[name]) for name in node.input[1:3])
            axis = next((a.i for a in node.attribute if a.name == "axis"), 1)
            step, source = Step(scale, zero_point, axis), node.input[0]
            if source in tensors:
                source = source.removesuffix("_quantized")
                constants[source] = numpy_helper.to_array(tensors[node.input[0]]), step
            else:
                if node.op_type == "DequantizeLinear":
                    source = makers[source].input[0]
                activations.setdefault(source, []).append(step)
            if node.op_type == "DequantizeLinear":
                originals[node.output[0]] = source
        nodes, narrow = {}, set()
        for node in graph.node:
            if node.op_type in BETWEEN:
                continue
            nodes[node.name] = without = onnx.NodeProto()
            without.CopyFrom(node)
            without.input[:] = [originals.get(name, name) for name in node.input]
            if any(name in originals for name in node.input):
                narrow.add(node.name)
        return cls(nodes, frozenset(narrow), activations, constants)


def differences(found: Unquantised, graph: onnx.GraphProto, parent: onnx.GraphProto) -> list[str]:
    """What else than quantisation sets a graph apart from its parent, and what of that is wrong."""
    wanted = {node.name: node for node in parent.node}
    names = [*wanted, *(name for name in found.nodes if name not in wanted)]
    if others := [name for name in names if found.nodes.get(name) != wanted.get(name)]:
        return [f"expected the nodes of the float32 file, found others: {quoted(others)}"]
    return [
        *_of_precision(found, parent),
        *_of_constants(found, graph, parent),
        *_of_activations(found),
    ]


def _of_precision(found: Unquantised, parent: onnx.GraphProto) -> Iterator[str]:
    head = set(nodes_of_head(parent))
    for node in parent.node:
        is_narrow = node.name in found.narrow
        if node.name in head and is_narrow and node.op_type != "Reshape":
            yield f"{node.name}: expected the head in float32, found it in 8 bits"
        if node.name in head or node.op_type != "Conv":
            continue
        if not (is_narrow and node.input[1] in found.constants):
            yield f"{node.name}: expected a convolution in 8 bits, found it in float32"


def _of_constants(
    found: Unquantised, graph: onnx.GraphProto, parent: onnx.GraphProto
) -> Iterator[str]:
    tensors = {t.name: t for t in graph.initializer}
    for tensor in parent.initializer:
        if tensor.name in found.constants:
            exact = numpy_helper.to_array(tensor)
            yield from _of_constant(tensor.name, exact, *found.constants[tensor.name])
        elif tensor.name not in tensors or not _is_same(tensors[tensor.name], tensor):
            yield f"{tensor.name}: expected the constant of the float32 file, found another"


def _is_same(found: onnx.TensorProto, wanted: onnx.TensorProto) -> bool:
    """Whether both hold the same bits, however they are stored."""
    arrays = [numpy_helper.to_array(tensor) for tensor in (found, wanted)]
    return len({(str(a.dtype), a.shape, a.tobytes()) for a in arrays}) == 1


def _of_constant(
    name: str, exact: NDArray[Any], integers: NDArray[Any], step: Step
) -> Iterator[str]:
    """What does not hold of a quantised weight (int8, by channel) or bias (int32)."""
    expected = np.int8 if exact.ndim > 1 else np.int32
    if integers.dtype != expected or integers.shape != exact.shape or step.zero_point.any():
        yield (
            f"{name}: expected {np.dtype(expected)} {exact.shape} around 0, found "
            f"{integers.dtype} {integers.shape} around {step.zero_point.max()}"
        )
        return
    with np.errstate(divide="ignore", invalid="ignore"):  # of a scale of 0
        steps = step.restored(np.ones_like(integers))
        off = float(np.max(np.abs(step.restored(integers) - exact) / steps))
    if not off <= 0.5 + 1e-3:
        yield (
            f"{name}: expected the float32 file's values to half a step, found one {off:.3g} off"
        )
    if integers.dtype == np.int8:
        channels = np.abs(integers.astype(np.int64)).reshape(len(integers), -1).max(axis=1)
        largest = channels[np.abs(exact).reshape(len(exact), -1).max(axis=1) > 0].min(initial=127)
        if largest < LEAST_REACH:
            yield (
                f"{name}: expected integers up to {LEAST_REACH} or more in each channel, found one "
                f"up to {largest}"
            )


def _of_activations(found: Unquantised) -> Iterator[str]:
    for name, steps in found.activations.items():
        first = steps[0]
        if len({(one.scale.tobytes(), one.zero_point.tobytes()) for one in steps}) > 1:
            yield f"{name}: expected one scale and zero point to and from 8 bits, found several"
        elif first.zero_point.dtype != np.uint8 or first.scale.ndim or not first.scale > 0:
            yield f"{name}: expected one scale above 0 and a zero point in uint8"


def losses_of_activations(
    found: Unquantised, parent: onnx.ModelProto, inputs: Floats
) -> Iterator[str]:
    """The activations that lose too much of the float32 file's values on inputs (N, 3, h, w).

    Each by itself, with its values from the float32 file.
    """
    inner = [name for name in found.activations if name != "input"]
    session = Setting(CPU, "all", 1).open(exposed(parent, inner))
    sums = {name: np.zeros(4) for name in found.activations}
    for one in inputs:
        feed = {"input": one[None]}
        values = {**feed, **dict(zip(inner, run(session, inner, feed), strict=True))}
        for name, (step, *_) in found.activations.items():
            left, beyond = step.passed(values[name])
            noise = energy(left - values[name])
            sums[name] += energy(values[name]), noise, beyond, left.size
    for name, (signal, noise, saturated, count) in sums.items():
        if not (kept := decibels(signal, noise)) >= LEAST_KEPT_DB:
            yield (
                f"{name}: its 8 bits keep {kept:.1f} dB of the float32 file's values on "
                f"photographs; expected at least {LEAST_KEPT_DB:g}: {CALIBRATE}"
            )
        most = MOST_SATURATED if count >= FEW else MOST_SATURATED_OF_FEW
        if not saturated <= most * count:
            yield (
                f"{name}: {saturated / count:.1%} of the float32 file's values on photographs are "
                f"beyond its 8 bits; expected at most {most:.0%}: {CALIBRATE}"
            )


def decibels(signal: float, noise: float) -> float:
    """Of two energies."""
    return float(10 * np.log10(max(signal, 1e-30) / max(noise, 1e-30)))


def energy(values: NDArray[Any]) -> float:
    """The sum of the squares."""
    return float(np.square(values, dtype=np.float64).sum())
