"""Files: opening those that somebody named, hashing them, and writing new ones whole."""

from __future__ import annotations

import hashlib
import os
import stat
import tempfile
from collections.abc import Hashable, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from os import PathLike
from pathlib import Path
from typing import BinaryIO
from unicodedata import normalize

from cigpose_runtime.errors import FileError

Named = tuple[str, Path]
"""What a file is to a command, as the user calls it, and its path."""

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


def file_sha256(path: str | PathLike[str], expected: str = "a file") -> str:
    """The sha256 of a file: 64 lower-case hex digits. expected, and errors: as open_file."""
    digest = hashlib.sha256()
    with open_file(path, expected) as file:
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
def output_file(path: Path) -> Iterator[BinaryIO]:
    """Yields a file for results that somebody named, which is there whole or not at all.

    What is no regular file, as a device or a pipe, is written into and stays what it is, and so
    does a link; what it points to is replaced.
    Raises FileError for a place that cannot be written to.
    """
    with ExitStack() as stack:
        with place_to_write(path):
            opened: AbstractContextManager[BinaryIO]
            if path.exists() and not path.is_file():
                opened = path.open("wb")
            else:
                opened = appears_whole(Path(os.path.realpath(path)))
            file = stack.enter_context(opened)
        yield file
        with place_to_write(path):
            stack.close()


@contextmanager
def growing_file(path: Path) -> Iterator[BinaryIO]:
    """Yields a regular file with what it has already, for results that are added in place.

    Raises FileError for a place that cannot be written to, and where another process is in a block
    like this on the same file.
    """
    with ExitStack() as stack:
        with place_to_write(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.exists() and not path.is_file():
                raise OSError("no regular file")
            file = stack.enter_context(path.open("r+b" if path.exists() else "x+b"))
        try:
            stack.enter_context(locked(path, wait=False))
        except BlockingIOError as error:
            raise FileError(
                f"{path}: expected that no other run writes there, found one under way; wait for "
                "it, or give another file"
            ) from error
        yield file


@contextmanager
def place_to_write(path: Path) -> Iterator[None]:
    """Raises FileError for an OSError inside, but for a pipe whose reader has had enough."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise FileError(
            f"{path}: expected a place to write to, found: {error.strerror or error}; correct the "
            "path, or make room"
        ) from error


def require_folder(folder: Path, what: str) -> None:
    """Makes a folder if it is not there; raises FileError unless files can be written to it.

    what: the option that names it.
    """
    if folder.exists() and not folder.is_dir():
        raise FileError(f"{folder}: expected a folder for {what}, found a file; give another")
    with place_to_write(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass


def require_apart(outputs: Iterable[Named], inputs: Iterable[Named]) -> None:
    """Raises FileError unless every output is another file than all inputs and other outputs.

    outputs, inputs: what each is, for the message, and its path. They are compared by what they
    are, not by how they are spelled: links, `..` and letters of another case do not tell files
    apart. A device or a pipe may be named as often as one likes.
    """
    seen = {_identity(path): what for what, path in inputs}
    for what, path in outputs:
        if path.exists() and not path.is_file():
            continue
        identity = _identity(path)
        if identity in seen:
            raise FileError(
                f"{path}: expected another file for {what} than {seen[identity]}, found one and "
                "the same; give another name"
            )
        seen[identity] = what


def _identity(path: str | PathLike[str]) -> Hashable:
    """What is equal for two paths of one file, or of one that can be there only once."""
    path = Path(os.path.realpath(path))
    try:
        status = path.stat()
    except OSError:
        has_folder = path.parent != path
        return (
            (_identity(path.parent), normalize("NFC", path.name).casefold()) if has_folder else ""
        )
    return status.st_dev, status.st_ino


@contextmanager
def locked(path: Path, *, wait: bool = True) -> Iterator[None]:
    """Waits until no other process is in a block like this on the same file or folder.

    wait: False raises BlockingIOError instead. Where the system or its file system has no such
    locks, nothing is waited for.
    """
    try:
        import fcntl
    except ImportError:  # Windows
        yield
        return
    lock = os.open(path, os.O_RDONLY)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            raise
        except OSError:
            pass
        yield
    finally:
        os.close(lock)  # which unlocks it, as the end of the process does


def _flush(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())
