"""The messages of an ONNX file that runs, as protobuf schemas, and the numbers of their fields.

From onnx.proto, https://github.com/onnx/onnx/blob/v1.23.2/onnx/onnx-ml.proto. Left out is what a
plain graph of dense tensors does not need: subgraphs (and with them control flow), functions,
sparse tensors, sequences and maps, training and device configurations. A file that has any of it is
refused. That also keeps the schemas from referring to themselves.
"""

from cigpose_runtime.model_file.protobuf import (
    DOUBLES,
    FLOAT,
    FLOATS,
    INT32,
    INT32S,
    INT64,
    INT64S,
    TEXT,
    TEXTS,
    Nested,
    Schema,
    enum,
)


class EntryField:
    """StringStringEntryProto."""

    KEY, VALUE = 1, 2


ENTRY = Schema("an entry", {EntryField.KEY: TEXT, EntryField.VALUE: TEXT})
_ENTRIES = Nested(ENTRY, repeated=True, read=False)


class TensorField:
    """TensorProto."""

    DIMS, DATA_TYPE, NAME, RAW_DATA, EXTERNAL_DATA, DATA_LOCATION = 1, 2, 8, 9, 13, 14
    FLOAT_DATA, INT32_DATA, INT64_DATA, DOUBLE_DATA, UINT64_DATA = 4, 5, 7, 10, 11
    DOC_STRING, METADATA_PROPS = 12, 16


TENSOR = Schema(
    "a tensor",
    {
        TensorField.DIMS: INT64S,
        TensorField.DATA_TYPE: INT32,
        TensorField.FLOAT_DATA: FLOATS,
        TensorField.INT32_DATA: INT32S,
        TensorField.INT64_DATA: INT64S,
        TensorField.NAME: TEXT,
        TensorField.RAW_DATA: TEXT,
        TensorField.DOUBLE_DATA: DOUBLES,
        TensorField.UINT64_DATA: INT64S,
        TensorField.DOC_STRING: TEXT,
        TensorField.EXTERNAL_DATA: Nested(ENTRY, repeated=True),
        TensorField.DATA_LOCATION: enum(1),
        TensorField.METADATA_PROPS: _ENTRIES,
    },
    refused={3: "a segment of a tensor", 6: "a tensor of texts"},
)


class AttributeField:
    """AttributeProto."""

    TENSOR, TENSORS = 5, 10


ATTRIBUTE = Schema(
    "an attribute",
    {
        1: TEXT,  # name
        2: FLOAT,
        3: INT64,
        4: TEXT,
        AttributeField.TENSOR: Nested(TENSOR),
        7: FLOATS,
        8: INT64S,
        9: TEXTS,
        AttributeField.TENSORS: Nested(TENSOR, repeated=True),
        13: TEXT,  # doc_string
        20: enum(14),  # type
    },
    refused={
        6: "a graph inside a node",
        11: "graphs inside a node",
        14: "a type as an attribute",
        15: "types as an attribute",
        21: "a reference to a function's attribute",
        22: "a sparse tensor",
        23: "sparse tensors",
    },
)


class NodeField:
    """NodeProto."""

    INPUT, OUTPUT, OP_TYPE, ATTRIBUTE, DOMAIN = 1, 2, 4, 5, 7


NODE = Schema(
    "a node",
    {
        NodeField.INPUT: TEXTS,
        NodeField.OUTPUT: TEXTS,
        3: TEXT,  # name
        NodeField.OP_TYPE: TEXT,
        NodeField.ATTRIBUTE: Nested(ATTRIBUTE, repeated=True),
        6: TEXT,  # doc_string
        NodeField.DOMAIN: TEXT,
        9: _ENTRIES,  # metadata_props
    },
    refused={8: "the name of a function's overload", 10: "a device's configuration of a node"},
)


class DimensionField:
    """TensorShapeProto.Dimension."""

    VALUE, PARAM = 1, 2


DIMENSION = Schema(
    "a dimension",
    {DimensionField.VALUE: INT64, DimensionField.PARAM: TEXT, 3: TEXT},  # denotation
    oneof=frozenset({DimensionField.VALUE, DimensionField.PARAM}),
)


class ShapeField:
    """TensorShapeProto."""

    DIM = 1


SHAPE = Schema("a shape", {ShapeField.DIM: Nested(DIMENSION, repeated=True)})


class TensorTypeField:
    """TypeProto.Tensor."""

    ELEM_TYPE, SHAPE = 1, 2


TENSOR_TYPE = Schema(
    "a tensor's type", {TensorTypeField.ELEM_TYPE: INT32, TensorTypeField.SHAPE: Nested(SHAPE)}
)


class TypeField:
    """TypeProto."""

    TENSOR = 1


TYPE = Schema(
    "a type",
    {TypeField.TENSOR: Nested(TENSOR_TYPE), 6: TEXT},  # denotation
    refused={
        4: "a sequence",
        5: "a map",
        7: "an opaque type",
        8: "a sparse tensor",
        9: "an optional value",
    },
)


class ValueInfoField:
    """ValueInfoProto."""

    NAME, TYPE = 1, 2


VALUE_INFO = Schema(
    "a value",
    {
        ValueInfoField.NAME: TEXT,
        ValueInfoField.TYPE: Nested(TYPE),
        3: TEXT,  # doc_string
        4: _ENTRIES,  # metadata_props
    },
)

ANNOTATION = Schema("a quantization annotation", {1: TEXT, 2: _ENTRIES})


class GraphField:
    """GraphProto."""

    NODE, INITIALIZER, INPUT, OUTPUT, VALUE_INFO = 1, 5, 11, 12, 13


GRAPH = Schema(
    "a graph",
    {
        GraphField.NODE: Nested(NODE, repeated=True),
        2: TEXT,  # name
        GraphField.INITIALIZER: Nested(TENSOR, repeated=True),
        10: TEXT,  # doc_string
        GraphField.INPUT: Nested(VALUE_INFO, repeated=True),
        GraphField.OUTPUT: Nested(VALUE_INFO, repeated=True),
        GraphField.VALUE_INFO: Nested(VALUE_INFO, repeated=True, read=False),
        14: Nested(ANNOTATION, repeated=True, read=False),
        16: _ENTRIES,  # metadata_props
    },
    refused={15: "a sparse initializer"},
)


class OperatorSetField:
    """OperatorSetIdProto."""

    DOMAIN, VERSION = 1, 2


OPERATOR_SET = Schema(
    "an operator set", {OperatorSetField.DOMAIN: TEXT, OperatorSetField.VERSION: INT64}
)


class ModelField:
    """ModelProto."""

    IR_VERSION, PRODUCER_NAME, PRODUCER_VERSION, GRAPH, OPSET_IMPORT = 1, 2, 3, 7, 8
    METADATA_PROPS = 14


MODEL = Schema(
    "a model",
    {
        ModelField.IR_VERSION: INT64,
        ModelField.PRODUCER_NAME: TEXT,
        ModelField.PRODUCER_VERSION: TEXT,
        4: TEXT,  # domain
        5: INT64,  # model_version
        6: TEXT,  # doc_string
        ModelField.GRAPH: Nested(GRAPH),
        ModelField.OPSET_IMPORT: Nested(OPERATOR_SET, repeated=True),
        ModelField.METADATA_PROPS: Nested(ENTRY, repeated=True),
    },
    refused={20: "training information", 25: "a function", 26: "a device's configuration"},
)
