"""Models that see something, for the keypoint sets that no small trained model is there for."""

import dataclasses

import numpy as np
import onnx
from onnx import helper, numpy_helper

from cigpose_runtime import METADATA_KEY, read_contract
from cigpose_runtime.keypoints import COCO

NEAREST = {"head": "nose", "neck": "nose", "foot": "ankle", "toe": "ankle", "heel": "ankle"}
"""Where a keypoint that COCO does not have is looked for."""


def seeing_model(demo, keypoints, path):
    """The demonstration model, with COCO's 17 keypoints, as one of others: each is where it says
    that the nearest of its own is."""
    model = onnx.load(str(demo))
    order = np.array([_nearest(name) for name in keypoints.names], np.int64)
    model.graph.initializer.append(numpy_helper.from_array(order, "order"))
    for output in model.graph.output:
        (node,) = [node for node in model.graph.node if output.name in node.output]
        node.output[list(node.output).index(output.name)] = f"{output.name}_17"
        model.graph.node.append(
            helper.make_node("Gather", [f"{output.name}_17", "order"], [output.name], axis=1)
        )
        output.type.tensor_type.shape.dim[1].dim_value = len(order)
    contract = dataclasses.replace(
        read_contract(demo),
        dataset=keypoints.dataset,
        num_keypoints=len(order),
        keypoint_names=keypoints.names,
        skeleton=keypoints.skeleton,
        flip_pairs=keypoints.flip_pairs,
        oks_sigmas=keypoints.oks_sigmas,
    )
    (entry,) = [entry for entry in model.metadata_props if entry.key == METADATA_KEY]
    entry.value = contract.to_json()
    onnx.save(model, str(path))
    return path


def _nearest(name):
    if name in COCO.names:
        return COCO.names.index(name)
    side = "right" if "right" in name else "left"
    for part, nearest in NEAREST.items():
        if part in name:
            return COCO.names.index(nearest if nearest == "nose" else f"{side}_{nearest}")
    return COCO.names.index(f"{side}_wrist" if "hand" in name else "nose")
