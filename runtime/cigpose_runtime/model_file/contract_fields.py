"""The fields of the metadata contract: what each has to be, in words and as a test."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from itertools import chain
from typing import Any, NamedTuple

METADATA_KEY = "cigpose_meta"
SCHEMA_VERSION = 1
FOREIGN_SCHEMA_VERSION = 0
"""Schema version of contracts for models that this project did not export."""
REDUCED_SCHEMA_VERSION = 2
"""Schema version of contracts for models that were made from another file: in reduced precision, or
portable. Others stay at 1, which older versions of this package read, too."""

ORIGIN_FIELDS = ("name", "weights", "source_checkpoint", "tools", "license", "attribution")
"""The fields that are None in contracts of foreign models."""

REDUCED_FIELDS = ("precision", "derived_from")
"""The fields that only contracts of models made from another file have in JSON."""

BOX_PADDING = 1.25
"""That of all published models, and MMPose's default (GetBBoxCenterScale)."""

# Contracts are not trusted: what a model costs in time and memory is bounded by what it says. The
# largest of the published models, whole-body at 288 x 384, are named for comparison.
MAX_SIDE = 1024
"""Of the input in pixels (384). A batch of 16 crops takes at most 200 MB."""
MAX_KEYPOINTS = 1024
"""(133)"""
MAX_BINS = 1 << 21
"""Of all SimCC vectors of one person (178,752). A batch of 16 gives at most 128 MB."""
MAX_LINES = 4096
"""Of a skeleton (65). Each is drawn for each person in each frame."""
MAX_LEVEL = 1e6
"""Of mean and std, whose least value is its inverse: float32 does not overflow."""
MAX_BOX_PADDING = 10.0
"""(1.25). Crops stay within what float32 tells apart."""


@dataclass(frozen=True)
class SourceCheckpoint:
    """The checkpoint that a model was exported from: file name without folder, sha256 in hex."""

    file: str
    sha256: str


@dataclass(frozen=True)
class Calibration:
    """The crops that a model in int8 has its scales from.

    source: drawn, or pictures of the user's. crops: how many. sha256: of the list of them, which
    lies beside the file, in hex.
    """

    source: str
    crops: int
    sha256: str


@dataclass(frozen=True)
class DerivedFrom:
    """The float32 file that a model was made from, in reduced precision or portable, and how.

    sha256: of that file, in hex. converter, converter_version: the program that made this one.
    fp32_nodes: names of the nodes that compute in float32 where others compute in float16 or int8.
    calibration: of a model in int8; None for others, whose JSON does not have the key.
    batch: of a portable model in float32, how many people it takes at once; None, as calibration.
    """

    sha256: str
    converter: str
    converter_version: str
    fp32_nodes: tuple[str, ...]
    calibration: Calibration | None = None
    batch: int | None = None


OPTIONAL_IN_DERIVED_FROM = ("calibration", "batch")


def _is_text(value: Any) -> bool:
    """On one line, without control characters or halves of surrogate pairs."""
    return type(value) is str and value != "" and value.isprintable()


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 < value < 2**31


def _is_side(value: Any) -> bool:
    return _is_count(value) and value <= MAX_SIDE


def _is_float(value: Any) -> bool:
    return type(value) is float and math.isfinite(value)


def _is_positive(value: Any) -> bool:
    return _is_float(value) and value > 0


def _is_mean(value: Any) -> bool:
    return _is_float(value) and abs(value) <= MAX_LEVEL


def _is_std(value: Any) -> bool:
    return _is_float(value) and 1 / MAX_LEVEL <= value <= MAX_LEVEL


def _is_tuple_of(holds: Callable[[Any], bool], value: Any, length: int | None = None) -> bool:
    return type(value) is tuple and length in (None, len(value)) and all(map(holds, value))


def _is_index(value: Any) -> bool:
    return type(value) is int and value >= 0


