"""Videos that are no files: behind URLs, for which a command asks, and on stdin."""

from __future__ import annotations

import os
import re
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from fractions import Fraction
from typing import BinaryIO
from urllib.parse import urlsplit

from cigpose_runtime.errors import CigposeError, FileError, error_context, quoted
from cigpose_runtime.media.mp4_header import check_sample_counts
from cigpose_runtime.media.video import (
    DECODER_OPTIONS,
    FORMATS,
    Frame,
    VideoReader,
    open_container,
    open_media,
)
from cigpose_runtime.releases.http import masked
from cigpose_runtime.sources.http_file import TRIES, WAIT_S, HttpFile

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")

STREAMED = (*(form for form in FORMATS if form != "mov"), "mpjpeg")
"""What is read without a look at its header first: no MP4. mpjpeg is what web cameras send."""

_RTSP = {
    **DECODER_OPTIONS,
    "rtsp_transport": "tcp",
    "timeout": "10000000",  # microseconds
    "protocol_whitelist": "rtsp,rtp,tcp",
    "format_whitelist": "rtsp,sdp,rtp",
}
_RTSPS = {**_RTSP, "protocol_whitelist": "rtsps,rtsp,rtp,tls,tcp"}

_MP4_HEADER_BYTES = 8
_MP4_STARTS = {b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"styp", b"moof"}


def is_url(name: str) -> bool:
    """Whether a source is a URL, and so no file."""
    return _URL.match(name) is not None


def open_url(url: str) -> VideoReader | LiveStream:
    """The frames of a video on a web server, or of a live stream, by http(s) or rtsp(s).

    Raises FileError and DownloadError, which name it without user, password and query.
    """
    scheme = urlsplit(url).scheme
    if scheme in ("rtsp", "rtsps"):
        return LiveStream(url, _open_rtsp)
    if scheme not in ("http", "https"):
        raise FileError(
            f"{masked(url)}: expected a URL with http, https, rtsp or rtsps, found "
            f"{quoted(scheme)}; give one of these, or a file"
        )
    file = HttpFile(url)
    if file.size is None:
        file.close()
        return LiveStream(url, _open_live_http)
    with error_context(masked(url)):
        check_sample_counts(file, file.size)
    file.seek(0)
    return VideoReader(masked(url), open_media(file, masked(url)))


def _open_live_http(url: str) -> VideoReader:
    return VideoReader(masked(url), open_media(HttpFile(url), masked(url), formats=STREAMED))


def _open_rtsp(url: str) -> VideoReader:
    options = _RTSPS if urlsplit(url).scheme == "rtsps" else _RTSP
    name = masked(url)
    return VideoReader(
        name, open_container(url, name, "a stream", form="rtsp", options=dict(options))
    )


class LiveStream:
    """The frames of a stream that happens just now; a connection that is lost is made anew.

    Its time goes on meanwhile. The end of what has a duration is an end, and so is that of HTTP.
    Raises what `open_once` raises for the first connection, and FileError after TRIES without a
    frame.
    """

    def __init__(self, url: str, open_once: Callable[[str], VideoReader]) -> None:
        self._url = url
        self._open_once = open_once
        self._reader = open_once(url)
        self._pale = False
        self.rate = self._reader.rate
        self.is_large = self._reader.is_large
        self.announced = self.read = 0

    @property
    def is_pale(self) -> bool:
        """As VideoReader's."""
        return self._reader.is_pale

    @property
    def errors(self) -> list[CigposeError]:
        """None: frames get lost on the way of a stream, and nobody counts them."""
        return []

    def __iter__(self) -> Iterator[Frame]:
        start = until = 0.0
        last = time.monotonic()
        tries = 0
        while True:
            first: float | None = None
            lost = "it ended"
            ends = False
            try:
                for frame in self._reader:
                    first = frame.seconds if first is None else first
                    until = start + frame.seconds - first
                    yield _at(frame, self.read, until)
                    self.read += 1
                    last, tries = time.monotonic(), 0
                ends = self._reader.duration is not None or self._open_once is _open_live_http
            except CigposeError as error:
                lost = str(error)
            self._reader.close()
            if ends:
                return
            self._reader, tries = self._reopened(tries, lost)
            start = until + time.monotonic() - last if self.read else 0.0

    def _reopened(self, tries: int, lost: str) -> tuple[VideoReader, int]:
        """Another connection, after so many tries since the last frame, and how many these are."""
        while tries < TRIES:
            time.sleep(WAIT_S * 2**tries)
            tries += 1
            try:
                return self._open_once(self._url), tries
            except CigposeError as error:
                lost = str(error)
        raise FileError(
            f"{masked(self._url)}: expected that the stream goes on, found it lost, and {TRIES} "
            f"tries in vain ({lost}); check the camera and the network"
        )

    def close(self) -> None:
        """Ends the connection."""
        self._reader.close()


def _at(frame: Frame, index: int, seconds: float) -> Frame:
    unit = Fraction(1, 90_000)
    return replace(frame, index=index, pts=round(seconds / unit), time_base=unit)


def open_stdin() -> VideoReader:
    """The frames of the video on stdin, as they come; an MP4 is copied to a temporary file first.

    Raises FileError.
    """
    stdin = sys.stdin.buffer
    start = b""
    while len(start) < _MP4_HEADER_BYTES and (more := os.read(stdin.fileno(), 1 << 15)):
        start += more
    if start[4:8] not in _MP4_STARTS:
        return VideoReader("stdin", open_media(_Pipe(start, stdin), "stdin", formats=STREAMED))
    file = tempfile.TemporaryFile()  # noqa: SIM115 - it lasts as long as its reader
    file.write(start)
    while portion := os.read(stdin.fileno(), 1 << 20):
        file.write(portion)
    check_sample_counts(file, file.tell())
    file.seek(0)
    return VideoReader("stdin", open_media(file, "stdin"))


class _Pipe:
    """A file that only goes forward, from a start that has been read already."""

    def __init__(self, start: bytes, rest: BinaryIO) -> None:
        self._start = start
        self._rest = rest

    def read(self, size: int) -> bytes:
        """At most so many bytes, at least one before the end."""
        if not self._start:  # past the buffer, whose lock would keep a program from ending
            return os.read(self._rest.fileno(), size)
        portion, self._start = self._start[:size], self._start[size:]
        return portion
