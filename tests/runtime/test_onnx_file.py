import mmap
import os
import tracemalloc
from collections import Counter

import numpy as np
import onnx
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from cigpose_runtime import FileError, OnnxFileError, parse_onnx, read_onnx_file
from cigpose_runtime.model_file import protobuf
from tiny_onnx import tiny_model

TINY = tiny_model().SerializeToString()


def external_tensor(name="outside", location="weights.bin") -> TensorProto:
    tensor = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=[1])
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=location)
    return tensor


def model_with(*nodes, **graph_parts) -> onnx.ModelProto:
    """tiny_model with more nodes and other parts of its graph."""
    model = tiny_model()
    model.graph.node.extend(nodes)
    for field, values in graph_parts.items():
        getattr(model.graph, field).extend(values)
    return model


def constant(**attribute) -> onnx.NodeProto:
    return helper.make_node("Constant", [], ["constant"], **attribute)


def branch(*nodes, **graph_parts) -> onnx.NodeProto:
    """An If node whose branch is a graph of `nodes`."""
    graph = helper.make_graph(nodes, "branch", [], [])
    for field, values in graph_parts.items():
        getattr(graph, field).extend(values)
    return helper.make_node("If", ["condition"], [], then_branch=graph)


def varint(value: int) -> bytes:
    digits = []
    while value > 0x7F:
        digits.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*digits, value])


def length_delimited(number: int, payload: bytes, length: int | None = None) -> bytes:
    """A protobuf field; `length` announces more bytes than `payload` has."""
    return varint(number << 3 | 2) + varint(len(payload) if length is None else length) + payload


def nested(depth: int) -> bytes:
    """A model with a function whose node has a graph whose node has a graph, and so on."""
    graph = b""
    for _ in range(depth):
        graph = length_delimited(1, length_delimited(5, length_delimited(6, graph)))
    attribute = length_delimited(5, length_delimited(6, graph))
    return TINY + length_delimited(25, length_delimited(7, attribute))


# What is read


def test_reads_what_onnx_reads():
    model = tiny_model(num_keypoints=133, batch="n", opset=17)
    model.producer_version = "7"
    model.metadata_props.add(key="other", value="more")
    file = parse_onnx(model.SerializeToString())
    loaded = onnx.load_from_string(model.SerializeToString())
    assert file.size == loaded.ByteSize()
    assert file.ir_version == loaded.ir_version
    assert file.opset == loaded.opset_import[0].version
    assert file.producer == f"{loaded.producer_name} {loaded.producer_version}"
    assert file.metadata_props == tuple((p.key, p.value) for p in loaded.metadata_props)
    assert file.op_counts == Counter(node.op_type for node in loaded.graph.node)
    assert file.initializer_count == len(loaded.graph.initializer)
    assert file.parameter_count == sum(
        numpy_helper.to_array(tensor).size for tensor in loaded.graph.initializer
    )
    for found, expected in (
        (file.inputs, loaded.graph.input),
        (file.outputs, loaded.graph.output),
    ):
        assert [value.name for value in found] == [value.name for value in expected]
        assert [value.shape for value in found] == [
            tuple(
                dim.dim_param or dim.dim_value if dim.WhichOneof("value") else None
                for dim in value.type.tensor_type.shape.dim
            )
            for value in expected
        ]


@pytest.mark.parametrize(
    "number", sorted(set(TensorProto.DataType.values()) - {TensorProto.UNDEFINED})
)
def test_elem_type_has_numpy_s_name_or_the_number(number):
    model = tiny_model()
    model.graph.input[0].type.tensor_type.elem_type = number
    dtype = helper.tensor_dtype_to_np_dtype(number)
    expected = {TensorProto.STRING: "string", TensorProto.BFLOAT16: "bfloat16"}.get(
        number, dtype.name if number < TensorProto.BFLOAT16 else f"type-{number}"
    )
    assert parse_onnx(model.SerializeToString()).inputs[0].elem_type == expected


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        (["batch", 3, None], ("batch", 3, None)),
        ([], ()),
        (None, None),
        ([0, -1], (0, -1)),
    ],
)
def test_shape_tells_sizes_names_unknown_sizes_and_unknown_rank(shape, expected):
    value = helper.make_tensor_value_info("input", TensorProto.FLOAT, shape)
    model = tiny_model()
    model.graph.input[0].CopyFrom(value)
    assert parse_onnx(model.SerializeToString()).inputs[0].shape == expected


def test_a_value_that_is_no_tensor_has_neither_type_nor_shape():
    model = tiny_model()
    model.graph.input[0].CopyFrom(
        helper.make_tensor_sequence_value_info("input", TensorProto.FLOAT, None)
    )
    value = parse_onnx(model.SerializeToString()).inputs[0]
    assert (value.elem_type, value.shape) == (None, None)


