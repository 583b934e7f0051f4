"""Models with the interface of MMDetection's detectors as mmdeploy exports them."""

import numpy as np
from onnx import TensorProto, helper, numpy_helper


def mmdeploy(
    boxes, *, first="Conv", attention=True, size_wh=(128, 64), batch=1, shown=0.0, output=(None, 5)
):
    """A model that sees these boxes: (left, top, right, bottom, score, label) in input pixels.

    first: the operator that takes the picture, of RTMDet "Conv", of YOLOX one that cuts it into
    quarters. attention: with RTMDet's HardSigmoid. shown: how many pixels a box moves for 1 in the
    mean of the input's channels, of blue its left, of green its top, of red both.
    size_wh, batch: numbers or names. output: the sizes of dets behind the batch that the file says.
    """
    width, height = size_wh
    said = np.array([box[:5] for box in boxes], np.float32).reshape(1, -1, 5)
    moves = np.zeros((3, len(boxes), 5), np.float32)
    moves[0, :, 0] = moves[1, :, 1] = shown
    moves[2, :, :2] = shown
    constants = {
        "said": said,
        "labels_said": np.array([[box[5] for box in boxes]], np.int64).reshape(1, -1),
        "moves": moves.reshape(1, 3, -1),
        "channels": np.array([-1, 1, 3]),
        "rows": np.array([-1, len(boxes), 5]),
        "row": np.array([-1, 1]),
        "none": np.int64(0),
        "eye": np.eye(3, dtype=np.float32)[:, :, None, None],
        "from": np.array([0]),
        "to": np.array([2**31]),
        "axis": np.array([2]),
        "as_it_is": np.array([0, 3, 0, -1]),
    }
    starts = {
        "Conv": helper.make_node("Conv", ["input", "eye"], ["seen"]),
        "Slice": helper.make_node("Slice", ["input", "from", "to", "axis"], ["seen"]),
        "Reshape": helper.make_node("Reshape", ["input", "as_it_is"], ["seen"]),
        "Mul": helper.make_node("Mul", ["input", "input"], ["seen"]),
    }
    nodes = [
        starts[first],
        helper.make_node("ReduceMean", ["seen"], ["mean"], axes=[2, 3], keepdims=1),
        helper.make_node("HardSigmoid" if attention else "Sigmoid", ["mean"], ["attention"]),
        helper.make_node("Reshape", ["mean", "channels"], ["level"]),
        helper.make_node("MatMul", ["level", "moves"], ["moved"]),
        helper.make_node("Reshape", ["moved", "rows"], ["by"]),
        helper.make_node("Add", ["said", "by"], ["dets"]),
        helper.make_node("ReduceMean", ["mean"], ["one"], axes=[1, 2, 3], keepdims=0),
        helper.make_node("Reshape", ["one", "row"], ["each"]),
        helper.make_node("Cast", ["each"], ["whole"], to=TensorProto.INT64),
        helper.make_node("Mul", ["whole", "none"], ["nothing"]),
        helper.make_node("Add", ["labels_said", "nothing"], ["labels"]),
    ]
    graph = helper.make_graph(
        nodes,
        "mmdeploy",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, [batch, 3, height, width])],
        [
            helper.make_tensor_value_info("dets", TensorProto.FLOAT, [batch, *output]),
            helper.make_tensor_value_info("labels", TensorProto.INT64, [batch, output[0]]),
        ],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
