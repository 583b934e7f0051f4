"""Reads a tensor from a TensorProto file, without the onnx package."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cigpose_runtime.errors import FileError, error_context, quoted
from cigpose_runtime.files import open_file
from cigpose_runtime.model_file.onnx_schema import TENSOR, TensorField
from cigpose_runtime.model_file.protobuf import Message, WireFormatError

_FLOAT = 1
"""TensorProto.DataType.FLOAT of onnx.proto."""


def read_tensor(path: Path) -> NDArray[np.float32]:
    """A float32 tensor from a TensorProto file. Raises FileError."""
    with open_file(path, "a tensor of golden vectors") as file, error_context(path):
        try:
            message = Message(file.read(), TENSOR)
            shape, kind = message.integers(TensorField.DIMS), message.integer(TensorField.DATA_TYPE)
            data = message.content(TensorField.RAW_DATA)
            if kind != _FLOAT or min(shape, default=0) < 0:
                raise ValueError(f"element type {kind}, shape {quoted(shape)}")
            return np.frombuffer(data, "<f4").reshape(shape).astype(np.float32, copy=False)
        except (WireFormatError, ValueError) as error:
            raise FileError(
                f"expected a float32 TensorProto, found another file ({error}); fetch it again"
            ) from error
