"""A file made from the float32 one, in reduced precision or portable: stamped, and checked as
written."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx

from cigpose_export import __version__
from cigpose_export.errors import ExportError
from cigpose_export.graph.calibration import Batches, CalibrationSet
from cigpose_export.graph.int8 import to_int8
from cigpose_export.graph.portable import to_portable
from cigpose_export.graph.precision import kept_in_float32, to_float16, to_float16_weights
from cigpose_export.graph.stamp import read_back_problems, stamp
from cigpose_runtime import (
    REDUCED_SCHEMA_VERSION,
    Contract,
    DerivedFrom,
    contract_of,
    parse_onnx,
)
from cigpose_runtime.errors import error_context
from cigpose_runtime.files import appears_whole, read_bytes
from cigpose_runtime.model_file.contract import Precision
from cigpose_verify.reduced.emulate import with_rounded_tensors
from cigpose_verify.reduced.quantisation import calibration_path, nodes_of_head
from cigpose_verify.reduced.ranges import extreme_inputs, range_problem


@dataclass(frozen=True)
class DerivedFile:
    """What was written."""

    sha256: str
    nodes: int
    size: int


def derive_file(
    parent: Path,
    precision: Precision,
    target: Path,
    *,
    calibration: CalibrationSet | None = None,
    batch: int | None = None,
    on_stage: Callable[[str], None],
) -> DerivedFile:
    """Writes the file `target`, which appears only once its bytes have passed all checks.

    parent: as exported, in float32. calibration: for int8, and for it alone; the list of its crops
    is written beside the file. batch: of a portable file, which is in float32, and of it alone.
    Raises `ExportError` for weights, or values on pictures that drive them far, that float16 cannot
    hold, and for what has no portable form.
    """
    on_stage("convert")
    data = read_bytes(parent, "an ONNX file")
    with error_context(parent):
        contract = contract_of(parse_onnx(data))
        model = onnx.load_from_string(data)
        derived, kept = _converted(model, contract, precision, calibration, batch)
    contract = replace(
        contract,
        schema_version=REDUCED_SCHEMA_VERSION,
        precision=precision,
        derived_from=DerivedFrom(
            sha256=hashlib.sha256(data).hexdigest(),
            converter="cigpose-toolchain",
            converter_version=__version__,
            fp32_nodes=tuple(kept),
            calibration=calibration.named() if calibration else None,
            batch=batch,
        ),
    )
    del data, model
    if calibration:
        with appears_whole(calibration_path(target)) as file:
            file.write(calibration.to_json())
    with appears_whole(target) as file:
        file.write(stamp(derived, contract))
        del derived
        on_stage("check")
        file.seek(0)
        written = file.read()
        if problems := _problems(written, contract):
            raise ExportError(
                f"{contract.artefact_name}: {'; '.join(problems)}; nothing was written, use the "
                "float32 file"
            )
    described = parse_onnx(written)
    return DerivedFile(hashlib.sha256(written).hexdigest(), described.node_count, described.size)


def _converted(
    model: onnx.ModelProto,
    contract: Contract,
    precision: Precision,
    calibration: CalibrationSet | None,
    batch: int | None,
) -> tuple[onnx.ModelProto, list[str]]:
    """The graph in another form, and the nodes that a reduced precision leaves in float32."""
    if batch is not None:
        return to_portable(model, batch), []
    if precision == "fp16":
        return to_float16(model), kept_in_float32(model.graph)
    if precision == "w16":
        return to_float16_weights(model), []
    assert calibration is not None
    return to_int8(model, Batches(calibration, contract)), nodes_of_head(model.graph)


def _problems(written: bytes, contract: Contract) -> list[str]:
    problems = read_back_problems(written, contract)
    if contract.precision == "fp16" and not problems:
        emulated = with_rounded_tensors(onnx.load_from_string(written))
        shape = 3, contract.input_h, contract.input_w
        noise = np.random.default_rng(0).standard_normal(shape, dtype=np.float32)
        if problem := range_problem(emulated, [("noise", noise), *extreme_inputs(contract)]):
            problems.append(problem)
    return problems
