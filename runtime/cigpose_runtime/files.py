"""Opening files that somebody named, with errors that say what to do."""

from __future__ import annotations

import hashlib
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from typing import BinaryIO

from cigpose_runtime.errors import FileError

_CHUNK_BYTES = 1 << 20


@contextmanager
def open_file(path: str | PathLike[str], expected: str) -> Iterator[BinaryIO]:
    """Opens a regular file for reading.

    expected: what the file should be, for the message: "an ONNX file".
    Raises FileError for whatever is in the way, then and while it is read.
    """
    path = Path(path)
    try:
        mode = path.stat().st_mode
        if not stat.S_ISREG(mode):  # opening a pipe or a device may block for ever
            found = "a directory" if stat.S_ISDIR(mode) else "no regular file"
            raise FileError(f"{path}: expected {expected}, found {found}; give the path of a file")
        with path.open("rb") as file:
            yield file
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise FileError(
            f"{path}: expected {expected}, found: {reason}; check the path and its permissions"
        ) from error


def file_sha256(path: str | PathLike[str]) -> str:
    """The sha256 of a file's bytes, 64 lower-case hex digits. Raises FileError."""
    digest = hashlib.sha256()
    with open_file(path, "a file") as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()
