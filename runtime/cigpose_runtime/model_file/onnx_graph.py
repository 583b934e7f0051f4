"""Reads what an ONNX file contains, without its weights and without the onnx package.

All is decoded but the weights, over a memory map, so that a file of 240 MB takes milliseconds.
Files are not trusted, and what is read here is what onnxruntime will run: see protobuf for how,
onnx_schema for what a file may hold, operators for what a graph may do.
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
from cigpose_runtime.model_file.onnx_schema import (
    MODEL,
    AttributeField,
    DimensionField,
    EntryField,
    GraphField,
    ModelField,
    NodeField,
    OperatorSetField,
    ShapeField,
    TensorField,
    TensorTypeField,
    TypeField,
    ValueInfoField,
)
from cigpose_runtime.model_file.operators import ALLOWED, STANDARD_DOMAIN, standard_name
from cigpose_runtime.model_file.protobuf import Message, RefusedFieldError, WireFormatError

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
    """What a self-contained ONNX file contains: one graph of allowed operators on dense tensors.

    size: bytes.
    opset: version of the standard operator set.
    producer: name and version of the program that wrote the file.
    metadata_props: key and value pairs of the model in file order, duplicates kept.
    inputs: graph inputs that have to be fed, hence without those that an initializer supplies.
    op_counts: nodes per operator, most frequent first; those of another than the standard domain
        have it before their names.
    input_operators: operators that take an input of the graph.
    initializer_count, parameter_count: initializers and their elements.
    """

    size: int
    ir_version: int
    opset: int
    producer: str
    metadata_props: tuple[tuple[str, str], ...]
    inputs: tuple[ValueInfo, ...]
    outputs: tuple[ValueInfo, ...]
    op_counts: Mapping[str, int]
    input_operators: frozenset[str]
    initializer_count: int
    parameter_count: int

    @property
    def node_count(self) -> int:
        """Nodes of the graph."""
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

    Raises OnnxFileError for anything but one complete, self-contained model of allowed operators:
    malformed or truncated bytes, what readers of protobuf might read differently, no graph,
    external data of any tensor, control flow, functions, sparse tensors, custom operators.
    """
    if not len(data):
        raise OnnxFileError("expected an ONNX model, found an empty file; fetch or export it again")
    beginning = data[:256].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    for prefix, what in _MISTAKEN_FOR_MODELS:
        if beginning.startswith(prefix):
            raise OnnxFileError(f"expected an ONNX model, found {what}")
    try:
        return _read_model(Message(data, MODEL), len(data))
    except RefusedFieldError as error:
        raise OnnxFileError(
            f"expected a plain graph of dense tensors, found {error}; export the model without it"
        ) from error
    except WireFormatError as error:
        raise OnnxFileError(
            f"expected an ONNX model, found damaged or foreign content ({error}); "
            "fetch or export it again"
        ) from error


def _read_model(model: Message, size: int) -> OnnxFile:
    graph = model.message(ModelField.GRAPH)
    if graph is None:
        raise WireFormatError("no graph")
    inputs = tuple(map(_read_value_info, graph.messages(GraphField.INPUT)))
    census = _Census(file_size=size, inputs={value.name for value in inputs})
    census.add_graph(graph)
    producer = (model.text(ModelField.PRODUCER_NAME), model.text(ModelField.PRODUCER_VERSION))
    return OnnxFile(
        size=size,
        ir_version=model.integer(ModelField.IR_VERSION),
        opset=_read_opset(model),
        producer=" ".join(filter(None, producer)),
        metadata_props=tuple(
            (entry.text(EntryField.KEY), entry.text(EntryField.VALUE))
            for entry in model.messages(ModelField.METADATA_PROPS)
        ),
        inputs=tuple(value for value in inputs if value.name in census.inputs),
        outputs=tuple(map(_read_value_info, graph.messages(GraphField.OUTPUT))),
        op_counts=dict(sorted(census.op_counts.items(), key=lambda item: (-item[1], item[0]))),
        input_operators=frozenset(census.input_operators),
        initializer_count=census.initializer_count,
        parameter_count=census.parameter_count,
    )


