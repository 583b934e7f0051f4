"""The cache of `get`: files of releases by their sha256, in blobs/, and manifests."""

from __future__ import annotations

import hashlib
import os
from contextlib import suppress
from pathlib import Path

from cigpose_runtime.errors import InputError
from cigpose_runtime.files import appears_whole, file_sha256
from cigpose_runtime.releases.manifest import ReleasedFile

_CHUNK_BYTES = 1 << 20


def default_cache() -> Path:
    """CIGPOSE_CACHE, or `cigpose` among this user's caches. Raises InputError without a home."""
    if chosen := os.environ.get("CIGPOSE_CACHE"):
        return Path(chosen)
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "cigpose"
    except RuntimeError as error:  # as in a container, for a user that it does not know
        raise InputError(
            "expected a home folder for the cache, found none; name a folder in CIGPOSE_CACHE"
        ) from error


def was_fetched(path: Path, cache: Path) -> bool:
    """Whether the file is a copy of one that the cache has."""
    return (cache / "blobs" / file_sha256(path)).exists()


def copy_out(blob: Path, file: ReleasedFile, target: Path) -> bool:
    """Copies a file out of the cache; False, and nothing is copied, unless it is the right one."""
    digest = hashlib.sha256()
    try:
        content = blob.open("rb")
    except FileNotFoundError:
        return False
    with content, suppress(_OtherBytesError), appears_whole(target) as copy:
        while chunk := content.read(_CHUNK_BYTES):
            digest.update(chunk)
            copy.write(chunk)
        if digest.hexdigest() != file.sha256:
            raise _OtherBytesError
        return True
    return False


class _OtherBytesError(Exception):
    """The copy is not to appear."""


def holds(path: Path, file: ReleasedFile) -> bool:
    """Whether there is a file at the path, with these bytes."""
    return path.is_file() and path.stat().st_size == file.size and file_sha256(path) == file.sha256
