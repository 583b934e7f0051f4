"""Plain values out of what the inert reading of a pickle gives."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cigpose_export.checkpoints.torch_pickle import Array, DType, Latin1

MOST_VALUES = 100_000
"""Of one description. A data set's, with 133 keypoints, has some 3,000."""

LARGEST_ARRAY = 1 << 20
"""Bytes."""

DTYPES = frozenset({"f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "b1"})


def plain_mapping(value: object) -> Mapping[str | int, Any] | None:
    """A mapping with plain Python values and numpy arrays alone, None in place of other things.

    None for what is no mapping, or is too large to be a description.
    """
    if not isinstance(value, Mapping):
        return None
    try:
        found: Mapping[str | int, Any] = _Converter().convert(value)
    except (ValueError, RecursionError):
        return None
    return found


class _Converter:
    def __init__(self) -> None:
        self.left = MOST_VALUES

    def convert(self, value: object) -> Any:
        self.left -= 1
        if self.left < 0:  # few bytes of a pickle can stand for very many values
            raise ValueError("too many values")
        if isinstance(value, Mapping):
            return {k: self.convert(v) for k, v in value.items() if type(k) in (str, int)}
        if isinstance(value, list | tuple):
            return type(value)(self.convert(item) for item in value)
        if isinstance(value, Array):
            return _array(value.state)
        return value if value is None or type(value) in (str, int, float, bool) else None


def _array(state: object) -> NDArray[Any] | np.generic | None:
    """An array of its pickled state: version, shape, dtype, order, bytes; a scalar's: dtype, bytes.

    None for one of objects, in another byte order, or of another size than its shape says.
    """
    match state:
        case (DType(code=code), Latin1(text=str(text))):
            shape: tuple[Any, ...] = ()
            fortran = False
        case (_, tuple(shape), DType(code=code), bool(fortran), Latin1(text=str(text))):
            pass
        case _:
            return None
    if code not in DTYPES or len(text) > LARGEST_ARRAY:
        return None
    dtype = np.dtype(code)
    sound = all(type(n) is int and 0 <= n <= LARGEST_ARRAY for n in shape) and len(shape) <= 8
    if not sound or math.prod(shape) * dtype.itemsize != len(text):
        return None
    values = np.frombuffer(text.encode("latin1"), dtype.newbyteorder("<"))
    array: NDArray[Any] = values.reshape(shape, order="F" if fortran else "C").astype(dtype)
    return array if array.ndim else array[()]
