"""The runtime accepts its own files after onnxruntime optimised, quantized or halved them."""

from importlib import import_module

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from cigpose_runtime import PoseModel, read_onnx_file
from cigpose_runtime.estimation.ort import ort
from tiny_onnx import tiny_contract, tiny_model

quantization = import_module("onnxruntime.quantization")  # after ort, which sets the telemetry
float16 = import_module("onnxruntime.transformers.float16")

FRAME = np.random.default_rng(0).integers(0, 255, (40, 30, 3), np.uint8)


@pytest.fixture
def path(tmp_path):
    """A tiny model that begins with what a backbone is made of: Conv and SiLU."""
    model = tiny_model()
    weight = np.random.default_rng(1).normal(size=(3, 3, 3, 3)).astype(np.float32)
    model.graph.initializer.append(numpy_helper.from_array(weight, "kernel"))
    model.graph.node[0].input[0] = "silu"
    nodes = [
        helper.make_node("Conv", ["input", "kernel"], ["conv"], pads=[1, 1, 1, 1]),
        helper.make_node("Sigmoid", ["conv"], ["gate"]),
        helper.make_node("Mul", ["conv", "gate"], ["silu"]),
        *model.graph.node,
    ]
    model.graph.ClearField("node")
    model.graph.node.extend(nodes)
    path = tmp_path / "tiny.onnx"
    onnx.save(model, path)
    return path


class Calibration(quantization.CalibrationDataReader):
    def __init__(self):
        shape = (3, 1, 3, tiny_contract().input_h, tiny_contract().input_w)
        self.inputs = iter(np.random.default_rng(2).normal(size=shape).astype(np.float32))

    def get_next(self):
        inputs = next(self.inputs, None)
        return None if inputs is None else {"input": inputs}


def optimised(level):
    def write(source, target):
        options = ort.SessionOptions()
        options.log_severity_level = 4
        options.graph_optimization_level = level
        options.optimized_model_filepath = str(target)
        ort.InferenceSession(source, options, providers=["CPUExecutionProvider"])

    return write


def static(form):
    return lambda source, target: quantization.quantize_static(
        source, target, Calibration(), quant_format=form, per_channel=True
    )


def halved(source, target):
    model = float16.convert_float_to_float16(onnx.load(source), keep_io_types=True)
    onnx.save(model, target)


levels = ort.GraphOptimizationLevel
WRITERS = {
    "basic": (optimised(levels.ORT_ENABLE_BASIC), "Conv"),
    "extended": (optimised(levels.ORT_ENABLE_EXTENDED), "com.microsoft.QuickGelu"),
    "all": (optimised(levels.ORT_ENABLE_ALL), None),  # by the processor
    "dynamic int8": (quantization.quantize_dynamic, "ConvInteger"),
    "static int8, QDQ": (static(quantization.QuantFormat.QDQ), "QuantizeLinear"),
    "static int8, operators": (static(quantization.QuantFormat.QOperator), "QLinearConv"),
    "fp16": (halved, "Cast"),
}


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(("write", "operator"), WRITERS.values(), ids=WRITERS)
@pytest.mark.parametrize("again", [False, True], ids=["as written", "optimised"])
def test_a_model_that_onnxruntime_wrote_is_read_and_runs(path, tmp_path, write, operator, again):
    written, last = tmp_path / "written.onnx", tmp_path / "last.onnx"
    write(path, written)
    if operator is not None:
        assert operator in read_onnx_file(written).op_counts
    if again:
        optimised(levels.ORT_ENABLE_ALL)(written, last)
        written = last
    assert PoseModel(written)(FRAME, [[0, 0, 30, 40]]).keypoints.shape == (1, 17, 2)
