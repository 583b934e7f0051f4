"""Faults to seed into a good file: each changes it in one way that must not pass.

A fault takes the model (onnx.ModelProto, changed in place) and its contract, and returns the
contract to stamp. One that has a size takes that too: 1, and 0.5 for a fault of half the size.
"""

from dataclasses import replace
from functools import partial

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from cigpose_runtime import METADATA_KEY, SourceCheckpoint

FAULTS = {}
"""name -> (stage that has to catch it, fault)."""


def adds_to(faults):
    """A decorator for the faults of a kind, by their name and what else is said of them."""

    def fault(name, *said):
        def add(function):
            faults[name] = *said, function
            return function

        return add

    return fault


fault = adds_to(FAULTS)

HALVES = {}
"""The same of those that have a size, at half of it."""


def fault_of_size(name, stage):
    def add(function):
        FAULTS[name] = stage, partial(function, size=1)
        HALVES[f"half of: {name}"] = stage, partial(function, size=0.5)
        return function

    return add


def apply_fault(name, data, contract):
    """The bytes of a file with one fault in it."""
    model = onnx.load_from_string(data)
    _, function = (FAULTS | HALVES)[name]
    onnx.helper.set_model_props(model, {METADATA_KEY: function(model, contract).to_json()})
    return model.SerializeToString()


def weights(model, name):
    """The initializer of a name, as an array and as the place to put it back."""
    (tensor,) = (t for t in model.graph.initializer if t.name == name)
    return numpy_helper.to_array(tensor).copy(), tensor


def set_weights(tensor, array):
    tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))


def node_that_makes(model, output):
    (node,) = (n for n in model.graph.node if output in n.output)
    return node


def weight_of_linear(model, bias):
    """The constant that is multiplied before a bias is added."""
    (add,) = (n for n in model.graph.node if bias in n.input)
    product = next(i for i in add.input if i != bias)
    return weights(model, node_that_makes(model, product).input[1])


def behind_output(model, output, op_type, constants, **attributes):
    """Puts one node between an output and what made it."""
    maker = node_that_makes(model, output)
    before = f"{output}_before"
    maker.output[list(maker.output).index(output)] = before
    names = []
    for index, constant in enumerate(constants):
        names.append(f"{output}_constant_{index}")
        model.graph.initializer.append(numpy_helper.from_array(constant, names[-1]))
    model.graph.node.append(helper.make_node(op_type, [before, *names], [output], **attributes))


def mix_people(model, share):
    """Moves each person's simcc_x away from the batch's mean, by so much of the difference."""
    maker = node_that_makes(model, "simcc_x")
    maker.output[0] = "own"
    model.graph.initializer.append(numpy_helper.from_array(np.float32(share), "share"))
    model.graph.node.extend(
        [
            helper.make_node("ReduceMean", ["own"], ["of_all"], keepdims=1, axes=[0]),
            helper.make_node("Sub", ["own", "of_all"], ["apart"]),
            helper.make_node("Mul", ["apart", "share"], ["part"]),
            helper.make_node("Add", ["own", "part"], ["simcc_x"]),
        ]
    )


def reshape_output(model, output, *shape):
    (value,) = (o for o in model.graph.output if o.name == output)
    for dimension, size in zip(value.type.tensor_type.shape.dim[1:], shape, strict=True):
        dimension.dim_value = size


# What the file says of itself.


@fault("mean and std swapped", "contract")
def _(_model, contract):
    return replace(contract, mean=contract.std, std=contract.mean)


@fault("BGR for RGB in the metadata", "contract")
def _(_model, contract):
    return replace(contract, color_order="bgr")


@fault("split ratio halved, every second bin left out", "contract")
def _(model, contract):
    for output, side in (("simcc_x", contract.input_w), ("simcc_y", contract.input_h)):
        behind_output(model, output, "Gather", [np.arange(0, 2 * side, 2)], axis=2)
        reshape_output(model, output, contract.num_keypoints, side)
    return replace(contract, split_ratio=1.0)


@fault("stale stamp: another checkpoint's hash", "contract")
def _(_model, contract):
    return replace(contract, source_checkpoint=SourceCheckpoint("other.pth", "ab" * 32))


@fault("wrong keypoint count, the last one left out", "contract")
def _(model, contract):
    count = contract.num_keypoints - 1
    for output, side in (("simcc_x", contract.input_w), ("simcc_y", contract.input_h)):
        behind_output(model, output, "Gather", [np.arange(count)], axis=1)
        reshape_output(model, output, count, int(side * contract.split_ratio))
    return replace(
        contract,
        num_keypoints=count,
        keypoint_names=contract.keypoint_names[:count],
        oks_sigmas=contract.oks_sigmas[:count],
        skeleton=tuple(pair for pair in contract.skeleton if max(pair) < count),
        flip_pairs=tuple(pair for pair in contract.flip_pairs if max(pair) < count),
    )


