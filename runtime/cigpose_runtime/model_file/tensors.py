"""Reads a tensor from a TensorProto file, without the onnx package."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cigpose_runtime.errors import FileError, error_context
from cigpose_runtime.files import open_file
from cigpose_runtime.model_file.protobuf import Message, WireFormatError

_FLOAT = 1
"""TensorProto.DataType.FLOAT of onnx.proto; the field numbers below are from there, too."""
_DIMS, _DATA_TYPE, _RAW_DATA = 1, 2, 9


def read_tensor(path: Path) -> NDArray[np.float32]:
    """A float32 tensor from a TensorProto file. Raises FileError."""
    with open_file(path, "a tensor of golden vectors") as file, error_context(path):
        try:
            message = Message(file.read())
            shape, kind = message.integers(_DIMS), message.integer(_DATA_TYPE)
            data = message.content(_RAW_DATA)
            if kind != _FLOAT:
                raise ValueError(f"element type {kind}")
            return np.frombuffer(data, "<f4").reshape(shape).astype(np.float32, copy=False)
        except (WireFormatError, ValueError) as error:
            raise FileError(
                f"expected a float32 TensorProto, found another file ({error}); fetch it again"
            ) from error
