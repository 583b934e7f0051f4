"""Which results this user's own runs have made, told apart from those that came with a model.

Verdicts, records of PyTorch's answers and receipts of exports lie beside the models, where whoever
wrote the model may have written them, too. So their hashes are kept in this user's cache, and a
result whose hash is not there is made again. Hashes are of the content alone: results may be moved
and copied. Another user, and another machine, makes its own.
"""

from __future__ import annotations

import contextlib
from pathlib import Path

from cigpose_export.jobs.staleness import hash_of
from cigpose_runtime import CigposeError
from cigpose_runtime.files import file_sha256
from cigpose_runtime.releases.cache import default_cache


def remember(path: Path, purpose: str = "") -> None:
    """Notes that a file or folder, as it is, was made here.

    purpose: what it is good for, where its content does not say it. Where there is no cache that
    can be written, nothing is remembered.
    """
    with contextlib.suppress(OSError, RuntimeError, CigposeError):
        note = _note(path, purpose)
        note.parent.mkdir(parents=True, exist_ok=True)
        note.touch()


def is_own(path: Path, purpose: str = "") -> bool:
    """Whether `remember` was called on this content."""
    try:
        return _note(path, purpose).exists()
    except (OSError, RuntimeError, CigposeError):  # RuntimeError: a user without a home
        return False


def report_path(model: Path) -> Path:
    """Where the verdict on a model is kept."""
    return model.parent / "parity" / f"{model.stem}.json"


def golden_folder(model: Path) -> Path:
    """Where its golden vectors are."""
    return model.parent / "golden" / model.stem


def has_verdict(model: Path) -> bool:
    """Whether a model's verdict and golden vectors are those that this user's own run wrote."""
    return is_own(report_path(model)) and is_own(golden_folder(model))


def _note(path: Path, purpose: str) -> Path:
    """The empty file in the cache that stands for some content."""
    files = sorted(p for p in path.rglob("*") if not p.is_dir()) if path.is_dir() else [path]
    contents = (f"{file.relative_to(path).as_posix()} {file_sha256(file)}" for file in files)
    return default_cache() / "own-results" / hash_of(purpose, *contents)
