"""The verdict on a file in int8: the float32 file beside it, quantised, and nothing else.

How accurate 8 bits are depends on weights and pictures: `cigpose-tools accuracy` measures it on
data. What a verdict can say of any weights is that the graph is its float32 parent's, which has a
verdict of its own, that each weight is the parent's to half a step, and that no value that passes
through 8 bits by itself is lost.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import onnx

from cigpose_runtime import Contract, contract_of, parse_onnx
from cigpose_runtime.arrays import Floats
from cigpose_verify.errors import RunError
from cigpose_verify.matrix import Matrix, Setting, run_all
from cigpose_verify.measures.stage_texts import STAGES
from cigpose_verify.reduced.int8 import LEAST_KEPT_DB, least_kept, take_apart
from cigpose_verify.reduced.ranges import extreme_inputs
from cigpose_verify.reference_record import Outputs, ReferenceRecord
from cigpose_verify.report.document import Failure, Report
from cigpose_verify.stages.contract import check_contract, interface_problems
from cigpose_verify.stages.structure import check_structure
from cigpose_verify.summary import environment


def judge_int8(
    name: str,
    data: bytes,
    record: ReferenceRecord,
    parent: bytes,
    calibration: bytes | None,
    matrix: Matrix,
    *,
    key: str = "",
    on_stage: Callable[[str], None] = lambda _stage: None,
) -> Report:
    """Judges the bytes of a file in int8 by those of the float32 file that it was made from.

    record: of that file; its cases are the inputs. calibration: the list beside the file, None
    where there is none. Raises `CigposeError` when the bytes are no usable model at all.
    """
    started = time.monotonic()
    described = parse_onnx(data)
    contract = contract_of(described)
    failures = [Failure("structure", p) for p in check_structure(data, described)]
    failures += [
        Failure("contract", p) for p in _contract_problems(contract, record, parent, calibration)
    ]
    if interface := interface_problems(contract, record.contract):
        failures += [Failure("interface", problem) for problem in interface]
    elif not failures:
        on_stage("quantisation")
        failures += _failures_of_steps(onnx.load_from_string(data), parent, record)
    if not failures:
        try:
            failures += _failures_of_runs(data, contract, record, matrix, on_stage)
        except RunError as error:
            failures.append(Failure("interface", str(error)))
    return Report(
        key=key,
        file=name,
        sha256=hashlib.sha256(data).hexdigest(),
        size=len(data),
        model=str(contract.artefact_name),
        weights=contract.weights,
        verdict="failed" if failures else "passed",
        failures=tuple(sorted(failures, key=lambda f: STAGES.index(f.stage))),
        origin={"precision": contract.precision, "made from": hashlib.sha256(parent).hexdigest()},
        environment=environment(),
        cases=(),
        cells=(),
        precision=None,
        intervention=None,
        keypoints=None,
        worst=None,
        divergence=None,
        not_applicable=("intervention", "parity", "replacement", "keypoints"),
        foreign=False,
        notes=(_note(contract),),
        seconds=round(time.monotonic() - started, 1),
    )


def own_answers(record: ReferenceRecord, data: bytes) -> ReferenceRecord:
    """The record with what the file itself answers in place of what PyTorch does."""
    session = Setting("CPUExecutionProvider", "all", 1).open(data)
    cases = []
    for ran in run_all(session, {"input": record.inputs}, 1):
        (case,), outputs = ran.cases, ran.row(0)
        recorded = record.cases[case]
        double = Outputs(*(vector.astype(np.float64) for vector in outputs.vectors))
        own = replace(recorded.own, single=outputs, double=double)
        cases.append(replace(recorded, candidates=(own,)))
    return replace(record, cases=tuple(cases))


def _note(contract: Contract) -> str:
    if contract.weights == "synthetic":
        return "int8 of synthetic weights: nothing can be said of its accuracy"
    return "int8: its accuracy is what `cigpose-tools accuracy` measures on your data"


def _contract_problems(
    found: Contract, record: ReferenceRecord, parent: bytes, calibration: bytes | None
) -> Iterator[str]:
    expected = replace(
        record.contract,
        schema_version=found.schema_version,
        precision=found.precision,
        derived_from=found.derived_from,
    )
    yield from check_contract(found, expected)
    said = found.derived_from
    assert said is not None and said.calibration is not None  # of a contract in int8
    if said.sha256 != (there := hashlib.sha256(parent).hexdigest()):
        yield (
            f"derived_from.sha256: expected that of {found.name}.onnx beside it, {there[:12]}, "
            f"found {said.sha256[:12]}; export it again"
        )
    listed = None if calibration is None else hashlib.sha256(calibration).hexdigest()
    if said.calibration.sha256 != listed:
        yield (
            f"derived_from.calibration: expected the list {found.artefact_name}.calibration.json "
            f"beside it, with sha256 {said.calibration.sha256[:12]}, found "
            f"{listed[:12] if listed else 'none'}; export it again"
        )


def _failures_of_steps(
    model: onnx.ModelProto, parent: bytes, record: ReferenceRecord
) -> Iterator[Failure]:
    whole = onnx.load_from_string(parent)
    apart = take_apart(model, whole)
    if apart.problems:
        more = f" ({len(apart.problems)} in all)" if len(apart.problems) > 1 else ""
        yield Failure("precision", f"{apart.problems[0]}{more}")
        return
    crops = np.stack([r.case.input for r in record.cases if r.case.kind == "crop"])
    kept, tensor = least_kept(apart, whole, crops)
    if not kept >= LEAST_KEPT_DB:
        yield Failure(
            "precision",
            f"{tensor}: in 8 bits it keeps {kept:.1f} dB of the float32 file's values on crops; "
            f"expected at least {LEAST_KEPT_DB:g}",
        )


def _failures_of_runs(
    data: bytes,
    contract: Contract,
    record: ReferenceRecord,
    matrix: Matrix,
    on_stage: Callable[[str], None],
) -> Iterator[Failure]:
    pictures = [*((r.case.name, r.case.input) for r in record.cases), *extreme_inputs(contract)]
    names, inputs = zip(*pictures, strict=True)
    for setting in matrix.settings():
        on_stage(str(setting))
        yield from _of_setting(setting, data, names, np.stack(inputs), record, matrix)


def _of_setting(
    setting: Setting,
    data: bytes,
    names: tuple[str, ...],
    inputs: Floats,
    record: ReferenceRecord,
    matrix: Matrix,
) -> Iterator[Failure]:
    """What is no finite number or, with one thread, depends on the others in a batch."""
    session = setting.open(data)
    alone: dict[int, Outputs] = {}
    for batch in sorted({1, *matrix.batches} if setting.threads == 1 else {max(matrix.batches)}):
        for ran in run_all(session, {"input": inputs}, batch):
            for index, case in enumerate(ran.cases):
                outputs = ran.row(index)
                if not all(np.isfinite(vector).all() for vector in outputs.vectors):
                    yield Failure("range", f"{names[case]}, {setting}: outputs are not finite")
                    return
                by_itself = alone.setdefault(case, outputs)
                if setting.threads == 1 and case < len(record.cases):
                    tolerances = record.cases[case].own.tolerances
                    differences = outputs.errors(by_itself)
                    if any(d > t for d, t in zip(differences, tolerances, strict=True)):
                        yield Failure(
                            "batch",
                            f"{names[case]}, {setting}, batch {batch}: differs from the same case "
                            f"run by itself by {max(differences):.2e}",
                        )
                        return
