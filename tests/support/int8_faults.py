"""Faults to seed into a good file in int8; see faults.py for what a fault is."""

from dataclasses import replace

import numpy as np
import onnx
from onnx import helper, numpy_helper

from cigpose_runtime import METADATA_KEY
from faults import adds_to, node_that_makes, set_weights, weights

FAULTS = {}
"""name -> (stage that has to catch it, fault)."""

fault = adds_to(FAULTS)


def apply_fault(name, data, contract):
    """The bytes of a file with one fault in it."""
    model = onnx.load_from_string(data)
    _, function = FAULTS[name]
    contract = function(model, contract) or contract
    onnx.helper.set_model_props(model, {METADATA_KEY: contract.to_json()})
    return model.SerializeToString()


def change(model, name, function):
    array, tensor = weights(model, name)
    set_weights(tensor, function(array.copy()).astype(array.dtype))


def derived(contract, **changes):
    return replace(contract, derived_from=replace(contract.derived_from, **changes))


def weight_names(model):
    """Quantised weights of convolutions, without what is put behind their names."""
    names = {t.name for t in model.graph.initializer}
    return [
        name.removesuffix("_quantized")
        for name in sorted(names)
        if name.endswith(".weight_quantized")
    ]


def activation(model, operator="Conv", place=3):
    """The QuantizeLinear behind the n-th node of a kind, and what follows it."""
    nodes = [node for node in model.graph.node if node.op_type == operator]
    (value,) = nodes[place].output
    down = next(
        n for n in model.graph.node if n.op_type == "QuantizeLinear" and n.input[0] == value
    )
    up = next(n for n in model.graph.node if down.output[0] in n.input)
    return down, up


# What the file says of itself.


@fault("stale: made from another float32 file", "contract")
def _(_model, contract):
    return derived(contract, sha256="ab" * 32)


@fault("stale: another calibration list", "contract")
def _(_model, contract):
    calibration = replace(contract.derived_from.calibration, sha256="ab" * 32)
    return derived(contract, calibration=calibration)


@fault("nodes of the head not named", "contract")
def _(_model, contract):
    return derived(contract, fp32_nodes=contract.derived_from.fp32_nodes[1:])


# What is in 8 bits.


@fault("head quantised: the last product", "precision")
def _(model, contract):
    product = node_that_makes(model, node_that_makes(model, "simcc_x").input[0])
    through_8_bits(model, product, 0)


@fault("head quantised: canonical features", "precision")
def _(model, contract):
    where = next(node for node in model.graph.node if node.op_type == "Where")
    through_8_bits(model, where, 2)


def through_8_bits(model, node, place):
    value = node.input[place]
    constants = {"head_scale": np.float32(0.05), "head_zero_point": np.uint8(128)}
    for name, array in constants.items():
        model.graph.initializer.append(numpy_helper.from_array(np.asarray(array), name))
    at = list(model.graph.node).index(node)
    down = helper.make_node("QuantizeLinear", [value, *constants], ["head_8"], "head_down")
    up = helper.make_node("DequantizeLinear", ["head_8", *constants], ["head_up"], "head_up")
    node.input[place] = "head_up"
    model.graph.node.insert(at, up)
    model.graph.node.insert(at, down)


@fault("a convolution left in float32", "precision")
def _(model, contract):
    convolution = [node for node in model.graph.node if node.op_type == "Conv"][2]
    up = node_that_makes(model, convolution.input[1])
    integers, scale = (weights(model, name)[0] for name in up.input[:2])
    name = up.input[0].removesuffix("_quantized")
    values = (integers * scale.reshape(-1, 1, 1, 1)).astype(np.float32)
    model.graph.initializer.append(numpy_helper.from_array(values, name))
    convolution.input[1] = name
    model.graph.node.remove(up)


# Scales and zero points.


@fault("wrong scale: a weight's, a hundredth larger", "precision")
def _(model, contract):
    change(model, f"{weight_names(model)[2]}_scale", lambda scale: scale * 1.02)


@fault("wrong scale: of one channel", "precision")
def _(model, contract):
    def double(scale):
        scale[0] *= 2
        return scale

    change(model, f"{weight_names(model)[3]}_scale", double)


@fault("wrong scale: an activation's, 16 times too small", "precision")
def _(model, contract):
    down, _ = activation(model)
    change(model, down.input[1], lambda scale: scale / 16)


@fault("wrong scale: an activation's, 64 times too large", "precision")
def _(model, contract):
    down, _ = activation(model)
    change(model, down.input[1], lambda scale: scale * 64)


@fault("swapped zero point: another on the way back from 8 bits", "precision")
def _(model, contract):
    down, up = activation(model)
    other = numpy_helper.from_array(weights(model, down.input[2])[0] ^ np.uint8(255), "swapped")
    model.graph.initializer.append(other)
    up.input[2] = "swapped"


@fault("swapped zero point: that of the other end", "precision")
def _(model, contract):
    downs = [n for n in model.graph.node if n.op_type == "QuantizeLinear"]
    names = [n.input[2] for n in downs if n.input[0].startswith("silu")]
    lowest = min(names, key=lambda name: weights(model, name)[0])
    change(model, lowest, lambda zero_point: 255 - zero_point)


@fault("a weight's zero point beside 0", "precision")
def _(model, contract):
    change(model, f"{weight_names(model)[1]}_zero_point", lambda zero_point: zero_point + 3)


@fault("wrong scale: none", "precision")
def _(model, contract):
    change(model, f"{weight_names(model)[2]}_scale", lambda scale: scale * 0)


# Integers.


@fault("one channel saturated", "precision")
def _(model, contract):
    def saturate(integers):
        integers[0] = np.where(integers[0] < 0, -128, 127)
        return integers

    change(model, f"{weight_names(model)[4]}_quantized", saturate)


@fault("one weight off by a step", "precision")
def _(model, contract):
    def off(integers):
        integers.flat[7] += 1
        return integers

    change(model, f"{weight_names(model)[5]}_quantized", off)


@fault("weights in 4 bits", "precision")
def _(model, contract):
    name = weight_names(model)[6]
    change(model, f"{name}_quantized", lambda integers: np.rint(integers / 16.0))
    change(model, f"{name}_scale", lambda scale: scale * 16)


@fault("a bias of another channel", "precision")
def _(model, contract):
    name = weight_names(model)[2].replace(".weight", ".bias_quantized")
    change(model, name, lambda integers: np.roll(integers, 1))


# What is beside 8 bits.


@fault("a weight of the head perturbed", "precision")
def _(model, contract):
    def perturb(array):
        array[contract.num_keypoints // 2, 3] += 1e-3
        return array

    change(model, "head.cim.canonical", perturb)


@fault("a node left out", "precision")
def _(model, contract):
    sigmoid = [node for node in model.graph.node if node.op_type == "Sigmoid"][4]
    for node in model.graph.node:
        for place, name in enumerate(node.input):
            if name == sigmoid.output[0]:
                node.input[place] = sigmoid.input[0]
    model.graph.node.remove(sigmoid)


@fault("people of a batch mixed", "precision")
def _(model, contract):
    maker = node_that_makes(model, "simcc_x")
    maker.output[0] = "own"
    model.graph.node.extend(
        [
            helper.make_node("ReduceMean", ["own"], ["of_all"], "mean_of_all", axes=[0]),
            helper.make_node("Add", ["own", "of_all"], ["simcc_x"], "mixed"),
        ]
    )
