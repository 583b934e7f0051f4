"""The folder of the results, here or behind a URL: every file in it is whole or not there."""

from __future__ import annotations

import errno
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from cigpose_runtime.errors import FileError, InputError
from cigpose_runtime.files import appears_whole, locked
from cigpose_runtime.sources import storage


@dataclass(frozen=True)
class LocalFolder:
    """A folder of this machine. name: as the user gave it."""

    name: str

    def names(self) -> list[str]:
        """The files and folders in it, sorted."""
        return sorted(path.name for path in Path(self.name).iterdir())

    def file(self, name: str) -> str:
        """Path or URL of one of them."""
        return str(Path(self.name, name))

    @contextmanager
    def writing(self, name: str) -> Iterator[BinaryIO]:
        """A file that appears under that name, whole, when the block ends without an error."""
        with _space(self.file(name)), appears_whole(Path(self.name, name)) as file:
            yield file

    def remove(self, name: str) -> None:
        """Removes a file."""
        Path(self.name, name).unlink(missing_ok=True)

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Raises InputError when another process is in a block like this."""
        try:
            with locked(Path(self.name), wait=False):
                yield
        except BlockingIOError as error:
            raise InputError(
                f"{self.name}: expected that no other run writes there, found one under way; wait "
                "for it or give another folder"
            ) from error


@dataclass(frozen=True)
class UrlFolder:
    """A folder of any file system that fsspec knows, used as LocalFolder.

    Nothing keeps a second run away there; it writes the same.
    """

    name: str

    def names(self) -> list[str]:
        with storage.access(self.name):
            fs, root = storage.file_system(self.name)
            fs.invalidate_cache()
            if not fs.exists(root):
                return []
            return sorted(path.rstrip("/").rpartition("/")[2] for path in fs.ls(root, detail=False))

    def file(self, name: str) -> str:
        return f"{self.name}/{name}"

    @contextmanager
    def writing(self, name: str) -> Iterator[BinaryIO]:
        with tempfile.TemporaryDirectory(prefix="cigpose-label-") as folder:
            here = Path(folder, name)
            with _space(str(here)), here.open("wb") as file:
                yield file
            with storage.access(self.file(name)):
                fs, path = storage.file_system(self.file(name))
                fs.makedirs(path.rpartition("/")[0], exist_ok=True)
                partial = f"{path}.partial"  # not every file system shows a file only when whole
                fs.put_file(str(here), partial)
                fs.mv(partial, path)

    def remove(self, name: str) -> None:
        with storage.access(self.file(name)):
            fs, path = storage.file_system(self.file(name))
            if fs.exists(path):
                fs.rm_file(path)

    @contextmanager
    def alone(self) -> Iterator[None]:
        yield


Folder = LocalFolder | UrlFolder


def open_folder(name: str) -> Folder:
    """Makes the folder if it is not there yet. Raises FileError for one that cannot be."""
    if storage.is_url(name):
        return UrlFolder(name.rstrip("/"))
    try:
        Path(name).mkdir(parents=True, exist_ok=True)
        LocalFolder(name).names()  # it may be there and closed to us
    except OSError as error:
        raise FileError(
            f"{name}: expected a folder to write to, found: {error.strerror}; correct the path"
        ) from error
    return LocalFolder(name)


@contextmanager
def _space(name: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        todo = "free some space" if full else "correct the folder"
        raise FileError(
            f"{name}: expected a place to write to, found: {error.strerror or error}; {todo} and "
            "run the same command again"
        ) from error
