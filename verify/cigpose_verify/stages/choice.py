"""Where a graph chooses the keypoints to replace, and variants of it that tell, or are told.

The shipped file does not tell; the variants are run here and never written.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper


@dataclass(frozen=True)
class Intervention:
    """The names of the values around the choice in one graph.

    ranked (B,K): what the keypoints are ranked by. choice: the index (B,k) that a TopK gives or, of
    a portable graph, a mask (B,K,1) of 1 and 0. features (B,K,C): those of which rows are replaced.
    """

    ranked: str
    choice: str
    features: str
    is_mask: bool = False

    def read(self, choice: NDArray[Any]) -> list[tuple[int, ...]]:
        """The keypoints that a value of the choice names, for each person in order."""
        rows = choice.reshape(len(choice), -1)
        return [tuple(sorted((np.flatnonzero(r) if self.is_mask else r).tolist())) for r in rows]

    def written(self, choices: NDArray[np.int64], keypoints: int) -> NDArray[Any]:
        """The value that names these keypoints, (B,k), of so many."""
        if not self.is_mask:
            return choices
        mask = np.zeros((len(choices), keypoints, 1), np.float32)
        np.put_along_axis(mask, choices[..., None], 1, axis=1)
        return mask


def find_intervention(graph: onnx.GraphProto) -> Intervention | None:
    """The intervention of a graph; None unless one choice decides what is replaced."""
    if any(node.op_type == "TopK" for node in graph.node):
        return _find_index(graph)
    return _find_mask(graph)


def _find_index(graph: onnx.GraphProto) -> Intervention | None:
    """One TopK that decides what one Where replaces."""
    top_k = [node for node in graph.node if node.op_type == "TopK"]
    if len(top_k) != 1:
        return None
    index = top_k[0].output[1]
    derived, constants = {index}, {initializer.name for initializer in graph.initializer}
    for node in graph.node:
        if not derived & set(node.input):
            continue
        if node.op_type == "Where" and node.input[0] in derived:
            return Intervention(top_k[0].input[0], index, node.input[2])
        if set(node.input) <= derived | constants:
            derived.update(node.output)
    return None


def _find_mask(graph: onnx.GraphProto) -> Intervention | None:
    """One sum mask * constant + (constant - mask) * features; ranked is what the mask is of."""
    constants = {initializer.name for initializer in graph.initializer}
    makers = {name: node for node in graph.node for name in node.output}

    def inputs(name: str, op_type: str) -> list[str]:
        maker = makers.get(name)
        return list(maker.input) if maker is not None and maker.op_type == op_type else []

    found = []
    for add in (node for node in graph.node if node.op_type == "Add"):
        for first, second in (add.input, add.input[::-1]):
            canonical, own = inputs(first, "Mul"), inputs(second, "Mul")
            if len(canonical) == 2 and canonical[1] in constants and own:
                mask = canonical[0]
                if [name for name in inputs(own[0], "Sub") if name not in constants] == [mask]:
                    found.append((mask, own[1]))
    if len(found) != 1:
        return None
    mask, features = found[0]
    ranked = [mask]
    while len(ranked) == 1 and ranked[0] in makers:  # up to where pairs are made
        maker = makers[ranked[0]]
        ranked = [name for name in maker.input if name not in constants]
    columns = {inputs(name, "Reshape")[0] for name in ranked if inputs(name, "Reshape")}
    return Intervention(columns.pop(), mask, features, is_mask=True) if len(columns) == 1 else None


def exposed(model: onnx.ModelProto, values: Iterable[str]) -> bytes:
    """The model with more outputs, of any type and shape."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    there = {output.name for output in copy.graph.output}
    copy.graph.output.extend(onnx.ValueInfoProto(name=v) for v in values if v not in there)
    data: bytes = copy.SerializeToString()
    return data


def head_with_choice(model: onnx.ModelProto, intervention: Intervention) -> bytes:
    """The part behind the intervention: its features and its choice are the inputs."""
    features = helper.make_tensor_value_info(
        intervention.features, TensorProto.FLOAT, ["b", "K", "C"]
    )
    return _part(model, [features, _choice(intervention)])


def with_choice(model: onnx.ModelProto, intervention: Intervention) -> bytes:
    """The whole model, told what to choose: the choice is an input beside its own."""
    return _part(model, [*model.graph.input, _choice(intervention)])


def _choice(intervention: Intervention) -> onnx.ValueInfoProto:
    if intervention.is_mask:
        return helper.make_tensor_value_info(intervention.choice, TensorProto.FLOAT, ["b", "K", 1])
    return helper.make_tensor_value_info(intervention.choice, TensorProto.INT64, ["b", "k"])


def choosing_part(model: onnx.ModelProto, intervention: Intervention) -> bytes:
    """The choice alone: what is ranked is the input, the choice the output."""
    ranked = helper.make_tensor_value_info(intervention.ranked, TensorProto.FLOAT, ["b", "K"])
    return _part(model, [ranked], [_choice(intervention)])


def _part(
    model: onnx.ModelProto,
    inputs: Sequence[onnx.ValueInfoProto],
    outputs: Sequence[onnx.ValueInfoProto] | None = None,
) -> bytes:
    """The part of a model from these values to those, by default its outputs."""
    graph, given = model.graph, {value.name for value in inputs}
    if outputs is None:  # of any batch, whatever the whole model takes
        outputs = [onnx.ValueInfoProto(name=output.name) for output in graph.output]
    makers = {output: node for node in graph.node for output in node.output}
    wanted = [output.name for output in outputs]
    needed: set[str] = set()
    while wanted:
        name = wanted.pop()
        if name in makers and name not in given | needed:
            needed.update(makers[name].output)
            wanted.extend(makers[name].input)
    nodes = [node for node in graph.node if needed & set(node.output)]
    used = {name for node in nodes for name in node.input}
    made = helper.make_graph(
        nodes,
        "part",
        inputs,
        outputs,
        [initializer for initializer in graph.initializer if initializer.name in used],
    )
    data: bytes = helper.make_model(
        made, opset_imports=model.opset_import, ir_version=model.ir_version
    ).SerializeToString()
    return data
