"""Finds the contract of an ONNX file and checks it against the graph.

Models published before the schema carry a short document: input_w, input_h, split_ratio and
normalisation, without schema_version. Together with the graph it makes a contract of schema
version 0, in which everything about the model's origin is None.
"""

from __future__ import annotations

from os import PathLike
from typing import Any

from cigpose_runtime.errors import MetadataError, OnnxFileError, error_context
from cigpose_runtime.files import open_file
from cigpose_runtime.keypoints import COCO, COCO_WHOLEBODY, CROWDPOSE
from cigpose_runtime.model_file.contract import MAX_DOCUMENT_BYTES, Contract, load_document
from cigpose_runtime.model_file.contract_fields import (
    BOX_PADDING,
    FOREIGN_SCHEMA_VERSION,
    METADATA_KEY,
    ORIGIN_FIELDS,
)
from cigpose_runtime.model_file.onnx_graph import OnnxFile, ValueInfo, read_onnx_file

# What all published models share: their configs, and the published client's cigpose/inference.py.
_PUBLISHED: dict[str, Any] = {
    "schema_version": FOREIGN_SCHEMA_VERSION,
    "color_order": "rgb",
    "box_padding": BOX_PADDING,
    "decode": "simcc-argmax",
}
# The short form does not name its keypoints. Only the published models carry it, and their sets
# differ in size.
_PUBLISHED_KEYPOINTS = {len(some.names): some for some in (COCO, CROWDPOSE, COCO_WHOLEBODY)}

_INPUTS = (ValueInfo("input", "float32", ("batch", 3, "height", "width")),)
_OUTPUTS = (
    ValueInfo("simcc_x", "float32", ("batch", "keypoints", "bins")),
    ValueInfo("simcc_y", "float32", ("batch", "keypoints", "bins")),
)

MAX_BATCH_VALUES = 1 << 26
"""Of input and outputs of a model of a fixed batch, 256 MB: 21 batches of 16 crops of 288 x 384."""

_OVERRIDE_HINT = (
    "supply the metadata yourself (--metadata FILE.json on the command line, override= in Python)"
)


def read_contract(path: str | PathLike[str], *, override: Contract | None = None) -> Contract:
    """Reads the contract of the ONNX file at `path` and checks it against the graph.

    With `override`, the file needs no metadata: the override is checked and returned.
    Raises FileError, OnnxFileError or MetadataError, each naming the file.

    >>> contract = read_contract("model.onnx")
    >>> contract.keypoint_names[:3]
    ('nose', 'left_eye', 'right_eye')
    """
    onnx_file = read_onnx_file(path)
    with error_context(path):
        return contract_of(onnx_file, override=override)


def contract_of(onnx_file: OnnxFile, *, override: Contract | None = None) -> Contract:
    """As read_contract, for a file whose structure has been read."""
    _check_interface(onnx_file, allow_fixed_batch=True)
    if override is None:
        contract = contract_from_metadata(_metadata_text(onnx_file), onnx_file)
        is_foreign = contract.schema_version == FOREIGN_SCHEMA_VERSION
    else:
        contract, is_foreign = override, True
    is_fixed = is_foreign or contract.fixed_batch is not None
    check_against_graph(contract, onnx_file, allow_fixed_batch=is_fixed)
    return contract


def contract_from_metadata(text: str | bytes, onnx_file: OnnxFile) -> Contract:
    """Reads a metadata document in either form, completing the short one from the graph.

    The short form has input_w, input_h, split_ratio, and mean and std, either beside them or inside
    "normalization". It may state any other field that decides what the model computes; for those
    that it leaves out, the values are those that all published models share. Other keys are
    ignored.

    Raises MetadataError, and OnnxFileError if the short form comes with a graph of another kind.
    """
    document = load_document(text)
    if "schema_version" in document:
        return Contract.from_document(document)
    return Contract.from_document(_completed(document, onnx_file))


def read_metadata_file(path: str | PathLike[str], onnx_file: OnnxFile) -> Contract:
    """As contract_from_metadata, for a document in a file of its own; errors name that file.

    Raises FileError, MetadataError and OnnxFileError.
    """
    with open_file(path, "a JSON file with metadata") as file:
        text = file.read(MAX_DOCUMENT_BYTES + 1)
    with error_context(path):
        return contract_from_metadata(text, onnx_file)


