"""The verdict on a file in reduced precision.

Float16 rounds differently on each machine, so that there is nothing to be bit-exact with. What has
to hold is that a file loses no more than its precision explains, measured in multiples of what
float32 loses; and that it chooses, and says, the same wherever the float64 reference is clear.

A float16 file is judged by its emulation, which rounds every tensor; its own bytes, which
onnxruntime's CPU hardly rounds, have to hold, too. Outputs are compared with PyTorch at the same
choice: the graphs that are run here take the index as an input. What they would choose themselves
is examined apart.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from cigpose_runtime import Contract, OnnxFileError, contract_of, parse_onnx
from cigpose_runtime.arrays import Floats
from cigpose_verify.errors import RunError
from cigpose_verify.matrix import Matrix, Setting, run_all
from cigpose_verify.measures.stage_texts import OF_INTERVENTION
from cigpose_verify.measures.tolerances import REDUCED_FACTOR, reduced_limit
from cigpose_verify.reduced.derivation import check_origin, check_types
from cigpose_verify.reduced.emulate import with_rounded_tensors
from cigpose_verify.reduced.loss import loss, misread
from cigpose_verify.reduced.ranges import extreme_inputs, range_problem
from cigpose_verify.reference_record import CHECKPOINT_NOTE, Outputs, ReferenceRecord
from cigpose_verify.report.document import Cell, Failure, Report, figure
from cigpose_verify.report.worst import picture_worst
from cigpose_verify.rows import Row, rank, run_cell
from cigpose_verify.stages.choice import find_intervention, with_choice
from cigpose_verify.stages.contract import interface_problems
from cigpose_verify.stages.intervention import Examined, examine
from cigpose_verify.stages.structure import check_structure
from cigpose_verify.summary import (
    cases_of,
    keypoints_of,
    notes_of,
    precision_of,
    report_on,
    worst_crop,
)

EMULATED = "emulated float16"
"""In the place of an execution provider."""


def judge_reduced(
    name: str,
    data: bytes,
    record: ReferenceRecord,
    parent_sha256: str,
    matrix: Matrix,
    *,
    key: str = "",
    on_stage: Callable[[str], None] = lambda _stage: None,
) -> Report:
    """Judges the bytes of a file in reduced precision by what PyTorch answered.

    name: of the file. parent_sha256: of the float32 file beside it. key: kept in the report.
    Raises `CigposeError` when the bytes are no usable model at all.
    """
    started = time.monotonic()
    described = parse_onnx(data)
    contract = contract_of(described)
    own = replace(record, cases=tuple(replace(r, candidates=(r.own,)) for r in record.cases))
    model = onnx.load_from_string(data)
    failures = [Failure("structure", p) for p in check_structure(data, described)]
    trial = _Trial(contract, own, matrix)
    if not failures:  # the types of a malformed graph cannot be told
        problems = _contract_problems(model, contract, record, parent_sha256)
        failures += [Failure("contract", problem) for problem in problems]
        if interface := interface_problems(contract, record.contract):
            failures += [Failure("interface", problem) for problem in interface]
        else:
            trial.judge(data, model, on_stage)
            failures += trial.failures
    rows = [row for row, _ in trial.rows]
    worst = worst_crop(trial.rows)
    return report_on(
        name,
        data,
        failures,
        started=started,
        key=key,
        model=str(contract.artefact_name),
        weights=contract.weights,
        origin={
            **{key: value for key, value in record.origin.items() if key != CHECKPOINT_NOTE},
            "precision": contract.precision,
            "made from": parent_sha256,
        },
        cases=tuple(cases_of(rows, own, reduced_limit)),
        cells=tuple(trial.cells),
        precision=precision_of(rows, reduced_limit) if rows else None,
        intervention=trial.examined.result(forced=0) if trial.examined else None,
        keypoints=keypoints_of(rows, own, reduced_limit) if rows else None,
        worst=picture_worst(*worst, record.contract) if worst else None,
        not_applicable=OF_INTERVENTION if record.sweep is None else (),
        notes=tuple(notes_of(own)),
    )


def _in_reduced_precision(row: Row, outputs: Outputs) -> Row:
    """The row by what is asked of such files."""
    share = row.error64 / reduced_limit(row.candidate.floor)
    return replace(row, share=share, misread=misread(outputs, row.recorded))


def _contract_problems(
    model: onnx.ModelProto, found: Contract, record: ReferenceRecord, parent_sha256: str
) -> Iterator[str]:
    yield from check_origin(found, record.contract, found.precision, parent_sha256)
    yield from check_types(model, found)


@dataclass
class _Trial:
    """One file on all cases, whose record has no other choice than the reference's own."""

    contract: Contract
    record: ReferenceRecord
    matrix: Matrix
    failures: list[Failure] = field(default_factory=list)
    rows: list[tuple[Row, Outputs]] = field(default_factory=list)
    cells: list[Cell] = field(default_factory=list)
    losses: list[tuple[float, Cell]] = field(default_factory=list)
    examined: Examined | None = None

    def judge(
        self,
        data: bytes,
        model: onnx.ModelProto,
        on_stage: Callable[[str], None],
    ) -> None:
        """Runs the file, before it the emulation of one that rounds more than its weights."""
        on_stage("range")
        try:
            self._require_finite(data)
            if self.contract.precision == "fp16":
                emulated = with_rounded_tensors(model)
                if problem := range_problem(emulated, self._pictures()):
                    self.failures.append(Failure("range", problem))
                self._judge_graph(emulated.model, self._brief, on_stage, is_emulation=True)
            self._judge_graph(model, self.matrix, on_stage, is_emulation=False)
        except (RunError, OnnxFileError) as error:
            self.failures.append(Failure("interface", str(error)))
        if self.rows:
            self.failures += self._failures_of_rows()

    @property
    def _brief(self) -> Matrix:
        """Settings for an emulation, which says nothing about an engine."""
        return Matrix(
            levels=self.matrix.levels[:1],
            threads=(1,),
            batches=(1, max(self.matrix.batches)),
        )

    def _is_batch_exact(self, setting: Setting) -> bool:
        """Whether a row of a batch has to equal the same row run alone.

        Several threads share out the sums of a batch otherwise than those of one picture, which
        moves their last bits, and so which way some values round, by a step of float16. With one
        thread no bit differs, emulated or not. docs/precision.md has the figures.
        """
        return self.contract.precision == "w16" or setting.threads == 1

    def _pictures(self) -> Iterator[tuple[str, Floats]]:
        yield from ((r.case.name, r.case.input) for r in self.record.cases)
        yield from extreme_inputs(self.contract)

    def _require_finite(self, data: bytes) -> None:
        """Runs the very bytes; the graphs that are compared with PyTorch have another input."""
        names, inputs = zip(*self._pictures(), strict=True)
        for setting in self.matrix.settings():
            session = setting.open(data)
            for ran in run_all(session, {"input": np.stack(inputs)}, max(self.matrix.batches)):
                for index, case in enumerate(ran.cases):
                    if not all(np.isfinite(vector).all() for vector in ran.row(index).vectors):
                        message = f"{names[case]}, {setting}: outputs are not finite"
                        self.failures.append(Failure("range", message))
                        return

    def _judge_graph(
        self,
        model: onnx.ModelProto,
        matrix: Matrix,
        on_stage: Callable[[str], None],
        *,
        is_emulation: bool,
    ) -> None:
        data = model.SerializeToString()
        inputs: dict[str, NDArray[Any]] = {"input": self.record.inputs}
        if self.record.sweep is not None:
            intervention = find_intervention(model.graph)
            if intervention is None:
                message = "expected one choice that decides what is replaced, found none"
                self.failures.append(Failure("intervention", message))
                return
            if self.examined is None:
                on_stage("intervention")
                self.examined = examine(model, intervention, self.record, matrix, reduced_limit)
                self.failures += self.examined.failures
            data = with_choice(model, intervention)
            choices = np.array([r.own.choice for r in self.record.cases], np.int64)
            keypoints = self.contract.num_keypoints
            inputs[intervention.choice] = intervention.written(choices, keypoints)
        for setting in matrix.settings():
            on_stage(str(setting))
            session = setting.open(data)
            singles: dict[int, tuple[Row, Outputs]] = {}
            for batch in matrix.batches:
                cell, new = run_cell(session, setting, batch, self.record, inputs, singles)
                lost = loss([(outputs, row.candidate) for row, outputs in new])
                provider = EMULATED if is_emulation else setting.provider
                cell = replace(cell, provider=provider, excess=figure(lost / REDUCED_FACTOR))
                self.cells.append(cell)
                self.losses.append((lost, cell))
                if not self._is_batch_exact(setting):
                    new = [(replace(row, against_single=0.0), outputs) for row, outputs in new]
                self.rows += [
                    (_in_reduced_precision(row, outputs), outputs) for row, outputs in new
                ]

    def _failures_of_rows(self) -> Iterator[Failure]:
        """What does not hold in the cells, one failure a stage, each with its worst example."""
        lost, cell = max(self.losses, key=lambda pair: rank(pair[0]))
        if not lost <= REDUCED_FACTOR:
            yield Failure(
                "precision",
                f"{cell.provider}, {cell.level}, batch {cell.batch}: the rms error against float64 "
                f"is {lost:,.0f} times PyTorch's float32's; expected at most {REDUCED_FACTOR:,.0f}",
            )
        worst, _ = max(self.rows, key=lambda pair: rank(pair[0].against_single))
        if not worst.against_single <= 1:
            yield Failure(
                "batch",
                f"{worst.recorded.case.name}, {worst.setting}: differs from the same case run by "
                f"itself by {worst.against_single:.1f} times what is allowed",
            )
        worst, _ = max(self.rows, key=lambda pair: pair[0].misread)
        if worst.misread:
            yield Failure(
                "keypoints",
                f"{worst.recorded.case.name}, {worst.setting}: {worst.misread} keypoints are "
                "elsewhere, of those that float64 is clear about",
            )
        elif not any(recorded.is_sound for recorded in self.record.cases):
            yield Failure(
                "keypoints",
                "PyTorch's own float32 error is beyond the parity gate on all cases; expected one "
                "where it is within: agreement says nothing",
            )
