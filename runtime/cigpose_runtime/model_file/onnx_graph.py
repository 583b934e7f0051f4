"""Reads what an ONNX file contains, without its weights and without the onnx package.

Only the messages that describe the model are decoded, over a memory map, so that a file of 240 MB
takes milliseconds. Files are not trusted: see wire_format for the bounds.
"""

from __future__ import annotations

import math
import mmap
import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from os import PathLike

from cigpose_runtime.errors import OnnxFileError, error_context, quoted
from cigpose_runtime.files import open_file
from cigpose_runtime.model_file.protobuf import Message, WireFormatError

MAX_RANK = 64
"""Dimensions of one tensor, as many as numpy allows; keeps products of hostile sizes small."""

# TensorProto.DataType, by number.
# fmt: off
_ELEM_TYPES = (
    "undefined", "float32", "uint8", "int8", "uint16", "int16", "int32", "int64", "string", "bool",
    "float16", "float64", "uint32", "uint64", "complex64", "complex128", "bfloat16",
)
# fmt: on

# How files that are mistaken for models begin (in lower case), what they are, and what helps.
_MISTAKEN_FOR_MODELS = (
    (b"version https://git-lfs", "a Git LFS pointer; fetch the model itself with `git lfs pull`"),
    (b"<", "an HTML or XML page; download the model again, logged in if the site asks for it"),
    (b"{", "a JSON document; give the .onnx file"),
    (b"pk\x03\x04", "a zip archive, as PyTorch checkpoints are; unpack or export it first"),
)


@dataclass(frozen=True)
class ValueInfo:
    """An input or output of a graph.

    elem_type: numpy's name of the element type, or its ONNX number where numpy has none; None for
        anything but a dense tensor.
    shape: per dimension a size, the name of a free dimension, or None for a free dimension without
        a name; None as a whole where the rank is not given.
    """

    name: str
    elem_type: str | None
    shape: tuple[int | str | None, ...] | None

    def __str__(self) -> str:
        sizes = ("?" if size is None else str(size) for size in self.shape or ())
        shape = "of unknown rank" if self.shape is None else f"({', '.join(sizes)})"
        return f"{self.name} {self.elem_type or 'not a tensor'} {shape}"


@dataclass(frozen=True, kw_only=True)
class OnnxFile:
    """What a self-contained ONNX file of standard operators contains.

    size: bytes.
    opset: version of the standard operator set; no other set is accepted.
    producer: name and version of the program that wrote the file.
    metadata_props: key and value pairs of the model in file order, duplicates kept.
    inputs: graph inputs that have to be fed, hence without those that an initializer supplies.
    op_counts: nodes per operator, most frequent first, those in subgraphs and functions included.
    initializer_count, parameter_count: initializers and their elements, subgraphs included.
    local_function_count: functions that the model itself defines.
    """

    size: int
    ir_version: int
    opset: int
    producer: str
    metadata_props: tuple[tuple[str, str], ...]
    inputs: tuple[ValueInfo, ...]
    outputs: tuple[ValueInfo, ...]
    op_counts: Mapping[str, int]
    initializer_count: int
    parameter_count: int
    local_function_count: int

    @property
    def node_count(self) -> int:
        """Nodes of the graph, its subgraphs and functions."""
        return sum(self.op_counts.values())


def read_onnx_file(path: str | PathLike[str]) -> OnnxFile:
    """Reads the structure of the ONNX file at `path`; the weights stay on disk.

    Raises FileError if there is no readable regular file, and OnnxFileError as parse_onnx does.
    """
    with open_file(path, "an ONNX file") as file, error_context(path):
        if os.fstat(file.fileno()).st_size == 0:  # cannot be mapped
            return parse_onnx(b"")
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return parse_onnx(data)


