"""Exports many variants: only those that are out of date, some at once, each in its own process.

Beside the artefacts, `.export/NAME.json` records what each was made from. An artefact is up to date
when that record, made anew from the content of checkpoint, config and code, is the same, and the
file is still the one that was written.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cigpose_export
import cigpose_runtime
import cigpose_verify
from cigpose_export.errors import ExportError
from cigpose_export.tools import mmpose_files, tool_versions
from cigpose_export.variants import Project, Variant, WeightsKind
from cigpose_export.workers import Workers, default_jobs
from cigpose_runtime import CigposeError, FileError, read_contract
from cigpose_runtime.files import appears_whole, file_sha256
from cigpose_verify.matrix import cores

WITHOUT_PART_IN_THE_BYTES = frozenset(
    {
        "accuracy",
        "drawn",
        "release",
        "batch.py",
        "bench.py",
        "bench_runtime.py",
        "cli.py",
        "console.py",
        "demo.py",
        "doctor.py",
        "straight_trace.py",
        "trace.py",
        "verification.py",
        "worker.py",
        "workers.py",
        "checkpoints/fetch.py",
    }
)
"""Rooms and modules of cigpose_export; any other module is taken to shape the artefacts."""

VERIFY_PART = ("parity.py", "structure.py")
"""Modules of cigpose_verify that an artefact has to pass before it appears."""

RUNTIME_PART = ("contract.py", "keypoints.py")
"""Modules of cigpose_runtime that shape the artefacts."""


@dataclass(frozen=True)
class Figures:
    """What an export took and gave; sizes in bytes, `peak_memory` of its largest process."""

    reference_head: str
    nodes: int
    size: int
    seconds: float
    peak_memory: int


@dataclass(frozen=True)
class Outcome:
    """What became of one variant: exported, up to date, failed or interrupted."""

    name: str
    state: str
    path: Path
    figures: Figures | None = None
    error: CigposeError | None = None


@dataclass(frozen=True)
class Record:
    """What is kept of an export: what it was made from, what it made."""

    inputs: str
    sha256: str
    figures: Figures

    @classmethod
    def read(cls, path: Path) -> Record | None:
        """The record in a file, None if there is none that can be read."""
        try:
            content = json.loads(path.read_text("utf-8"))
            return cls(content["inputs"], content["sha256"], Figures(**content["figures"]))
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def write(self, path: Path) -> None:
        """Replaces the record in a file."""
        with appears_whole(path) as file:
            file.write(json.dumps(asdict(self), indent=1).encode())


OnStage = Callable[[str, str], None]
"""Called with a variant's name and the stage that it has reached, at last its state."""


