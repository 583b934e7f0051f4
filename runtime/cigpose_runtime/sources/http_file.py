"""A file on a web server, read as if it were here; what breaks off is taken up where it stopped."""

from __future__ import annotations

import http.client
import os
import time

from cigpose_runtime.errors import DownloadError, FileError, first_line
from cigpose_runtime.releases.http import Answer, GoneError, ask, masked

TRIES = 5
"""In a row, until a connection that was lost is given up."""

WAIT_S = 1.0
"""Before the first of them; twice as long before each other one."""

MOST_AT_ONCE = 1 << 28
"""Bytes: an MP4 header says how long it is."""

_MOST = 1 << 50
_LEAST_RATE = 1.0
"""Bytes in a second. A camera that sees nothing move sends little, and what waits is not sent."""


class HttpFile:
    """Read-only, for PyAV. Can be moved about in if the server says how long it is.

    size: None where it does not, as for what happens just now. Raises DownloadError.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._place = 0
        self._answer: Answer | None = None
        self.size: int | None = None
        self._connect()
        assert self._answer is not None
        self.size = self._answer.length

    def _connect(self) -> None:
        self._answer = ask(self._url, self._place, expected="a video")
        self._answer.paced.body_follows(_MOST, _LEAST_RATE)
        if self._place and self._answer.status != http.HTTPStatus.PARTIAL_CONTENT:
            self.close()
            raise GoneError(
                f"{masked(self._url)}: expected a server that can begin anywhere in a file, found "
                "one that cannot; download the file first"
            )

    def read(self, size: int) -> bytes:
        """So many bytes, fewer at the end; of what happens just now, as many as there are."""
        if size > MOST_AT_ONCE:
            raise FileError(
                f"{masked(self._url)}: expected parts of at most {MOST_AT_ONCE} bytes, found a "
                f"header of {size}; download the file first"
            )
        if self.size is None:
            return self._some(size)
        portions = []
        left = min(size, self.size - self._place)
        while left > 0:
            portions.append(self._tried(left))
            left -= len(portions[-1])
        return b"".join(portions)

    def _tried(self, size: int) -> bytes:
        for number in range(TRIES + 1):
            try:
                if self._answer is None:
                    self._connect()
                if portion := self._some(size):
                    return portion
                raise DownloadError(f"{masked(self._url)}: expected all of it, but it broke off")
            except GoneError:
                raise
            except DownloadError:
                self.close()
                if number == TRIES:
                    raise
                time.sleep(WAIT_S * 2**number)
        raise AssertionError(number)

    def _some(self, size: int) -> bytes:
        assert self._answer is not None
        try:
            portion = self._answer.read1(size)
        except (OSError, http.client.HTTPException) as error:
            raise DownloadError(
                f"{masked(self._url)}: expected all of it, but it broke off "
                f"({masked(first_line(error))}); check the network"
            ) from error
        self._place += len(portion)
        return portion

    def seekable(self) -> bool:
        """Whether `seek` works."""
        return self.size is not None

    def seek(self, place: int, whence: int = os.SEEK_SET) -> int:
        """The place of the next byte to read."""
        assert self.size is not None
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._place, os.SEEK_END: self.size}[whence]
        if start + place != self._place:
            self._place = start + place
            self.close()
        return self._place

    def tell(self) -> int:
        """As `seek` returns it."""
        return self._place

    def close(self) -> None:
        """Ends the connection; reading opens another one."""
        if self._answer is not None:
            self._answer.close()
            self._answer = None
