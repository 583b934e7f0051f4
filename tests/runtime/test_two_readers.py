"""Two readers, one file: what ours reads of a model is what protobuf's own reader reads.

Ours are two, the runtime's and the web page's.
"""

import base64
import copy
import json
import random
import shutil
import subprocess
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest
from google.protobuf.message import DecodeError
from google.protobuf.unknown_fields import UnknownFieldSet
from onnx import TensorProto, helper, numpy_helper

from cigpose_runtime import OnnxFileError, parse_onnx
from tiny_onnx import tiny_model
from wire import damage, to_bytes, to_fields


def rich_model():
    """A small model with a field of every kind that a file may have."""
    model = tiny_model(metadata="{}")
    model.graph.node.append(
        helper.make_node(
            "Constant", [], ["c"], value=numpy_helper.from_array(np.zeros(2, np.float32), "v")
        )
    )
    model.graph.node.append(
        helper.make_node("Conv", ["a"], ["b"], pads=[1, 1], alpha=0.5, mode="x", weights=[0.5])
    )
    model.graph.initializer.append(
        TensorProto(name="ints", data_type=TensorProto.INT64, dims=[2], int64_data=[-1, 300])
    )
    model.graph.value_info.append(helper.make_tensor_value_info("c", TensorProto.FLOAT, ["n", 3]))
    annotation = model.graph.quantization_annotation.add(tensor_name="c")
    annotation.quant_parameter_tensor_names.add(key="SCALE_TENSOR", value="s")
    model.opset_import.add(domain="com.microsoft", version=1)
    model.metadata_props.add(key="key", value="value")
    return model


TREE = to_fields(rich_model().SerializeToString(), onnx.ModelProto.DESCRIPTOR)


def damaged_models(count, seed):
    rng = random.Random(seed)
    for _ in range(count):
        tree = copy.deepcopy(TREE)
        for _ in range(rng.choice([1, 1, 1, 2, 3])):
            damage(tree, onnx.ModelProto.DESCRIPTOR, rng)
        yield to_bytes(tree)


def messages_in(message):
    """A message and all inside it."""
    yield message
    for field, value in message.ListFields():
        if field.message_type is not None:
            for inner in value if field.is_repeated else [value]:
                yield from messages_in(inner)


def seen_by_onnx(data):
    """What protobuf sees of a model, in the form of ours; all that must not be there is not."""
    model = onnx.ModelProto.FromString(data)
    everything = list(messages_in(model))
    assert not any(len(UnknownFieldSet(message)) for message in everything)
    tensors = [message for message in everything if isinstance(message, TensorProto)]
    assert not any(t.external_data or t.data_location for t in tensors)
    assert sum(isinstance(message, onnx.GraphProto) for message in everything) == 1
    assert not model.functions
    graph = model.graph
    supplied = {tensor.name for tensor in graph.initializer}
    opsets = {o.version for o in model.opset_import if o.domain in ("", "ai.onnx")}
    return {
        "ir_version": model.ir_version,
        "opset": opsets,
        "producer": " ".join(filter(None, (model.producer_name, model.producer_version))),
        "metadata": [(entry.key, entry.value) for entry in model.metadata_props],
        "inputs": [shape_of(value) for value in graph.input if value.name not in supplied],
        "outputs": [shape_of(value) for value in graph.output],
        "operators": Counter(
            node.op_type if node.domain in ("", "ai.onnx") else f"{node.domain}.{node.op_type}"
            for node in graph.node
        ),
        "initializers": len(graph.initializer),
        "parameters": sum(int(np.prod(t.dims, dtype=object)) for t in graph.initializer),
    }


def shape_of(value):
    tensor_type = value.type.tensor_type
    sizes = tuple(
        dim.dim_value if dim.HasField("dim_value") else dim.dim_param or None
        for dim in tensor_type.shape.dim
    )
    is_tensor = value.type.HasField("tensor_type")
    return value.name, sizes if is_tensor and tensor_type.HasField("shape") else None


