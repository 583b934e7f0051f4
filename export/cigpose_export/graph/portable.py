"""The graph for engines that cannot run the default one: operators of floats alone, a fixed batch.

ncnn has no TopK, and gets rows by Gather and ReduceSum wrong; the engines of phones leave TopK,
Equal, ReduceL2, ReduceMax and others to the CPU, and so run a graph in pieces. docs/engines.md has
what each rewriting was measured to cure; what cured nothing is left out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from cigpose_export.errors import ExportError
from cigpose_verify.stages.choice import find_intervention

GAIN, ROUNDS = np.float32(2**12), 3
"""Of a difference of two ranked values, until it is 1 or more, or 0. See `_before`."""

MOST_BINS = 2**12
"""Of each output, so that no difference is too small for that."""


def to_portable(model: onnx.ModelProto, batch: int) -> onnx.ModelProto:
    """The graph for so many people at once, and no other number.

    It chooses the keypoints that the other graph chooses, by the same rule for ties. Other values
    differ by rounding, where sums are taken in another order. Raises `ExportError` for an
    intervention by a threshold, which has no such form, and for more than `MOST_BINS` bins.
    """
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    graph = changed.graph
    for value in (*graph.input, *graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = batch
    del graph.value_info[:]
    _choose_by_floats(graph)
    _lower(changed)
    return changed


@dataclass
class _Written:
    """Nodes and constants that take the place of some of a graph."""

    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: list[onnx.TensorProto] = field(default_factory=list)

    def constant(self, name: str, values: Any) -> str:
        self.constants.append(numpy_helper.from_array(np.asarray(values), name))
        return name

    def node(self, op_type: str, inputs: Sequence[str], output: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(op_type, inputs, [output], output, **attributes))
        return output


def _choose_by_floats(graph: onnx.GraphProto) -> None:
    """Replaces TopK and all behind it up to its Where by arithmetic of floats."""
    top_k = [node for node in graph.node if node.op_type == "TopK"]
    found = find_intervention(graph)
    if found is None:
        if top_k or any(node.op_type == "Where" for node in graph.node):
            raise ExportError(
                "expected an intervention on the k keypoints of the highest confound score, found "
                "another, which has no portable form; use the default file"
            )
        return  # as RTMPose's head
    constants = _arrays(graph)
    keypoints, bins = zip(*(_sizes(output)[1:] for output in graph.output), strict=True)
    if max(bins) > MOST_BINS:
        raise ExportError(
            f"expected at most {MOST_BINS} bins for a portable file, found {max(bins)}; use the "
            "default file"
        )
    (where,) = (n for n in graph.node if n.op_type == "Where" and n.input[2] == found.features)
    written, name = _Written(), where.output[0]
    k = constants[top_k[0].input[1]].item()
    one = written.constant(f"{name}_1", np.float32(1))
    zero = written.constant(f"{name}_0", np.float32(0))
    before = _before(written, name, found.ranked, keypoints[0], (zero, one))
    ones = written.constant(f"{name}_ones", np.ones((keypoints[0], 1), np.float32))
    place = written.node("MatMul", [before, ones], f"{name}_place")
    count = written.constant(f"{name}_k", np.float32(k))
    room = written.node("Sub", [count, place], f"{name}_room")
    chosen = written.node("Clip", [room, zero, one], f"{name}_chosen")
    kept = written.node("Sub", [one, chosen], f"{name}_kept")
    # Exact, too: 1 c + 0 x = c.
    theirs = written.node("Mul", [chosen, where.input[1]], f"{name}_canonical")
    own = written.node("Mul", [kept, found.features], f"{name}_own")
    written.node("Add", [theirs, own], name)
    nodes = [new for node in graph.node for new in (written.nodes if node is where else [node])]
    _replace(graph, nodes, written.constants)


def _before(
    written: _Written, name: str, ranked: str, keypoints: int, zero_one: tuple[str, str]
) -> str:
    """(B,K,K): 1 where keypoint j comes before i, by value or, of equal ones, by index; else 0.

    No rounding takes part. The ranked values p are sums of two softmax peaks, each at least 1 part
    in `MOST_BINS`: p > 2^-12, p is a multiple of 2^-35, and so is p_i - p_j, which is 0 only
    for equal values and never subnormal. Multiplied by 2^12 and cut off at -1 and 1 three times, a
    difference is at or beyond 1, or still 0; no value exceeds 2^13. In float16, whose steps are
    larger, the same holds. With 1 added where j < i, the cut from 0 to 1 leaves what is asked for.
    """
    zero, one = zero_one
    minus_one = written.constant(f"{name}_minus_1", np.float32(-1))
    gain = written.constant(f"{name}_gain", GAIN)
    shape = written.constant(f"{name}_as_column", np.array([0, keypoints, 1]))
    column = written.node("Reshape", [ranked, shape], f"{name}_column")
    row = written.node("Transpose", [column], f"{name}_row", perm=[0, 2, 1])
    apart = written.node("Sub", [column, row], f"{name}_apart")
    for number in range(ROUNDS):
        larger = written.node("Mul", [apart, gain], f"{name}_larger_{number}")
        apart = written.node("Clip", [larger, minus_one, one], f"{name}_cut_{number}")
    lower = np.tril(np.ones((1, keypoints, keypoints), np.float32), -1)
    ties = written.constant(f"{name}_ties", lower)
    tied = written.node("Add", [apart, ties], f"{name}_tied")
    return written.node("Clip", [tied, zero, one], f"{name}_before")


def _lower(model: onnx.ModelProto) -> None:
    """Rewrites the operators that some engine reads wrongly or leaves to another."""
    graph = onnx.shape_inference.infer_shapes(model, strict_mode=True).graph
    sizes = {v.name: _sizes(v) for v in (*graph.value_info, *graph.input, *graph.output)}
    constants, written = _arrays(graph), _Written()
    for node in graph.node:
        if node.op_type in _LOWERED:
            _LOWERED[node.op_type](written, node, sizes[node.input[0]], constants)
        else:
            written.nodes.append(node)
    _replace(model.graph, written.nodes, written.constants)


Shape = tuple[int, ...]
Arrays = dict[str, NDArray[Any]]


def _rows_by_one_hot(w: _Written, node: onnx.NodeProto, shape: Shape, constants: Arrays) -> None:
    """Rows of (B,K,C) by a product with a one-hot matrix: 1 x + 0 y = x, exactly."""
    if len(shape) != 3 or node.input[1] not in constants or _attributes(node)["axis"] != 1:
        raise ExportError(
            f"{node.name}: expected a Gather of rows, found another, which has no portable form; "
            "use the default file"
        )
    rows, output = constants[node.input[1]], node.output[0]
    one_hot = w.constant(f"{output}_one_hot", np.eye(shape[1], dtype=np.float32)[rows])
    w.node("MatMul", [one_hot, node.input[0]], output)


def _sum_by_mean(w: _Written, node: onnx.NodeProto, shape: Shape, constants: Arrays) -> None:
    """A sum as so many times the mean."""
    (axis,), output = constants[node.input[1]].tolist(), node.output[0]
    keepdims = _attributes(node)["keepdims"]
    mean = w.node("ReduceMean", node.input[:1], f"{output}_mean", axes=[axis], keepdims=keepdims)
    w.node("Mul", [mean, w.constant(f"{output}_n", np.float32(shape[axis]))], output)


def _length_by_mean(w: _Written, node: onnx.NodeProto, shape: Shape, _: Arrays) -> None:
    """A length as the root of the mean square, times that of how many."""
    (x,), output, attributes = node.input, node.output[0], _attributes(node)
    square = w.node("Mul", [x, x], f"{output}_square")
    mean = w.node("ReduceMean", [square], f"{output}_mean", **attributes)
    root = w.node("Sqrt", [mean], f"{output}_root")
    (axis,) = attributes["axes"]
    w.node("Mul", [root, w.constant(f"{output}_root_n", np.sqrt(np.float32(shape[axis])))], output)


def _peak_by_pool(w: _Written, node: onnx.NodeProto, shape: Shape, _: Arrays) -> None:
    """The largest of each row of (B,K,C) by a pool over pictures of one column."""
    _batch, rows, columns = shape
    output = node.output[0]
    picture = w.constant(f"{output}_as_picture", np.array([0, rows, columns, 1]))
    pictures = w.node("Reshape", [node.input[0], picture], f"{output}_picture")
    peaks = w.node("GlobalMaxPool", [pictures], f"{output}_peaks")
    w.node("Reshape", [peaks, w.constant(f"{output}_as_rows", np.array([0, rows]))], output)


_LOWERED: dict[str, Callable[[_Written, onnx.NodeProto, Shape, Arrays], None]] = {
    "Gather": _rows_by_one_hot,
    "ReduceSum": _sum_by_mean,
    "ReduceL2": _length_by_mean,
    "ReduceMax": _peak_by_pool,
}


def _replace(
    graph: onnx.GraphProto, nodes: Sequence[onnx.NodeProto], constants: Sequence[onnx.TensorProto]
) -> None:
    """Gives a graph these nodes and, beside its own, these constants; less what nothing needs."""
    needed = {output.name for output in graph.output}
    kept = []
    for node in reversed(nodes):
        if needed & set(node.output):
            needed.update(node.input)
            kept.append(node)
    tensors = [t for t in (*graph.initializer, *constants) if t.name in needed]
    new = (graph.node, kept[::-1]), (graph.initializer, tensors)
    for field_, values in new:
        copies = [type(value).FromString(value.SerializeToString()) for value in values]
        del field_[:]
        field_.extend(copies)


def _arrays(graph: onnx.GraphProto) -> Arrays:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}


def _attributes(node: onnx.NodeProto) -> dict[str, Any]:
    return {a.name: helper.get_attribute_value(a) for a in node.attribute}


def _sizes(value: onnx.ValueInfoProto) -> Shape:
    return tuple(dim.dim_value for dim in value.type.tensor_type.shape.dim)
