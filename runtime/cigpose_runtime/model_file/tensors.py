"""Reads a tensor from a TensorProto file, without the onnx package."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cigpose_runtime.errors import FileError, error_context, quoted
from cigpose_runtime.files import open_file
from cigpose_runtime.model_file.onnx_schema import TENSOR, TensorField
from cigpose_runtime.model_file.protobuf import Message, WireFormatError

_KINDS = {1: "<f4", 2: "u1"}
"""TensorProto.DataType.FLOAT and UINT8 of onnx.proto, as numpy has them."""


def read_tensor(path: Path) -> NDArray[Any]:
    """A float32 or uint8 tensor from a TensorProto file. Raises FileError."""
    with open_file(path, "a tensor of golden vectors") as file, error_context(path):
        try:
            message = Message(file.read(), TENSOR)
            shape, kind = message.integers(TensorField.DIMS), message.integer(TensorField.DATA_TYPE)
            data = message.content(TensorField.RAW_DATA)
            if kind not in _KINDS or min(shape, default=0) < 0:
                raise ValueError(f"element type {kind}, shape {quoted(shape)}")
            return np.frombuffer(data, _KINDS[kind]).reshape(shape)
        except (WireFormatError, ValueError) as error:
            raise FileError(
                f"expected a TensorProto of float32 or uint8, found another file ({error}); fetch "
                "it again"
            ) from error