def test_inputs_that_an_initializer_supplies_are_left_out():
    model = tiny_model()
    weight = model.graph.initializer[0]
    model.graph.input.append(
        helper.make_tensor_value_info(weight.name, weight.data_type, weight.dims)
    )
    assert [value.name for value in parse_onnx(model.SerializeToString()).inputs] == ["input"]


def test_metadata_keeps_file_order_and_duplicates():
    model = tiny_model(metadata="")
    for key, value in (pairs := (("b", "1"), ("a", "2"), ("b", "3"))):
        model.metadata_props.add(key=key, value=value)
    assert parse_onnx(model.SerializeToString()).metadata_props == pairs


def test_nodes_and_initializers_of_subgraphs_are_counted():
    inner = branch(constant(value_int=1), initializer=[numpy_helper.from_array(np.zeros(5), "w")])
    plain, with_branch = parse_onnx(TINY), parse_onnx(model_with(inner).SerializeToString())
    assert Counter(with_branch.op_counts) - Counter(plain.op_counts) == {"If": 1, "Constant": 1}
    assert with_branch.parameter_count - plain.parameter_count == 5


def test_local_functions_are_counted():
    model = tiny_model()
    model.functions.add(name="f", domain="").node.append(constant(value_int=1))
    file = parse_onnx(model.SerializeToString())
    assert file.local_function_count == 1
    assert file.op_counts["Constant"] == 1


def test_an_unpacked_and_a_packed_shape_are_the_same():
    unpacked = TensorProto(name="w", dims=[2, 3]).SerializeToString()
    packed = length_delimited(1, b"\x02\x03") + TensorProto(name="w").SerializeToString()
    assert TensorProto.FromString(packed).dims == [2, 3]
    assert [protobuf.Message(data).integers(1) for data in (unpacked, packed)] == [
        [2, 3],
        [2, 3],
    ]


