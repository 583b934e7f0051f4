"""The verdict on one file: every stage in order, all that does not hold collected."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import onnx

from cigpose_runtime import Contract, OnnxFileError, contract_of, parse_onnx
from cigpose_runtime.model_file.onnx_graph import OnnxFile
from cigpose_verify.errors import RunError
from cigpose_verify.matrix import Matrix
from cigpose_verify.measures.keypoints import CONFIDENT_SCORE, MOST_NEAR_TIES
from cigpose_verify.measures.stage_texts import OF_INTERVENTION, most_near_ties
from cigpose_verify.measures.tolerances import MOST_ILL_CONDITIONED, WORST_CONDITION
from cigpose_verify.reduced.derivation import check_portable
from cigpose_verify.reference_record import CHECKPOINT_NOTE, Outputs, ReferenceRecord
from cigpose_verify.report.document import Cell, Failure, Report
from cigpose_verify.report.worst import picture_worst
from cigpose_verify.rows import Row, rank, run_cell
from cigpose_verify.stages.choice import find_intervention
from cigpose_verify.stages.contract import check_contract, interface_problems
from cigpose_verify.stages.foreign import fixed_batch, read_statements
from cigpose_verify.stages.intervention import Examined, examine, plausible
from cigpose_verify.stages.structure import check_structure
from cigpose_verify.summary import (
    cases_of,
    ill_conditioned,
    keypoints_of,
    least_precise,
    near_ties,
    notes_of,
    precision_of,
    report_on,
    worst_crop,
)


def judge(
    name: str,
    data: bytes,
    record: ReferenceRecord,
    matrix: Matrix,
    *,
    key: str = "",
    foreign: bool = False,
    metadata: bytes | None = None,
    parent: bytes | None = None,
    on_stage: Callable[[str], None] = lambda _stage: None,
) -> Report:
    """Judges the bytes of an artefact by what PyTorch answered.

    name: of the file. key: kept in the report, to tell later whether the verdict still stands.
    foreign: somebody else exported it; what is missing in it or built otherwise is noted and no
    failure. metadata: a document that stands in for the metadata of such a file. parent: the bytes
    of the file beside a portable one, of which that one was made.
    Raises `CigposeError` when the bytes are no usable model at all.
    """
    started = time.monotonic()
    described = parse_onnx(data)
    contract, failures, notes = _read(data, described, record, foreign, metadata, parent)
    if batch := fixed_batch(described):
        matrix = replace(matrix, batches=(batch,))
    rows: list[Row] = []
    cells: list[Cell] = []
    worst: tuple[Row, Outputs] | None = None
    examined: Examined | None = None
    if interface := interface_problems(contract, record.contract):
        failures += [Failure("interface", problem) for problem in interface]
    else:
        model = onnx.load_from_string(data)
        intervention = find_intervention(model.graph)
        if record.sweep is None:
            pass  # see `not_applicable` below
        elif intervention is None:
            failures.append(
                Failure(
                    "intervention", "expected one choice that decides what is replaced, found none"
                )
            )
        else:
            on_stage("intervention")
            try:
                examined = examine(model, intervention, record, matrix)
            except (RunError, OnnxFileError) as error:
                failures.append(Failure("intervention", f"it cannot be examined: {error}"))
        inputs = {"input": record.inputs}
        for setting in matrix.settings():
            on_stage(str(setting))
            session = setting.open(data)
            singles: dict[int, tuple[Row, Outputs]] = {}
            for batch in matrix.batches:
                try:
                    cell, new = run_cell(session, setting, batch, record, inputs, singles)
                except RunError as error:
                    failures.append(Failure("interface", f"{setting}, batch {batch}: {error}"))
                    continue
                cells.append(cell)
                rows += [row for row, _ in new]
                worst = worst_crop([*([worst] if worst else []), *new])
        if foreign:  # it may be built in another way: its outputs tell
            notes += [f.message for f in failures if f.stage == "intervention"]
            failures = [f for f in failures if f.stage != "intervention"]
        failures += examined.failures if examined else []
        if rows:
            failures += _failures_of(rows, record, examined)
    return report_on(
        name,
        data,
        failures,
        started=started,
        key=key,
        model=str(contract.artefact_name if parent else record.contract.name),
        weights=contract.weights,
        origin={
            **{key: value for key, value in record.origin.items() if key != CHECKPOINT_NOTE},
            **({"made from": hashlib.sha256(parent).hexdigest()} if parent else {}),
        },
        cases=tuple(cases_of(rows, record)),
        cells=tuple(cells),
        precision=precision_of(rows) if rows else None,
        intervention=examined.result(_forced(rows)) if examined else None,
        keypoints=keypoints_of(rows, record) if rows else None,
        worst=picture_worst(*worst, record.contract) if worst else None,
        not_applicable=OF_INTERVENTION if record.sweep is None else (),
        foreign=foreign,
        notes=tuple(notes),
    )


def _read(
    data: bytes,
    described: OnnxFile,
    record: ReferenceRecord,
    foreign: bool,
    metadata: bytes | None,
    parent: bytes | None,
) -> tuple[Contract, list[Failure], list[str]]:
    """The contract that a file is run by, what its form and its contract fail at, and notes."""
    notes = notes_of(record)
    structure = check_structure(data, described)
    if foreign:
        said = read_statements(described, record.contract, metadata)
        wrong = [Failure("contract", problem) for problem in said.problems]
        return said.contract, wrong, [*notes, *said.notes, *structure]
    contract = contract_of(described)
    failures = [Failure("structure", problem) for problem in structure]
    if parent is None:
        problems = check_contract(contract, record.contract)
    else:
        problems = check_portable(data, contract, record.contract, parent)
        notes.append(f"batches of {fixed_batch(described)} alone were tried: it takes no other")
    failures += [Failure("contract", problem) for problem in problems]
    return contract, failures, notes


def _failures_of(
    rows: Sequence[Row], record: ReferenceRecord, examined: Examined | None
) -> Iterator[Failure]:
    """What does not hold in the matrix, one failure a stage, each with its worst example."""
    for row in rows:
        choice, scores = row.candidate.choice, row.recorded.scores
        slack = examined.slack[row.recorded.case.name] if examined else None
        if slack is not None and not plausible(choice, scores, slack):
            yield Failure(
                "intervention",
                f"{row.recorded.case.name}, {row.setting}: expected keypoints "
                f"{row.recorded.own.choice} to be replaced, found {choice}, whose scores are too "
                f"low for that by more than {slack:.2e}",
            )
            break
    worst = max(rows, key=lambda row: rank(row.excess))
    if beyond := sum(not row.agrees for row in rows):
        yield Failure(
            "parity",
            f"{worst.recorded.case.name}, {worst.setting}: max|difference| to PyTorch is "
            f"{worst.error:.2e}, {worst.excess:.1f} times what is allowed, at cosine "
            f"{worst.cosine:.8f} ({beyond} of {len(rows)} outputs out of tolerance)",
        )
    worst = least_precise(rows)
    if not worst.share <= 1:
        yield Failure(
            "precision",
            f"{worst.recorded.case.name}, {worst.setting}: error against float64 is "
            f"{worst.error64:.2e}, PyTorch's own is up to {worst.candidate.floor:.2e}; expected at "
            f"most {worst.candidate.limit:.2e}",
        )
    ill, count = ill_conditioned(record), len(record.cases)
    if len(ill) > MOST_ILL_CONDITIONED * count:
        yield Failure(
            "precision",
            f"on {len(ill)} of {count} cases PyTorch's own float32 evaluations are off by more "
            f"than {WORST_CONDITION:.1%} of the outputs against float64, on {ill[0].case.name} by "
            f"{ill[0].own.condition:.2%}; expected at most one in {1 / MOST_ILL_CONDITIONED:.0f} "
            "such cases: agreement says nothing",
        )
    worst = max(rows, key=lambda row: rank(row.against_single))
    if not worst.against_single <= 1:
        yield Failure(
            "batch",
            f"{worst.recorded.case.name}, {worst.setting}: differs from the same case run by "
            f"itself by {worst.against_single:.1f} times what is allowed",
        )
    if count := sum(row.misread for row in rows):
        worst = max(rows, key=lambda row: row.misread)
        yield Failure(
            "keypoints",
            f"{worst.recorded.case.name}, {worst.setting}: {worst.misread} of "
            f"{record.contract.num_keypoints} keypoints are elsewhere though PyTorch is clear "
            f"about them ({count} over the whole matrix)",
        )
    confident, near = near_ties(rows, record)
    if near > max(1, MOST_NEAR_TIES * confident):
        yield Failure(
            "keypoints",
            f"{near} of {confident} confident keypoints on sound crops are within rounding of "
            f"another bin, expected at most {most_near_ties()}, or one: agreement says nothing",
        )
    crops = [r for r in record.cases if r.case.kind == "crop" and not r.is_ill_conditioned]
    if not any(recorded.own.clarity.confident.any() for recorded in crops):
        yield Failure(
            "keypoints",
            f"expected a keypoint with a score of {CONFIDENT_SCORE} on a well-conditioned crop, "
            "found none: agreement says nothing",
        )


def _forced(rows: Sequence[Row]) -> int:
    """How many outputs followed a choice that is not the reference's own."""
    return sum(row.candidate is not row.recorded.own for row in rows)
