"""What a packed file says of itself, one graph from frame to keypoints (`cigpose-tools pack`).

It is one metadata_props entry, FRAME_METADATA_KEY, whose value is a JSON document. The entry of the
packed model is not in the file: its mean and std are no business of who feeds frames.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from os import PathLike
from typing import Any, Literal

from cigpose_runtime.errors import MetadataError, OnnxFileError, error_context, quoted
from cigpose_runtime.model_file.contract import Contract, load_document
from cigpose_runtime.model_file.onnx_graph import OnnxFile, ValueInfo, read_onnx_file

FRAME_METADATA_KEY = "cigpose_frame"
FRAME_SCHEMA_VERSION = 1

_REPAIR_HINT = "pack the model again"


def _is_size(value: Any) -> bool:
    return type(value) is int and 0 < value < 2**31


def _is_share(value: Any) -> bool:
    return type(value) is float and math.isfinite(value) and 0 < value <= 1


def _is_sha256(value: Any) -> bool:
    return type(value) is str and re.fullmatch("[0-9a-f]{64}", value) is not None


def _is(*options: str) -> tuple[str, Callable[[Any], bool]]:
    return " or ".join(map(repr, options)), lambda value: value in options


_SIZE = "an integer above 0", _is_size
_SHARE = "a number above 0, at most 1", _is_share
_SHA256 = "64 lower-case hex digits", _is_sha256

_DETECTOR_RULES = {
    "sha256": _SHA256,
    "input_w": _SIZE,
    "input_h": _SIZE,
    "class_id": ("an integer from 0", lambda value: type(value) is int and value >= 0),
    "score_threshold": _SHARE,
    "nms_threshold": _SHARE,
    "max_people": _SIZE,
}

_RULES: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "schema_version": (
        str(FRAME_SCHEMA_VERSION),
        lambda value: type(value) is int and value == FRAME_SCHEMA_VERSION,
    ),
    "name": ("text", lambda value: type(value) is str and value != ""),
    "frame_color_order": _is("rgb", "bgr"),
    "box_form": _is("ltrb"),
    "score_rule": _is("lower-simcc-peak"),
    "flip_test": ("true or false", lambda value: type(value) is bool),
    "packed_sha256": _SHA256,
    "detector": (
        "a detector or null",
        lambda value: value is None or isinstance(value, PackedDetector),
    ),
    "model": ("a contract", lambda value: isinstance(value, Contract)),
}


@dataclass(frozen=True, kw_only=True)
class PackedDetector:
    """The YOLOX inside a packed file.

    sha256: of its own file. class_id: of people. score_threshold: least objectness times class
    score. nms_threshold: largest overlap (IoU) of two boxes. max_people: of more, the surest.
    Raises MetadataError naming every field that does not hold.
    """

    sha256: str
    input_w: int
    input_h: int
    class_id: int
    score_threshold: float
    nms_threshold: float
    max_people: int

    def __post_init__(self) -> None:
        _require(vars(self), _DETECTOR_RULES)


@dataclass(frozen=True, kw_only=True)
class FrameContract:
    """What a packed file takes and returns.

    name: of the file, NAME_frame or NAME_frame_det.
    frame_color_order: of the input `frame`; a fourth channel is ignored.
    box_form: ltrb is left, top, right, bottom in frame pixels.
    score_rule: lower-simcc-peak is the lower of the two SimCC peaks, at or below 0 where the
        keypoint was not found; 0 for a box that is none.
    flip_test: whether the mirror image of each crop runs, too.
    packed_sha256: of the model's own file.
    detector: None where boxes are an input.
    model: the contract of the model's own file, its keypoints and origin included.

    Raises MetadataError naming every field that does not hold.
    """

    schema_version: int = FRAME_SCHEMA_VERSION
    name: str
    frame_color_order: Literal["rgb", "bgr"]
    box_form: Literal["ltrb"] = "ltrb"
    score_rule: Literal["lower-simcc-peak"] = "lower-simcc-peak"
    flip_test: bool
    packed_sha256: str
    detector: PackedDetector | None
    model: Contract

    def __post_init__(self) -> None:
        _require(vars(self), _RULES)

    def to_json(self) -> str:
        """The contract as one line of ASCII JSON, its keys in the order of the fields."""
        document = {**vars(self), "model": json.loads(self.model.to_json())}
        if self.detector is not None:
            document["detector"] = asdict(self.detector)
        return json.dumps(document, allow_nan=False, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> FrameContract:
        """Reads what to_json wrote. Raises MetadataError as Contract.from_json does."""
        document = load_document(text)
        version = document.get("schema_version")
        if type(version) is int and version > FRAME_SCHEMA_VERSION:
            raise MetadataError(
                f"expected metadata of schema version {FRAME_SCHEMA_VERSION}, found "
                f"{quoted(version)}; upgrade cigpose-runtime"
            )
        _require_keys(cls, document)
        if isinstance(document["model"], dict):
            document["model"] = Contract.from_document(document["model"])
        if isinstance(document["detector"], dict):
            _require_keys(PackedDetector, document["detector"])
            document["detector"] = PackedDetector(**document["detector"])
        return cls(**document)


def is_packed(onnx_file: OnnxFile) -> bool:
    """Whether a file says that it goes from frames to keypoints."""
    return any(key == FRAME_METADATA_KEY for key, _ in onnx_file.metadata_props)


def read_packed(path: str | PathLike[str]) -> FrameContract | None:
    """The contract of a packed file; None for a file that is not packed.

    Raises FileError, and what frame_contract_of raises, each naming the file.
    """
    onnx_file = read_onnx_file(path)
    with error_context(path):
        return frame_contract_of(onnx_file) if is_packed(onnx_file) else None


def frame_contract_of(onnx_file: OnnxFile) -> FrameContract:
    """The contract of a packed file, checked against its graph.

    Raises MetadataError for missing or invalid metadata, OnnxFileError for another interface.
    """
    texts = [value for key, value in onnx_file.metadata_props if key == FRAME_METADATA_KEY]
    if len(texts) != 1:
        raise MetadataError(
            f"expected metadata under the key '{FRAME_METADATA_KEY}' once, found it {len(texts)} "
            f"times; give a file that `cigpose-tools pack` made"
        )
    contract = FrameContract.from_json(texts[0])
    found = (*onnx_file.inputs, *onnx_file.outputs)
    expected = interface(contract)
    if len(found) != len(expected) or not all(map(_fits, found, expected)):
        raise OnnxFileError(
            f"expected the inputs and outputs {', '.join(map(str, expected))}, found "
            f"{', '.join(map(str, found[:6])) or 'none'}; {_REPAIR_HINT}"
        )
    return contract


def interface(contract: FrameContract) -> tuple[ValueInfo, ...]:
    """The inputs and outputs of a file with this contract, in order; all names are free sizes."""
    keypoints = contract.model.num_keypoints
    frame = ValueInfo("frame", "uint8", ("height", "width", "channels"))
    boxes = ValueInfo("boxes", "float32", ("people", 4))
    box_scores = ValueInfo("box_scores", "float32", ("people",))
    poses = (
        ValueInfo("keypoints", "float32", ("people", keypoints, 2)),
        ValueInfo("scores", "float32", ("people", keypoints)),
    )
    if contract.detector is None:
        return (frame, boxes, *poses)
    return (frame, boxes, box_scores, *poses)


def _fits(found: ValueInfo, expected: ValueInfo) -> bool:
    if (found.name, found.elem_type) != (expected.name, expected.elem_type):
        return False
    sizes, wanted = found.shape or (), expected.shape or ()
    return len(sizes) == len(wanted) and all(
        isinstance(there, str) or size == there for size, there in zip(sizes, wanted, strict=True)
    )


def _require(
    values: Mapping[str, Any], rules: Mapping[str, tuple[str, Callable[[Any], bool]]]
) -> None:
    problems = [
        f"{field}: expected {expected}, found {quoted(values[field])}"
        for field, (expected, holds) in rules.items()
        if not holds(values[field])
    ]
    if problems:
        raise MetadataError(f"invalid metadata: {'; '.join(problems)}; {_REPAIR_HINT}")


def _require_keys(kind: type, document: Mapping[str, Any]) -> None:
    wanted = [field.name for field in fields(kind)]
    problems = [f"unknown key {quoted(key)}" for key in document if key not in wanted]
    problems += [f"missing {name}" for name in wanted if name not in document]
    if problems:
        raise MetadataError(f"invalid metadata: {'; '.join(problems)}; {_REPAIR_HINT}")
