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
from cigpose_verify.reduced.ranges import extreme_inputs, range_problem


@dataclass(frozen=True)
class ReducedFile:
    """What was written."""

    sha256: str
    nodes: int
    size: int


def reduce_file(
    parent: Path, precision: Reduced, target: Path, *, on_stage: Callable[[str], None]
) -> ReducedFile:
    """Writes the file `target`, which appears only once its bytes have passed all checks.

    parent: as exported, in float32. Raises `ExportError` for weights, or values on pictures that
    drive them far, that float16 cannot hold.
    """
    on_stage("convert")
    data = read_bytes(parent, "an ONNX file")
    with error_context(parent):
        contract = contract_of(parse_onnx(data))
        model = onnx.load_from_string(data)
        convert = to_float16 if precision == "fp16" else to_float16_weights
        reduced = convert(model)
    kept = kept_in_float32(model.graph) if precision == "fp16" else []
    contract = replace(
        contract,
        schema_version=REDUCED_SCHEMA_VERSION,
        precision=precision,
        derived_from=DerivedFrom(
            sha256=hashlib.sha256(data).hexdigest(),
            converter="cigpose-toolchain",
            converter_version=__version__,
            fp32_nodes=tuple(kept),
        ),
    )
    del data, model
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


def _problems(written: bytes, contract: Contract) -> list[str]:
    problems = read_back_problems(written, contract)
    if contract.precision == "fp16" and not problems:
        emulated = with_rounded_tensors(onnx.load_from_string(written))
        shape = 3, contract.input_h, contract.input_w
        noise = np.random.default_rng(0).standard_normal(shape, dtype=np.float32)
        if problem := range_problem(emulated, [("noise", noise), *extreme_inputs(contract)]):
            problems.append(problem)
    return problems
