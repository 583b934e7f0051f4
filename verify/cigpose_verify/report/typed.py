"""Makes dataclasses of JSON, and holds every value to the type of its field."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from types import UnionType
from typing import Any, get_args, get_origin, get_type_hints


def typed(kind: Any, value: Any, where: str) -> Any:
    """`value`, from JSON, as the type `kind`; lists become tuples.

    kind: a dataclass, a tuple, a mapping from text, a union with None, str, bool, int or float, or
    what is made of these. where: the value's name, for the message. Raises `ValueError`; for
    numbers that are not finite, too.
    """
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is UnionType:
        (some,) = (argument for argument in arguments if argument is not type(None))
        return None if value is None else typed(some, value, where)
    if is_dataclass(kind):
        return _dataclass(kind, value, where)
    if origin is tuple and isinstance(value, list):
        kinds = arguments[:1] * len(value) if arguments[-1] is ... else arguments
        if len(kinds) == len(value):
            items = zip(kinds, value, strict=True)
            return tuple(typed(k, item, f"{where}[{i}]") for i, (k, item) in enumerate(items))
    if origin is Mapping and isinstance(value, dict):
        return {key: typed(arguments[1], item, f"{where}.{key}") for key, item in value.items()}
    if kind in (str, bool) and isinstance(value, kind):
        return value
    if kind in (int, float) and isinstance(value, (int, kind)) and not isinstance(value, bool):
        number = kind(value)
        if math.isfinite(number):
            return number
    raise ValueError(f"{where}: expected {_name(kind)}, found {str(value)[:40]!r}")


def _dataclass(kind: Any, value: Any, where: str) -> Any:
    names = {field.name for field in fields(kind)}
    if not isinstance(value, dict) or set(value) != names:
        raise ValueError(f"{where}: expected exactly the fields of {kind.__name__}")
    types = get_type_hints(kind)
    return kind(**{name: typed(types[name], value[name], f"{where}.{name}") for name in names})


def _name(kind: Any) -> str:
    names = {str: "text", bool: "true or false", int: "a whole number", float: "a finite number"}
    return names.get(kind) or f"a value of the type {kind}"
