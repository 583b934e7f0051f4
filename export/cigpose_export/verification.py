"""Verifies many files: only those whose verdict no longer stands, some at once.

In the folder of the files: parity/NAME.json is the verdict on NAME.onnx, golden/NAME/ are vectors
to replay, .verify/ keeps what PyTorch answered, named by a hash of all that it follows from. A
verdict stands while the file has the same sha256 and nothing that it follows from has changed.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnxruntime as ort

import cigpose_export
import cigpose_runtime
import cigpose_verify
from cigpose_export.batch import OnStage, hash_of
from cigpose_export.errors import CheckpointError, UsageError, VariantError, VerifyError, WorkError
from cigpose_export.tools import mmpose_files, tool_versions
from cigpose_export.variants import Project, Variant
from cigpose_export.workers import Workers, default_jobs
from cigpose_runtime import CigposeError, FileError, read_contract
from cigpose_runtime.errors import error_context
from cigpose_runtime.files import appears_whole, file_sha256
from cigpose_runtime.session import CPU, require_providers
from cigpose_verify.matrix import cores
from cigpose_verify.report.document import Report
from cigpose_verify.report.markdown import render_markdown
from cigpose_verify.report.page import write_page

RECORD_PART = ("reference.py", "recording.py", "stamp.py", "openmmlab.py", "checkpoints/load.py")
"""Modules of cigpose_export, beside modeling/, that a record follows from."""


NUMERIC_STAGES = frozenset({"intervention", "parity", "precision", "replacement", "batch"})
"""Where these are the first to fail, some tensor of the graph is not PyTorch's."""


@dataclass(frozen=True)
class Verified:
    """What became of one file: passed, up to date, failed or interrupted."""

    name: str
    state: str
    path: Path
    report: Report | None = None
    error: CigposeError | None = None


