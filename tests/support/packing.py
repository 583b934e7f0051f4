"""Models whose every input pixel counts, and what packing them takes."""

import hashlib

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from cigpose_export.graph.frame.assemble import assemble
from cigpose_runtime import METADATA_KEY
from cigpose_runtime.model_file.frame_contract import FrameContract
from tiny_onnx import tiny_contract

BINS = 12
"""Cells that the crop is averaged in, with seeded weights, along each side at most."""


def pixel_model(**changes):
    """A CIGPose model for tiny_contract with these changes: weighted sums over all its pixels.

    All bins of keypoint 1 tie; the last keypoint is never found.
    """
    contract = tiny_contract(**changes)
    w, h = contract.input_w, contract.input_h
    rng = np.random.default_rng(0)
    side = max(1, w // BINS)
    cells = (w // side) * (h // side)
    weights = {"kernel": rng.normal(size=(4, 3, side, side)) / side}
    nodes = [
        helper.make_node("Conv", ["input", "kernel"], ["sums"], strides=[side, side]),
        helper.make_node("Flatten", ["sums"], ["flat"]),
    ]
    outputs = []
    for axis, size in (("x", w), ("y", h)):
        bins = int(size * contract.split_ratio)
        shape = np.array([0, contract.num_keypoints, bins])
        mix = rng.normal(size=(4 * cells, shape[1], bins)) / cells
        mix[:, 1] = 0
        level = np.zeros((1, shape[1], 1))
        level[0, [1, -1], 0] = 0.5, -1000
        weights[f"mix_{axis}"] = mix.reshape(4 * cells, -1)
        weights[f"shape_{axis}"] = shape
        weights[f"level_{axis}"] = level
        nodes += [
            helper.make_node("MatMul", ["flat", f"mix_{axis}"], [f"all_{axis}"]),
            helper.make_node("Reshape", [f"all_{axis}", f"shape_{axis}"], [f"bins_{axis}"]),
            helper.make_node("Add", [f"bins_{axis}", f"level_{axis}"], [f"simcc_{axis}"]),
        ]
        info = (f"simcc_{axis}", TensorProto.FLOAT, ["batch", *shape[1:].tolist()])
        outputs.append(helper.make_tensor_value_info(*info))
    for node in nodes:
        node.name = node.output[0]
    initializers = [
        numpy_helper.from_array(v if v.dtype == np.int64 else v.astype(np.float32), name)
        for name, v in weights.items()
    ]
    image = helper.make_tensor_value_info("input", TensorProto.FLOAT, ["batch", 3, h, w])
    model = helper.make_model(
        helper.make_graph(nodes, "pixels", [image], outputs, initializers),
        opset_imports=[helper.make_opsetid("", contract.opset)],
        ir_version=8,
    )
    helper.set_model_props(model, {METADATA_KEY: contract.to_json()})
    return model, contract


def frame_contract(contract, data=b"", **changes):
    """What a file says that `contract`'s model is packed into; data: of the model's file."""
    fields = {
        "name": f"{contract.name}_frame",
        "frame_color_order": "rgb",
        "flip_test": False,
        "packed_sha256": hashlib.sha256(data).hexdigest(),
        "detector": None,
        "model": contract,
    }
    return FrameContract(**{**fields, **changes})


def packed(path, *, fixed=None, **changes):
    """The bytes of the model at `path` packed, without a detector."""
    data = path.read_bytes()
    model = onnx.load_from_string(data)
    (metadata,) = model.metadata_props
    contract = type(tiny_contract()).from_json(metadata.value)
    return assemble(model, frame_contract(contract, data, **changes), fixed=fixed)


def save(folder, **changes):
    """A pixel_model in NAME.onnx, where its packed file looks for it."""
    model, contract = pixel_model(**changes)
    path = folder / f"{contract.name}.onnx"
    onnx.save(model, path)
    return path
