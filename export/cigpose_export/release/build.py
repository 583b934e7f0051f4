"""Builds a release: models that verify has passed, and all that one needs to trust and run them.

The same commit, inputs and SOURCE_DATE_EPOCH give the same bytes, whatever the folder, umask, time
zone or user. The folder has its name only when everything is in it.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from cigpose_export import __version__
from cigpose_export.errors import ReleaseError
from cigpose_export.graph.tool_versions import tool_versions
from cigpose_export.project import Project
from cigpose_export.release.evidence.bill_of_materials import write_bill_of_materials
from cigpose_export.release.evidence.clients import CALISCOPE_CARD, caliscope_card
from cigpose_export.release.evidence.provenance import write_provenance
from cigpose_export.release.pages import PARITY_PAGE, VECTORS, index_page, model_card
from cigpose_export.release.source import (
    LOCK,
    commit_of,
    require_code_of,
    require_exports,
    require_pinned_tools,
    source_date_epoch,
)
from cigpose_export.release.verified_models import Form, VerifiedModel, verified_models
from cigpose_export.release.web_page import PAGE, engine_of, page_site
from cigpose_runtime.errors import CigposeError, last_line
from cigpose_runtime.files import file_sha256, locked
from cigpose_runtime.releases.folder import files_in, not_of_release
from cigpose_runtime.releases.manifest import (
    MANIFEST,
    SUMS,
    UNLISTED,
    Manifest,
    ReleasedFile,
    read_manifest,
    sums_of,
)
from cigpose_verify.report.folder import write_pages

ARCHIVE = "cigpose_models.zip"
"""The name under which users of the published client fetch all models, in float32."""

_PREFIX = ".cigpose-tools-release-build-"
_OURS = re.compile(re.escape(_PREFIX) + "[a-z0-9_]{8}")
"""The names that mkdtemp makes of it."""

_LEGAL = ("LICENSE", "NOTICE", "CITATION.cff")


def build_release(
    project: Project,
    models: Path,
    out: Path,
    *,
    allow_synthetic: bool,
    own_weights: bool = False,
    also: Collection[Form] = (),
) -> Manifest:
    """Writes the release `out` from the folder `models`, replacing a release or an empty folder.

    also: as of `verified_models`.

    Raises ReleaseError for anything else at `out`, where the project is not as committed
    (`source`), and for a model that verify has not passed, or
    whose weights are synthetic unless that is allowed: then the release is a rehearsal, and says so
    everywhere. So do the names and pages of models with own_weights, other ones than the published.
    """
    out = out.resolve()  # of a link, what it leads to is replaced
    _require_replaceable(out)
    commit = commit_of(project)
    require_code_of(project)
    require_pinned_tools(project)
    verified = verified_models(
        project, models, allow_synthetic=allow_synthetic, own_weights=own_weights, also=also
    )
    require_exports(project, verified)
    with _staging_for(out) as staging:
        manifest = _fill(project, verified, models, staging, commit)
        if commit_of(project) != commit:
            raise ReleaseError(f"another commit than {commit} was checked out; build again")
        _put_in_place(staging, out)
    return manifest


def _fill(
    project: Project, verified: list[VerifiedModel], models: Path, staging: Path, commit: str
) -> Manifest:
    """Writes all files of a release, the sums last."""
    epoch = source_date_epoch(project)
    _build_runtime(project, staging, epoch)
    (wheel,) = staging.glob("*.whl")
    for one in verified:
        _place_model(one, models, staging, wheel.name)
        _write_vectors(staging, one.released_name, epoch)
    write_pages(staging)
    # What pages lead to lies beside them: so links hold where there are no folders, too.
    (staging / "parity" / "index.html").rename(staging / PARITY_PAGE)
    for name in _LEGAL:
        shutil.copyfile(project.root / name, staging / name)
    whole = [f"{one.released_name}.onnx" for one in verified if one.form == "fp32"]
    names = [*whole, *_LEGAL]
    _write_archive(staging / ARCHIVE, {name: staging / name for name in names}, epoch)
    if (engine := engine_of(project)) is not None:
        with page_site(engine, [staging / name for name in whole]) as site:
            legal = {name: staging / name for name in _LEGAL}
            _write_archive(staging / PAGE, {**legal, **site}, epoch)
    sbom = staging / "sbom.cdx.json"
    write_bill_of_materials(project, verified, sbom, epoch, has_page=engine is not None)
    rehearsal = any(one.contract.weights != "real" for one in verified)
    index = index_page(verified, wheel.name, rehearsal)
    (staging / "README.md").write_text(index, "utf-8")
    write_provenance(project, verified, staging, commit)
    manifest = Manifest(
        rehearsal=rehearsal,
        version=__version__,
        files=tuple(_released_files(staging)),
        models={one.released_name: f"{one.released_name}.onnx" for one in verified},
        sources={
            one.released_name: one.contract.source_checkpoint.sha256
            for one in verified
            if one.contract.source_checkpoint
        },
        tools=tool_versions(),
        lock_sha256=file_sha256(project.root / LOCK),
        commit=commit,
    )
    (staging / MANIFEST).write_text(manifest.to_json(), "utf-8")
    (staging / SUMS).write_text(sums_of(staging, manifest), "utf-8")
    return manifest


def _place_model(one: VerifiedModel, models: Path, staging: Path, wheel: str) -> None:
    name = one.name
    shutil.copyfile(one.path, staging / f"{one.released_name}.onnx")
    for source in sorted((models / "golden" / name).rglob("*")):
        if source.is_file():
            inside = source.relative_to(models / "golden" / name)
            target = staging / "golden" / one.released_name / inside
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)
    (staging / "parity").mkdir(exist_ok=True)
    # Its times are of one run, and would make each release another one.
    one.report.without_times().write(staging / "parity" / f"{one.released_name}.json")
    (staging / f"{one.released_name}.md").write_text(model_card(one, wheel), "utf-8")
    if not one.packed and (card := caliscope_card(one.contract, one.released_name)):
        (staging / f"{one.released_name}{CALISCOPE_CARD}").write_text(card, "utf-8")


def _build_runtime(project: Project, target: Path, epoch: int) -> None:
    """The wheel and sdist; hatchling sorts, and takes times from SOURCE_DATE_EPOCH."""
    ended = subprocess.run(
        [sys.executable, "-P", "-m", "hatchling", "build", "-d", str(target.absolute())],
        cwd=project.root / "runtime",
        env={**os.environ, "SOURCE_DATE_EPOCH": str(epoch)},
        capture_output=True,
        text=True,
        check=False,
    )
    if ended.returncode != 0:
        raise ReleaseError(
            f"the runtime's wheel could not be built ({last_line(ended.stderr)}); run make setup"
        )


def _write_vectors(staging: Path, name: str, epoch: int) -> None:
    """An archive for whoever fetches one model by hand: its sums and golden vectors."""
    vectors = (path for path in (staging / "golden" / name).rglob("*") if path.is_file())
    files = {path.relative_to(staging).as_posix(): path for path in vectors}
    model = {f"{name}.onnx": staging / f"{name}.onnx"}
    sums = sorted((path, file_sha256(file)) for path, file in {**model, **files}.items())
    with tempfile.TemporaryDirectory(dir=staging.parent) as folder:
        text = Path(folder) / "sums"
        text.write_text("".join(f"{digest}  {path}\n" for path, digest in sums), "utf-8")
        archive = staging / f"{name}{VECTORS}"
        _write_archive(archive, {**files, f"{name}.sha256": text}, epoch)


def _write_archive(target: Path, files: Mapping[str, Path], epoch: int) -> None:
    """Weights are dense: they are stored, not deflated, and so the bytes depend on no zlib.

    files: by their name in the archive.
    """
    date = time.gmtime(epoch)[:6]
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(files):
            entry = zipfile.ZipInfo(name, date)
            entry.external_attr = 0o644 << 16
            entry.create_system = 3
            with (
                archive.open(entry, "w", force_zip64=True) as copy,
                files[name].open("rb") as source,
            ):
                shutil.copyfileobj(source, copy, 1 << 20)


def _released_files(staging: Path) -> Iterator[ReleasedFile]:
    for path in sorted(staging.rglob("*"), key=lambda p: p.relative_to(staging).as_posix()):
        if path.is_file():
            name = path.relative_to(staging).as_posix()
            assert name not in UNLISTED
            path.chmod(0o644)
            yield ReleasedFile(name, path.stat().st_size, file_sha256(path))


def _require_replaceable(out: Path) -> None:
    """Raises ReleaseError unless all that is at `out` is a release, by its own manifest."""
    try:
        if not out.exists() or not any(out.iterdir()):
            return
        found, errors = files_in(out)
        foreign = not_of_release(found, read_manifest(out))
        problem = f"{foreign[0]} in it" if foreign else str(errors[0]) if errors else ""
    except (OSError, CigposeError) as error:
        problem = str(error)
    if problem:
        raise ReleaseError(
            f"{out}: expected nothing there, an empty folder or a release, found otherwise "
            f"({problem}); move it away, or choose another folder with --out"
        )


@contextmanager
def _staging_for(out: Path) -> Iterator[Path]:
    """A folder to fill, in a new one beside `out`: what a killed build's own child may still be
    writing goes elsewhere. What killed builds left is removed; builds wait for one another."""
    out.parent.mkdir(parents=True, exist_ok=True)
    with locked(out.parent):
        for left in out.parent.iterdir():
            if _OURS.fullmatch(left.name):
                shutil.rmtree(left, ignore_errors=True)
        beside = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=out.parent))
        staging = beside / "new"
        try:
            staging.mkdir()
            yield staging
        finally:
            shutil.rmtree(beside, ignore_errors=True)


def _put_in_place(staging: Path, out: Path) -> None:
    """At any moment there is the old release, the new one, or none: never a mixture."""
    _require_replaceable(out)  # building took minutes
    old = staging.with_name("old")
    if out.exists():
        out.rename(old)
    try:
        staging.rename(out)
    except OSError:
        if old.exists():
            old.rename(out)
        raise
