"""What a float16 graph computes where float16 is really computed with, on any machine.

onnxruntime's CPU computes float16 graphs in float32 and rounds hardly anything, so that passing
there says nothing about a GPU. Here every float16 tensor is rounded, by a pair of Casts.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


@dataclass(frozen=True)
class Emulated:
    """A float32 graph that rounds to float16; `unrounded` are its values just before that, by the
    names of the tensors that they become."""

    model: onnx.ModelProto
    unrounded: dict[str, str]


def with_rounded_tensors(model: onnx.ModelProto) -> Emulated:
    """A float32 graph that rounds to float16 wherever `model` has a float16 tensor.

    Sums inside an operator are float32's, as they are in the matrix units of GPUs.
    """
    inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True)
    halves = {
        value.name
        for value in inferred.graph.value_info
        if value.type.tensor_type.elem_type == TensorProto.FLOAT16
    }
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    nodes, unrounded = [], {}
    for node in copy.graph.node:
        if node.op_type == "Cast":
            for attribute in node.attribute:
                if attribute.i == TensorProto.FLOAT16:
                    attribute.i = TensorProto.FLOAT
        nodes.append(node)
        for place, name in enumerate(node.output):
            if name in halves:
                exact, rounded = f"{name}_exact", f"{name}_rounded"
                unrounded[name] = node.output[place] = exact
                nodes.append(helper.make_node("Cast", [exact], [rounded], to=TensorProto.FLOAT16))
                nodes.append(helper.make_node("Cast", [rounded], [name], to=TensorProto.FLOAT))
    graph = helper.make_graph(
        nodes,
        copy.graph.name,
        copy.graph.input,
        copy.graph.output,
        [_widened(tensor) for tensor in copy.graph.initializer],
    )
    emulated = helper.make_model(
        graph, opset_imports=model.opset_import, ir_version=model.ir_version
    )
    return Emulated(emulated, unrounded)


def _widened(tensor: onnx.TensorProto) -> onnx.TensorProto:
    if tensor.data_type != TensorProto.FLOAT16:
        return tensor
    return numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float32), tensor.name)
