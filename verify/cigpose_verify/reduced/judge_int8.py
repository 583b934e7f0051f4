"""The verdict on a file in int8: the float32 file beside it, quantised, and nothing else.

How accurate 8 bits are depends on weights and pictures: `cigpose-tools accuracy` measures it on
data. What can be said of any weights is that the float32 file computes what PyTorch computes, that
the graph is the same but for 8 bits, that each weight is the same to half a step, and that no value
that passes through 8 bits by itself is lost. Of the demonstration model, whose figures are known,
the outputs are judged, too.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from cigpose_runtime import Contract, OnnxFileError, contract_of, parse_onnx
from cigpose_runtime.estimation.session import CPU
from cigpose_verify.errors import RunError
from cigpose_verify.matrix import Matrix, Setting, run_all
from cigpose_verify.reduced.derivation import check_origin
from cigpose_verify.reduced.quantisation import (
    Unquantised,
    decibels,
    differences,
    energy,
    losses_of_activations,
    nodes_of_head,
)
from cigpose_verify.reduced.ranges import extreme_inputs
from cigpose_verify.reference_record import Outputs, ReferenceRecord
from cigpose_verify.report.document import Failure, Report
from cigpose_verify.rows import rank, run_cell
from cigpose_verify.stages.choice import find_intervention, with_choice
from cigpose_verify.stages.contract import interface_problems
from cigpose_verify.stages.structure import check_structure
from cigpose_verify.summary import report_on

LEAST_SNR_DB = 24.0
"""Of the outputs of the demonstration model at PyTorch's choice, the median over the photographs.
Measured: 27.1 (22.5 to 29.0), and 25.5 to 28.2 on drawn people, by their calibration."""

NOT_JUDGED = ("intervention", "replacement", "keypoints")
"""The stages that ask how close outputs are; parity is asked of the float32 file."""


def judge_int8(
    name: str,
    data: bytes,
    record: ReferenceRecord,
    parent: bytes,
    crops: bytes | None,
    matrix: Matrix,
    *,
    key: str = "",
    on_stage: Callable[[str], None] = lambda _stage: None,
) -> Report:
    """Judges the bytes of a file in int8 by those of the float32 file that it was made from.

    record: of that file; its cases are the inputs. crops: the list beside the file, None where
    there is none. Raises `CigposeError` when the bytes are no usable model at all.
    """
    started = time.monotonic()
    described, whole = parse_onnx(data), onnx.load_from_string(parent)
    parent_sha256 = hashlib.sha256(parent).hexdigest()
    contract = contract_of(described)
    failures = [Failure("structure", p) for p in check_structure(data, described)]
    problems = [
        *check_origin(contract, record.contract, "int8", parent_sha256),
        *_contract_problems(contract, whole, crops),
    ]
    failures += [Failure("contract", problem) for problem in problems]
    failures += [Failure("interface", p) for p in interface_problems(contract, record.contract)]
    notes = [_note(contract)]
    if not failures:
        model = onnx.load_from_string(data)
        try:
            on_stage("quantisation")
            failures += _failures_of_parent(parent, record)
            failures += _failures_of_graph(model, whole, record)
            if not failures:
                failures += _failures_of_runs(data, contract, record, matrix, on_stage)
            if contract.weights != "synthetic":
                snr = signal_to_noise(model, record)
                said = f"outputs on photographs at PyTorch's choice have an SNR of {snr:.1f} dB"
                notes.append(said)
                if contract.weights == "demo" and not snr >= LEAST_SNR_DB:
                    expected = f"expected at least {LEAST_SNR_DB:g} dB"
                    failures.append(Failure("precision", f"{said}; {expected}"))
        except (RunError, OnnxFileError) as error:
            failures.append(Failure("interface", str(error)))
    return report_on(
        name,
        data,
        failures,
        started=started,
        key=key,
        model=str(contract.artefact_name),
        weights=contract.weights,
        origin={"precision": contract.precision, "made from": parent_sha256},
        not_applicable=NOT_JUDGED,
        notes=tuple(notes),
    )


def _note(contract: Contract) -> str:
    if contract.weights == "synthetic":
        return "int8 of synthetic weights: nothing can be said about its accuracy"
    return "int8: how accurate it is, `cigpose-tools accuracy` measures on your data"


def _contract_problems(
    found: Contract, whole: onnx.ModelProto, crops: bytes | None
) -> Iterator[str]:
    """What a file says of its calibration and its head, and is not so."""
    said = found.derived_from
    if said is None or said.calibration is None:  # of another precision
        return
    listed = "none" if crops is None else hashlib.sha256(crops).hexdigest()[:12]
    if said.calibration.sha256[:12] != listed:
        yield (
            f"derived_from.calibration: expected {found.artefact_name}.calibration.json beside it, "
            f"with sha256 {said.calibration.sha256[:12]}, found {listed}; export it again"
        )
    head = tuple(nodes_of_head(whole.graph))
    if said.fp32_nodes != head:
        yield f"derived_from.fp32_nodes: expected the {len(head)} nodes of the head, found others"


def _failures_of_parent(parent: bytes, record: ReferenceRecord) -> Iterator[Failure]:
    setting = Setting(CPU, "all", 1)
    session, inputs = setting.open(parent), {"input": record.inputs}
    _, rows = run_cell(session, setting, 1, record, inputs, {})
    worst, _ = max(rows, key=lambda pair: rank(pair[0].excess))
    if not all(row.agrees for row, _ in rows):
        yield Failure(
            "parity",
            f"the float32 file beside it, on {worst.recorded.case.name}: max|difference| to "
            f"PyTorch is {worst.error:.2e}, {worst.excess:.1f} times what is allowed; export both "
            "again",
        )


def _failures_of_graph(
    model: onnx.ModelProto, whole: onnx.ModelProto, record: ReferenceRecord
) -> Iterator[Failure]:
    try:
        found = Unquantised.of(model.graph)
        problems = differences(found, model.graph, whole.graph)
    except (KeyError, IndexError, ValueError) as error:
        yield Failure("precision", f"expected quantisation by constants, found another: {error}")
        return
    if not problems:
        photographs = np.stack([r.case.input for r in record.cases if r.case.kind == "crop"])
        problems = list(losses_of_activations(found, whole, photographs))
    if problems:
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        yield Failure("precision", f"{problems[0]}{more}")


def _failures_of_runs(
    data: bytes,
    contract: Contract,
    record: ReferenceRecord,
    matrix: Matrix,
    on_stage: Callable[[str], None],
) -> Iterator[Failure]:
    """What is no finite number or, with one thread, depends on the others in a batch by a bit."""
    pictures = [*((r.case.name, r.case.input) for r in record.cases), *extreme_inputs(contract)]
    names, inputs = zip(*pictures, strict=True)
    for setting in matrix.settings():
        on_stage(str(setting))
        session = setting.open(data)
        alone: dict[int, Outputs] = {}
        for batch in matrix.batches:
            for ran in run_all(session, {"input": np.stack(inputs)}, batch):
                for index, case in enumerate(ran.cases):
                    outputs = ran.row(index)
                    where = f"{names[case]}, {setting}, batch {batch}"
                    if not all(np.isfinite(vector).all() for vector in outputs.vectors):
                        yield Failure("range", f"{where}: outputs are not finite")
                        return
                    off = max(outputs.errors(alone.setdefault(case, outputs)))
                    if setting.threads == 1 and off:
                        yield Failure(
                            "batch",
                            f"{where}: differs from the same case run by itself by {off:.2e}",
                        )
                        return


def signal_to_noise(model: onnx.ModelProto, record: ReferenceRecord) -> float:
    """Of the outputs against float64's at its choice: dB, the median over the photographs."""
    photographs = [r for r in record.cases if r.case.kind == "crop"]
    data = model.SerializeToString()
    inputs: dict[str, NDArray[Any]] = {"input": np.stack([r.case.input for r in photographs])}
    if record.sweep is not None and (chosen := find_intervention(model.graph)) is not None:
        data = with_choice(model, chosen)
        choices = np.array([r.own.choice for r in photographs], np.int64)
        inputs[chosen.choice] = chosen.written(choices, record.contract.num_keypoints)
    session = Setting(CPU, "all", 1).open(data)
    found = []
    for recorded, ran in zip(photographs, run_all(session, inputs, 1), strict=True):
        exact = recorded.own.double.vectors
        off = (a - b for a, b in zip(ran.row(0).vectors, exact, strict=True))
        found.append(decibels(sum(map(energy, exact)), sum(map(energy, off))))
    return float(np.median(found))


def own_answers(record: ReferenceRecord, data: bytes) -> ReferenceRecord:
    """The record with what a file answers itself in the place of PyTorch, for golden vectors.

    The floor of a case is how far onnxruntime's optimisation moves the answers: it merges steps of
    8 bits, which round otherwise then.
    """
    answers = [
        [ran.row(0) for ran in run_all(session, {"input": record.inputs}, 1)]
        for session in (Setting(CPU, level, 1).open(data) for level in ("all", "disabled"))
    ]
    cases = []
    for recorded, outputs, plain in zip(record.cases, *answers, strict=True):
        double = Outputs(*(vector.astype(np.float64) for vector in outputs.vectors))
        floor = max(outputs.errors(plain))
        own = replace(recorded.own, single=outputs, double=double, floor=floor)
        cases.append(replace(recorded, candidates=(own,)))
    return replace(record, cases=tuple(cases))
