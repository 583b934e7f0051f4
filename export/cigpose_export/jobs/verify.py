"""Verifies files: each whose verdict no longer stands, judged anew in processes of their own.

In the folder of the files: parity/NAME.json is the verdict on NAME.onnx, golden/NAME/ are vectors
to replay, .verify/ keeps what PyTorch answered, named by a hash of all that it follows from. A
verdict stands while the file has the same sha256 and nothing that it follows from has changed; one
that came with the file does not (see own_results).
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from cigpose_export.errors import VerifyError
from cigpose_export.jobs import worker
from cigpose_export.jobs.batch import Job, OnStage, Outcome, State, Work, run_batch
from cigpose_export.jobs.own_results import (
    golden_folder,
    has_verdict,
    is_own,
    remember,
    report_path,
)
from cigpose_export.jobs.reference_options import ReferenceOptions
from cigpose_export.jobs.staleness import code_hash, hash_of, model_hash
from cigpose_export.jobs.verify_packed import VerifyPackedJob
from cigpose_export.project import Model, Project
from cigpose_export.variants import WeightsKind
from cigpose_runtime import CigposeError, FileError, read_contract, read_onnx_file
from cigpose_runtime.errors import error_context
from cigpose_runtime.estimation.session import CPU, require_providers
from cigpose_runtime.files import file_sha256, locked
from cigpose_runtime.machine import cores
from cigpose_runtime.model_file.frame_contract import is_packed
from cigpose_verify.reduced.quantisation import calibration_path
from cigpose_verify.report.document import Report
from cigpose_verify.report.folder import write_pages

NUMERIC_STAGES = frozenset({"intervention", "parity", "precision", "replacement", "batch"})
"""Where these are the first to fail, some tensor of the graph is not PyTorch's."""

WITHIN_REACH = 5
"""An error of so many times what is allowed may be rounding that few samples of it missed.

Of 60 clean files with uncalibrated weights (`tolerances.PRECISION_FACTOR`) the largest after 4
evaluations is 1.4 times what is allowed in outputs, 2.6 times in confound scores.
"""


def may_be_rounding(report: Report) -> bool:
    """Whether a file fails by so little that a thorough record may explain it."""
    if report.stage not in NUMERIC_STAGES or report.precision is None:
        return False
    chosen = report.intervention
    figures = [(report.precision.error_float64, report.precision.limit)]
    if chosen is not None:
        figures += [
            (chosen.score_error, chosen.score_limit),
            (chosen.sweep_error, chosen.sweep_limit),
        ]
    return all(
        error is not None and limit is not None and error <= WITHIN_REACH * limit
        for error, limit in figures
    )


def verify_files(
    project: Project,
    files: Sequence[Path],
    *,
    options: ReferenceOptions | None = None,
    providers: Sequence[str] = (CPU,),
    detector: Path | None = None,
    jobs: int | None = None,
    on_stage: OnStage = lambda _name, _stage: None,
) -> list[Outcome[Report]]:
    """Verifies what is out of date, and writes the pages of each folder.

    options: what the files are compared with, None for what they name themselves.
    providers: of onnxruntime, by its names. detector: the one inside packed files.
    jobs: files at once. Raises UsageError and ProviderError for options that cannot be met.
    """
    require_providers(providers)
    options = options or ReferenceOptions()
    # The largest first: none of them is left to run alone at the end.
    ordered = sorted(files, key=lambda path: -path.stat().st_size if path.is_file() else 0)
    work: list[Job[Report]] = [
        VerifyPackedJob(project, path, options, detector)
        if _is_packed(path)
        else VerifyJob(project, path, options, tuple(providers))
        for path in ordered
    ]
    outcomes = run_batch(work, at_once=jobs, on_stage=on_stage)
    by_path = {outcome.path: outcome for outcome in outcomes}
    for folder in dict.fromkeys(path.parent for path in files):
        write_pages(folder, is_own)
    return [by_path[path] for path in files]


def _is_packed(path: Path) -> bool:
    """Whether a file says so; what is no model at all is left to its job to refuse."""
    try:
        return is_packed(read_onnx_file(path))
    except CigposeError:
        return False