def check_against_graph(
    contract: Contract, onnx_file: OnnxFile, *, allow_fixed_batch: bool = False
) -> None:
    """Checks that the graph takes and returns what the contract says.

    allow_fixed_batch: accept graphs of one batch size, as in files that others exported.

    Raises OnnxFileError for another interface (names, element types, ranks, free dimensions), and
    MetadataError listing every contradiction between contract and graph.
    """
    (_, height, width), (keypoints_x, bins_x), (keypoints_y, bins_y) = _check_interface(
        onnx_file, allow_fixed_batch=allow_fixed_batch
    )
    # Whole bins, as MMPose truncates them.
    width_bins = int(contract.input_w * contract.split_ratio)
    height_bins = int(contract.input_h * contract.split_ratio)
    comparisons = (
        ("input_w", contract.input_w, "input's width", width),
        ("input_h", contract.input_h, "input's height", height),
        ("num_keypoints", contract.num_keypoints, "simcc_x's keypoints", keypoints_x),
        ("num_keypoints", contract.num_keypoints, "simcc_y's keypoints", keypoints_y),
        ("input_w * split_ratio", width_bins, "simcc_x's bins", bins_x),
        ("input_h * split_ratio", height_bins, "simcc_y's bins", bins_y),
        ("opset", contract.opset, "opset", onnx_file.opset),
        *(
            ("derived_from.batch", contract.fixed_batch, f"{value.name}'s batch", batch)
            for value in (*onnx_file.inputs, *onnx_file.outputs)
            for batch in (value.shape or ())[:1]
            if contract.fixed_batch is not None
        ),
    )
    contradictions = [
        f"{field} = {stated} but {where} = {found}"
        for field, stated, where, found in comparisons
        if stated != found
    ]
    if contradictions:
        raise MetadataError(
            f"metadata contradicts the graph: {', '.join(contradictions)}; "
            "correct the metadata, or export the model again"
        )
    batch = (onnx_file.inputs[0].shape or (None,))[0]
    most = MAX_BATCH_VALUES // (3 * height * width + keypoints_x * (bins_x + bins_y))
    if isinstance(batch, int) and not 1 <= batch <= most:
        raise OnnxFileError(
            f"expected a free batch, or one of 1 to {most} crops, found {batch}; "
            "export the model again"
        )


def _check_interface(onnx_file: OnnxFile, *, allow_fixed_batch: bool) -> list[list[int]]:
    """The fixed sizes of input, simcc_x and simcc_y, the batch left out."""
    for kind, expected, found in (
        ("inputs", _INPUTS, onnx_file.inputs),
        ("outputs", _OUTPUTS, onnx_file.outputs),
    ):
        if len(found) != len(expected) or not all(
            _fits(value, pattern, allow_fixed_batch)
            for value, pattern in zip(found, expected, strict=True)
        ):
            raise OnnxFileError(
                f"expected the {kind} {_listed(expected)} with a free batch and fixed sizes, "
                f"found {_listed(found)}; give a CIGPose model that cigpose-tools exported"
            )
    return [
        [size for size in (value.shape or ())[1:] if isinstance(size, int)]
        for value in (*onnx_file.inputs, *onnx_file.outputs)
    ]


def _fits(value: ValueInfo, pattern: ValueInfo, allow_fixed_batch: bool) -> bool:
    """Whether `value` has the names and sizes of `pattern`, whose named sizes may be any number."""
    if (value.name, value.elem_type) != (pattern.name, pattern.elem_type):
        return False
    if value.shape is None or pattern.shape is None or len(value.shape) != len(pattern.shape):
        return False
    batch_fits = allow_fixed_batch or not isinstance(value.shape[0], int)
    return batch_fits and all(
        isinstance(size, int) and (isinstance(wanted, str) or size == wanted)
        for size, wanted in zip(value.shape[1:], pattern.shape[1:], strict=True)
    )


def _listed(values: tuple[ValueInfo, ...]) -> str:
    return ", ".join(map(str, values[:4])) + ", ..." * (len(values) > 4) or "none"


def _metadata_text(onnx_file: OnnxFile) -> str:
    texts = [value for key, value in onnx_file.metadata_props if key == METADATA_KEY]
    if not texts:
        raise MetadataError(
            f"expected metadata under the key '{METADATA_KEY}', found none; {_OVERRIDE_HINT}"
        )
    if len(texts) > 1:
        raise MetadataError(
            f"expected metadata under the key '{METADATA_KEY}' once, found it {len(texts)} times; "
            "export the model again"
        )
    return texts[0]


def _completed(document: dict[str, Any], onnx_file: OnnxFile) -> dict[str, Any]:
    """The full document that a short one stands for."""
    _, (count, _), _ = _check_interface(onnx_file, allow_fixed_batch=True)
    keypoints = _PUBLISHED_KEYPOINTS.get(count)
    if keypoints is None:
        raise MetadataError(
            "expected 14, 17 or 133 keypoints beside metadata without schema_version, found "
            f"{count} in the graph; {_OVERRIDE_HINT}, in full"
        )
    normalization = document.get("normalization", document.get("normalisation"))
    inner = normalization if isinstance(normalization, dict) else {}
    stated = {**{key: inner[key] for key in ("mean", "std") if key in inner}, **document}
    required = ("input_w", "input_h", "split_ratio", "mean", "std")
    missing = [field for field in required if field not in stated]
    if missing:
        raise MetadataError(
            f"expected at least {', '.join(required)} in the metadata, found no "
            f"{', '.join(missing)}; {_OVERRIDE_HINT}"
        )
    completed = {
        **_PUBLISHED,
        "dataset": keypoints.dataset,
        "num_keypoints": count,
        "keypoint_names": keypoints.names,
        "skeleton": keypoints.skeleton,
        "flip_pairs": keypoints.flip_pairs,
        "oks_sigmas": keypoints.oks_sigmas,
        "opset": onnx_file.opset,
        **dict.fromkeys(required),
    }
    relevant = {field: stated[field] for field in completed if field in stated}
    return {**completed, **relevant, **dict.fromkeys(ORIGIN_FIELDS)}