def _is_index_pair(value: Any) -> bool:
    return _is_tuple_of(_is_index, value, length=2) and value[0] != value[1]


def _is_disjoint_pairs(value: Any) -> bool:
    return _is_tuple_of(_is_index_pair, value) and len({*chain(*value)}) == 2 * len(value)


def _is_names(value: Any) -> bool:
    return _is_tuple_of(_is_text, value) and len({*value}) == len(value)


def _is_sha256(value: Any) -> bool:
    return _is_text(value) and re.fullmatch("[0-9a-f]{64}", value) is not None


def _is_source_checkpoint(value: Any) -> bool:
    return (
        isinstance(value, SourceCheckpoint)
        and _is_text(value.file)
        and not {"/", "\\"} & {*value.file}
        and _is_sha256(value.sha256)
    )


def _is_derived_from(value: Any) -> bool:
    return (
        isinstance(value, DerivedFrom)
        and _is_sha256(value.sha256)
        and _is_text(value.converter)
        and _is_text(value.converter_version)
        and _is_names(value.fp32_nodes)
        and (value.calibration is None or _is_calibration(value.calibration))
        and (value.batch is None or _is_count(value.batch))
    )


def _is_calibration(value: Any) -> bool:
    return (
        isinstance(value, Calibration)
        and _is_one_of("drawn", "pictures")(value.source)
        and _is_count(value.crops)
        and _is_sha256(value.sha256)
    )


def _is_tools(value: Any) -> bool:
    return (
        _is_tuple_of(lambda pair: _is_tuple_of(_is_text, pair, length=2), value)
        and len(dict(value)) == len(value)
        and value == tuple(sorted(value))
    )


def _is_one_of(*options: str) -> Callable[[Any], bool]:
    return lambda value: type(value) is str and value in options


# From JSON to the types of the fields. A value of another form stays as it is, and no rule holds.


def _same(value: Any) -> Any:
    return value


def _read_float(value: Any) -> Any:
    """Whole numbers may be written without a point, if a float has them exactly."""
    return float(value) if type(value) is int and abs(value) <= 2**53 else value


