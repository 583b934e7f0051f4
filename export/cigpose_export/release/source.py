"""What a release is made from: a commit of this repository, with nothing changed, and its pins.

With them, a release's parts follow from one another: the hash of a checkpoint is the one in the
committed manifest (`verified_models`); the model is what the commit's code and configs, run with
the pinned packages, made of that checkpoint; its bytes are those that were verified.
"""

from __future__ import annotations

import importlib
import os
import re
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from cigpose_export.errors import ReleaseError
from cigpose_export.graph.tool_versions import tool_versions
from cigpose_export.jobs.export import is_export_of
from cigpose_export.project import Project
from cigpose_export.release.verified_models import VerifiedModel
from cigpose_runtime.errors import last_line
from cigpose_runtime.files import file_sha256

LOCK = "requirements/lock.txt"
PINS = (LOCK, "requirements/openmmlab.txt", "requirements/build.txt")
"""What setup installs for making a release; paths in the project."""

_PIN = re.compile(r"^([\w.-]+)==([^\s;]+)", re.MULTILINE)
PACKAGES = {
    "cigpose_export": "export/cigpose_export",
    "cigpose_verify": "verify/cigpose_verify",
    "cigpose_runtime": "runtime/cigpose_runtime",
}
"""Where a clone has them."""

_ZIP_EPOCH = 315532800  # 1980, the earliest time that ZIP archives know


def commit_of(project: Project) -> str:
    """The commit that the project's files are, all of them.

    Raises ReleaseError where some are changed or not in git, and where the project is a copy that
    lies in another repository.
    """
    top = Path(_git(project, "rev-parse", "--show-toplevel"))
    if not top.samefile(project.root):
        raise ReleaseError(
            f"expected {project.root} to be a git clone, found it inside another one, {top}; "
            "release from a clone"
        )
    if _git(project, "ls-files", LOCK) != LOCK:  # another repository, which ignores the copy
        raise ReleaseError(
            f"expected {project.root} to be a git clone, found {LOCK} not in git; "
            "release from a clone"
        )
    if changed := _changed(project):
        more = f" and {len(changed) - 1} more" if len(changed) > 1 else ""
        raise ReleaseError(
            f"expected the files of {project.root} to be those of its commit, found "
            f"{changed[0][3:]!r} changed or not in git{more}; commit or remove that"
        )
    return _git(project, "rev-parse", "HEAD")


def _changed(project: Project) -> list[str]:
    """What differs from the commit or is not in it, as lines of `git status`."""
    with tempfile.TemporaryDirectory() as folder:
        # An index of its own has none of the flags by which git overlooks changes; a user's own
        # list of what to ignore would hide files that become part of the wheel.
        index = {"GIT_INDEX_FILE": str(Path(folder) / "index")}
        _git(project, "read-tree", "HEAD", environment=index)
        options = ("-c", f"core.excludesFile={os.devnull}")
        status = ("status", "--porcelain", "--untracked-files=normal")
        return _git(project, *options, *status, environment=index).splitlines()


def source_date_epoch(project: Project) -> int:
    """SOURCE_DATE_EPOCH in seconds, by default the time of the commit."""
    text = os.environ.get("SOURCE_DATE_EPOCH") or _git(project, "log", "-1", "--format=%ct")
    try:
        return max(int(text), _ZIP_EPOCH)
    except ValueError:
        raise ReleaseError(
            f"SOURCE_DATE_EPOCH: expected whole seconds, found {text!r}; correct or unset it"
        ) from None


def require_code_of(project: Project) -> None:
    """Raises ReleaseError unless the code that runs is the project's own."""
    for package, folder in PACKAGES.items():
        running = Path(importlib.import_module(package).__path__[0])
        for file in sorted(path for path in running.rglob("*") if path.is_file()):
            if "__pycache__" in file.parts:
                continue
            own = project.root / folder / file.relative_to(running)
            if not own.is_file() or file_sha256(own) != file_sha256(file):
                raise ReleaseError(
                    f"{file}: expected the code of {project.root}, found other code running; run "
                    "make setup there, and its own .venv/bin/cigpose-tools"
                )


def pinned_packages(project: Project) -> list[tuple[str, str]]:
    """Name and version of all packages that setup installs for making a release, sorted."""
    texts = [(project.root / name).read_text("utf-8") for name in PINS]
    return sorted({pin for text in texts for pin in _PIN.findall(text)})


def require_pinned_tools(project: Project) -> None:
    """Raises ReleaseError unless the packages that make models are the pinned ones."""
    pins = {name.lower(): version for name, version in pinned_packages(project)}
    for name, version in tool_versions().items():
        if name in pins and pins[name] != version:
            raise ReleaseError(
                f"{name}: expected {pins[name]}, as pinned in requirements, found {version}; "
                "run make setup, export and verify again"
            )


def require_exports(project: Project, models: Sequence[VerifiedModel]) -> None:
    """Raises ReleaseError unless the published variants are what this code makes now.

    A packed file is what its verdict says: bit for bit the model that it was packed from.
    """
    for one in models:
        source = one.contract.source_checkpoint
        if one.variant is None or one.has_own_weights or one.packed:
            continue  # made with a config or weights that no commit has
        if source is None or not is_export_of(
            project, one.variant, one.path.parent, one.contract, source.sha256
        ):
            raise ReleaseError(
                f"{one.path.name}: expected the export of this code, config and checkpoint with "
                "the packages installed here, found another one; run make export-all verify-all"
            )


def _git(project: Project, *arguments: str, environment: Mapping[str, str] | None = None) -> str:
    # GIT_DIR and its like would name another repository, as inside a hook of it.
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
    try:
        ended = subprocess.run(
            ["git", "-C", str(project.root), *arguments],
            env={**inherited, **(environment or {})},
            capture_output=True,
            text=True,
            check=False,
        )
        failed = f"git ended with {ended.returncode}"
        problem = (last_line(ended.stderr) or failed) if ended.returncode else ""
    except OSError as error:
        problem = str(error)
    if problem:
        raise ReleaseError(
            f"expected {project.root} to be a git clone ({problem}); release from a clone"
        )
    return ended.stdout.rstrip()
