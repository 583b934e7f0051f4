"""Small ONNX models with the interface of CIGPose models, and contracts that fit them."""

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from cigpose_runtime import KEYPOINT_SETS, METADATA_KEY, Contract, SourceCheckpoint

SET_OF = {len(some.names): some for some in KEYPOINT_SETS.values()}
"""The published keypoint sets, for short, by their number of keypoints."""


def tiny_contract(
    *,
    num_keypoints: int = 17,
    input_size_wh: tuple[int, int] = (6, 8),
    split_ratio: float = 2.0,
    opset: int = 18,
    **changes: Any,
) -> Contract:
    """The contract of tiny_model with the same arguments; `changes` replace any of its fields."""
    keypoints = SET_OF[num_keypoints]
    fields: dict[str, Any] = {
        "schema_version": 1,
        "name": f"tiny_{keypoints.dataset}",
        "dataset": keypoints.dataset,
        "num_keypoints": num_keypoints,
        "input_w": input_size_wh[0],
        "input_h": input_size_wh[1],
        "split_ratio": split_ratio,
        "mean": (123.675, 116.28, 103.53),
        "std": (58.395, 57.12, 57.375),
        "color_order": "rgb",
        "box_padding": 1.25,
        "decode": "simcc-argmax",
        "keypoint_names": keypoints.names,
        "skeleton": keypoints.skeleton,
        "flip_pairs": keypoints.flip_pairs,
        "oks_sigmas": keypoints.oks_sigmas,
        "weights": "synthetic",
        "source_checkpoint": SourceCheckpoint("tiny.pth", "0123456789abcdef" * 4),
        "tools": (("onnx", "1.23.2"), ("torch", "2.13.0")),
        "opset": opset,
        "license": "Apache-2.0",
        "attribution": "CIGPose, MMPose",
    }
    return Contract(**{**fields, **changes})


def tiny_model(
    *,
    num_keypoints: int = 17,
    input_size_wh: tuple[int, int] = (6, 8),
    split_ratio: float = 2.0,
    batch: str | int = "batch",
    opset: int = 18,
    metadata: str | None = None,
    seed: int = 0,
) -> onnx.ModelProto:
    """A model that ONNX Runtime runs: each output is a seeded product with the mean colour.

    metadata: the text of the `cigpose_meta` entry; "" leaves the entry out; None is tiny_contract
    for the same arguments.
    """
    input_w, input_h = input_size_wh
    rng = np.random.default_rng(seed)
    nodes = [
        helper.make_node("GlobalAveragePool", ["input"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["colour"]),
    ]
    outputs, initializers = [], []
    for axis, size in (("x", input_w), ("y", input_h)):
        bins = int(size * split_ratio)
        weight = rng.normal(size=(3, num_keypoints * bins)).astype(np.float32)
        shape = np.array([0, num_keypoints, bins], np.int64)
        initializers += [
            numpy_helper.from_array(weight, f"weight_{axis}"),
            numpy_helper.from_array(shape, f"shape_{axis}"),
        ]
        nodes += [
            helper.make_node("MatMul", ["colour", f"weight_{axis}"], [f"flat_{axis}"]),
            helper.make_node("Reshape", [f"flat_{axis}", f"shape_{axis}"], [f"simcc_{axis}"]),
        ]
        outputs.append(
            helper.make_tensor_value_info(
                f"simcc_{axis}", TensorProto.FLOAT, [batch, num_keypoints, bins]
            )
        )
    graph_input = helper.make_tensor_value_info(
        "input", TensorProto.FLOAT, [batch, 3, input_h, input_w]
    )
    model = helper.make_model(
        helper.make_graph(nodes, "tiny", [graph_input], outputs, initializers),
        opset_imports=[helper.make_opsetid("", opset)],
        producer_name="tiny_onnx",
        ir_version=10,
    )
    if metadata is None:
        metadata = tiny_contract(
            num_keypoints=num_keypoints,
            input_size_wh=input_size_wh,
            split_ratio=split_ratio,
            opset=opset,
        ).to_json()
    if metadata:
        model.metadata_props.add(key=METADATA_KEY, value=metadata)
    return model
