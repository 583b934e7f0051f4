"""The metadata contract: everything that running a CIGPose model takes, inside its ONNX file.

It is one metadata_props entry, METADATA_KEY, whose value is a JSON document. This module owns the
schema and both directions of the JSON; reader finds contracts in files.
"""

from __future__ import annotations

import difflib
import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from itertools import chain
from typing import Any, Literal, NoReturn

from cigpose_runtime.errors import MetadataError, quoted
from cigpose_runtime.keypoints import KeypointSet, Pairs
from cigpose_runtime.model_file.contract_fields import (
    FOREIGN_SCHEMA_VERSION,
    MAX_BINS,
    OPTIONAL_IN_DERIVED_FROM,
    REDUCED_SCHEMA_VERSION,
    RULES,
    DerivedFrom,
    SourceCheckpoint,
    keys_of,
    rules_of,
)

Reduced = Literal["fp16", "w16", "int8"]
Precision = Literal["fp32"] | Reduced

MAX_DOCUMENT_BYTES = 1 << 20
"""Of metadata in JSON. Those of a whole-body model are 7 kB."""

_LISTED = 5
"""Unknown keys that an error names."""

_REPAIR_HINT = "correct the metadata, or export the model again"


@dataclass(frozen=True, kw_only=True)
class Contract:
    """What one model expects and returns, validated as a whole.

    schema_version: 1; 0 for a model that this project did not export, see below; 2 for a model in
        reduced precision, and for a portable one.
    num_keypoints: K, the second dimension of both outputs.
    input_w, input_h: size of the crop in pixels.
    split_ratio: SimCC bins per pixel; the outputs have int(input_w * split_ratio) and
        int(input_h * split_ratio) bins.
    mean, std: per channel, in the model's channel order, on the 0 to 255 scale.
    color_order: order of the model's channels.
    box_padding: factor by which the person's box grows to the crop.
    decode: the rule that turns outputs into keypoints.
    keypoint_names, oks_sigmas: K values, as in KeypointSet; skeleton and flip_pairs index them.
    tools: (name, version) pairs of what made the file, sorted by name.
    opset: version of ONNX's standard operator set.
    precision: fp16 for tensors in float16 between float32 inputs and outputs, w16 for weights in
        float16 alone, int8 for a backbone in 8 bits and a head in float32.
    derived_from: the float32 file that a model in reduced precision, or a portable one, which takes
        one batch alone, was made from.

    In schema version 0, and only there, what is known of no foreign model is None: name, weights,
    source_checkpoint, tools, license and attribution.

    Raises MetadataError naming every field that does not hold.

    >>> from cigpose_runtime import read_contract
    >>> contract = read_contract("model.onnx")
    >>> contract.num_keypoints, contract.input_w, contract.input_h, contract.color_order
    (17, 192, 256, 'rgb')
    >>> Contract.from_json(contract.to_json()) == contract
    True
    """

    schema_version: int
    name: str | None
    dataset: str
    num_keypoints: int
    input_w: int
    input_h: int
    split_ratio: float
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    color_order: Literal["rgb", "bgr"]
    box_padding: float
    decode: Literal["simcc-argmax"]
    keypoint_names: tuple[str, ...]
    skeleton: Pairs
    flip_pairs: Pairs
    oks_sigmas: tuple[float, ...]
    weights: Literal["real", "synthetic", "demo"] | None
    source_checkpoint: SourceCheckpoint | None
    tools: tuple[tuple[str, str], ...] | None
    opset: int
    license: str | None
    attribution: str | None
    precision: Precision = "fp32"
    derived_from: DerivedFrom | None = None

    def __post_init__(self) -> None:
        problems = _value_problems(vars(self))
        if problems:
            raise MetadataError(f"invalid contract: {'; '.join(problems)}; correct these fields")

    @property
    def keypoints(self) -> KeypointSet:
        """The model's keypoints as a set of their own."""
        return KeypointSet(
            dataset=self.dataset,
            names=self.keypoint_names,
            skeleton=self.skeleton,
            flip_pairs=self.flip_pairs,
            oks_sigmas=self.oks_sigmas,
        )

    @property
    def artefact_name(self) -> str | None:
        """What its file is called as exported, without .onnx: NAME, or NAME_fp16 and the like."""
        if self.name is None:
            return None
        return artefact_name(self.name, self.precision, batch=self.fixed_batch)

    @property
    def fixed_batch(self) -> int | None:
        """How many people a portable model takes at once; None for others, which take any."""
        return None if self.derived_from is None else self.derived_from.batch

    def to_json(self) -> str:
        """The contract as one line of ASCII JSON, its keys in the order of the fields.

        Contract.from_json(contract.to_json()) == contract, for every contract.
        """
        members = asdict(self)
        document = {key: members[key] for key in keys_of(self.schema_version)}
        if self.derived_from is not None:
            for key in OPTIONAL_IN_DERIVED_FROM:
                if document["derived_from"][key] is None:
                    del document["derived_from"][key]
        if self.tools is not None:
            document["tools"] = dict(self.tools)
        return json.dumps(document, allow_nan=False, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> Contract:
        """Reads a document that to_json wrote, or one that says the same in another layout.

        Raises MetadataError for invalid JSON, NaN, keys that are repeated, unknown or missing, a
        newer schema version, and values that do not hold; everything wrong is named at once.
        """
        return cls.from_document(load_document(text))

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> Contract:
        """As from_json, for a document that load_document parsed."""
        version = document.get("schema_version")
        if type(version) is int and version > REDUCED_SCHEMA_VERSION:
            raise MetadataError(
                f"expected metadata of schema version {FOREIGN_SCHEMA_VERSION} to "
                f"{REDUCED_SCHEMA_VERSION}, found {quoted(version)}; upgrade cigpose-runtime"
            )
        values = {
            field: RULES[field].from_json(document[field])
            for field in keys_of(version)
            if field in document
        }
        problems = [*_key_problems(document), *_value_problems(values)]
        if problems:
            raise MetadataError(f"invalid metadata: {'; '.join(problems)}; {_REPAIR_HINT}")
        return cls(**values)


def load_document(text: str | bytes) -> dict[str, Any]:
    """Parses a metadata document, strictly: one object, no NaN or infinity, no repeated keys.

    Raises MetadataError, for more than MAX_DOCUMENT_BYTES before anything is parsed.
    """
    if len(text) > MAX_DOCUMENT_BYTES:
        raise MetadataError(
            f"expected metadata of at most {MAX_DOCUMENT_BYTES:,} bytes, found {len(text):,}; "
            f"{_REPAIR_HINT}"
        )
    try:
        document = json.loads(text, object_pairs_hook=_unique, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise MetadataError(
            f"expected metadata in JSON, found {quoted(text)} ({error}); {_REPAIR_HINT}"
        ) from error
    if not isinstance(document, dict):
        raise MetadataError(f"expected a JSON object, found {quoted(document)}; {_REPAIR_HINT}")
    return document


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        repeated, _ = Counter(key for key, _ in pairs).most_common(1)[0]
        raise ValueError(f"key {quoted(repeated)} more than once")
    return members


def _refuse_constant(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no JSON number")


def artefact_name(name: str, precision: Precision, *, batch: int | None = None) -> str:
    """What the file of a model is called in a precision, without .onnx; batch: of a portable one,
    whose name says it unless it is 1."""
    if batch is not None:
        return f"{name}_portable" if batch == 1 else f"{name}_portable_b{batch}"
    return name if precision == "fp32" else f"{name}_{precision}"


def _key_problems(document: Mapping[str, Any]) -> Iterator[str]:
    known = keys_of(document.get("schema_version"))
    unknown = [key for key in document if key not in known]
    for key in unknown[:_LISTED]:
        near = difflib.get_close_matches(key[:80], known, n=1)
        yield f"unknown key {quoted(key)}" + (f", did you mean '{near[0]}'?" if near else "")
    if len(unknown) > _LISTED:
        yield f"{len(unknown) - _LISTED:,} more unknown keys"
    missing = [field for field in known if field not in document]
    if missing:
        yield f"missing {', '.join(missing)}"


def _value_problems(values: Mapping[str, Any]) -> list[str]:
    """What does not hold among the fields that are there."""
    rules = rules_of(values.get("schema_version"))
    sound, problems = {}, []
    for field, value in values.items():
        rule = rules[field]
        if rule.holds(value):
            sound[field] = value
        else:
            problems.append(f"{field}: expected {rule.expected}, found {quoted(value)}")
    return [
        *problems,
        *_keypoint_problems(sound),
        *_size_problems(sound),
        *_derivation_problems(sound),
    ]


def _derivation_problems(values: Mapping[str, Any]) -> Iterator[str]:
    derived = values.get("derived_from")
    if derived is None or "precision" not in values:
        return
    precision = values["precision"]
    for of, key in (("int8", "calibration"), ("fp32", "batch")):
        there = getattr(derived, key)
        if (precision == of) != (there is not None):
            expected = f"one, as of all {of}" if precision == of else f"none of {precision}"
            yield f"derived_from.{key}: expected {expected}, found {quoted(there)}"


def _keypoint_problems(values: Mapping[str, Any]) -> Iterator[str]:
    """What does not hold between fields that each hold by themselves."""
    count = values.get("num_keypoints")
    if count is None:
        return
    for field in ("keypoint_names", "oks_sigmas"):
        if field in values and len(values[field]) != count:
            yield f"{field}: expected num_keypoints = {count} values, found {len(values[field])}"
    for field in ("skeleton", "flip_pairs"):
        largest = max(chain(*values.get(field, ())), default=0)
        if largest >= count:
            yield f"{field}: expected indices below num_keypoints = {count}, found {largest}"


def _size_problems(values: Mapping[str, Any]) -> Iterator[str]:
    if {"num_keypoints", "input_w", "input_h", "split_ratio"} <= values.keys():
        sides = values["input_w"] + values["input_h"]
        bins = values["num_keypoints"] * sides * values["split_ratio"]
        if bins > MAX_BINS:
            yield (
                "num_keypoints * (input_w + input_h) * split_ratio: expected at most "
                f"{MAX_BINS:,} bins, found {bins:,.0f}"
            )