def parse_onnx(data: bytes | mmap.mmap) -> OnnxFile:
    """Reads the structure of a serialized ONNX model.

    Raises OnnxFileError for anything but one complete, self-contained model of standard operators:
    malformed or truncated bytes, no graph, external data of any tensor, a custom operator domain.
    """
    if not len(data):
        raise OnnxFileError("expected an ONNX model, found an empty file; fetch or export it again")
    beginning = data[:256].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    for prefix, what in _MISTAKEN_FOR_MODELS:
        if beginning.startswith(prefix):
            raise OnnxFileError(f"expected an ONNX model, found {what}")
    try:
        return _read_model(Message(data), len(data))
    except WireFormatError as error:
        raise OnnxFileError(
            f"expected an ONNX model, found damaged or foreign content ({error}); "
            "fetch or export it again"
        ) from error


# Field numbers of onnx.proto, https://github.com/onnx/onnx/blob/v1.23.2/onnx/onnx.proto


class _Model:
    IR_VERSION, PRODUCER_NAME, PRODUCER_VERSION, GRAPH, OPSET_IMPORT = 1, 2, 3, 7, 8
    METADATA_PROPS, TRAINING_INFO, FUNCTIONS = 14, 20, 25


class _OperatorSet:
    DOMAIN, VERSION = 1, 2


class _Entry:
    KEY, VALUE = 1, 2


class _TrainingInfo:
    GRAPHS = (1, 2)


class _Function:
    NODE, OPSET_IMPORT, DOMAIN, ATTRIBUTE = 7, 9, 10, 11


class _Graph:
    NODE, INITIALIZER, INPUT, OUTPUT, SPARSE_INITIALIZER = 1, 5, 11, 12, 15


class _Node:
    OP_TYPE, ATTRIBUTE, DOMAIN = 4, 5, 7


class _Attribute:
    TENSORS, GRAPHS, SPARSE_TENSORS = (5, 10), (6, 11), (22, 23)


class _Tensor:
    DIMS, NAME, EXTERNAL_DATA, DATA_LOCATION = 1, 8, 13, 14


class _SparseTensor:
    VALUES, INDICES = 1, 2


class _ValueInfo:
    NAME, TYPE = 1, 2


class _Type:
    TENSOR = 1


class _TensorType:
    ELEM_TYPE, SHAPE = 1, 2


class _Shape:
    DIM = 1


class _Dimension:
    VALUE, PARAM = 1, 2


def _read_model(model: Message, size: int) -> OnnxFile:
    graph = model.message(_Model.GRAPH)
    if graph is None:
        raise WireFormatError("no graph")
    census = _Census()
    census.add_graph(graph)
    for training in model.messages(_Model.TRAINING_INFO):
        for training_graph in training.messages(*_TrainingInfo.GRAPHS):
            census.add_graph(training_graph)
    functions = list(model.messages(_Model.FUNCTIONS))
    for function in functions:
        census.add_function(function)

    producer = (model.text(_Model.PRODUCER_NAME), model.text(_Model.PRODUCER_VERSION))
    supplied = {tensor.text(_Tensor.NAME) for tensor in graph.messages(_Graph.INITIALIZER)}
    inputs = map(_read_value_info, graph.messages(_Graph.INPUT))
    return OnnxFile(
        size=size,
        ir_version=model.integer(_Model.IR_VERSION),
        opset=_read_opset(model),
        producer=" ".join(filter(None, producer)),
        metadata_props=tuple(
            (entry.text(_Entry.KEY), entry.text(_Entry.VALUE))
            for entry in model.messages(_Model.METADATA_PROPS)
        ),
        inputs=tuple(value for value in inputs if value.name not in supplied),
        outputs=tuple(map(_read_value_info, graph.messages(_Graph.OUTPUT))),
        op_counts=dict(sorted(census.op_counts.items(), key=lambda item: (-item[1], item[0]))),
        initializer_count=census.initializer_count,
        parameter_count=census.parameter_count,
        local_function_count=len(functions),
    )


def _read_opset(model: Message) -> int:
    versions = set()
    for opset in model.messages(_Model.OPSET_IMPORT):
        _refuse_custom_domain(opset.text(_OperatorSet.DOMAIN))
        versions.add(opset.integer(_OperatorSet.VERSION))
    if len(versions) != 1:
        raise WireFormatError(f"expected one operator set version, found {sorted(versions)}")
    return versions.pop()


