"""Packs a file: reads, assembles, checks the bytes that were written, and names them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import onnx

from cigpose_export.errors import ExportError, UsageError
from cigpose_export.graph.frame.assemble import FixedSize, assemble
from cigpose_runtime import Contract, OnnxFileError, YoloxDetector, contract_of, parse_onnx
from cigpose_runtime.errors import error_context
from cigpose_runtime.files import appears_whole, read_bytes
from cigpose_runtime.model_file.frame_contract import FrameContract, PackedDetector, is_packed
from cigpose_verify.packed.judge import Campaign, judge_packed

MAX_PEOPLE = 32
"""Of those that a detector finds; they run at once, in 12 MB each for the smallest model."""


@dataclass(frozen=True)
class DetectorOptions:
    """A YOLOX file to pack, and its thresholds as in YoloxDetector."""

    path: Path
    score: float = 0.35
    nms: float = 0.45
    max_people: int = MAX_PEOPLE


def pack_file(
    path: Path,
    target: Path | None = None,
    *,
    flip: bool = False,
    color_order: Literal["rgb", "bgr"] = "rgb",
    fixed: FixedSize | None = None,
    detector: DetectorOptions | None = None,
) -> Path:
    """Packs a CIGPose model; returns the file, NAME_frame.onnx or NAME_frame_det.onnx beside it.

    color_order: of the frames that the file takes. The file appears once its bytes have passed
    ONNX's checker and answered as the runtime does.
    Raises UsageError, and FileError, OnnxFileError or MetadataError for files that cannot be
    packed; ExportError for what does not pass.
    """
    if fixed is not None and detector is not None:
        raise UsageError(
            "--static: expected no --detector beside it, as people are found in any number; "
            "pack without one of them"
        )
    data = read_bytes(path, "an ONNX file")
    with error_context(path):
        model_contract = _contract_of_model(data)
    kind = "frame" if detector is None else "frame_det"
    target = target or path.with_name(f"{path.stem}_{kind}.onnx")
    if target.absolute() in (path.absolute(), detector and detector.path.absolute()):
        raise UsageError(f"--out {target}: expected another file than what is packed; rename it")
    opened, described = None, None
    if detector is not None:
        opened, described = _open(detector)
    contract = FrameContract(
        name=f"{model_contract.artefact_name or path.stem}_{kind}",
        frame_color_order=color_order,
        flip_test=flip,
        packed_sha256=hashlib.sha256(data).hexdigest(),
        detector=described,
        model=model_contract,
    )
    packed = assemble(onnx.load_from_string(data), contract, fixed=fixed, detector=opened)
    with appears_whole(target) as file:
        file.write(packed)
        file.seek(0)
        yolox_path = None if detector is None else detector.path
        report = judge_packed(target.name, file.read(), path, yolox_path, Campaign.brief())
        if not report.passed:
            problems = "; ".join(failure.message for failure in report.failures)
            raise ExportError(f"{target.name}: {problems}; nothing was written")
    return target


def _contract_of_model(data: bytes) -> Contract:
    described = parse_onnx(data)
    if is_packed(described):
        raise OnnxFileError(
            "expected a CIGPose model, found one that is packed already; give the model it was "
            "packed from"
        )
    contract = contract_of(described)
    batch = (described.inputs[0].shape or (None,))[0]
    if isinstance(batch, int):
        raise OnnxFileError(
            f"expected a model with a free batch, found one for {batch} at a time; export it again"
        )
    return contract


def _open(
    options: DetectorOptions,
) -> tuple[tuple[YoloxDetector, onnx.ModelProto], PackedDetector]:
    data = read_bytes(options.path, "an ONNX file")
    yolox = YoloxDetector(options.path, score_threshold=options.score, nms_threshold=options.nms)
    width, height = yolox.input_wh
    described = PackedDetector(
        sha256=hashlib.sha256(data).hexdigest(),
        input_w=width,
        input_h=height,
        class_id=yolox.class_id,
        score_threshold=options.score,
        nms_threshold=options.nms,
        max_people=options.max_people,
    )
    return (yolox, onnx.load_from_string(data)), described