@dataclass(frozen=True)
class VerifyJob:
    """The verification of one file."""

    project: Project
    path: Path
    options: ReferenceOptions
    providers: tuple[str, ...]

    @property
    def name(self) -> str:
        return self.path.stem

    @property
    def _report_path(self) -> Path:
        return report_path(self.path)

    @property
    def _golden(self) -> Path:
        return golden_folder(self.path)

    def standing(self) -> Report | None:
        """The verdict of an earlier run, where the file passed and nothing has changed since."""
        with contextlib.suppress(FileError):
            report = Report.read(self._report_path)
            unchanged = (report.key, report.sha256) == (self._key, file_sha256(self.path))
            if unchanged and report.passed and has_verdict(self.path):
                return report
        return None

    def run(self, work: Work) -> Outcome[Report]:
        """Judges the file; where it fails by its numbers, finds the node that it starts at."""
        report = self._judge(work, self._record(work))
        if not self._is_reduced and may_be_rounding(report):
            report = self._judge(work, self._record(work, thorough=True))
        remember(self._report_path)
        if report.passed:
            remember(self._golden)
            return Outcome(self.name, State.PASSED, self.path, report)
        if report.stage in NUMERIC_STAGES and not report.foreign and self._parent is None:
            report = self._locate(work, report)
        return Outcome(self.name, State.FAILED, self.path, report, self._as_error(report))

    def _judge(self, work: Work, record: Path) -> Report:
        arguments: dict[str, Any] = {
            "file": str(self.path),
            "record": str(record),
            "report": str(self._report_path),
            "golden": str(self._golden),
            "providers": self.providers,
            "key": self._key,
        }
        arguments["parent"] = str(self._parent) if self._parent else None
        if self._is_reduced:
            work.run("judge_reduced", arguments, self.options.environment)
        else:
            arguments["foreign"] = self.options.model is not None
            arguments["metadata"] = str(self.options.metadata) if self.options.metadata else None
            work.run("judge", arguments, self.options.environment)
        return Report.read(self._report_path)

    @cached_property
    def _subject(self) -> tuple[Model, Path]:
        """The model that the file says it is, and the checkpoint to compare it with."""
        if not self.path.exists():
            raise FileError(
                f"{self.path}: expected an exported file, but there is none; export it first"
            )
        name, weights = self._said
        with error_context(self.path):
            return self.options.subject(self.project, name, weights)

    @property
    def _said(self) -> tuple[str, WeightsKind]:
        """The model's name and kind of weights, by the file or, of a foreign one, by the user."""
        if self.options.model is not None:
            return self.options.model, "real"
        contract = read_contract(self.path)
        return contract.name or self.name, contract.weights or "real"

    @cached_property
    def _parent(self) -> Path | None:
        """The float32 file that one in reduced precision, or a portable one, was made from; None
        for other files."""
        if self.options.model is not None:
            return None
        contract = read_contract(self.path)
        if contract.derived_from is None:
            return None
        parent = self.path.with_name(f"{contract.name}.onnx")
        if not parent.is_file():
            raise FileError(
                f"{self.path}: expected the file that it was made from, {parent.name}, beside it, "
                "found none; copy it there"
            )
        return parent

    @property
    def _is_reduced(self) -> bool:
        """Whether the file is in reduced precision, which is judged in another way."""
        return self._parent is not None and read_contract(self.path).precision != "fp32"

    @cached_property
    def _record_key(self) -> str:
        """A hash of all that PyTorch's answers follow from."""
        model, checkpoint = self._subject
        config = model_hash(self.project, model)
        code = code_hash(worker.record)
        return hash_of(file_sha256(checkpoint), config, code, self.options.content)

    @cached_property
    def _key(self) -> str:
        """A hash of all that the verdict follows from, the file aside."""
        model, metadata = self.options.model or "", self.options.metadata
        files = (metadata, self._parent, self._parent and calibration_path(self.path))
        hashes = (file_sha256(path) if path and path.is_file() else "" for path in files)
        code = code_hash(worker.judge_reduced if self._is_reduced else worker.judge)
        return hash_of(self._record_key, code, *self.providers, str(cores()), model, *hashes)

    def _record(self, work: Work, *, thorough: bool = False) -> Path:
        """The file with what PyTorch answers, made unless it is there."""
        model, _ = self._subject
        plain, further = self._record_key, hash_of(self._record_key, "thorough")
        key = further if thorough else plain
        folder = self.path.parent / ".verify"
        current = [folder / f"{model.name}-{one[:16]}.npz" for one in (plain, further)]
        record = current[thorough]
        with locked(self._parent or self.path):  # all forms of a model have one record
            if not is_own(record, key):
                for outdated in {*folder.glob(f"{model.name}-*.npz")}.difference(current):
                    outdated.unlink()
                fork = self.options.against is not None
                arguments = {"target": str(record), "fork": fork, "thorough": thorough}
                work.run("record", {**arguments, **self._reference(work)}, self.options.environment)
                remember(record, key)
        return record

    def _locate(self, work: Work, report: Report) -> Report:
        """Finds the node that a failure starts at, on the crop that is furthest off."""
        assert report.worst is not None  # these stages have run the model
        trace = self.path.parent / ".verify" / f"{self.name}.trace.npz"
        arguments = {"target": str(trace), "case": report.worst.case, **self._reference(work)}
        work.run("trace", arguments, self.options.environment)
        files = {"file": str(self.path), "report": str(self._report_path), "trace": str(trace)}
        work.run("locate", files)
        trace.unlink()
        remember(self._report_path)
        return Report.read(self._report_path)

    def _reference(self, work: Work) -> dict[str, Any]:
        images = self.options.images
        return {
            **self.options.arguments(self.project, *self._subject),
            "images": str(images.absolute()) if images else None,
            "threads": work.threads,
        }

    def _as_error(self, report: Report) -> VerifyError:
        first = next(failure for failure in report.failures if failure.stage == report.stage)
        where = report.divergence.first if report.divergence else None
        at = (
            f"; the first tensor beyond tolerance is {where.tensor} of {where.module}"
            if where
            else ""
        )
        more = f" (and {len(report.failures) - 1} more)" if len(report.failures) > 1 else ""
        page = self.path.parent / "parity" / "index.html"
        return VerifyError(
            f"{self.path.name}: {first.stage}: {first.message}{at}{more}; see {page}"
        )