class Verification:
    """Verifies files of one project's variants.

    checkpoint: in place of the project's own, for one file. images: a folder of pictures that add
    crops to the cases. against: a folder that a CIGPose fork's mmpose package lies in; its head is
    then the PyTorch side.
    """

    def __init__(
        self,
        project: Project,
        *,
        checkpoint: Path | None = None,
        images: Path | None = None,
        providers: Sequence[str] = (CPU,),
        against: Path | None = None,
        jobs: int | None = None,
        on_stage: OnStage = lambda _name, _stage: None,
    ) -> None:
        require_providers(providers)
        if against is not None and not (against / "mmpose").is_dir():
            raise UsageError(
                f"--against {against}: expected a folder with an mmpose package in it, found none; "
                "give the root of the fork's checkout"
            )
        self.project = project
        self.checkpoint = checkpoint
        self.images = images
        self.providers = tuple(providers)
        self.against = against
        self.jobs = jobs or default_jobs()
        self.on_stage = on_stage
        self._workers = Workers()
        self._record_code = hash_of(*_record_code(images, against))
        self._judge_code = hash_of(ort.__version__, *map(file_sha256, _judge_code()))

    def run(self, files: Sequence[Path]) -> list[Verified]:
        """Verifies what has to be, goes on past failures, and writes the pages of each folder.

        Ctrl-C stops what is under way; verdicts reached are kept.
        """
        self.jobs = min(self.jobs, len(files))
        # The largest first: none of them is left to run alone at the end.
        ordered = sorted(files, key=lambda path: -path.stat().st_size if path.is_file() else 0)
        by_path = dict(
            zip(ordered, self._workers.map(self._run_one, ordered, self.jobs), strict=True)
        )
        for folder in dict.fromkeys(path.parent for path in files):
            write_pages(folder)
        return [by_path[path] for path in files]

    def _run_one(self, path: Path) -> Verified:
        name = path.stem
        try:
            state, report = self._bring_up_to_date(path)
            error = None if report.passed else _as_error(path, report)
            verified = Verified(name, state, path, report, error)
        except (CigposeError, OSError) as error:
            if isinstance(error, OSError):
                error = WorkError(f"{name}: {error}; mend that and run it again")
            verified = Verified(name, "failed", path, error=error)
        if self._workers.stopped and verified.report is None:
            verified = Verified(name, "interrupted", path)
        self.on_stage(name, verified.state)
        return verified

    def _bring_up_to_date(self, path: Path) -> tuple[str, Report]:
        self._workers.require_going_on(path.stem)
        self.on_stage(path.stem, "compare")
        variant, checkpoint = self._subject_of(path)
        base = sorted((self.project.root / "configs" / "_base_").glob("*.py"))
        configs = [file_sha256(p) for p in (self.project.config_path(variant.name), *base)]
        record_key = hash_of(file_sha256(checkpoint), *configs, self._record_code)
        key = hash_of(record_key, self._judge_code, *self.providers, str(cores()))
        report_path = path.parent / "parity" / f"{path.stem}.json"
        golden = path.parent / "golden" / path.stem
        with contextlib.suppress(FileError):
            report = Report.read(report_path)
            unchanged = (report.key, report.sha256) == (key, file_sha256(path))
            if unchanged and report.passed and golden.is_dir():
                return "up to date", report
        record = self._record(path, variant, checkpoint, record_key)
        self._work(
            "cigpose_verify.worker",
            path.stem,
            file=str(path),
            record=str(record),
            report=str(report_path),
            golden=str(golden),
            providers=self.providers,
            key=key,
        )
        report = Report.read(report_path)
        if not report.passed and report.stage in NUMERIC_STAGES:
            report = self._locate(path, variant, checkpoint, report_path, report)
        return report.verdict, report

    def _subject_of(self, path: Path) -> tuple[Variant, Path]:
        """The variant that a file says it is, and the checkpoint to compare it with."""
        if not path.exists():
            raise FileError(f"{path}: expected an exported file, found none; export it first")
        contract = read_contract(path)
        name = contract.name or path.stem
        with error_context(path):
            try:
                (variant,) = self.project.select([name])
            except VariantError as error:
                raise VariantError(f"no model of a published variant: {error}") from error
            if self.checkpoint is not None:
                checkpoint = self.checkpoint
            else:
                checkpoint = self.project.existing_checkpoint(name, contract.weights or "real")
        if not checkpoint.is_file():
            raise CheckpointError(f"{checkpoint}: expected a checkpoint, found no file; correct it")
        return variant, checkpoint

    def _record(self, path: Path, variant: Variant, checkpoint: Path, key: str) -> Path:
        """The file with what PyTorch answers, made unless it is there."""
        folder = path.parent / ".verify"
        record = folder / f"{variant.name}-{key[:16]}.npz"
        if not record.is_file():
            for outdated in folder.glob(f"{variant.name}-*.npz"):
                outdated.unlink()
            self._work(
                "cigpose_export.worker",
                path.stem,
                kind="record",
                fork=self.against is not None,
                target=str(record),
                **self._torch_job(variant, checkpoint),
            )
        return record

    def _locate(
        self, path: Path, variant: Variant, checkpoint: Path, report_path: Path, report: Report
    ) -> Report:
        """Finds the node that a failure starts at, on the crop that is furthest off."""
        assert report.worst is not None  # these stages have run the model
        trace = path.parent / ".verify" / f"{path.stem}.trace.npz"
        self._work(
            "cigpose_export.worker",
            path.stem,
            kind="trace",
            case=report.worst.case,
            target=str(trace),
            **self._torch_job(variant, checkpoint),
        )
        self._work(
            "cigpose_verify.worker",
            path.stem,
            file=str(path),
            report=str(report_path),
            trace=str(trace),
        )
        trace.unlink()
        return Report.read(report_path)

    def _torch_job(self, variant: Variant, checkpoint: Path) -> dict[str, Any]:
        return {
            "project": str(self.project.root),
            "name": variant.name,
            "checkpoint": str(checkpoint),
            "images": str(self.images.absolute()) if self.images else None,
            "threads": max(1, cores() // self.jobs),
        }

    def _work(self, module: str, stem: str, /, **job: Any) -> None:
        environment = {}
        if self.against is not None:
            paths = [str(self.against.absolute()), os.environ.get("PYTHONPATH", "")]
            environment["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
        self._workers.run(
            module,
            job,
            name=stem,
            on_stage=lambda stage: self.on_stage(stem, stage),
            environment=environment,
        )


def write_pages(folder: Path) -> None:
    """Writes parity/index.html and summary.md on all verdicts that stand for a file's bytes."""
    reports = list(standing_reports(folder))
    if reports:
        write_page(reports, folder / "parity" / "index.html")
        with appears_whole(folder / "parity" / "summary.md") as file:
            file.write(render_markdown(reports).encode())


def standing_reports(folder: Path) -> Iterator[Report]:
    """The verdicts on the files of a folder, by name, that were reached on their present bytes."""
    for path in sorted(folder.glob("*.onnx")):
        with contextlib.suppress(FileError):
            report = Report.read(folder / "parity" / f"{path.stem}.json")
            if report.sha256 == file_sha256(path):
                yield report


def _as_error(path: Path, report: Report) -> VerifyError:
    first = next(failure for failure in report.failures if failure.stage == report.stage)
    where = report.divergence.first if report.divergence else None
    at = f"; the first tensor beyond tolerance is {where.tensor} of {where.module}" if where else ""
    more = len(report.failures) - 1
    return VerifyError(
        f"{path.name}: {first.stage}: {first.message}{at}"
        f"{f' (and {more} more)' if more else ''}; see {path.parent / 'parity' / 'index.html'}"
    )


def _record_code(images: Path | None, against: Path | None) -> Iterator[str]:
    """Hashes of all that a record follows from, but for config and checkpoint."""
    export, verify, runtime = (
        Path(package.__path__[0]) for package in (cigpose_export, cigpose_verify, cigpose_runtime)
    )
    modules = [*sorted((export / "modeling").glob("*.py")), *(export / m for m in RECORD_PART)]
    modules += [verify / name for name in ("cases.py", "record.py", "parity.py")]
    modules += sorted((verify / "photographs").glob("*.jpg"))
    modules += [runtime / name for name in ("contract.py", "keypoints.py", "preprocess.py")]
    if images is not None and images.is_dir():
        modules += sorted(path for path in images.iterdir() if path.is_file())
    if against is not None:
        modules += sorted((against / "mmpose").rglob("*.py"))
    for module in modules:
        yield module.name
        yield file_sha256(module)
    versions = tool_versions()
    yield from (versions[name] for name in ("torch", "numpy", "mmengine", "mmcv-lite", "mmpose"))
    yield hashlib.sha256(mmpose_files().encode()).hexdigest()


def _judge_code() -> list[Path]:
    """Our code that a verdict follows from, beside the record."""
    verify = Path(cigpose_verify.__path__[0])
    runtime = Path(cigpose_runtime.__path__[0])
    return [
        *sorted(path for path in verify.glob("*.py") if path.name != "__main__.py"),
        verify / "report" / "document.py",
        verify / "report" / "worst.py",
        *(runtime / name for name in ("reader.py", "onnx_file.py", "decode.py", "session.py")),
    ]
