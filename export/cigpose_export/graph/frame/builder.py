"""Writes ONNX graphs as formulas: values know their element type and take Python's operators."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from numpy.typing import ArrayLike, DTypeLike
from onnx import compose, helper, numpy_helper, version_converter

from cigpose_export.errors import ExportError
from cigpose_runtime.errors import first_line


@dataclass
class Graph:
    """The nodes and constants of a graph that is being written, in the order of their use.

    opset: version of the standard operators. section: what the names of the next nodes begin with.
    """

    opset: int
    section: str = ""
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    initializers: list[onnx.TensorProto] = field(default_factory=list)
    _constants: dict[tuple[str, tuple[int, ...], bytes], Value] = field(default_factory=dict)

    def value(self, name: str, dtype: DTypeLike) -> Value:
        """A value that comes from elsewhere: an input, or an output of an embedded model."""
        return Value(self, name, np.dtype(dtype))

    def constant(self, array: ArrayLike, dtype: DTypeLike) -> Value:
        """A constant; the same one for the same content."""
        content = np.asarray(array, dtype)
        key = content.dtype.str, content.shape, content.tobytes()
        if key not in self._constants:
            name = f"constant_{len(self._constants)}"
            self.initializers.append(numpy_helper.from_array(content, name))
            self._constants[key] = self.value(name, content.dtype)
        return self._constants[key]

    def op(
        self, op_type: str, *inputs: Value, dtype: DTypeLike | None = None, **attributes: Any
    ) -> Value:
        """One node with one output, whose element type is that of the first input if not given."""
        name = f"{self.section}/{op_type}_{len(self.nodes)}"
        names = [value.name for value in inputs]
        self.nodes.append(helper.make_node(op_type, names, [name], name=name, **attributes))
        return Value(self, name, inputs[0].dtype if dtype is None else np.dtype(dtype))

    def embed(self, model: onnx.ModelProto, name: str, fed: Value) -> list[Value]:
        """A whole model of one input, its names behind `name`; returns its float32 outputs.

        Raises ExportError for a model whose operators cannot be brought to this opset.
        """
        try:
            if opset_of(model) != self.opset:
                model = version_converter.convert_version(model, self.opset)
            prefix = f"{name}/"
            inner = compose.add_prefix_graph(model.graph, prefix)
        except Exception as error:
            raise ExportError(
                f"{name}: expected a model that can be brought to opset {self.opset}, found one of "
                f"opset {opset_of(model)} that cannot ({first_line(error)}); export it at "
                f"opset {self.opset}"
            ) from error
        supplied = {tensor.name for tensor in inner.initializer}
        (image,) = (value.name for value in inner.input if value.name not in supplied)
        self.nodes.append(helper.make_node("Identity", [fed.name], [image], name=image))
        self.nodes.extend(inner.node)
        self.initializers.extend(inner.initializer)
        return [self.value(value.name, np.float32) for value in inner.output]

    def concat(self, values: Sequence[Value], axis: int) -> Value:
        """As np.concatenate."""
        return self.op("Concat", *values, axis=axis)

    def where(self, condition: Value, chosen: Value, other: Value | float) -> Value:
        """As np.where."""
        return self.op("Where", condition, chosen, chosen.like(other), dtype=chosen.dtype)


@dataclass(frozen=True, eq=False)
class Value:
    """A tensor of a graph. A number beside it becomes a constant of its element type."""

    graph: Graph
    name: str
    dtype: np.dtype[Any]

    def like(self, other: Value | ArrayLike) -> Value:
        """`other` as a value, of this element type if it is a number or array."""
        return other if isinstance(other, Value) else self.graph.constant(other, self.dtype)

    def __add__(self, other: Value | ArrayLike) -> Value:
        return self.graph.op("Add", self, self.like(other))

    def __sub__(self, other: Value | ArrayLike) -> Value:
        return self.graph.op("Sub", self, self.like(other))

    def __mul__(self, other: Value | ArrayLike) -> Value:
        return self.graph.op("Mul", self, self.like(other))

    def __truediv__(self, other: Value | ArrayLike) -> Value:
        return self.graph.op("Div", self, self.like(other))

    def __rsub__(self, other: ArrayLike) -> Value:
        return self.like(other) - self

    def __rtruediv__(self, other: ArrayLike) -> Value:
        return self.like(other) / self

    def __neg__(self) -> Value:
        return self.graph.op("Neg", self)

    def __abs__(self) -> Value:
        return self.graph.op("Abs", self)

    def __gt__(self, other: Value | ArrayLike) -> Value:
        return self.graph.op("Greater", self, self.like(other), dtype=np.bool_)

    def __ge__(self, other: Value | ArrayLike) -> Value:
        return self.graph.op("GreaterOrEqual", self, self.like(other), dtype=np.bool_)

    def __lt__(self, other: Value | ArrayLike) -> Value:
        return self.graph.op("Less", self, self.like(other), dtype=np.bool_)

    def __le__(self, other: Value | ArrayLike) -> Value:
        return self.graph.op("LessOrEqual", self, self.like(other), dtype=np.bool_)

    def __and__(self, other: Value) -> Value:
        return self.graph.op("And", self, other)

    def equals(self, other: Value | ArrayLike) -> Value:
        """Element by element, as == of arrays."""
        return self.graph.op("Equal", self, self.like(other), dtype=np.bool_)

    def to(self, dtype: DTypeLike) -> Value:
        """As ndarray.astype."""
        number = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
        return self.graph.op("Cast", self, dtype=dtype, to=number)

    def floor(self) -> Value:
        """As np.floor."""
        return self.graph.op("Floor", self)

    def rint(self) -> Value:
        """As np.rint: halves to the even neighbour."""
        return self.graph.op("Round", self)

    def clip(self, low: Value | float, high: Value | float) -> Value:
        """As np.clip; the limits are scalars."""
        return self.graph.op("Clip", self, self.like(low), self.like(high))

    def slice(
        self, axis: int, start: int | Value, stop: int | Value | None = None, step: int = 1
    ) -> Value:
        """As [start:stop:step] along one axis; without `stop`, the one at `start`, axis kept.

        A value as `start` or `stop` is int64 of shape (1,).
        """
        if stop is None:
            assert isinstance(start, int)
            stop = start + 1
        bounds = (
            bound if isinstance(bound, Value) else self.graph.constant([bound], np.int64)
            for bound in (start, stop, axis, step)
        )
        return self.graph.op("Slice", self, *bounds)

    def mirrored(self) -> Value:
        """The last axis backwards, as [..., ::-1]."""
        return self.slice(-1, -1, np.iinfo(np.int64).min, -1)

    def gather(self, indices: ArrayLike, axis: int) -> Value:
        """As np.take; a scalar index takes the axis away."""
        return self.graph.op("Gather", self, self.graph.constant(indices, np.int64), axis=axis)

    def reshape(self, *shape: int) -> Value:
        """As ndarray.reshape."""
        return self.graph.op("Reshape", self, self.graph.constant(shape, np.int64))

    def reduce(self, op_type: str, axis: int) -> Value:
        """ReduceMax and the like along one axis, which goes."""
        if self.graph.opset < 18:
            return self.graph.op(op_type, self, axes=[axis], keepdims=0)
        axes = self.graph.constant([axis], np.int64)
        return self.graph.op(op_type, self, axes, keepdims=0)


def opset_of(model: onnx.ModelProto) -> int:
    """The version of the standard operators in a model that has no others."""
    (version,) = {one.version for one in model.opset_import}
    return int(version)
