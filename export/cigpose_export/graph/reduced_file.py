"""A file in reduced precision from one in float32: converted, stamped, and checked as written."""

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
from cigpose_runtime.model_file.contract import Reduced
from cigpose_verify.reduced.emulate import with_rounded_tensors
from cigpose_verify.reduced.quantisation import calibration_path, nodes_of_head
from cigpose_verify.reduced.ranges import extreme_inputs, range_problem


@dataclass(frozen=True)
class ReducedFile:
    """What was written."""

    sha256: str
    nodes: int
    size: int


def reduce_file(
    parent: Path,
    precision: Reduced,
    target: Path,
    *,
    calibration: CalibrationSet | None = None,
    on_stage: Callable[[str], None],
) -> ReducedFile:
    """Writes the file `target`, which appears only once its bytes have passed all checks.

    parent: as exported, in float32. calibration: for int8, and for it alone; the list of its crops
    is written beside the file. Raises `ExportError` for weights, or values on pictures that drive
    them far, that float16 cannot hold.
    """
    on_stage("convert")
    data = read_bytes(parent, "an ONNX file")
    with error_context(parent):
        contract = contract_of(parse_onnx(data))
        model = onnx.load_from_string(data)
        reduced, kept = _converted(model, contract, precision, calibration)
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
        ),
    )
    del data, model
    if calibration:
        with appears_whole(calibration_path(target)) as file:
            file.write(calibration.to_json())
    with appears_whole(target) as file:
        file.write(stamp(reduced, contract))
        del reduced
        on_stage("check")
        file.seek(0)
        written = file.read()
        if problems := _problems(written, contract):
            raise ExportError(
                f"{contract.artefact_name}: {'; '.join(problems)}; nothing was written, export it "
                "in fp32"
            )
    described = parse_onnx(written)
    return ReducedFile(hashlib.sha256(written).hexdigest(), described.node_count, described.size)


def _converted(
    model: onnx.ModelProto,
    contract: Contract,
    precision: Reduced,
    calibration: CalibrationSet | None,
) -> tuple[onnx.ModelProto, list[str]]:
    """The graph in reduced precision, and its nodes that are not."""
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
