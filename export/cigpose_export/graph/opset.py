"""Brings a graph into opset 17, which most engines read; what it computes stays the same."""

from __future__ import annotations

from collections.abc import Mapping

import onnx
from onnx import helper, numpy_helper

from cigpose_export.errors import ExportError

OPSET = 17
"""In opset 18 the axes of reductions became inputs. MNN then reduces over all axes, silently;
onnx2torch and onnxruntime's own tools for shapes and quantisation fail."""

IR_VERSION = 8
"""The IR version of ONNX 1.12, which came with opset 17; the exporter writes a newer one, which
older readers refuse although this graph uses nothing of it."""

_AXES_AS_INPUT = {"ReduceL2", "ReduceMax", "ReduceMean"}

_NEW_IN_RESIZE = {"antialias": 0, "keep_aspect_ratio_policy": b"stretch"}
"""Attributes that Resize has since opset 18, with the values that say what it did before."""


def to_opset_17(model: onnx.ModelProto) -> onnx.ModelProto:
    """The very model, now in opset 17, each matrix product with a constant of its own.

    It is changed in place: one more copy would be an export's peak of memory.
    Raises `ExportError` for an operator that means something else in opset 17.
    """
    constants = {
        tensor.name: numpy_helper.to_array(tensor).ravel().tolist()
        for tensor in model.graph.initializer
        if tensor.data_type == onnx.TensorProto.INT64
    }
    for node in model.graph.node:
        _lower_opset(node, constants)
    (standard,) = (s for s in model.opset_import if s.domain in ("", "ai.onnx"))
    standard.version = OPSET
    _give_own_constants(model.graph)
    _drop_unused(model.graph)
    return model


def _lower_opset(node: onnx.NodeProto, constants: Mapping[str, list[int]]) -> None:
    """Rewrites a node of opset 18 as one of opset 17. constants: the integer ones, by name."""
    if node.op_type in _AXES_AS_INPUT:
        axes = helper.make_attribute("axes", constants[node.input[1]])
        del node.input[1]
        _drop_attribute(node, "noop_with_empty_axes")
        node.attribute.append(axes)
    elif node.op_type == "Split":
        _drop_attribute(node, "num_outputs")  # the sizes are an input
    elif node.op_type == "Reshape" and 0 not in constants[node.input[1]]:
        _drop_attribute(node, "allowzero")  # it says what a 0 means
    elif node.op_type == "Resize" and not _resizes_anew(node):
        for name in _NEW_IN_RESIZE:
            _drop_attribute(node, name)
    elif _since(node.op_type, OPSET) != _since(node.op_type, OPSET + 1):
        raise ExportError(
            f"{node.name}: {node.op_type} has another meaning in opset {OPSET}; lower it in "
            "graph/opset.py"
        )


def _resizes_anew(node: onnx.NodeProto) -> bool:
    """Whether a Resize does what it can only since opset 18."""
    values = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    return "axes" in values or any(
        values.get(name, old) != old for name, old in _NEW_IN_RESIZE.items()
    )


def _since(op_type: str, opset: int) -> int:
    try:
        return onnx.defs.get_schema(op_type, opset).since_version
    except onnx.defs.SchemaError:
        return 0


def _drop_attribute(node: onnx.NodeProto, name: str) -> None:
    kept = [attribute for attribute in node.attribute if attribute.name != name]
    del node.attribute[:]
    node.attribute.extend(kept)


def _give_own_constants(graph: onnx.GraphProto) -> None:
    """Copies a constant that several matrix products share: OpenCV 4 allows one product each."""
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    taken: set[str] = set()
    for node in graph.node:
        for place, name in enumerate(node.input):
            if node.op_type != "MatMul" or name not in tensors:
                continue
            if name in taken:
                own = graph.initializer.add()
                own.CopyFrom(tensors[name])
                own.name = f"{name}_of_{node.output[0]}"
                node.input[place] = own.name
            taken.add(name)


def _drop_unused(graph: onnx.GraphProto) -> None:
    used = {name for node in graph.node for name in node.input}
    for place in reversed(range(len(graph.initializer))):
        if graph.initializer[place].name not in used:
            del graph.initializer[place]