def _read_opset(model: Message) -> int:
    """The version of the standard operators. Other sets are for nodes, which say their domain."""
    versions = {
        opset.integer(OperatorSetField.VERSION)
        for opset in model.messages(ModelField.OPSET_IMPORT)
        if standard_name(opset.text(OperatorSetField.DOMAIN)) == STANDARD_DOMAIN
    }
    if len(versions) != 1:
        raise WireFormatError(
            f"expected one operator set version, found {quoted(sorted(versions))}"
        )
    return versions.pop()


def _read_value_info(value: Message) -> ValueInfo:
    name = value.text(ValueInfoField.NAME)
    value_type = value.message(ValueInfoField.TYPE)
    tensor_type = value_type and value_type.message(TypeField.TENSOR)
    if not tensor_type:
        return ValueInfo(name, None, None)
    number = tensor_type.integer(TensorTypeField.ELEM_TYPE)
    known = 0 <= number < len(_ELEM_TYPES)
    elem_type = _ELEM_TYPES[number] if known else f"type-{number}"
    shape = tensor_type.message(TensorTypeField.SHAPE)
    sizes = None if shape is None else tuple(map(_read_dimension, shape.messages(ShapeField.DIM)))
    return ValueInfo(name, elem_type, sizes)


def _read_dimension(dimension: Message) -> int | str | None:
    if DimensionField.VALUE in dimension:
        return dimension.integer(DimensionField.VALUE)
    return dimension.text(DimensionField.PARAM) or None


@dataclass
class _Census:
    """Walks a graph to every node and tensor, counts them, and refuses what must not be there."""

    file_size: int
    inputs: set[str]
    op_counts: Counter[str] = field(default_factory=Counter)
    input_operators: set[str] = field(default_factory=set)
    initializers: set[str] = field(default_factory=set)
    initializer_count: int = 0
    parameter_count: int = 0

    def add_graph(self, graph: Message) -> None:
        for tensor in graph.messages(GraphField.INITIALIZER):
            self.initializer_count += 1
            self.parameter_count += self._element_count(tensor)
            self.initializers.add(tensor.text(TensorField.NAME))
        self.inputs -= self.initializers
        for node in graph.messages(GraphField.NODE):
            self._add_node(node)

    def _add_node(self, node: Message) -> None:
        domain = standard_name(node.text(NodeField.DOMAIN))
        op_type = node.text(NodeField.OP_TYPE)
        name = f"{domain}.{op_type}" if domain else op_type
        if op_type not in ALLOWED.get(domain, ()):
            raise OnnxFileError(
                "expected operators on dense tensors as exporters of pose estimators and detectors "
                f"write them, found {quoted(name)}; export the model without it"
            )
        self.op_counts[name] += 1
        if not self.inputs.isdisjoint(node.texts(NodeField.INPUT)):
            self.input_operators.add(name)
        for attribute in node.messages(NodeField.ATTRIBUTE):
            for number in (AttributeField.TENSOR, AttributeField.TENSORS):
                for tensor in attribute.messages(number):
                    self._element_count(tensor)

    def _element_count(self, tensor: Message) -> int:
        _refuse_external_data(tensor)
        sizes = tensor.integers(TensorField.DIMS)
        count = math.prod(sizes[:MAX_RANK])
        # No element is smaller than 2 bits; readers set memory aside for as many as are announced.
        if len(sizes) > MAX_RANK or min(sizes, default=0) < 0 or count > 4 * self.file_size:
            raise WireFormatError(f"a tensor of {len(sizes)} dimensions with sizes {quoted(sizes)}")
        return count


def _refuse_external_data(tensor: Message) -> None:
    is_external = tensor.integer(TensorField.DATA_LOCATION) != 0
    if is_external or TensorField.EXTERNAL_DATA in tensor:
        entries = tensor.messages(TensorField.EXTERNAL_DATA)
        where = {entry.text(EntryField.KEY): entry.text(EntryField.VALUE) for entry in entries}
        raise OnnxFileError(
            "expected one self-contained file, found tensor "
            f"{quoted(tensor.text(TensorField.NAME))} with external data in "
            f"{quoted(where.get('location', ''))}; save the model with its weights inside"
        )
