"""Models with the interface of YOLOX that see what they are told to."""

import numpy as np
from onnx import TensorProto, helper, numpy_helper

P5, P6 = (8, 16, 32), (8, 16, 32, 64)


def grid(width, height, strides):
    """Each cell's column, row and stride, in YOLOX's order."""
    return np.array(
        [
            (column, row, stride)
            for stride in strides
            for row in range(height // stride)
            for column in range(width // stride)
        ],
        np.float32,
    )


def yolox(boxes, *, size_wh=(128, 64), strides=P5, decoded=False, classes=80, batch=1):
    """A model that sees these boxes in any picture: (cx, cy, w, h, score, class) in input pixels.

    Its output also depends on the picture, by next to nothing, so that it has an input.
    """
    width, height = size_wh
    cells = grid(width, height, strides)
    said = np.zeros((len(cells), 5 + classes), np.float32)
    rng = np.random.default_rng(0)
    offsets, logs = rng.random((len(cells), 2)), rng.normal(size=(len(cells), 2)) * 0.3
    said[:, :2] = (cells[:, :2] + offsets) * cells[:, 2:]
    said[:, 2:4] = np.exp(logs) * cells[:, 2:]
    for cx, cy, w, h, score, class_id in boxes:
        stride = strides[0]
        index = int(cy // stride) * (width // stride) + int(cx // stride)
        said[index, :5] = cx, cy, w, h, score
        said[index, 5 + class_id] = 1
    if not decoded:
        said[:, :2] = said[:, :2] / cells[:, 2:] - cells[:, :2]
        said[:, 2:4] = np.log(said[:, 2:4] / cells[:, 2:])
    nodes = [
        helper.make_node("ReduceMean", ["images"], ["mean"], axes=[1, 2, 3], keepdims=1),
        helper.make_node("Reshape", ["mean", "row"], ["level"]),
        helper.make_node("Mul", ["level", "nothing"], ["little"]),
        helper.make_node("Add", ["little", "said"], ["output"]),
    ]
    constants = {
        "row": np.array([-1, 1, 1]),
        "nothing": np.float32(1e-9),
        "said": said[np.newaxis],
    }
    graph = helper.make_graph(
        nodes,
        "yolox",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, [batch, 3, height, width])],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, [batch, *said.shape])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)


def looking_yolox(*, size_wh=(128, 96), strides=P5, decoded=False, classes=3, seed=0):
    """A model with the interface of YOLOX whose boxes and scores follow from each cell's colours.

    Its weights are seeded: it sees people in many pictures, in boxes that overlap.
    """
    width, height = size_wh
    rng = np.random.default_rng(seed)
    mix = rng.normal(size=(5 + classes, 3, 1, 1)) / 40
    mix[:4] /= 8  # places and sizes differ less than scores
    bias = np.array([0.5, 0.5, 0.9, 1.4, -4, *[0.5] * classes])
    constants = {
        "mix": mix,
        "bias": bias - 128 * mix.sum(axis=(1, 2, 3)),
        "rows": np.array([1, 5 + classes, -1]),
        "parts": np.array([2, 2, 1 + classes]),
        "cells": grid(width, height, strides)[None, :, :2],
        "strides": grid(width, height, strides)[None, :, 2:],
    }
    nodes = []
    for stride in strides:
        pooled = {"kernel_shape": [stride, stride], "strides": [stride, stride]}
        nodes += [
            helper.make_node("AveragePool", ["images"], [f"colours_{stride}"], **pooled),
            helper.make_node("Conv", [f"colours_{stride}", "mix", "bias"], [f"said_{stride}"]),
            helper.make_node("Reshape", [f"said_{stride}", "rows"], [f"rows_{stride}"]),
        ]
    nodes += [
        helper.make_node("Concat", [f"rows_{stride}" for stride in strides], ["all"], axis=2),
        helper.make_node("Transpose", ["all"], ["turned"], perm=[0, 2, 1]),
        helper.make_node("Split", ["turned", "parts"], ["xy", "wh", "logits"], axis=2),
        helper.make_node("Sigmoid", ["logits"], ["sure"]),
    ]
    xy, wh = "xy", "wh"
    if decoded:
        nodes += [
            helper.make_node("Add", ["xy", "cells"], ["xy_moved"]),
            helper.make_node("Mul", ["xy_moved", "strides"], ["xy_pixels"]),
            helper.make_node("Exp", ["wh"], ["wh_cells"]),
            helper.make_node("Mul", ["wh_cells", "strides"], ["wh_pixels"]),
        ]
        xy, wh = "xy_pixels", "wh_pixels"
    nodes.append(helper.make_node("Concat", [xy, wh, "sure"], ["output"], axis=2))
    shape = [1, constants["cells"].shape[1], 5 + classes]
    model = helper.make_graph(
        nodes,
        "looking",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, height, width])],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, shape)],
        [
            numpy_helper.from_array(v if v.dtype == np.int64 else v.astype(np.float32), name)
            for name, v in constants.items()
        ],
    )
    return helper.make_model(model, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
