"""Faults to seed into a good portable file of three people; see faults.py for what a fault is."""

from dataclasses import replace

import numpy as np
import onnx
from onnx import helper, numpy_helper

from cigpose_runtime import METADATA_KEY
from cigpose_verify.stages.choice import find_intervention
from faults import adds_to, mix_people, node_that_makes, set_weights, weights

FAULTS = {}
"""name -> (stage that has to catch it, fault)."""

fault = adds_to(FAULTS)


def apply_fault(name, data, contract):
    """The bytes of a file with one fault in it."""
    model = onnx.load_from_string(data)
    _, function = FAULTS[name]
    onnx.helper.set_model_props(model, {METADATA_KEY: function(model, contract).to_json()})
    return model.SerializeToString()


def change(model, name, function):
    array, tensor = weights(model, name)
    set_weights(tensor, function(array).astype(array.dtype))


def constant_of(model, ending):
    """The name of the first constant that ends so."""
    return next(t.name for t in model.graph.initializer if t.name.endswith(ending))


def clip_of_first_norm(model):
    """The node that keeps the length of the first norm from 0; input 1 is its epsilon."""
    after = next(n for n in model.graph.node if n.op_type == "Sqrt").output[0]
    while (user := next(n for n in model.graph.node if after in n.input)).op_type != "Clip":
        after = user.output[0]
    return user


# What the file says of itself.


@fault("stale: made from another float32 file", "contract")
def _(_model, contract):
    return replace(contract, derived_from=replace(contract.derived_from, sha256="ab" * 32))


@fault("another checkpoint's hash", "contract")
def _(_model, contract):
    source = replace(contract.source_checkpoint, sha256="ab" * 32)
    return replace(contract, source_checkpoint=source)


@fault("one weight of a convolution changed by its last bit", "contract")
def _(model, contract):
    def nudge(array):
        array.flat[5] = np.nextafter(array.flat[5], np.float32(1))
        return array

    change(model, next(n for n in model.graph.node if n.op_type == "Conv").input[1], nudge)
    return contract


@fault("another epsilon of a norm, which no picture reaches", "contract")
def _(model, contract):
    change(model, clip_of_first_norm(model).input[1], lambda array: array * 10)
    return contract


@fault("an epsilon that is there and not taken", "contract")
def _(model, contract):
    larger = numpy_helper.from_array(np.float32(1e-4), "larger_epsilon")
    model.graph.initializer.append(larger)
    clip_of_first_norm(model).input[1] = "larger_epsilon"
    return contract


@fault("a constant under another name", "contract")
def _(model, contract):
    scale = helper.make_node("Identity", ["head.gcn.layers.0.scale"], ["scale"])
    _, tensor = weights(model, "head.gcn.layers.0.scale")
    tensor.name = "renamed"
    scale.input[0] = "renamed"
    for node in model.graph.node:
        for place, name in enumerate(node.input):
            if name == "head.gcn.layers.0.scale":
                node.input[place] = "scale"
    model.graph.node.insert(0, scale)
    return contract


# The choice.


@fault("mask inverted", "intervention")
def _(model, contract):
    room = node_that_makes(model, "where_room")
    room.input[0], room.input[1] = room.input[1], room.input[0]
    return contract


@fault("features replaced that should be kept, and kept that should be replaced", "intervention")
def _(model, contract):
    found = find_intervention(model.graph)
    kept = next(
        n.output[0] for n in model.graph.node if n.op_type == "Sub" and n.input[1] == found.choice
    )
    for node in model.graph.node:
        if node.op_type == "Mul":
            for place, name in enumerate(list(node.input)):
                node.input[place] = {found.choice: kept, kept: found.choice}.get(name, name)
    return contract


@fault("the largest in place of the smallest", "intervention")
def _(model, contract):
    apart = node_that_makes(model, "where_apart")
    apart.input[0], apart.input[1] = apart.input[1], apart.input[0]
    return contract


@fault("of equal keypoints the last in place of the first", "intervention")
def _(model, contract):
    change(model, "where_ties", lambda array: array.swapaxes(1, 2))
    return contract


@fault("equal keypoints replaced together", "intervention")
def _(model, contract):
    change(model, "where_ties", lambda array: 0 * array)
    return contract


@fault("neighbours in float32 taken for equal", "intervention")
def _(model, contract):
    change(model, "where_gain", lambda array: array / 32)
    return contract


@fault("one more keypoint replaced", "intervention")
def _(model, contract):
    change(model, "where_k", lambda array: array + 1)
    return contract


@fault("the peaks of one side ranked", "parity")
def _(model, contract):
    found = find_intervention(model.graph)
    add = node_that_makes(model, found.ranked)
    add.input[1] = add.input[0]
    return contract


# What it computes.


@fault("one row of a one-hot matrix wrong", "parity")
def _(model, contract):
    def turn(array):
        array[4] = np.roll(array[4], 1)
        return array

    change(model, constant_of(model, "_one_hot"), turn)
    return contract


@fault("a mean in place of a sum", "parity")
def _(model, contract):
    change(model, "sum_1_n", lambda array: 0 * array + 1)
    return contract


@fault("a sum of one less", "parity")
def _(model, contract):
    change(model, "sum_1_n", lambda array: array - 1)
    return contract


@fault("a root of a wrong number of values", "parity")
def _(model, contract):
    change(model, constant_of(model, "_root_n"), lambda array: array * np.float32(1.01))
    return contract


@fault("people of a batch mixed", "parity")
def _(model, contract):
    mix_people(model, 0.01)
    return contract


@fault("the first person's choice for all", "intervention")
def _(model, contract):
    found = find_intervention(model.graph)
    maker = node_that_makes(model, found.choice)
    maker.output[0] = "own_choice"
    model.graph.initializer.append(numpy_helper.from_array(np.zeros(3, np.int64), "first"))
    model.graph.node.insert(
        list(model.graph.node).index(maker) + 1,
        helper.make_node("Gather", ["own_choice", "first"], [found.choice], axis=0),
    )
    return contract