def test_weights_are_not_read(tmp_path):
    """A tensor of 1 GiB, a hole in a sparse file, costs less memory than 1 MiB."""
    size = 1 << 30
    description = TensorProto(name="huge", dims=[size // 4], data_type=TensorProto.FLOAT)
    tensor = length_delimited(9, b"", size)
    tensor = description.SerializeToString() + tensor
    graph = length_delimited(5, tensor, len(tensor) + size)
    graph = tiny_model().graph.SerializeToString() + graph
    model = tiny_model()
    model.ClearField("graph")
    path = tmp_path / "huge.onnx"
    with path.open("wb") as file:
        file.write(model.SerializeToString() + length_delimited(7, graph, len(graph) + size))
        file.truncate(file.tell() + size)
    tracemalloc.start()
    try:
        parameters = read_onnx_file(path).parameter_count
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert parameters == parse_onnx(TINY).parameter_count + size // 4
    assert peak_bytes < 1 << 20


# What is refused

FOREIGN_FILES = {
    "an empty file": (b"", "empty"),
    "an HTML page": (b"\n<!DOCTYPE html><html>Quota exceeded</html>", "HTML"),
    "a Git LFS pointer": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "Git LFS"),
    "a PyTorch checkpoint": (b"PK\x03\x04\x00\x00", "zip"),
    "a JSON document": (b'{"input_w": 192}', "JSON"),
    "text": (b"not a model at all", "damaged"),
    "zeros": (bytes(64), "damaged"),
    "a model without a graph": (onnx.ModelProto(ir_version=10).SerializeToString(), "no graph"),
    "a cut model": (TINY[:-400], "damaged"),
}


@pytest.mark.parametrize(("data", "reason"), FOREIGN_FILES.values(), ids=FOREIGN_FILES)
def test_what_is_no_model_is_refused(data, reason):
    with pytest.raises(OnnxFileError, match=reason):
        parse_onnx(data)


def test_a_model_cut_anywhere_is_refused_or_lacks_only_metadata():
    """A cut between two fields of the model cannot be seen; the opset comes last but for them."""
    complete = parse_onnx(TINY)
    for length in range(0, len(TINY), 7):
        try:
            file = parse_onnx(TINY[:length])
        except OnnxFileError:
            continue
        assert file.op_counts == complete.op_counts
        assert file.metadata_props == ()


EXTERNAL = {
    "an initializer": model_with(initializer=[external_tensor()]),
    "an initializer without a location": model_with(
        initializer=[TensorProto(name="w", data_location=TensorProto.EXTERNAL)]
    ),
    "an initializer said to be inside": model_with(
        initializer=[
            TensorProto(
                name="w", external_data=[onnx.StringStringEntryProto(key="location", value="w.bin")]
            )
        ]
    ),
    "a node's attribute": model_with(constant(value=external_tensor())),
    "a list attribute": model_with(helper.make_node("X", [], [], tensors=[external_tensor()])),
    "a subgraph": model_with(branch(initializer=[external_tensor()])),
    "a graph list": model_with(
        helper.make_node(
            "X", [], [], graphs=[helper.make_graph([], "g", [], [], [external_tensor()])]
        )
    ),
    "sparse values": model_with(
        sparse_initializer=[onnx.SparseTensorProto(values=external_tensor())]
    ),
    "sparse indices": model_with(
        sparse_initializer=[onnx.SparseTensorProto(indices=external_tensor())]
    ),
    "a sparse attribute": model_with(
        constant(sparse_value=onnx.SparseTensorProto(values=external_tensor()))
    ),
}
EXTERNAL["a list of sparse attributes"] = model_with(
    helper.make_node("X", [], [], sparse_tensors=[onnx.SparseTensorProto(values=external_tensor())])
)
for _place, _part in (("a function", "node"), ("a function's default", "attribute_proto")):
    _model = tiny_model()
    _node = constant(value=external_tensor())
    getattr(_model.functions.add(name="f"), _part).append(
        _node if _part == "node" else _node.attribute[0]
    )
    EXTERNAL[_place] = _model
_model = tiny_model()
_model.training_info.add().algorithm.initializer.append(external_tensor())
EXTERNAL["training information"] = _model


@pytest.mark.parametrize("model", EXTERNAL.values(), ids=EXTERNAL)
def test_external_data_is_refused_wherever_it_is(model):
    with pytest.raises(OnnxFileError, match="external data"):
        parse_onnx(model.SerializeToString())


@pytest.mark.parametrize("kind", ["relative", "parent", "absolute", "symlink", "hardlink"])
def test_external_data_is_refused_however_it_is_reached(tmp_path, kind):
    folder = tmp_path / "models"
    folder.mkdir()
    weights = tmp_path / "weights.bin"
    weights.write_bytes(bytes(4))
    (folder / "symlink.bin").symlink_to(weights)
    os.link(weights, folder / "hardlink.bin")
    (folder / "relative.bin").write_bytes(bytes(4))
    location = {
        "relative": "relative.bin",
        "parent": "../weights.bin",
        "absolute": str(weights),
        "symlink": "symlink.bin",
        "hardlink": "hardlink.bin",
    }[kind]
    path = folder / "model.onnx"
    path.write_bytes(
        model_with(initializer=[external_tensor(location=location)]).SerializeToString()
    )
    with pytest.raises(OnnxFileError, match="external data"):
        read_onnx_file(path)


def with_custom_domain(place: str) -> onnx.ModelProto:
    model = tiny_model()
    if place == "opset import":
        model.opset_import.add(domain="com.microsoft", version=1)
    elif place == "node":
        model.graph.node[0].domain = "com.microsoft"
    elif place == "subgraph":
        node = constant(value_int=1)
        node.domain = "com.microsoft"
        model.graph.node.append(branch(node))
    elif place == "function":
        model.functions.add(name="f", domain="com.microsoft")
    else:
        model.functions.add(name="f").opset_import.add(domain="com.microsoft")
    return model


@pytest.mark.parametrize(
    "place", ["opset import", "node", "subgraph", "function", "function's import"]
)
def test_custom_operator_domains_are_refused(place):
    with pytest.raises(OnnxFileError, match=r"'com\.microsoft'"):
        parse_onnx(with_custom_domain(place).SerializeToString())


def test_both_names_of_the_standard_domain_are_accepted():
    model = tiny_model()
    model.opset_import[0].domain = "ai.onnx"
    model.graph.node[0].domain = "ai.onnx"
    assert parse_onnx(model.SerializeToString()).opset == 18


def test_missing_and_contradicting_opset_imports_are_refused():
    model = tiny_model()
    model.opset_import.add(domain="ai.onnx", version=99)
    with pytest.raises(OnnxFileError, match=r"\[18, 99\]"):
        parse_onnx(model.SerializeToString())
    model.ClearField("opset_import")
    with pytest.raises(OnnxFileError, match="operator set"):
        parse_onnx(model.SerializeToString())


# Hostile bytes


def test_deep_nesting_is_read_up_to_the_limit_and_refused_beyond():
    assert parse_onnx(nested(32)).op_counts[""] == 33
    with pytest.raises(OnnxFileError, match="nested"):
        parse_onnx(nested(33))


def test_too_many_fields_are_refused(monkeypatch):
    monkeypatch.setattr(protobuf, "MAX_FIELDS", 100)
    with pytest.raises(OnnxFileError, match="more than 100 fields"):
        parse_onnx(TINY)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"\x02\x00", "does not fit"),  # field number 0
        (b"\x0b", "wire type 3"),  # a group
        (b"\x0a\x05ab", "does not fit"),  # 5 bytes announced, 2 there
        (b"\x09\x00", "does not fit"),  # half a fixed-size value
        (b"\x08\xff", "does not end"),
        (b"\x08" + b"\xff" * 10 + b"\x01", "does not end"),  # 11 bytes
    ],
)
def test_a_message_that_breaks_the_wire_format_is_refused(data, reason):
    with pytest.raises(protobuf.WireFormatError, match=reason):
        protobuf.Message(data)


