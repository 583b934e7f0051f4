import mmap
import os
import tracemalloc
from collections import Counter

import numpy as np
import onnx
import pytest
from google.protobuf.descriptor import FieldDescriptor as Field
from hypothesis import example, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from cigpose_runtime import FileError, OnnxFileError, parse_onnx, read_onnx_file
from cigpose_runtime.model_file import protobuf
from cigpose_runtime.model_file.onnx_schema import DIMENSION, MODEL, TENSOR
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


def branch(*nodes) -> onnx.NodeProto:
    """An If node whose branch is a graph of `nodes`."""
    graph = helper.make_graph(nodes, "branch", [], [])
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


def test_operators_of_another_domain_are_counted_with_it():
    model = model_with(helper.make_node("Gelu", ["a"], ["b"], domain="com.microsoft"))
    assert parse_onnx(model.SerializeToString()).op_counts["com.microsoft.Gelu"] == 1


def test_an_unpacked_and_a_packed_shape_are_the_same():
    unpacked = TensorProto(name="w", dims=[2, 300]).SerializeToString()
    packed = length_delimited(1, b"\x02\xac\x02") + TensorProto(name="w").SerializeToString()
    assert TensorProto.FromString(packed).dims == [2, 300]
    assert [protobuf.Message(data, TENSOR).integers(1) for data in (unpacked, packed)] == [
        [2, 300],
        [2, 300],
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
    "a list attribute": model_with(helper.make_node("Add", [], [], tensors=[external_tensor()])),
}


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


NOT_PLAIN = {
    "If": (model_with(branch(constant(value_int=1))), "'If'"),
    "a loop for ever": (model_with(helper.make_node("Loop", [], [])), "'Loop'"),
    "Scan": (model_with(helper.make_node("Scan", [], [])), "'Scan'"),
    "a random operator": (model_with(helper.make_node("RandomNormal", [], [])), "'RandomNormal'"),
    "an operator that ONNX lacks": (model_with(helper.make_node("New", [], [])), "'New'"),
    "a custom domain": (
        model_with(helper.make_node("Add", [], [], domain="com.example")),
        r"'com\.example\.Add'",
    ),
    "an operator of another domain": (
        model_with(helper.make_node("Tokenizer", [], [], domain="com.microsoft")),
        r"'com\.microsoft\.Tokenizer'",
    ),
    "a graph in an operator that takes none": (
        model_with(helper.make_node("Add", [], [], body=helper.make_graph([], "g", [], []))),
        "a graph inside a node",
    ),
    "a sparse initializer": (
        model_with(sparse_initializer=[onnx.SparseTensorProto(values=external_tensor())]),
        "a sparse initializer",
    ),
    "a sparse constant": (
        model_with(constant(sparse_value=onnx.SparseTensorProto())),
        "a sparse tensor",
    ),
    "texts": (
        model_with(initializer=[TensorProto(name="w", string_data=[b"text"])]),
        "a tensor of texts",
    ),
}
_model = tiny_model()
_model.functions.add(name="Add", domain="").node.append(constant(value_int=1))
NOT_PLAIN["a function in the place of an operator"] = (_model, "a function")
_model = tiny_model()
_model.training_info.add().algorithm.initializer.append(external_tensor())
NOT_PLAIN["training information"] = (_model, "training information")
_model = tiny_model()
_model.graph.input[0].CopyFrom(
    helper.make_tensor_sequence_value_info("input", TensorProto.FLOAT, None)
)
NOT_PLAIN["an input that is a sequence"] = (_model, "a sequence")


@pytest.mark.parametrize(("model", "reason"), NOT_PLAIN.values(), ids=NOT_PLAIN)
def test_what_is_no_plain_graph_of_allowed_operators_is_refused(model, reason):
    with pytest.raises(OnnxFileError, match=f"found {reason}") as error:
        parse_onnx(model.SerializeToString())
    assert "\n" not in str(error.value)


def test_operator_sets_that_no_node_uses_are_accepted():
    model = tiny_model()
    for domain in ("com.microsoft", "ai.onnx.ml", "com.example"):
        model.opset_import.add(domain=domain, version=3)
    assert parse_onnx(model.SerializeToString()).opset == 18


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


def test_too_many_fields_are_refused(monkeypatch):
    monkeypatch.setattr(protobuf, "MAX_FIELDS", 50)
    with pytest.raises(OnnxFileError, match="more than 50 fields"):
        parse_onnx(TINY)