class Batch:
    """Exports variants of one project into one folder.

    With `checkpoint`, that file is exported in place of the project's own (for one variant).
    """

    def __init__(
        self,
        project: Project,
        *,
        weights: WeightsKind,
        out: Path,
        checkpoint: Path | None = None,
        jobs: int | None = None,
        on_stage: OnStage = lambda _name, _stage: None,
    ) -> None:
        self.project = project
        self.weights = weights
        self.out = out
        self.checkpoint = checkpoint
        self.jobs = jobs or default_jobs()
        self.on_stage = on_stage
        self._code = _hash_of_code()
        self._workers = Workers()

    def run(self, variants: Sequence[Variant]) -> list[Outcome]:
        """Exports what is out of date and goes on past failures.

        Ctrl-C stops the exports under way; what was finished is kept, and the rest is returned as
        interrupted.
        """
        self.jobs = min(self.jobs, len(variants))
        return self._workers.map(self._run_one, variants, self.jobs)

    def _run_one(self, variant: Variant) -> Outcome:
        try:
            outcome = self._bring_up_to_date(variant)
        except (CigposeError, OSError) as error:
            if isinstance(error, OSError):
                error = ExportError(f"{variant.name}: {error}; mend that and run it again")
            outcome = Outcome(variant.name, "failed", self._target(variant), error=error)
        if self._workers.stopped and outcome.state == "failed":
            outcome = Outcome(variant.name, "interrupted", self._target(variant))
        self.on_stage(variant.name, outcome.state)
        return outcome

    def _bring_up_to_date(self, variant: Variant) -> Outcome:
        self._workers.require_going_on(variant.name)
        target = self._target(variant)
        record_path = self.out / ".export" / f"{variant.name}.json"
        if self.checkpoint is None and self.weights == "real":
            self.project.existing_checkpoint(variant.name, "real")
        checkpoint = self.checkpoint or self.project.checkpoint_path(variant.name, self.weights)
        recipe = self._recipe(variant)
        if checkpoint.is_file() and target.is_file():
            self.on_stage(variant.name, "compare")
            record = Record.read(record_path)
            inputs = hash_of(recipe, file_sha256(checkpoint))
            if record and record.inputs == inputs and record.sha256 == file_sha256(target):
                return Outcome(variant.name, "up to date", target, record.figures)
        self._require_replaceable(target)
        started = time.monotonic()
        result = self._run_worker(variant, target)
        done = result["done"]
        figures = Figures(
            reference_head=done["reference_head"],
            nodes=done["nodes"],
            size=done["size"],
            seconds=round(time.monotonic() - started, 2),
            peak_memory=result["peak_memory"],
        )
        inputs = hash_of(recipe, done["checkpoint_sha256"])
        Record(inputs, done["sha256"], figures).write(record_path)
        return Outcome(variant.name, "exported", target, figures)

    def _run_worker(self, variant: Variant, target: Path) -> dict[str, Any]:
        job = {
            "kind": "export",
            "project": str(self.project.root),
            "name": variant.name,
            "weights": self.weights,
            "checkpoint": str(self.checkpoint) if self.checkpoint else None,
            "target": str(target),
            "threads": max(1, cores() // self.jobs),
        }
        return self._workers.run(
            "cigpose_export.worker",
            job,
            name=variant.name,
            on_stage=lambda stage: self.on_stage(variant.name, stage),
        )

    def _target(self, variant: Variant) -> Path:
        return self.out / f"{variant.name}.onnx"

    def _require_replaceable(self, target: Path) -> None:
        """Raises before minutes of work what writing at their end would."""
        parent = next(folder for folder in target.absolute().parents if folder.exists())
        if not (parent.is_dir() and os.access(parent, os.W_OK | os.X_OK)):
            raise FileError(
                f"{target}: expected a folder to write to, found {parent}, which is none or not "
                "writable; pass another --out"
            )
        there = _weights_in(target)
        if there not in (None, self.weights):
            raise ExportError(
                f"{target}: expected to replace {self.weights} weights, found {there} ones; "
                "pass another --out"
            )

    def _recipe(self, variant: Variant) -> str:
        """A hash of all but the checkpoint that decides the bytes of an artefact."""
        base = sorted((self.project.root / "configs" / "_base_").glob("*.py"))
        configs = [file_sha256(path) for path in (self.project.config_path(variant.name), *base)]
        return hash_of(*configs, self._code, json.dumps(tool_versions()), mmpose_files())


def _weights_in(path: Path) -> str | None:
    """The kind of weights in an artefact; None where there is no file of ours."""
    try:
        return read_contract(path).weights
    except CigposeError:
        return None


def hash_of(*parts: str) -> str:
    """One sha256 of several texts."""
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def _hash_of_code() -> str:
    packages = (cigpose_export, cigpose_verify, cigpose_runtime)
    export, verify, runtime = (Path(package.__path__[0]) for package in packages)
    modules = []
    for path in sorted(export.rglob("*.py")):
        inside = path.relative_to(export)
        if not {inside.parts[0], inside.as_posix()} & WITHOUT_PART_IN_THE_BYTES:
            modules.append(path)
    modules += [verify / name for name in VERIFY_PART]
    modules += [runtime / name for name in RUNTIME_PART]
    return hash_of(*map(file_sha256, modules))