def test_a_field_of_another_wire_type_is_refused():
    message = protobuf.Message(b"\x08\x01" + length_delimited(2, b"text"))
    for read in (
        lambda: message.text(1),
        lambda: message.message(1),
        lambda: message.integer(2),
    ):
        with pytest.raises(protobuf.WireFormatError, match="expected"):
            read()


def test_packed_numbers_count_as_fields(monkeypatch):
    monkeypatch.setattr(protobuf, "MAX_FIELDS", 100)
    with pytest.raises(protobuf.WireFormatError, match="more than 100 fields"):
        protobuf.Message(length_delimited(1, bytes(127))).integers(1)


@pytest.mark.parametrize("dims", [[2**62] * 65, [-1]])
def test_tensors_of_impossible_size_are_refused(dims):
    model = model_with(initializer=[TensorProto(name="w", dims=dims)])
    with pytest.raises(OnnxFileError, match="dimensions"):
        parse_onnx(model.SerializeToString())


@settings(max_examples=500)
@given(st.binary(max_size=200))
@example(b"\x3a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01")  # a graph of 2**64 - 1 bytes
@example(b"\x80" * 20)
def test_any_bytes_parse_or_are_refused(data):
    parses_or_is_refused(data)


@settings(max_examples=500)
@given(
    st.lists(
        st.tuples(st.integers(0, len(TINY) - 1), st.integers(0, 8), st.binary(max_size=8)),
        min_size=1,
        max_size=4,
    )
)
def test_a_damaged_model_parses_or_is_refused(edits):
    data = TINY
    for position, removed, inserted in edits:
        data = data[:position] + inserted + data[position + removed :]
    parses_or_is_refused(data)


_RICH = model_with(
    branch(constant(value=numpy_helper.from_array(np.zeros(2), "v"))),
    sparse_initializer=[
        onnx.SparseTensorProto(
            values=numpy_helper.from_array(np.ones(1), "s"),
            indices=numpy_helper.from_array(np.zeros(1, np.int64), "i"),
            dims=[4],
        )
    ],
)
_RICH.functions.add(name="f").node.append(constant(value_int=1))
# Without long texts, so that most edits hit structure.
_RICH.ClearField("metadata_props")
for _tensor in _RICH.graph.initializer:
    _tensor.raw_data = b""
RICH = _RICH.SerializeToString()


@settings(max_examples=500)
@given(st.integers(0, len(RICH) - 1), st.integers(0, 255))
def test_a_model_with_one_other_byte_parses_or_is_refused(position, byte):
    parses_or_is_refused(RICH[:position] + bytes([byte]) + RICH[position + 1 :])


def parses_or_is_refused(data: bytes) -> None:
    try:
        parse_onnx(data)
    except OnnxFileError as error:
        assert "\n" not in str(error)


# Files


def test_a_file_is_named_in_the_error(tmp_path):
    path = tmp_path / "bad.onnx"
    path.write_bytes(b"")
    with pytest.raises(OnnxFileError, match=r"bad\.onnx: .*empty"):
        read_onnx_file(path)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(FileError, match="No such file"):
        read_onnx_file(tmp_path / "missing.onnx")


def test_a_directory_is_refused(tmp_path):
    with pytest.raises(FileError, match="found a directory"):
        read_onnx_file(tmp_path)


def test_a_pipe_is_refused_without_waiting_for_a_writer(tmp_path):
    path = tmp_path / "pipe.onnx"
    os.mkfifo(path)
    with pytest.raises(FileError, match="no regular file"):
        read_onnx_file(path)


def test_a_memory_map_reads_as_bytes_do(tmp_path):
    path = tmp_path / "tiny.onnx"
    path.write_bytes(TINY)
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        assert parse_onnx(data) == parse_onnx(TINY) == read_onnx_file(path)