@fault("two keypoint names swapped", "contract")
def _(_model, contract):
    first, second, *rest = contract.keypoint_names
    return replace(contract, keypoint_names=(second, first, *rest))


@fault("synthetic weights passed off as real", "contract")
def _(_model, contract):
    return replace(contract, weights="real")


@fault("boxes not padded", "contract")
def _(_model, contract):
    return replace(contract, box_padding=1.0)


@fault("a flip pair left out", "contract")
def _(_model, contract):
    return replace(contract, flip_pairs=contract.flip_pairs[:-1])


# The form of the graph.


@fault("a NonZero in the graph", "structure")
def _(model, contract):
    model.graph.node.append(helper.make_node("NonZero", ["input"], ["where_not_zero"]))
    return contract


@fault("an operator that onnxruntime alone has", "structure")
def _(model, contract):
    node = helper.make_node("Gelu", ["input"], ["gelu"], domain="com.microsoft")
    model.graph.node.append(node)
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    return contract


# The intervention.


@fault("intervention dropped", "intervention")
def _(model, contract):
    (where,) = (n for n in model.graph.node if n.op_type == "Where")
    features = where.input[2]
    where.op_type = "Identity"
    del where.input[:]
    where.input.append(features)
    return contract


@fault("intervention on the surest keypoint", "intervention")
def _(model, contract):
    (top_k,) = (n for n in model.graph.node if n.op_type == "TopK")
    (largest,) = (a for a in top_k.attribute if a.name == "largest")
    largest.i = 1 - largest.i
    return contract


@fault_of_size("canonical features of one keypoint perturbed", "replacement")
def _(model, contract, size):
    array, tensor = weights(model, "head.cim.canonical")
    array[contract.num_keypoints // 2, 3] += 0.05 * size
    set_weights(tensor, array)
    return contract


@fault("canonical features of two keypoints swapped", "replacement")
def _(model, contract):
    array, tensor = weights(model, "head.cim.canonical")
    array[[3, 4]] = array[[4, 3]]
    set_weights(tensor, array)
    return contract


@fault_of_size("a weight of the confound scores perturbed", "precision")
def _(model, contract, size):
    array, tensor = weight_of_linear(model, "head.initial_pred_x.bias")
    array.flat[7] += size
    set_weights(tensor, array)
    return contract


# What it computes.


@fault_of_size("BGR for RGB in the first convolution", "parity")
def _(model, contract, size):
    array, tensor = weights(model, "backbone.stem.0.conv.weight")
    set_weights(tensor, array + np.float32(size) * (array[:, ::-1] - array))
    return contract


@fault_of_size("one weight perturbed", "parity")
def _(model, contract, size):
    array, tensor = weights(model, "backbone.stage2.1.main_conv.conv.weight")
    array.flat[1] *= 1 + size
    set_weights(tensor, array)
    return contract


@fault("two keypoints swapped", "parity")
def _(model, contract):
    order = np.arange(contract.num_keypoints)
    order[[5, 6]] = 6, 5
    for output in ("simcc_x", "simcc_y"):
        behind_output(model, output, "Gather", [order], axis=1)
    return contract


@fault_of_size("one graph edge removed", "parity")
def _(model, contract, size):
    array, tensor = weights(model, "head.gcn.layers.0.incidence")
    array[:, 4] *= 1 - size
    set_weights(tensor, array)
    return contract


@fault_of_size("one keypoint left out of its group", "parity")
def _(model, contract, size):
    array, tensor = weights(model, "head.gcn.layers.0.attention.membership_mean")
    array[2] *= 1 - size
    set_weights(tensor, array)
    return contract


@fault_of_size("float16 weights in a float32 file", "parity")
def _(model, contract, size):
    for tensor in model.graph.initializer:
        if tensor.data_type == TensorProto.FLOAT:
            array = numpy_helper.to_array(tensor)
            rounded = array.astype(np.float16).astype(np.float32)
            set_weights(tensor, array + np.float32(size) * (rounded - array))
    return contract


@fault_of_size("attention's square left out", "parity")
def _(model, contract, size):
    (power,) = (n for n in model.graph.node if n.op_type == "Pow")
    power.input[1] = "exponent"
    model.graph.initializer.append(numpy_helper.from_array(np.float32(2 - size), "exponent"))
    return contract


@fault_of_size("keypoints one bin to the right", "parity")
def _(model, contract, size):
    bins = int(contract.input_w * contract.split_ratio)
    shift = np.roll(np.eye(bins, dtype=np.float32), 1, axis=1)
    behind_output(
        model, "simcc_x", "MatMul", [np.float32(size * shift + (1 - size) * np.eye(bins))]
    )
    return contract


@fault_of_size("people of a batch mixed", "parity")
def _(model, contract, size):
    mix_people(model, 0.01 * size)
    return contract


@fault("NaN in one bias", "parity")
def _(model, contract):
    array, tensor = weights(model, "head.cls_gx.bias")
    array[11] = np.nan
    set_weights(tensor, array)
    return contract
