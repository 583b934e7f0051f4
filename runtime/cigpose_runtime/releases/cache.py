"""The cache of `get`: files of releases by their sha256, in blobs/, and manifests."""

from __future__ import annotations

import hashlib
import os
import re
from contextlib import suppress
from pathlib import Path

from cigpose_runtime.errors import CheckError, InputError, quoted
from cigpose_runtime.files import appears_whole, file_sha256, read_bytes
from cigpose_runtime.releases.manifest import ReleasedFile

_CHUNK_BYTES = 1 << 20
_LONGEST_VERSION = 200
_VERSION = re.compile(r"\d{1,9}(?:\.\d{1,9}){0,9}")
"""What versions are compared by; so a candidate and its release are equal."""


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


def keep_blob(content: bytes, path: str, cache: Path) -> ReleasedFile:
    """Puts a file of this content and path into the cache, and describes it."""
    file = ReleasedFile(path, len(content), hashlib.sha256(content).hexdigest())
    with appears_whole(cache / "blobs" / file.sha256) as blob:
        blob.write(content)
    return file


def newest_version(note: Path, version: str, *, allow_older: bool) -> None:
    """Notes a release's version. Raises CheckError for one that is older than the one noted."""
    if note.is_file() and not allow_older:
        newest = read_bytes(note, "a version", most=_LONGEST_VERSION).decode("utf-8", "replace")
        if _numbers(version) < _numbers(newest):
            raise CheckError(
                f"expected version {quoted(newest)} of the release, as was fetched before, or a "
                f"newer one, found {quoted(version)}; if that is what you want: --allow-older"
            )
    with appears_whole(note) as file:
        file.write(version.encode("utf-8", "replace")[:_LONGEST_VERSION])


def _numbers(version: str) -> list[int]:
    found = _VERSION.match(version)
    return [int(number) for number in found[0].split(".")] if found else []
