"""Verifies packed files: by the runtime on the files that they were packed from, and by MMPose."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from cigpose_export.errors import MissingCheckpointError, UsageError, VariantError, VerifyError
from cigpose_export.jobs import worker
from cigpose_export.jobs.batch import Outcome, State, Work
from cigpose_export.jobs.own_results import (
    golden_folder,
    has_verdict,
    remember,
    report_path,
)
from cigpose_export.jobs.reference_options import ReferenceOptions
from cigpose_export.jobs.staleness import code_hash, hash_of, model_hash
from cigpose_export.project import Model, Project
from cigpose_runtime import FileError, read_onnx_file
from cigpose_runtime.errors import error_context
from cigpose_runtime.files import file_sha256
from cigpose_runtime.model_file.frame_contract import FrameContract, frame_contract_of
from cigpose_verify.report.document import Report


@dataclass(frozen=True)
class VerifyPackedJob:
    """The verification of one packed file; detector: the YOLOX that is packed into it."""

    project: Project
    path: Path
    options: ReferenceOptions
    detector: Path | None

    @property
    def name(self) -> str:
        return self.path.stem

    @property
    def _report_path(self) -> Path:
        return report_path(self.path)

    def standing(self) -> Report | None:
        """The verdict of an earlier run, where the file passed and nothing has changed since."""
        with contextlib.suppress(FileError):
            report = Report.read(self._report_path)
            unchanged = (report.key, report.sha256) == (self._key, file_sha256(self.path))
            if unchanged and report.passed and has_verdict(self.path):
                return report
        return None

    def run(self, work: Work) -> Outcome[Report]:
        """Judges the file."""
        arguments: dict[str, Any] = {
            "file": str(self.path),
            "model": str(self._model),
            "detector": str(self.detector) if self.detector else None,
            "report": str(self._report_path),
            "golden": str(golden_folder(self.path)),
            "key": self._key,
            "reference": None,
        }
        if self._subject is not None:
            reference = self.options.arguments(self.project, *self._subject)
            fork = self.options.against is not None
            arguments["reference"] = {**reference, "fork": fork, "threads": work.threads}
        work.run("judge_packed", arguments, self.options.environment)
        report = Report.read(self._report_path)
        remember(self._report_path)
        if report.passed:
            remember(golden_folder(self.path))
            return Outcome(self.name, State.PASSED, self.path, report)
        error = VerifyError(f"{self.path.name}: {report.stage}: {report.failures[0].message}")
        return Outcome(self.name, State.FAILED, self.path, report, error)

    @cached_property
    def _contract(self) -> FrameContract:
        with error_context(self.path):
            return frame_contract_of(read_onnx_file(self.path))

    @cached_property
    def _subject(self) -> tuple[Model, Path] | None:
        """The model in PyTorch and its checkpoint, None for a file that is not compared with it.

        That is one in reduced precision, whose keypoints may be others, and one of which nobody
        named a checkpoint and none is here.
        """
        inner, options = self._contract.model, self.options
        if inner.precision != "fp32" or inner.name is None or inner.weights is None:
            return None
        try:
            with error_context(self.path):
                return options.subject(self.project, inner.name, inner.weights)
        except (VariantError, MissingCheckpointError):
            if options.checkpoint or options.config:
                raise
            return None

    @cached_property
    def _model(self) -> Path:
        """The model's own file, beside the packed one."""
        contract = self._contract
        if (contract.detector is None) != (self.detector is None):
            expected, found = ("", "none; add") if self.detector is None else ("no ", "one; drop")
            raise UsageError(
                f"{self.path}: expected {expected}--detector FILE, as it was packed with, found "
                f"{found} the option"
            )
        name = contract.name.removesuffix("_det").removesuffix("_frame")
        model = self.path.with_name(f"{name}.onnx")
        if not model.is_file():
            raise FileError(
                f"{self.path}: expected the model that it was packed from, {model.name}, beside "
                "it, found none; copy it there"
            )
        return model

    @cached_property
    def _key(self) -> str:
        """A hash of all that the verdict follows from, the file aside."""
        files = [self._model, *([self.detector] if self.detector else [])]
        reference = []
        if self._subject is not None:
            model, checkpoint = self._subject
            files.append(checkpoint)
            reference = [model_hash(self.project, model), self.options.content]
        return hash_of(code_hash(worker.judge_packed), *map(file_sha256, files), *reference)