BROKEN = {
    "field number 0": (b"\x02\x00", "unknown field 0"),
    "a group": (b"\x0b\x0c", "wire type 3"),
    "a length beyond the end": (b"\x42\x05ab", "does not fit"),
    "a length of 2**64 - 1 bytes": (b"\x42" + b"\xff" * 9 + b"\x01", "does not fit"),
    "half a number of 4 bytes": (b"\x25\x00", "does not fit"),
    "a number without an end": (b"\x10\xff", "does not end"),
    "a number of 11 bytes": (b"\x10" + b"\xff" * 10 + b"\x01", "does not end"),
    "a number over 2**64": (b"\x08" + b"\xff" * 9 + b"\x02", "too long"),
    "a number that could be shorter": (b"\x08\x81\x00", "too long"),
    "a tag that could be shorter": (b"\x88\x00\x01", "too long"),
    "a tag that protobuf cuts to 32 bits": (varint(2**32 | 0x08) + b"\x01", "unknown field"),
    "an int32 that protobuf cuts to 32 bits": (b"\x10" + varint(2**32 + 1), "out of its range"),
    "an enum that protobuf drops": (b"\x70\x02", "out of its range"),
    "two values of one field": (b"\x10\x01\x10\x02", "field 2 of a tensor more than once"),
    "an unknown field": (b"\xf8\x07\x01", "unknown field 127"),
    "a text where a number belongs": (b"\x12\x01a", "field 2 of a tensor with wire type 2"),
    "a number where a text belongs": (b"\x40\x01", "field 8 of a tensor with wire type 0"),
    "8 bytes where 4 belong": (b"\x21" + bytes(8), "field 4 of a tensor with wire type 1"),
    "packed floats and a half": (length_delimited(4, bytes(6)), "not whole"),
    "packed doubles and a half": (length_delimited(10, bytes(12)), "not whole"),
    "packed numbers without an end": (length_delimited(7, b"\x01\x80"), "not whole"),
    "a packed number of 11 bytes": (length_delimited(7, b"\xff" * 10 + b"\x01"), "not whole"),
    "a packed number over 2**64": (length_delimited(7, b"\xff" * 9 + b"\x02"), "not whole"),
}


@pytest.mark.parametrize(("data", "reason"), BROKEN.values(), ids=BROKEN)
def test_a_tensor_on_which_readers_might_disagree_is_refused(data, reason):
    with pytest.raises(protobuf.WireFormatError, match=reason):
        protobuf.Message(data, TENSOR)


def test_numbers_at_the_ends_of_their_range_are_read():
    data = b"\x08" + varint(2**64 - 1) + b"\x10" + varint(2**64 - 2**31)
    message, there = protobuf.Message(data, TENSOR), TensorProto.FromString(data)
    assert message.integers(1) == list(there.dims) == [-1]
    assert message.integer(2) == there.data_type == -(2**31)


def test_a_dimension_with_a_number_and_a_name_is_refused():
    with pytest.raises(protobuf.WireFormatError, match="two kinds at once"):
        protobuf.Message(b"\x08\x01\x12\x01n", DIMENSION)


def test_a_second_graph_which_protobuf_merges_with_the_first_is_refused():
    graph = model_with().graph.SerializeToString()
    with pytest.raises(OnnxFileError, match="field 7 of a model more than once"):
        parse_onnx(TINY + length_delimited(7, graph))


def test_what_nobody_reads_is_checked_at_any_depth():
    model = tiny_model()
    broken = length_delimited(1, length_delimited(2, length_delimited(1, b"\x08\x01\x12\x01n")))
    graph = model.graph.SerializeToString() + length_delimited(13, length_delimited(2, broken))
    model.ClearField("graph")
    with pytest.raises(OnnxFileError, match="two kinds at once"):
        parse_onnx(model.SerializeToString() + length_delimited(7, graph))


def test_the_schemas_are_those_of_onnx():
    """Every field is the one that onnx's own schema has, and every other is named as refused."""
    numbers = {Field.TYPE_INT64: 64, Field.TYPE_UINT64: 64, Field.TYPE_INT32: 32}

    def compare(schema, descriptor, seen):
        if schema.name in seen:
            return
        seen.add(schema.name)
        theirs = descriptor.fields_by_number
        assert {*theirs} == schema.fields.keys() | schema.refused.keys(), schema.name
        oneofs = [{field.number for field in oneof.fields} for oneof in descriptor.oneofs]
        kept = [oneof & schema.fields.keys() for oneof in oneofs]
        assert [schema.oneof] * bool(schema.oneof) == [part for part in kept if len(part) > 1]
        for number, field in schema.fields.items():
            their = theirs[number]
            assert field.repeated == their.is_repeated, their.full_name
            match field:
                case protobuf.Nested():
                    compare(field.schema, their.message_type, seen)
                case protobuf.Bytes():
                    assert their.type in (Field.TYPE_STRING, Field.TYPE_BYTES)
                case protobuf.Number(wire_type=0, largest=None):
                    assert field.bits == numbers[their.type], their.full_name
                case protobuf.Number(wire_type=0):
                    members = {value.number for value in their.enum_type.values}
                    assert members == set(range(field.largest + 1)), their.full_name
                case protobuf.Number():
                    expected = {Field.TYPE_DOUBLE: 1, Field.TYPE_FLOAT: 5}[their.type]
                    assert field.wire_type == expected, their.full_name

    compare(MODEL, onnx.ModelProto.DESCRIPTOR, set())


def test_packed_numbers_count_as_fields(monkeypatch):
    monkeypatch.setattr(protobuf, "MAX_FIELDS", 100)
    with pytest.raises(protobuf.WireFormatError, match="more than 100 fields"):
        protobuf.Message(length_delimited(1, bytes(127)), TENSOR).integers(1)


@pytest.mark.parametrize("dims", [[2**62] * 65, [-1], [20_000, 20_000], [0] * 65])
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
    constant(value=numpy_helper.from_array(np.zeros(2), "v")),
    value_info=[helper.make_tensor_value_info("colour", TensorProto.FLOAT, ["batch", 3])],
)
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