def seen_by_us(data):
    file = parse_onnx(data)
    return {
        "ir_version": file.ir_version,
        "opset": {file.opset},
        "producer": file.producer,
        "metadata": list(file.metadata_props),
        "inputs": [(v.name, v.shape) for v in file.inputs],
        "outputs": [(v.name, v.shape) for v in file.outputs],
        "operators": Counter(file.op_counts),
        "initializers": file.initializer_count,
        "parameters": file.parameter_count,
    }


def compare(count, seed):
    """Counts of models that both readers read, and that only protobuf's reads."""
    both = theirs = 0
    for data in damaged_models(count, seed):
        try:
            ours = seen_by_us(data)
        except OnnxFileError as error:
            assert "\n" not in str(error)
            try:
                onnx.ModelProto.FromString(data)
                theirs += 1
            except DecodeError:
                pass
            continue
        assert ours == seen_by_onnx(data)
        both += 1
    return both, theirs


def test_the_undamaged_model_is_read_alike():
    data = to_bytes(TREE)
    assert data == rich_model().SerializeToString()
    assert seen_by_us(data) == seen_by_onnx(data)


def test_500_damaged_models_are_refused_or_read_alike():
    both, theirs = compare(500, seed=1)
    assert both > 50
    assert theirs > 50  # protobuf is more lenient than we are


# The page's reader


def seen_by_the_page(models):
    """What it reads of each, in Node, with the error in the place of what it refuses."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("no Node is installed")
    script = Path(__file__).parents[1] / "support" / "read_onnx.mjs"
    asked = json.dumps([base64.b64encode(data).decode() for data in models])
    ended = subprocess.run(
        [node, script], input=asked, capture_output=True, text=True, timeout=300, check=True
    )
    return json.loads(ended.stdout)


def plain(values):
    """Shapes as JSON has them; sizes as JavaScript has numbers."""
    return [
        [name, None if shape is None else [float(s) if isinstance(s, int) else s for s in shape]]
        for name, shape in values
    ]


def compare_with_the_page(count, seed):
    """Counts of models that it reads and ours, that it reads alone, and that it refuses."""
    models = list(damaged_models(count, seed))
    kinds = Counter()
    for data, seen in zip(models, seen_by_the_page(models), strict=True):
        assert "failed" not in seen, seen
        try:
            file = parse_onnx(data)
        except OnnxFileError:
            file = None
        if "refused" in seen:
            assert file is None, seen
            assert "; " in seen["refused"]
            assert "\n" not in seen["refused"]
            kinds["refused"] += 1
            continue
        found = [
            [[value["name"], value["shape"]] for value in seen[kind]]
            for kind in ("inputs", "outputs")
        ]
        if file is not None:
            elem_types = [v["elemType"] for kind in ("inputs", "outputs") for v in seen[kind]]
            assert elem_types == [v.elem_type for v in (*file.inputs, *file.outputs)]
            assert float(seen["opset"]) == float(file.opset)  # JavaScript has no others
        kinds["both" if file is not None else "page"] += 1
        try:
            model = onnx.ModelProto.FromString(data)
        except DecodeError:
            continue
        supplied = {tensor.name for tensor in model.graph.initializer}
        inputs = [value for value in model.graph.input if value.name not in supplied]
        assert found == [plain(map(shape_of, values)) for values in (inputs, model.graph.output)]
        assert seen["metadata"] == [[entry.key, entry.value] for entry in model.metadata_props]
    return kinds


def test_the_page_refuses_300_damaged_models_or_reads_them_alike():
    kinds = compare_with_the_page(300, seed=3)
    assert kinds["both"] > 30
    assert kinds["refused"] > 100


@pytest.mark.long
def test_the_page_refuses_20_000_damaged_models_or_reads_them_alike(record_property):
    kinds = compare_with_the_page(20_000, seed=4)
    record_property("figure", f"20,000 damaged models and the page's reader: {dict(kinds)}")
    assert kinds["both"] > 2_000
    assert kinds["refused"] > 5_000


@pytest.mark.long
def test_20_000_damaged_models_are_refused_or_read_alike(record_property):
    both, theirs = compare(20_000, seed=2)
    record_property("figure", f"20,000 damaged models: {both} read alike, {theirs} by onnx alone")
    assert both > 2_000
    assert theirs > 2_000
