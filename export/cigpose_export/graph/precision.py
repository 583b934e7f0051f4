"""The graph in reduced precision: float16 throughout, or float16 weights alone.

Inputs and outputs stay float32, so that a client notices nothing but the size.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from cigpose_export.errors import ExportError

LARGEST = float(np.finfo(np.float16).max)

LEAST_WEIGHTS = 256
"""Elements of a tensor that is worth storing in half the bytes and a Cast."""


def to_float16(model: onnx.ModelProto) -> onnx.ModelProto:
    """The graph with float16 tensors, all but those that `kept_in_float32` names.

    Casts stand only where the type changes. Raises `ExportError` for weights that float16 cannot
    hold.
    """
    half = onnx.ModelProto()
    half.CopyFrom(model)
    graph = half.graph
    kept = kept_in_float32(graph)
    floats = _float_values(model)
    types = {value.name: TensorProto.FLOAT for value in graph.input}
    nodes: list[onnx.NodeProto] = []
    cast: dict[tuple[str, int], str] = {}
    tensors = {t.name: t for t in graph.initializer if t.data_type == TensorProto.FLOAT}
    written: dict[str, onnx.TensorProto] = {}
    for node in graph.node:
        wanted = TensorProto.FLOAT if node.name in kept else TensorProto.FLOAT16
        for place, name in enumerate(node.input):
            if name in tensors:
                tensor = tensors[name] if wanted == TensorProto.FLOAT else _as_half(tensors[name])
                node.input[place] = tensor.name
                written[tensor.name] = tensor
            elif types.get(name, wanted) != wanted:
                if (name, wanted) not in cast:
                    cast[name, wanted] = f"{name}_{_SUFFIX[wanted]}"
                    made = [cast[name, wanted]]
                    nodes.append(helper.make_node("Cast", [name], made, made[0], to=wanted))
                node.input[place] = cast[name, wanted]
        types.update((name, wanted) for name in node.output if name in floats)
        nodes.append(node)
    others = [t for t in graph.initializer if t.name not in tensors]
    _replace(graph, nodes, [*others, *written.values()])
    return half


def to_float16_weights(model: onnx.ModelProto) -> onnx.ModelProto:
    """The graph with its large weights stored as float16, computing in float32 as before.

    An engine casts constants once, as it loads them. Raises `ExportError` as `to_float16` does.
    """
    stored = onnx.ModelProto()
    stored.CopyFrom(model)
    casts, tensors = [], []
    for tensor in stored.graph.initializer:
        large = np.prod(tensor.dims, dtype=np.int64) >= LEAST_WEIGHTS
        if tensor.data_type != TensorProto.FLOAT or not large:
            tensors.append(tensor)
            continue
        tensors.append(_as_half(tensor))
        names = [tensors[-1].name], [tensor.name]
        casts.append(helper.make_node("Cast", *names, tensor.name, to=TensorProto.FLOAT))
    _replace(stored.graph, [*casts, *stored.graph.node], tensors)
    return stored


def kept_in_float32(graph: onnx.GraphProto) -> list[str]:
    """The names of the nodes that compute in float32 in a float16 graph, in order.

    The output layers: rounding the logits themselves moves keypoints by a bin where nothing else
    would. And norms: engines take ReduceL2 apart into squares and their sum, which leave float16's
    range long before their root does. docs/precision.md has the figures.
    """
    outputs = {output.name for output in graph.output}
    makers = {name: node for node in graph.node for name in node.output}
    sums = [makers[name] for name in outputs if makers[name].op_type == "Add"]
    products = {n for node in sums for n in node.input if n in makers}
    lengths: set[str] = set()
    kept = []
    for node in graph.node:
        is_norm = node.op_type == "ReduceL2" or bool(lengths & set(node.input))
        if is_norm and node.op_type != "Div":  # the last one of a norm
            lengths.update(node.output)
        if is_norm or {*node.output} & (outputs | products):
            kept.append(node.name)
    return kept


_SUFFIX = {TensorProto.FLOAT: "fp32", TensorProto.FLOAT16: "fp16"}


def _float_values(model: onnx.ModelProto) -> set[str]:
    inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True).graph
    return {
        value.name
        for value in [*inferred.value_info, *inferred.output]
        if value.type.tensor_type.elem_type == TensorProto.FLOAT
    }


def _as_half(tensor: onnx.TensorProto) -> onnx.TensorProto:
    values = numpy_helper.to_array(tensor)
    largest = np.abs(values).max(initial=0)
    if not largest <= LARGEST:
        raise ExportError(
            f"{tensor.name}: expected weights up to {LARGEST:g}, found {largest:g}, which float16 "
            "cannot hold; export it in fp32"
        )
    with np.errstate(under="ignore"):
        half = values.astype(np.float16)
    if largest > 0 and not half.any():
        raise ExportError(
            f"{tensor.name}: expected weights that float16 can hold, found none above "
            f"{largest:g}: they would all be 0; export it in fp32"
        )
    return numpy_helper.from_array(half, f"{tensor.name}_fp16")


def _replace(
    graph: onnx.GraphProto, nodes: Iterable[onnx.NodeProto], tensors: Iterable[onnx.TensorProto]
) -> None:
    """Gives a graph these nodes and constants, and drops the types of values in between."""
    nodes, tensors = list(nodes), list(tensors)
    for field, values in ((graph.node, nodes), (graph.initializer, tensors)):
        copies = [type(value).FromString(value.SerializeToString()) for value in values]
        del field[:]
        field.extend(copies)
    del graph.value_info[:]
