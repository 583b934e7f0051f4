"""Files by path or URL: listed, looked at, and opened for reading; URLs by fsspec."""

from __future__ import annotations

import glob
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from cigpose_runtime.errors import FileError, InstallError, first_line
from cigpose_runtime.files import open_file, read_bytes


def is_url(name: str) -> bool:
    """Whether fsspec has to be asked what this is: s3://bucket/folder, hf://datasets/..."""
    return "://" in name


def kind_of(name: str) -> str | None:
    """What it is: "directory", "file", "other" (a pipe, a device), or None if nothing is there."""
    with access(name):
        try:
            if not is_url(name):
                return _kind(Path(name).stat().st_mode)
            fs, path = file_system(name)
            return str(fs.info(path)["type"])
        except (FileNotFoundError, NotADirectoryError):
            return None


def _kind(mode: int) -> str:
    if stat.S_ISDIR(mode):
        return "directory"
    return "file" if stat.S_ISREG(mode) else "other"


def stamp_of(name: str) -> str:
    """Changes when the file does: its size, and its ETag or time; empty where nothing is."""
    if not is_url(name):  # long lists: fsspec would take five times as long
        try:
            found = Path(name).stat()
        except OSError:
            return ""
        return _stamp({"size": found.st_size, "mtime": found.st_mtime})
    with access(name):
        fs, path = file_system(name)
        try:
            return _stamp(fs.info(path))
        except (FileNotFoundError, NotADirectoryError):
            return ""


def files_below(folder: str, *, but: str | None) -> Iterator[tuple[str, str]]:
    """Name and stamp of every file in a folder and its folders, sorted, but not those below `but`.

    The names start with `folder`, as it was given. Links to folders are not followed.
    """
    given = folder.rstrip("/") or "/"
    if not is_url(folder):
        with access(folder):
            names = sorted(_local_files_below(given, but and os.path.realpath(but)))
        yield from ((name, stamp_of(name)) for name in names)
        return
    with access(folder):
        fs, root = file_system(folder)
        found = fs.find(root, detail=True)
        left_out = f"{file_system(but)[1].rstrip('/')}/" if but and is_url(but) else None
    for path in sorted(found):
        if left_out is None or not path.startswith(left_out):
            yield f"{given}{path.removeprefix(root.rstrip('/'))}", _stamp(found[path])


def _local_files_below(folder: str, but: str | None) -> Iterator[str]:
    """As files_below. What may not be listed is an error, which fsspec would leave out."""

    def fail(error: OSError) -> None:
        raise FileError(
            f"{error.filename}: expected a folder to look into, found: {error.strerror}; check "
            "your rights, or name what you want"
        ) from error

    for root, folders, names in os.walk(folder, onerror=fail):
        folders[:] = [name for name in folders if os.path.realpath(f"{root}/{name}") != but]
        yield from (f"{root.rstrip('/')}/{name}" for name in names)


def matching(pattern: str) -> list[str]:
    """The names that a pattern with *, ?, [] or ** matches, sorted."""
    if not is_url(pattern):
        return sorted(glob.glob(pattern, recursive=True))  # noqa: PTH207 - keeps ./ as given
    with access(pattern):
        fs, path = file_system(pattern)
        return sorted(str(fs.unstrip_protocol(one)) for one in fs.glob(path))


def read(name: str, expected: str) -> bytes:
    """The content of a file. expected: what it should be, for the message: "a picture"."""
    if not is_url(name):
        return read_bytes(name, expected)
    with access(name):
        fs, path = file_system(name)
        return bytes(fs.cat_file(path))


@contextmanager
def opened(name: str, expected: str) -> Iterator[BinaryIO]:
    """A file for reading, with seek. Raises FileError for whatever is in the way of opening it."""
    if not is_url(name):
        with open_file(name, expected) as file:
            yield file
        return
    with access(name):
        fs, path = file_system(name)
        remote = fs.open(path, "rb")
    with remote:
        yield remote


def file_system(name: str) -> tuple[Any, str]:
    """The fsspec file system that a path or URL names, and the path in it."""
    import fsspec

    if not is_url(name):  # a colon in it means nothing
        return fsspec.filesystem("file"), str(Path(name).absolute())
    fs, path = fsspec.core.url_to_fs(name)
    return fs, str(path)


@contextmanager
def access(name: str) -> Iterator[None]:
    """What a file system raises inside, in the words of its library, becomes a FileError."""
    try:
        yield
    except (FileError, InstallError):
        raise
    except ImportError as error:
        raise InstallError(
            f"{name}: expected what opens this URL, found none ({first_line(error)}); install it"
        ) from error
    except Exception as error:
        reason = getattr(error, "strerror", None) or f"{type(error).__name__}: {first_line(error)}"
        raise FileError(
            f"{name}: expected access to it, found: {reason}; check the name and your rights"
        ) from error


def _stamp(info: dict[str, Any]) -> str:
    version = info.get("ETag") or info.get("mtime") or info.get("LastModified") or ""
    return f"{info.get('size')} {version}".strip()