def _read_tuple_of(read: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda value: tuple(map(read, value)) if type(value) is list else value


def _read_source_checkpoint(value: Any) -> Any:
    is_complete = type(value) is dict and value.keys() == {"file", "sha256"}
    return SourceCheckpoint(**value) if is_complete else value


def _read_calibration(value: Any) -> Any:
    is_complete = type(value) is dict and value.keys() == {"source", "crops", "sha256"}
    return Calibration(**value) if is_complete else value


def _read_derived_from(value: Any) -> Any:
    expected = {field.name for field in fields(DerivedFrom)}
    if type(value) is not dict or value.keys() | {*OPTIONAL_IN_DERIVED_FROM} != expected:
        return value
    read = {**value, "fp32_nodes": _read_tuple_of(_same)(value["fp32_nodes"])}
    if "calibration" in value:
        read["calibration"] = _read_calibration(value["calibration"])
    return DerivedFrom(**read)


def _read_tools(value: Any) -> Any:
    return tuple(sorted(value.items())) if type(value) is dict else value


class _Rule(NamedTuple):
    """What a field has to be, in words and as a test, and how JSON's types become its type."""

    expected: str
    holds: Callable[[Any], bool]
    from_json: Callable[[Any], Any] = _same


_TEXT = _Rule("printable text", _is_text)
_SIDE = _Rule(f"an integer from 1 to {MAX_SIDE}", _is_side)
_COUNT = _Rule("an integer from 1 to 2147483647", _is_count)
_VERSIONS = (FOREIGN_SCHEMA_VERSION, SCHEMA_VERSION, REDUCED_SCHEMA_VERSION)

RULES = {
    "schema_version": _Rule(
        f"an integer from {min(_VERSIONS)} to {max(_VERSIONS)}",
        lambda value: type(value) is int and value in _VERSIONS,
    ),
    "name": _TEXT,
    "dataset": _TEXT,
    "num_keypoints": _Rule(
        f"an integer from 1 to {MAX_KEYPOINTS}",
        lambda value: _is_count(value) and value <= MAX_KEYPOINTS,
    ),
    "input_w": _SIDE,
    "input_h": _SIDE,
    "split_ratio": _Rule("a float above 0", _is_positive, _read_float),
    "mean": _Rule(
        f"3 floats within {MAX_LEVEL:g} of 0",
        lambda value: _is_tuple_of(_is_mean, value, length=3),
        _read_tuple_of(_read_float),
    ),
    "std": _Rule(
        f"3 floats from {1 / MAX_LEVEL:g} to {MAX_LEVEL:g}",
        lambda value: _is_tuple_of(_is_std, value, length=3),
        _read_tuple_of(_read_float),
    ),
    "color_order": _Rule("'rgb' or 'bgr'", _is_one_of("rgb", "bgr")),
    "box_padding": _Rule(
        f"a float from 1 to {MAX_BOX_PADDING:g}",
        lambda value: _is_float(value) and 1 <= value <= MAX_BOX_PADDING,
        _read_float,
    ),
    "decode": _Rule("'simcc-argmax'", _is_one_of("simcc-argmax")),
    "keypoint_names": _Rule("different printable names", _is_names, _read_tuple_of(_same)),
    "skeleton": _Rule(
        f"at most {MAX_LINES} pairs of different indices",
        lambda value: _is_tuple_of(_is_index_pair, value) and len(value) <= MAX_LINES,
        _read_tuple_of(_read_tuple_of(_same)),
    ),
    "flip_pairs": _Rule(
        "pairs of indices, no index twice",
        _is_disjoint_pairs,
        _read_tuple_of(_read_tuple_of(_same)),
    ),
    "oks_sigmas": _Rule(
        "floats above 0",
        lambda value: _is_tuple_of(_is_positive, value),
        _read_tuple_of(_read_float),
    ),
    "weights": _Rule("'real', 'synthetic' or 'demo'", _is_one_of("real", "synthetic", "demo")),
    "source_checkpoint": _Rule(
        "a file name without folders and a sha256 of 64 lower-case hex digits",
        _is_source_checkpoint,
        _read_source_checkpoint,
    ),
    "tools": _Rule("a version for each tool, sorted by tool", _is_tools, _read_tools),
    "opset": _COUNT,
    "license": _TEXT,
    "attribution": _TEXT,
    "precision": _Rule(
        "'fp32', 'fp16', 'w16' or 'int8'", _is_one_of("fp32", "fp16", "w16", "int8")
    ),
    "derived_from": _Rule(
        "a sha256, a converter and its version, names of nodes, of int8 its calibration, and of "
        "fp32 its batch",
        _is_derived_from,
        _read_derived_from,
    ),
}

_UNKNOWN = _Rule("null in schema version 0", lambda value: value is None)
_RULES_WITHOUT_REDUCTION = {
    **RULES,
    "precision": _Rule("'fp32' below schema version 2", _is_one_of("fp32")),
    "derived_from": _Rule("null below schema version 2", lambda value: value is None),
}
_RULES_OF_FOREIGN = {**_RULES_WITHOUT_REDUCTION, **dict.fromkeys(ORIGIN_FIELDS, _UNKNOWN)}


def rules_of(schema_version: Any) -> Mapping[str, _Rule]:
    """What each field has to be in contracts of a schema version."""
    if schema_version == FOREIGN_SCHEMA_VERSION:
        return _RULES_OF_FOREIGN
    return RULES if schema_version == REDUCED_SCHEMA_VERSION else _RULES_WITHOUT_REDUCTION


def keys_of(schema_version: Any) -> list[str]:
    """The keys that documents of a schema version have."""
    reduced = schema_version == REDUCED_SCHEMA_VERSION
    return [field for field in RULES if reduced or field not in REDUCED_FIELDS]
