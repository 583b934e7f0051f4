"""Graphs in float16 and with float16 weights, and the emulation that judges them."""

import numpy as np
import onnx
import pytest
from cigpose_verify.emulate import with_rounded_tensors
from onnx import TensorProto, numpy_helper

from cigpose_export.errors import ExportError
from cigpose_export.graph.precision import LEAST_WEIGHTS, to_float16, to_float16_weights
from cigpose_runtime.estimation.ort import ort
from tiny_project import export_tiny, make_tiny_project


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A tiny model in float32; not to be changed."""
    return onnx.load(export_tiny(make_tiny_project(tmp_path_factory.mktemp("tiny"))))


def run(data, names=None):
    session = ort.InferenceSession(data, providers=["CPUExecutionProvider"])
    _, *size = session.get_inputs()[0].shape
    image = np.random.default_rng(0).standard_normal((3, *size), dtype=np.float32)
    return session.run(names, {"input": image})


def changed(model, change):
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    for tensor in copy.graph.initializer:
        if tensor.data_type == TensorProto.FLOAT:
            values = change(tensor.name, numpy_helper.to_array(tensor).copy())
            tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    return copy


def weight_names(model):
    floats = (t for t in model.graph.initializer if t.data_type == TensorProto.FLOAT)
    return [t.name for t in floats if np.prod(t.dims) >= LEAST_WEIGHTS]


def test_float16_has_float32_ends_and_casts_where_the_type_changes_alone(model):
    half = to_float16(model)
    onnx.checker.check_model(half, full_check=True)
    ends = [*half.graph.input, *half.graph.output]
    assert {value.type.tensor_type.elem_type for value in ends} == {TensorProto.FLOAT}
    casts = [node for node in half.graph.node if node.op_type == "Cast"]
    assert len(casts) == 2  # behind the input, before the output layers
    assert half.ByteSize() < 0.6 * model.ByteSize()
    assert half.metadata_props == model.metadata_props


def test_only_the_output_layers_stay_float32(model):
    half = to_float16(model)
    kept = {t.name for t in half.graph.initializer if t.data_type == TensorProto.FLOAT}
    readers = [node for node in half.graph.node if kept & set(node.input)]
    assert kept
    assert {node.op_type for node in readers} <= {"MatMul", "Add"}
    outputs = {output.name for output in half.graph.output}
    assert outputs <= {name for node in readers for name in node.output}


def test_emulation_rounds_every_tensor_that_is_float16(model):
    emulated = onnx.load_from_string(with_rounded_tensors(to_float16(model)))
    rounded = [n.output[0] for n in emulated.graph.node if n.output[0].endswith("_rounded")]
    names = [name.removesuffix("_rounded") for name in rounded]
    emulated.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    assert len(names) > 100
    for name, value in zip(names, run(emulated.SerializeToString(), names), strict=True):
        assert value.dtype == np.float32
        np.testing.assert_array_equal(value, value.astype(np.float16), err_msg=name)


def test_emulation_says_more_than_onnxruntimes_cpu(model):
    """Its CPU rounds the weights and little else."""
    half = to_float16(model)
    exact, on_cpu, emulated = (
        run(data)[0]
        for data in (
            model.SerializeToString(),
            half.SerializeToString(),
            with_rounded_tensors(half),
        )
    )
    assert np.square(emulated - exact).mean() > 1.5 * np.square(on_cpu - exact).mean()


def test_float16_weights_compute_what_rounded_weights_compute(model):
    large = set(weight_names(model))

    def rounded(name, values):
        return values.astype(np.float16).astype(np.float32) if name in large else values

    stored = to_float16_weights(model)
    onnx.checker.check_model(stored, full_check=True)
    assert stored.ByteSize() < 0.6 * model.ByteSize()
    expected = run(changed(model, rounded).SerializeToString())
    for ours, theirs in zip(run(stored.SerializeToString()), expected, strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("convert", [to_float16, to_float16_weights])
@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda values: values * 1e9, r"expected weights up to 65504, found .*e\+"),
        (lambda values: values * np.nan, "expected weights up to 65504, found nan"),
        (lambda values: values * 1e-12, "they would all be 0"),
    ],
    ids=["overflow", "NaN", "underflow"],
)
def test_weights_that_float16_cannot_hold_are_refused(model, convert, spoil, message):
    spoilt = weight_names(model)[0]
    bad = changed(model, lambda name, values: spoil(values) if name == spoilt else values)
    with pytest.raises(ExportError, match=message):
        convert(bad)
