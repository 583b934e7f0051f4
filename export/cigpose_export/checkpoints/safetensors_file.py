"""The safetensors format: the size of a header, the header as JSON, and the tensors.

It is simple enough (https://huggingface.co/docs/safetensors) to be read here, by the rules of its
own library: tensors cover the rest of the file in order, without gaps or overlaps.
"""

from __future__ import annotations

import json
import mmap
import struct
from collections.abc import Mapping
from typing import Any

import torch

from cigpose_export.checkpoints.stored import (
    MOST_DIMENSIONS,
    Storage,
    StoredTensor,
    contiguous_strides,
)
from cigpose_export.errors import CheckpointError
from cigpose_runtime.errors import quoted

LARGEST_HEADER = 10_000_000
"""Bytes. A thousand tensors need 100,000; parsing takes up to a hundred times the memory."""

DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}

SIZE = struct.Struct("<Q")

AGAIN = "delete the file and fetch it again"


def is_safetensors(head: bytes) -> bool:
    """Whether a file that begins with these bytes, nine or more, is meant as one."""
    return len(head) > SIZE.size and head[SIZE.size : SIZE.size + 1] == b"{"


def load_safetensors(mapped: mmap.mmap) -> tuple[dict[str, StoredTensor], Mapping[str, Any]]:
    """The tensors of a file, and its metadata, which are texts; raises `CheckpointError`."""
    (size,) = SIZE.unpack_from(mapped)
    start = SIZE.size + size
    if size > LARGEST_HEADER or start > len(mapped):
        raise _damaged(f"a header of {size} bytes in a file of {len(mapped)}")
    try:
        header = json.loads(
            mapped[SIZE.size : start].decode("utf-8"), object_pairs_hook=_without_repetition
        )
    except (ValueError, RecursionError) as error:
        raise _damaged(f"a header that is no JSON ({quoted(str(error))})") from error
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict):
        raise _damaged("metadata of another type")
    tensors, spans = {}, []
    for name, entry in header.items():
        tensors[name], span = _tensor(name, entry, start)
        spans.append(span)
    position = 0
    for first, last in sorted(spans):
        if first != position:
            raise _damaged("tensors with gaps or overlaps")
        position = last
    if start + position != len(mapped):
        raise _damaged(f"tensors that end at byte {start + position} of {len(mapped)}")
    return tensors, metadata


def _tensor(name: str, entry: Any, data_start: int) -> tuple[StoredTensor, tuple[int, int]]:
    match entry:
        case {"dtype": str(code), "shape": [*shape], "data_offsets": [int(first), int(last)]}:
            pass
        case _:
            raise _damaged(f"a description of another form for {quoted(name)}")
    dtype = DTYPES.get(code)
    if dtype is None:
        raise CheckpointError(
            f"expected {quoted(name)} of the type F32, F16, BF16 or F64, found {quoted(code)}; "
            "save the weights as one of them"
        )
    count, left = divmod(last - first, dtype.itemsize)
    if not 0 <= first <= last or left:
        raise _damaged(f"a size of {quoted(name)} that is none of its type")
    storage = Storage(dtype, count, data_start + first)
    sound = all(type(length) is int and length >= 0 for length in shape)
    if not sound or len(shape) > MOST_DIMENSIONS:
        raise _damaged(f"the shape {quoted(shape)} of {quoted(name)}")
    strides = contiguous_strides(shape)
    if (shape[0] * strides[0] if shape else 1) != count:
        raise _damaged(f"another size of {quoted(name)} than its shape says")
    return StoredTensor(storage, 0, tuple(shape), strides), (first, last)


def _without_repetition(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name appears twice")
    return found


def _damaged(found: str) -> CheckpointError:
    return CheckpointError(f"expected a whole safetensors file, found {found}; {AGAIN}")
