"""Tensors as a checkpoint file describes them; of their values nothing is read until asked for."""

from __future__ import annotations

import math
import mmap
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from cigpose_export.errors import CheckpointError
from cigpose_runtime.errors import first_line

MOST_DIMENSIONS = 16
"""Of a tensor; convolutions have four."""

MOST_ELEMENTS = 2**62
"""What torch counts elements with is a signed 64-bit number."""


@dataclass(eq=False)
class Storage:
    """A run of numbers that tensors share; `start` is its first byte in the file, once known."""

    dtype: torch.dtype
    count: int
    start: int | None = None

    @property
    def size(self) -> int:
        """In bytes."""
        return self.count * self.dtype.itemsize

    def __setstate__(self, _state: object) -> None:
        raise CheckpointError("expected weights, found an altered storage; do not use the file")


@dataclass(frozen=True, eq=False)
class StoredTensor:
    """A strided view of a storage; offset and strides count elements.

    Raises `CheckpointError` for one that reaches beyond its storage.
    """

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def __post_init__(self) -> None:
        sound = (
            isinstance(self.storage, Storage)
            and type(self.shape) is type(self.strides) is tuple
            and len(self.shape) == len(self.strides) <= MOST_DIMENSIONS
            and all(map(_is_count, (self.offset, *self.shape, *self.strides)))
        )
        if not sound:
            raise CheckpointError("expected tensors, found a malformed one; fetch the file again")
        if self._end > self.storage.count or math.prod(self.shape) > MOST_ELEMENTS:
            raise CheckpointError(
                f"expected tensors inside their storages, found one of shape {self.shape} that "
                f"ends at element {self._end} of {self.storage.count}; fetch the file again"
            )

    def __setstate__(self, _state: object) -> None:
        raise CheckpointError("expected weights, found an altered tensor; do not use the file")

    @property
    def _end(self) -> int:
        if 0 in self.shape:
            return self.offset
        steps = zip(self.shape, self.strides, strict=True)
        return self.offset + sum((length - 1) * stride for length, stride in steps) + 1


class TensorReader:
    """Makes torch tensors of stored ones, over the mapped file wherever their alignment allows."""

    def __init__(self, mapped: mmap.mmap) -> None:
        self._mapped = mapped
        self._values: dict[int, Tensor] = {}

    def read(self, stored: StoredTensor) -> Tensor:
        """The tensor; all that share a storage share memory. Writing to it leaves the file alone.

        Raises `CheckpointError` where memory does not suffice.
        """
        storage = stored.storage
        try:
            if id(storage) not in self._values:
                self._values[id(storage)] = self._read_storage(storage)
            values = self._values[id(storage)]
            return values.as_strided(stored.shape, stored.strides, stored.offset)
        except (RuntimeError, ValueError, OverflowError) as error:
            raise CheckpointError(
                f"torch cannot hold a tensor of the file ({first_line(error)})"
            ) from error

    def _read_storage(self, storage: Storage) -> Tensor:
        if not storage.count:
            return torch.empty(0, dtype=storage.dtype)
        assert storage.start is not None  # whoever read the container has placed it
        unaligned = storage.start % storage.dtype.itemsize
        raw = torch.frombuffer(
            self._mapped, dtype=torch.uint8, count=storage.size, offset=storage.start
        )
        return (raw.clone() if unaligned else raw).view(storage.dtype)


def _is_count(number: object) -> bool:
    return type(number) is int and 0 <= number <= MOST_ELEMENTS


def contiguous_strides(shape: Sequence[int]) -> tuple[int, ...]:
    """Of a tensor whose elements lie in order, the last dimension's next to each other."""
    return tuple(math.prod(shape[axis + 1 :]) for axis in range(len(shape)))
