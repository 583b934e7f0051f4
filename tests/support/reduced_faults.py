"""Faults to seed into a good file in reduced precision; see faults.py for what a fault is."""

from dataclasses import replace

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from cigpose_runtime import METADATA_KEY
from faults import FAULTS as OF_FLOAT32
from faults import adds_to, behind_output, node_that_makes, set_weights, weights

FAULTS = {}
"""name -> (precision of the file, stage that has to catch it, fault)."""


def fault(name, stage, precision="fp16"):
    return adds_to(FAULTS)(name, precision, stage)


def apply_fault(name, data, contract):
    """The bytes of a file with one fault in it."""
    model = onnx.load_from_string(data)
    _, _, function = FAULTS[name]
    onnx.helper.set_model_props(model, {METADATA_KEY: function(model, contract).to_json()})
    return model.SerializeToString()


def change_half(model, name, change):
    array, tensor = weights(model, f"{name}_fp16")
    with np.errstate(over="ignore"):
        set_weights(tensor, change(array.astype(np.float64)).astype(np.float16))


def convolutions(model):
    return [node for node in model.graph.node if node.op_type == "Conv"]


# What the file says of itself.


@fault("stale: made from another float32 file", "contract")
def _(_model, contract):
    return replace(contract, derived_from=replace(contract.derived_from, sha256="ab" * 32))


@fault("float16 passed off as float16 weights", "contract")
def _(_model, contract):
    said = replace(contract.derived_from, fp32_nodes=())
    return replace(contract, precision="w16", derived_from=said)


@fault("float16 weights passed off as float16", "contract", "w16")
def _(_model, contract):
    return replace(contract, precision="fp16")


@fault("another checkpoint's hash", "contract", "w16")
def _(_model, contract):
    source = replace(contract.source_checkpoint, sha256="ab" * 32)
    return replace(contract, source_checkpoint=source)


# What is in which type.


def to_half(model, node, contract):
    """Puts a node into float16, and takes it from the list of those that are not."""
    constants = {t.name: t for t in model.graph.initializer}
    for place, name in enumerate(list(node.input)):
        if name in constants:
            half = numpy_helper.to_array(constants[name]).astype(np.float16)
            model.graph.initializer.append(numpy_helper.from_array(half, f"{name}_half"))
            node.input[place] = f"{name}_half"
        else:
            made = node_that_makes(model, name)
            if made.op_type == "Cast":
                node.input[place] = made.input[0]
    nodes = tuple(name for name in contract.derived_from.fp32_nodes if name != node.name)
    return replace(contract, derived_from=replace(contract.derived_from, fp32_nodes=nodes))


@fault("an output layer in float16", "contract")
def _(model, contract):
    add = node_that_makes(model, "simcc_x")
    product = node_that_makes(model, add.input[0])
    contract = to_half(model, add, to_half(model, product, contract))
    place = list(model.graph.node).index(add) + 1
    cast = helper.make_node("Cast", ["rounded"], ["simcc_x"], "cast_x", to=TensorProto.FLOAT)
    add.output[0] = "rounded"
    model.graph.node.insert(place, cast)
    return contract


@fault("a norm in float16", "contract")
def _(model, contract):
    length = next(node for node in model.graph.node if node.op_type == "ReduceL2")
    contract = to_half(model, length, contract)
    place = list(model.graph.node).index(length) + 1
    cast = helper.make_node("Cast", ["half"], [length.output[0]], "cast", to=TensorProto.FLOAT)
    length.output[0] = "half"
    model.graph.node.insert(place, cast)
    return contract


# What float16 cannot hold.


@fault("overflow planted: the same function, out of float16's range", "range")
def _(model, contract):
    first, *_ = convolutions(model)
    value = first.output[0]
    names = []
    for factor in (np.float16(2**15), np.float16(2**-15)):
        names.append(f"factor_{len(names)}")
        model.graph.initializer.append(numpy_helper.from_array(factor, names[-1]))
    first.output[0] = "unscaled"
    place = list(model.graph.node).index(first) + 1
    up = helper.make_node("Mul", ["unscaled", names[0]], ["scaled"], "up")
    down = helper.make_node("Mul", ["scaled", names[1]], [value], "down")
    model.graph.node.insert(place, down)
    model.graph.node.insert(place, up)
    return contract


@fault("one channel saturated", "range")
def _(model, contract):
    bias = convolutions(model)[3].input[2].removesuffix("_fp16")

    def saturate(array):
        array[0] = 65504
        return array

    change_half(model, bias, saturate)
    return contract


@fault("NaN in one weight", "range", "w16")
def _(model, contract):
    name = next(t.name for t in model.graph.initializer if t.data_type == TensorProto.FLOAT16)
    array, tensor = weights(model, name)
    array.flat[3] = np.nan
    set_weights(tensor, array)
    return contract


# What it computes.


@fault("wrong scale: a tensor of weights a hundredth larger", "precision")
def _(model, contract):
    change_half(model, convolutions(model)[2].input[1].removesuffix("_fp16"), lambda a: a * 1.01)
    return contract


@fault("weights in bfloat16's 8 bits", "precision", "w16")
def _(model, contract):
    for tensor in model.graph.initializer:
        if tensor.data_type == TensorProto.FLOAT16:
            array = numpy_helper.to_array(tensor).astype(np.float32)
            bits = (array.view(np.uint32) + 0x8000) & 0xFFFF0000
            set_weights(tensor, bits.astype(np.uint32).view(np.float32).astype(np.float16))
    return contract


@fault("small weights flushed to 0", "precision", "w16")
def _(model, contract):
    for tensor in model.graph.initializer:
        if tensor.data_type == TensorProto.FLOAT16:
            array = numpy_helper.to_array(tensor).copy()
            array[np.abs(array) < 2**-7] = 0
            set_weights(tensor, array)
    return contract


SUREST = "intervention on the surest keypoint"
fault(SUREST, "intervention")(OF_FLOAT32[SUREST][1])


@fault("canonical features of one keypoint perturbed", "replacement")
def _(model, contract):
    def perturb(array):
        array[contract.num_keypoints // 2, 3] += 0.5
        return array

    change_half(model, "head.cim.canonical", perturb)
    return contract


@fault("keypoints one bin to the right", "precision", "w16")
def _(model, contract):
    bins = int(contract.input_w * contract.split_ratio)
    behind_output(model, "simcc_x", "Gather", [np.roll(np.arange(bins), 1)], axis=2)
    return contract


def mix_people(model):
    """Puts 0.2 % of what sets people apart from their batch into one output."""
    maker = node_that_makes(model, "simcc_x")
    maker.output[0] = "own"
    model.graph.initializer.append(numpy_helper.from_array(np.float32(0.002), "share"))
    nodes = [
        helper.make_node("ReduceMean", ["own"], ["of_all"], "mean", keepdims=1, axes=[0]),
        helper.make_node("Sub", ["own", "of_all"], ["apart"], "apart"),
        helper.make_node("Mul", ["apart", "share"], ["part"], "part"),
        helper.make_node("Add", ["own", "part"], ["simcc_x"], "mixed"),
    ]
    model.graph.node.extend(nodes)
    return tuple(node.name for node in nodes)


@fault("people of a batch mixed", "batch")
def _(model, contract):
    said = contract.derived_from
    nodes = (*said.fp32_nodes, *mix_people(model))
    return replace(contract, derived_from=replace(said, fp32_nodes=nodes))


@fault("people of a batch mixed, of float16 weights", "batch", "w16")
def _(model, contract):
    mix_people(model)
    return contract