def _read_value_info(value: Message) -> ValueInfo:
    name = value.text(_ValueInfo.NAME)
    value_type = value.message(_ValueInfo.TYPE)
    tensor_type = value_type and value_type.message(_Type.TENSOR)
    if not tensor_type:
        return ValueInfo(name, None, None)
    number = tensor_type.integer(_TensorType.ELEM_TYPE)
    known = 0 <= number < len(_ELEM_TYPES)
    elem_type = _ELEM_TYPES[number] if known else f"type-{number}"
    shape = tensor_type.message(_TensorType.SHAPE)
    sizes = None if shape is None else tuple(map(_read_dimension, shape.messages(_Shape.DIM)))
    return ValueInfo(name, elem_type, sizes)


def _read_dimension(dimension: Message) -> int | str | None:
    if _Dimension.VALUE in dimension:
        return dimension.integer(_Dimension.VALUE)
    return dimension.text(_Dimension.PARAM) or None


@dataclass
class _Census:
    """Walks graphs to every node and tensor, counts them, and refuses what must not be there."""

    op_counts: Counter[str] = field(default_factory=Counter)
    initializer_count: int = 0
    parameter_count: int = 0

    def add_graph(self, graph: Message) -> None:
        for node in graph.messages(_Graph.NODE):
            self._add_node(node)
        for tensor in graph.messages(_Graph.INITIALIZER):
            self.initializer_count += 1
            self.parameter_count += _element_count(tensor)
        for sparse in graph.messages(_Graph.SPARSE_INITIALIZER):
            self.initializer_count += 1
            self.parameter_count += _sparse_element_count(sparse)

    def add_function(self, function: Message) -> None:
        _refuse_custom_domain(function.text(_Function.DOMAIN))
        for opset in function.messages(_Function.OPSET_IMPORT):
            _refuse_custom_domain(opset.text(_OperatorSet.DOMAIN))
        for node in function.messages(_Function.NODE):
            self._add_node(node)
        for default in function.messages(_Function.ATTRIBUTE):
            self._add_attribute(default)

    def _add_node(self, node: Message) -> None:
        _refuse_custom_domain(node.text(_Node.DOMAIN))
        self.op_counts[node.text(_Node.OP_TYPE)] += 1
        for attribute in node.messages(_Node.ATTRIBUTE):
            self._add_attribute(attribute)

    def _add_attribute(self, attribute: Message) -> None:
        for tensor in attribute.messages(*_Attribute.TENSORS):
            _element_count(tensor)
        for sparse in attribute.messages(*_Attribute.SPARSE_TENSORS):
            _sparse_element_count(sparse)
        for graph in attribute.messages(*_Attribute.GRAPHS):
            self.add_graph(graph)


def _element_count(tensor: Message) -> int:
    _refuse_external_data(tensor)
    sizes = tensor.integers(_Tensor.DIMS)
    if len(sizes) > MAX_RANK or any(size < 0 for size in sizes):
        raise WireFormatError(f"a tensor of {len(sizes)} dimensions with sizes {quoted(sizes)}")
    return math.prod(sizes)


def _sparse_element_count(sparse: Message) -> int:
    """Elements that are stored; the rest are zeros."""
    for indices in sparse.messages(_SparseTensor.INDICES):
        _refuse_external_data(indices)
    return sum(map(_element_count, sparse.messages(_SparseTensor.VALUES)))


def _refuse_external_data(tensor: Message) -> None:
    is_external = any(tensor.integers(_Tensor.DATA_LOCATION))
    if is_external or _Tensor.EXTERNAL_DATA in tensor:
        entries = tensor.messages(_Tensor.EXTERNAL_DATA)
        where = {entry.text(_Entry.KEY): entry.text(_Entry.VALUE) for entry in entries}
        raise OnnxFileError(
            "expected one self-contained file, found tensor "
            f"{quoted(tensor.text(_Tensor.NAME))} with external data in "
            f"{quoted(where.get('location', ''))}; save the model with its weights inside"
        )


def _refuse_custom_domain(domain: str) -> None:
    if domain not in ("", "ai.onnx"):
        raise OnnxFileError(
            f"expected standard ONNX operators only, found the operator domain {quoted(domain)}; "
            "export the model without custom operators"
        )
