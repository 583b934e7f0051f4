"""Files that stay whole, record by record, while they are written."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import BinaryIO

from cigpose_runtime.errors import FileError
from cigpose_runtime.files import place_to_write


class NoRoomError(FileError):
    """Results have no place any more, which ends the work."""


class Records:
    """A file of records that are each there whole or not at all, however the work ends.

    A full disk, Ctrl-C or an error may come in the middle of one. What closes the file, as the last
    bracket of a JSON list, is behind the records at any time: there may be no room for it later.
    file: what is written to. is_file: False for stdout. separator: between records. Raises
    NoRoomError.
    """

    def __init__(
        self,
        path: Path,
        file: BinaryIO,
        *,
        is_file: bool,
        header: str = "",
        separator: str = "",
        closing: str = "",
    ) -> None:
        self._path = path
        self._file = file
        self._separator, self._closing = separator.encode(), closing.encode()
        self._is_regular = is_file and stat.S_ISREG(os.fstat(file.fileno()).st_mode)
        self._end = 0
        self._has_records = False
        self._write(header.encode())

    def add(self, record: str) -> None:
        """Adds a record; one that does not fit leaves those before it as they are."""
        data = record.encode()
        if data:
            self._write(self._separator + data if self._has_records else data)
            self._has_records = True

    def _write(self, data: bytes) -> None:
        try:
            with place_to_write(self._path):
                if self._is_regular:
                    self._put_whole(data)
                else:
                    self._file.write(data)
        except FileError as error:
            raise NoRoomError(str(error)) from error

    def _put_whole(self, data: bytes) -> None:
        try:
            self._put(data + self._closing)
            self._end += len(data)
        except BaseException:
            os.ftruncate(self._file.fileno(), self._end + len(self._closing))
            self._put(self._closing)
            raise

    def keep(self, size: int) -> None:
        """Goes on behind the first bytes of a regular file that was there before."""
        with place_to_write(self._path):
            os.ftruncate(self._file.fileno(), size)
        self._end = size

    def _put(self, data: bytes) -> None:
        """Writes behind the last record, past the file's buffer, which would try again later."""
        descriptor, left = self._file.fileno(), memoryview(data)
        os.lseek(descriptor, self._end, os.SEEK_SET)
        while left:
            left = left[os.write(descriptor, left) :]

    def close(self) -> None:
        """Ends what is no regular file, and has no closing yet."""
        if not self._is_regular:
            with place_to_write(self._path):
                self._file.write(self._closing)
