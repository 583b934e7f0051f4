"""Packs a model into one graph from frame and boxes, or from the frame alone, to keypoints."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx
from onnx import TensorProto, helper

from cigpose_export.graph.frame.builder import Graph, Value, opset_of
from cigpose_export.graph.frame.crop import NOBODY, centers_and_scales, crops, sound
from cigpose_export.graph.frame.decode import average_flipped, decode
from cigpose_export.graph.frame.detector import detect
from cigpose_export.graph.frame.pixels import Frame
from cigpose_export.graph.opset import OPSET
from cigpose_export.graph.stamp import stamped_bytes
from cigpose_runtime import ValueInfo, YoloxDetector
from cigpose_runtime.model_file.frame_contract import (
    FRAME_METADATA_KEY,
    FrameContract,
    interface,
)

_ELEM_TYPES = {"uint8": TensorProto.UINT8, "float32": TensorProto.FLOAT}


@dataclass(frozen=True)
class FixedSize:
    """Of a file whose shapes are all fixed: the frame's, in pixels, and how many boxes."""

    height: int
    width: int
    people: int


def assemble(
    model: onnx.ModelProto,
    contract: FrameContract,
    *,
    fixed: FixedSize | None = None,
    detector: tuple[YoloxDetector, onnx.ModelProto] | None = None,
) -> bytes:
    """The bytes of a packed file; the same ones for the same arguments.

    model: a CIGPose model. contract: what the file says of itself, and hence does. fixed: for
    engines that take no free sizes. detector: as the runtime opens it and as a graph, where the
    contract has one.
    Raises ExportError for operators that cannot be brought to one opset.
    """
    models = [model] if detector is None else [model, detector[1]]
    graph = Graph(max(OPSET, *map(opset_of, models)), "frame")
    hw = None if fixed is None else (fixed.height, fixed.width)
    frame = Frame.of(graph.value("frame", np.uint8), contract.frame_color_order, hw)
    if detector is None or contract.detector is None:
        boxes = graph.value("boxes", np.float32)
        outputs = []
    else:
        boxes, box_scores = detect(frame, *detector, contract.detector.max_people)
        outputs = [("boxes", boxes), ("box_scores", box_scores)]
    keypoints, scores = _estimate(frame, boxes, model, contract, fixed)
    outputs += [("keypoints", keypoints), ("scores", scores)]
    for name, value in outputs:
        graph.nodes.append(helper.make_node("Identity", [value.name], [name], name=name))

    sizes = {} if fixed is None else {**vars(fixed), "channels": 3}
    values = [_value_info(value, sizes) for value in interface(contract)]
    inputs = values[: -len(outputs)]
    packed = helper.make_model(
        helper.make_graph(
            graph.nodes, contract.name, inputs, values[len(inputs) :], graph.initializers
        ),
        opset_imports=[helper.make_opsetid("", graph.opset)],
        ir_version=max(one.ir_version for one in models),
    )
    return stamped_bytes(packed, {FRAME_METADATA_KEY: contract.to_json()})


def _estimate(
    frame: Frame,
    boxes: Value,
    model: onnx.ModelProto,
    contract: FrameContract,
    fixed: FixedSize | None,
) -> tuple[Value, Value]:
    """Keypoints (people, K, 2) and scores (people, K), 0 for boxes that are none."""
    graph, inner = boxes.graph, contract.model
    graph.section = "boxes"
    is_sound = sound(boxes, frame)
    nobody = graph.constant(NOBODY, np.float32)
    estimated = graph.where(is_sound, boxes, nobody)
    if fixed is None:
        # The model fails without people in onnxruntime up to 1.30 and in OpenVINO: then it runs
        # on one, who is cut off below. An If would cost a sixth of the speed.
        people = graph.op("Shape", boxes, dtype=np.int64, start=0, end=1)
        missing = graph.op("Max", 1 - people, graph.constant([0], np.int64))
        start = graph.constant([0], np.int64)
        estimated = graph.concat([estimated, nobody.slice(0, start, missing)], axis=0)
    graph.section = "crop"
    centers, scales = centers_and_scales(estimated, inner)
    batch = crops(frame, centers, scales, inner)
    if contract.flip_test:
        batch = graph.concat([batch, batch.mirrored()], axis=0)
    simcc_x, simcc_y = graph.embed(model, "pose", batch)
    graph.section = "decode"
    if contract.flip_test:
        simcc_x, simcc_y = average_flipped(simcc_x, simcc_y, inner)
    keypoints, scores = decode(simcc_x, simcc_y, centers, scales, inner)
    if fixed is None:
        keypoints, scores = (value.slice(0, start, people) for value in (keypoints, scores))
    is_sound_xy = graph.op("Unsqueeze", is_sound, graph.constant([2], np.int64))
    return (
        graph.where(is_sound_xy, keypoints, 0),
        graph.where(is_sound, scores, 0),
    )


def _value_info(value: ValueInfo, sizes: dict[str, int]) -> onnx.ValueInfoProto:
    shape = [sizes.get(size, size) if isinstance(size, str) else size for size in value.shape or ()]
    return helper.make_tensor_value_info(value.name, _ELEM_TYPES[str(value.elem_type)], shape)
