"""Exports models: each artefact that is out of date, made anew in a process of its own.

Beside the artefacts, `.export/NAME.json` is the receipt of each: what it was made from and what
came out. An artefact is up to date when the same receipt would be written now, by the content of
checkpoint, config and code, and the file is still the one that was written. A receipt that came
with the artefact is none (see own_results).
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from cigpose_export.errors import ExportError
from cigpose_export.graph.calibration import CalibrationSet
from cigpose_export.jobs import worker
from cigpose_export.jobs.batch import OnStage, Outcome, State, Work, run_batch
from cigpose_export.jobs.own_results import is_own, remember
from cigpose_export.jobs.staleness import code_hash, hash_of, model_hash
from cigpose_export.project import Model, Project, arguments_of
from cigpose_export.variants import WeightsKind
from cigpose_runtime import Calibration, CigposeError, Contract, FileError, read_contract
from cigpose_runtime.files import appears_whole, file_sha256
from cigpose_runtime.model_file.contract import Precision, artefact_name


@dataclass(frozen=True)
class ExportFigures:
    """What an export took and gave; sizes in bytes, `peak_memory` of its largest process.

    `note`: as of `pipeline.Exported`.
    """

    reference_head: str
    nodes: int
    size: int
    seconds: float
    peak_memory: int
    note: str | None = None


@dataclass(frozen=True)
class Receipt:
    """What is kept of an export: a hash of all that it was made from, and what it made."""

    inputs: str
    sha256: str
    figures: ExportFigures

    @classmethod
    def read(cls, path: Path) -> Receipt | None:
        """The receipt in a file, None if there is none that can be read."""
        try:
            content = json.loads(path.read_text("utf-8"))
            figures = ExportFigures(**content["figures"])
            return cls(content["inputs"], content["sha256"], figures)
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return None

    def write(self, path: Path) -> None:
        """Replaces the receipt in a file."""
        with appears_whole(path) as file:
            file.write(json.dumps(asdict(self), indent=1).encode())


def export_models(
    project: Project,
    models: Sequence[Model],
    *,
    weights: WeightsKind,
    out: Path,
    checkpoint: Path | None = None,
    weights_key: str | None = None,
    precision: Precision = "fp32",
    calibration: CalibrationSet | None = None,
    batch: int | None = None,
    jobs: int | None = None,
    on_stage: OnStage = lambda _name, _stage: None,
) -> list[Outcome[ExportFigures]]:
    """Exports what is out of date into one folder.

    checkpoint: exported in place of the project's own, for one model. weights_key: the
    entry of the file that holds the weights, None for the usual one. precision: of the files; one
    in reduced precision lies beside that in float32, of which it is made. calibration: of int8.
    batch: of portable files, which are in float32, too. jobs: exports at once.
    """
    whole = [ExportJob(project, model, weights, out, checkpoint, weights_key) for model in models]
    if precision == "fp32" and batch is None:
        return run_batch(whole, at_once=jobs, on_stage=on_stage)
    derived = [DeriveJob(one, precision, calibration, batch) for one in whole]
    return run_batch(derived, at_once=jobs, on_stage=on_stage)


@dataclass(frozen=True)
class ExportJob:
    """The export of one model."""

    project: Project
    model: Model
    weights: WeightsKind
    out: Path
    checkpoint: Path | None
    weights_key: str | None

    @property
    def name(self) -> str:
        return self.model.name

    @property
    def path(self) -> Path:
        return self.out / f"{self.name}.onnx"

    @property
    def receipt_path(self) -> Path:
        """Where what it was made from is kept."""
        return self.out / ".export" / f"{self.name}.json"

    def standing(self) -> ExportFigures | None:
        """What the export took, where nothing that it was made from has changed."""
        if self.checkpoint is None and self.weights == "real":
            self.project.existing_checkpoint(self.name, "real")
        checkpoint = self.checkpoint or self.project.checkpoint_path(self.name, self.weights)
        return self.made_of(file_sha256(checkpoint)) if checkpoint.is_file() else None

    def made_of(self, checkpoint_sha256: str) -> ExportFigures | None:
        """What the export took, where the file is what this code makes of that checkpoint."""
        return _standing(self.receipt_path, self.path, self.inputs(checkpoint_sha256))

    def inputs(self, checkpoint_sha256: str) -> str:
        """What the receipt of an export of that checkpoint says that it was made from."""
        return hash_of(self._recipe, checkpoint_sha256)

    def run(self, work: Work) -> Outcome[ExportFigures]:
        """Exports, and writes the receipt."""
        self.require_replaceable(self.path)
        recipe = self._recipe  # as it is now: what is edited meanwhile is exported next time
        started = time.monotonic()
        arguments = {
            "project": str(self.project.root),
            "model": arguments_of(self.model),
            "weights": self.weights,
            "checkpoint": str(self.checkpoint) if self.checkpoint else None,
            "weights_key": self.weights_key,
            "target": str(self.path),
            "threads": work.threads,
        }
        report = work.run("export", arguments)
        done = report["done"]
        figures = ExportFigures(
            reference_head=done["reference_head"],
            nodes=done["nodes"],
            size=done["size"],
            seconds=round(time.monotonic() - started, 2),
            peak_memory=report["peak_memory"],
            note=done["note"],
        )
        inputs = hash_of(recipe, done["checkpoint_sha256"])
        Receipt(inputs, done["sha256"], figures).write(self.receipt_path)
        remember(self.receipt_path)
        return Outcome(self.name, State.EXPORTED, self.path, figures)

    @property
    def _recipe(self) -> str:
        """A hash of all that decides the bytes of the artefact, but for the checkpoint."""
        config = model_hash(self.project, self.model)
        return hash_of(config, code_hash(worker.export), self.weights_key or "")

    def require_replaceable(self, path: Path) -> None:
        """Raises before minutes of work what writing `path` at their end would."""
        parent = next(folder for folder in path.absolute().parents if folder.exists())
        if not (parent.is_dir() and os.access(parent, os.W_OK | os.X_OK)):
            raise FileError(
                f"{path}: expected a folder to write to, found {parent}, which is not a "
                "writable folder; pass another --out"
            )
        there = _weights_in(path)
        if there not in (None, self.weights):
            raise ExportError(
                f"{path}: expected to replace {self.weights} weights, found {there} ones; "
                "pass another --out"
            )


@dataclass(frozen=True)
class DeriveJob:
    """The export of one model in reduced precision, or portable.

    calibration: of int8. batch: of a portable one, which is in float32.
    """

    parent: ExportJob
    precision: Precision
    calibration: CalibrationSet | None = None
    batch: int | None = None

    @property
    def name(self) -> str:
        return artefact_name(self.parent.name, self.precision, batch=self.batch)

    @property
    def path(self) -> Path:
        return self.parent.out / f"{self.name}.onnx"

    @property
    def receipt_path(self) -> Path:
        """Where what it was made from is kept."""
        return self.parent.out / ".export" / f"{self.name}.json"

    def standing(self) -> ExportFigures | None:
        """What the export took, where nothing that it was made from has changed."""
        return None if self.parent.standing() is None else self.made_of(self.calibration)

    def made_of(self, crops: CalibrationSet | Calibration | None) -> ExportFigures | None:
        """What the export took, where the file is what this code makes of the float32 one and these
        crops."""
        return _standing(self.receipt_path, self.path, self.inputs(crops))

    def run(self, work: Work) -> Outcome[ExportFigures]:
        """Exports in float32 what is out of date, makes the file, and writes the receipt."""
        whole = self.parent.standing() or self.parent.run(work).result
        assert whole is not None  # what fails raises
        self.parent.require_replaceable(self.path)
        crops, started = self.calibration, time.monotonic()
        inputs = self.inputs(crops)
        arguments = {
            "parent": str(self.parent.path),
            "precision": self.precision,
            "calibration": crops and {"source": crops.source, "folder": str(crops.folder)},
            "batch": self.batch,
            "target": str(self.path),
        }
        report = work.run("derive", arguments)
        done = report["done"]
        figures = replace(
            whole,
            nodes=done["nodes"],
            size=done["size"],
            seconds=round(time.monotonic() - started, 2),
            peak_memory=report["peak_memory"],
        )
        Receipt(inputs, done["sha256"], figures).write(self.receipt_path)
        remember(self.receipt_path)
        return Outcome(self.name, State.EXPORTED, self.path, figures)

    def inputs(self, crops: CalibrationSet | Calibration | None) -> str:
        """What the receipt says that it was made from: all that decides the bytes of the file."""
        named = crops.named() if isinstance(crops, CalibrationSet) else crops
        code = code_hash(worker.derive)
        parent = file_sha256(self.parent.path)
        calibration, batch = named.sha256 if named else "", str(self.batch or "")
        return hash_of(parent, self.precision, code, calibration, batch)


def _standing(receipt_path: Path, path: Path, inputs: str) -> ExportFigures | None:
    """What an export took, where the receipt is our own and says that the file is made of these."""
    receipt = Receipt.read(receipt_path)
    if receipt is None or not path.is_file():
        return None
    unchanged = receipt.inputs == inputs and receipt.sha256 == file_sha256(path)
    return receipt.figures if unchanged and is_own(receipt_path) else None


def is_export_of(
    project: Project, model: Model, folder: Path, contract: Contract, checkpoint_sha256: str
) -> bool:
    """Whether the model's file of this contract in a folder is what this code makes of a checkpoint
    of this hash, by its own receipt; one made from the float32 file, by that one's too."""
    job = ExportJob(project, model, "real", folder, None, None)
    is_export = job.made_of(checkpoint_sha256) is not None
    derived = contract.derived_from
    if derived is None:
        return is_export
    made = DeriveJob(job, contract.precision, batch=derived.batch)
    return is_export and made.made_of(derived.calibration) is not None


def _weights_in(path: Path) -> str | None:
    """The kind of weights in an artefact; None where there is no file of ours."""
    try:
        return read_contract(path).weights
    except CigposeError:
        return None
