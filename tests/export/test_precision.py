"""Graphs in float16 and with float16 weights, and the emulation that judges them."""

import hashlib
from dataclasses import replace

import numpy as np
import onnx
import pytest
from onnx import TensorProto, numpy_helper
from onnx.shape_inference import infer_shapes

from cigpose_export.errors import ExportError
from cigpose_export.graph.derived_file import derive_file
from cigpose_export.graph.precision import (
    LEAST_WEIGHTS,
    kept_in_float32,
    to_float16,
    to_float16_weights,
)
from cigpose_runtime import read_contract
from cigpose_runtime.estimation.ort import ort
from cigpose_verify.reduced.emulate import with_rounded_tensors


@pytest.fixture(scope="module")
def model(tiny_path):
    return onnx.load(tiny_path)


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
    assert len(casts) == 6  # behind the input, around two norms, before the output layers
    assert half.ByteSize() < 0.6 * model.ByteSize()
    assert half.metadata_props == model.metadata_props


def test_the_output_layers_and_the_norms_stay_float32(model):
    half = to_float16(model)
    types = {v.name: v.type.tensor_type.elem_type for v in infer_shapes(half).graph.value_info}
    types |= {output.name: TensorProto.FLOAT for output in half.graph.output}
    whole = [
        node
        for node in half.graph.node
        if node.op_type != "Cast" and types.get(node.output[0]) == TensorProto.FLOAT
    ]
    norm, layer = ["ReduceL2", "Mul", "Clip", "Div"], ["MatMul", "Add"]
    assert [node.op_type for node in whole] == [*norm, *norm, *layer, *layer]
    assert [node.name for node in whole] == kept_in_float32(model.graph)


def test_emulation_rounds_every_tensor_that_is_float16(model):
    emulated = with_rounded_tensors(to_float16(model))
    names = list(emulated.unrounded)
    emulated.model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    assert len(names) > 100
    for name, value in zip(names, run(emulated.model.SerializeToString(), names), strict=True):
        assert value.dtype == np.float32
        np.testing.assert_array_equal(value, value.astype(np.float16), err_msg=name)


def test_emulation_says_more_than_onnxruntimes_cpu(model):
    """Its CPU rounds the weights and little else."""
    half = to_float16(model)
    exact, on_cpu, emulated = (
        run(some.SerializeToString())[0] for some in (model, half, with_rounded_tensors(half).model)
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


@pytest.mark.parametrize("precision", ["fp16", "w16"])
def test_a_reduced_file_says_what_it_is_made_from_and_has_the_same_bytes_each_time(
    tiny_path, model, precision, tmp_path
):
    targets = [tmp_path / "one.onnx", tmp_path / "two" / "other.onnx"]
    for target in targets:
        target.parent.mkdir(exist_ok=True)
        derive_file(tiny_path, precision, target, on_stage=lambda _: None)
    assert targets[0].read_bytes() == targets[1].read_bytes()
    contract, whole = read_contract(targets[0]), read_contract(tiny_path)
    assert contract.derived_from.sha256 == hashlib.sha256(tiny_path.read_bytes()).hexdigest()
    kept = kept_in_float32(model.graph) if precision == "fp16" else []
    assert list(contract.derived_from.fp32_nodes) == kept
    as_whole = replace(contract, schema_version=1, precision="fp32", derived_from=None)
    assert as_whole == whole


def test_a_range_that_float16_is_not_safe_in_is_refused_in_one_line(tiny_path, tmp_path):
    """The first convolution gives 2^15 times as much, and the second takes as much less."""
    model = onnx.load(tiny_path)
    first, second = [node for node in model.graph.node if node.op_type == "Conv"][:2]
    changes = {first.input[1]: 2**15, first.input[2]: 2**15, second.input[1]: 2**-15}
    bad = changed(model, lambda name, values: values * np.float32(changes.get(name, 1)))
    parent = tmp_path / "bad.onnx"
    parent.write_bytes(bad.SerializeToString())
    with pytest.raises(ExportError, match=r"fp16: noise: expected values up to 32,752, found") as e:
        derive_file(parent, "fp16", tmp_path / "bad_fp16.onnx", on_stage=lambda _: None)
    assert "\n" not in str(e.value)
    assert not (tmp_path / "bad_fp16.onnx").exists()
