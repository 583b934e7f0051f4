"""Plain values out of what the inert reading of a pickle gives."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cigpose_export.checkpoints.torch_pickle import Array, DType, Latin1

MOST_VALUES = 100_000
"""Of one description, bytes of arrays included; a data set with 133 keypoints has some 5,000."""

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
        self.spend(1)
        if isinstance(value, Mapping):
            return {k: self.convert(v) for k, v in value.items() if type(k) in (str, int)}
        if isinstance(value, list | tuple):
            return type(value)(self.convert(item) for item in value)
        if isinstance(value, Array):
            return self.array(value.state)
        return value if value is None or type(value) in (str, int, float, bool) else None

    def spend(self, count: int) -> None:
        self.left -= count
        if self.left < 0:  # few bytes of a pickle can stand for very many values
            raise ValueError("too many values")

    def array(self, state: object) -> NDArray[Any] | np.generic | None:
        """An array of its pickled state: version, shape, dtype, order, bytes; or dtype and bytes.

        None for one of objects, in another byte order, or of another size than its shape says.
        """
        match state:
            case (DType(code=str(code)), Latin1(text=str(text))):
                shape: tuple[Any, ...] = ()
                fortran = False
            case (_, tuple(shape), DType(code=str(code)), bool(fortran), Latin1(text=str(text))):
                pass
            case _:
                return None
        self.spend(len(text))
        if code not in DTYPES:
            return None
        dtype = np.dtype(code)
        sound = len(shape) <= 8 and all(type(n) is int and n >= 0 for n in shape)
        if not sound or math.prod(shape) * dtype.itemsize != len(text):
            return None
        values = np.frombuffer(text.encode("latin1"), dtype.newbyteorder("<"))
        array: NDArray[Any] = values.reshape(shape, order="F" if fortran else "C").astype(dtype)
        return array if array.ndim else array[()]
