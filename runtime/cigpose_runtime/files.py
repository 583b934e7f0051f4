"""Files: opening those that somebody named, hashing them, and writing new ones whole."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from os import PathLike
from pathlib import Path
from typing import BinaryIO

from cigpose_runtime.errors import FileError

_CHUNK_BYTES = 1 << 20
_NAME_SHOWN = 40
"""Characters of a file's name in its partial one: a name has room for 255 bytes."""


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


def read_bytes(path: str | PathLike[str], expected: str, *, most: int | None = None) -> bytes:
    """The content of a regular file; as open_file. most: its bytes, for a stranger's file."""
    with open_file(path, expected) as file:
        content = file.read() if most is None else file.read(most + 1)
    if most is not None and len(content) > most:
        raise FileError(
            f"{path}: expected {expected}, at most {most} bytes, found more; replace it"
        )
    return content


def file_sha256(path: str | PathLike[str]) -> str:
    """The sha256 of a file's bytes, 64 lower-case hex digits. Raises FileError."""
    digest = hashlib.sha256()
    with open_file(path, "a file") as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


@contextmanager
def appears_whole(target: Path) -> Iterator[BinaryIO]:
    """Yields a file in `target`'s folder that becomes `target` when the block ends without error.

    A reader never sees half a file under `target`'s name; a link of that name is replaced, not
    followed. SIGKILL leaves a hidden `.partial` file; where the file system has unnamed files
    (Linux), only at the very moment when the file, whole, gets its name.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    named = partial_name(target)
    with ExitStack() as stack:
        stack.callback(named.unlink, missing_ok=True)
        try:
            unnamed = os.open(target.parent, os.O_TMPFILE | os.O_RDWR, 0o666)
        except (AttributeError, OSError):
            file = stack.enter_context(named.open("x+b"))
            yield file
            _flush(file)
        else:
            file = stack.enter_context(os.fdopen(unnamed, "w+b"))
            yield file
            _flush(file)
            # A name can be given only where none is taken, hence the detour over a second one.
            folder = os.open(target.parent, os.O_DIRECTORY)
            stack.callback(os.close, folder)
            # dst_dir_fd makes Python call linkat, which follows /proc's link to the open file.
            os.link(f"/proc/self/fd/{file.fileno()}", named.name, dst_dir_fd=folder)
        file.close()  # an open file keeps its name on Windows
        os.replace(named, target)


def partial_name(target: Path) -> Path:
    """A hidden name beside `target` for it while it is written.

    Nobody can guess it, and so nobody can have put a link there.
    """
    return target.with_name(f".{target.name[:_NAME_SHOWN]}.{os.urandom(8).hex()}.partial")


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Waits until no other process is in a block like this on the same file or folder.

    Where the system or its file system has no such locks, nothing is waited for.
    """
    try:
        import fcntl
    except ImportError:  # Windows
        yield
        return
    lock = os.open(path, os.O_RDONLY)
    try:
        with suppress(OSError):
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)  # which unlocks it, as the end of the process does


def _flush(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())
