"""Reads videos, with PyAV.

A video is a file whatever its name looks like, and reaches no other file or server. What cannot be
decoded is left out and counted; who reads decides what follows from that.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from os import PathLike
from pathlib import Path
from types import TracebackType
from typing import Any

from cigpose_runtime.arrays import Pixels
from cigpose_runtime.errors import CheckError, CigposeError, FileError, error_context, first_line
from cigpose_runtime.files import open_file
from cigpose_runtime.media.mp4_header import check_sample_counts
from cigpose_runtime.media.shown import Screen, pixel_aspect, size_shown
from cigpose_runtime.media.timeline import Clock

MOST_PIXELS = 36_000_000
"""Of a frame: 8K (8192 x 4320) fits. A decoder keeps several, and so do the queues behind it."""

LARGE_PIXELS = 9_000_000
"""Of a frame: more than 4K (4096 x 2160), of which few are kept at once."""

FORMATS = (
    *("asf", "avi", "flv", "gif", "matroska", "mov", "mpeg", "mpegts", "mxf", "nut", "ogg"),
    *("dv", "h264", "hevc", "ivf", "m4v", "mjpeg", "mpegvideo", "obu", "yuv4mpegpipe"),
)
"""What is read: containers, then bare streams, by FFmpeg's names. Left out of the 300 that it knows
are those that open other files or servers: concat, hls, dash, image2, sdp."""

SUFFIXES = frozenset({".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".ts", ".webm"})
"""Files of a folder that are taken for videos."""

_PATIENCE_S = 1.0
"""For another thread that reads while the file is to be closed."""

DECODER_OPTIONS = {"max_pixels": str(MOST_PIXELS)}


@dataclass(frozen=True, eq=False)
class Frame:
    """One picture of a video: (H, W, 3) uint8 BGR as a player shows it, and when.

    It is upright and has square pixels; high dynamic range is tone-mapped.

    pts: from the start of the file, that is of the earliest of its pictures and sound, in units of
    time_base, seconds.
    """

    pixels: Pixels
    index: int
    pts: int
    time_base: Fraction

    @property
    def seconds(self) -> float:
        """From the start of the file."""
        return float(self.pts * self.time_base)


class VideoReader:
    """The frames of a video file, in order, as they are shown, with their own time stamps.

    Raises FileError for a file that is no video, has no codec here, is of more than MOST_PIXELS, or
    is cut before anything can be read. Of several videos in it the default one is read. After the
    last frame, `skipped` says how many were damaged, an end in the middle of one too. `announced`
    is how many the file's header counts, 0 if it does not; a clip that was trimmed without encoding
    it again has fewer. `is_large` says whether frames are of more than LARGE_PIXELS.
    """

    def __init__(self, path: str | PathLike[str], container: Any = None) -> None:
        """container: of PyAV, if it is open already; `path` is what it is called then."""
        self._container = open_media_file(Path(path)) if container is None else container
        self._name = path
        self._stream: Any = self._container.streams.best("video")
        if self._stream is None:
            raise FileError(f"{path}: expected a video, found no pictures in it; give another file")
        decoder = self._stream.codec_context
        if decoder is None:
            raise FileError(f"{path}: expected a video, found a codec unknown here; convert it")
        aspect = pixel_aspect(self._stream)
        width, height = size_shown(decoder.width, decoder.height, aspect)
        if width * height > MOST_PIXELS:
            raise FileError(
                f"{path}: expected frames of at most {MOST_PIXELS:,} pixels, found "
                f"{width} x {height}; scale the video down"
            )
        self._in_use = threading.Lock()
        self._is_closed = False
        self._screen = Screen(aspect)
        self.is_large = width * height > LARGE_PIXELS
        decoder.options = DECODER_OPTIONS
        decoder.thread_type = "AUTO"
        self._damaged_packets = 0
        self._lost_frames = 0
        self.read = 0
        self.announced = int(self._stream.frames or 0)
        self.rate = Fraction(self._stream.average_rate or self._stream.guessed_rate or 25)
        self._usual_duration = round(1 / (self.rate * self._stream.time_base))

    @property
    def is_pale(self) -> bool:
        """Whether high dynamic range could not be tone-mapped so far."""
        return self._screen.is_pale

    @property
    def skipped(self) -> int:
        """How many frames were damaged so far; decoders conceal some and do not say so."""
        return max(self._damaged_packets, self._lost_frames)

    @property
    def errors(self) -> list[CigposeError]:
        """What was wrong with it so far."""
        if not self.skipped:
            return []
        return [
            CheckError(
                f"{self._name}: expected {self.read + self.skipped} frames, found {self.skipped} "
                "damaged or missing ones; the results have the others"
            )
        ]

    @property
    def duration(self) -> float | None:
        """In seconds, as far as the file says."""
        return None if self._container.duration is None else self._container.duration / 1e6

    def __iter__(self) -> Iterator[Frame]:
        import av

        time_base = self._stream.time_base
        clock = Clock(self._container, time_base)
        for picture in self._pictures():
            try:
                pixels = self._screen(picture)
            except (av.error.FFmpegError, ValueError, MemoryError):
                self._lost_frames += 1
                continue
            pts = clock(picture.pts, picture.duration or self._usual_duration)
            yield Frame(pixels, self.read, pts, time_base)
            self.read += 1
        if not self.read:
            raise FileError(
                f"{self._name}: expected a video of at most {MOST_PIXELS:,} pixels a frame, found "
                "no frame that can be decoded; give another file"
            )

    def _pictures(self) -> Iterator[Any]:
        packets = self._container.demux(self._stream)
        while True:
            with self._in_use:
                decoded = None if self._is_closed else self._decoded(packets)
            if decoded is None:
                return
            for picture in decoded:
                if picture.is_corrupt:
                    self._lost_frames += 1
                else:
                    yield picture

    def _decoded(self, packets: Iterator[Any]) -> Sequence[Any] | None:
        """The pictures of the next packet; None at the end."""
        import av

        try:
            packet = next(packets, None)
        except av.error.FFmpegError:
            self._lost_frames += 1  # the file ends in the middle of something
            return None
        if packet is None:
            return None
        self._damaged_packets += packet.is_corrupt
        try:
            pictures: Sequence[Any] = packet.decode()
        except av.error.FFmpegError:
            self._lost_frames += 1
            return ()
        return pictures

    def close(self) -> None:
        """Closes the file. One that another thread waits for, as a pipe, is left open."""
        if self._in_use.acquire(timeout=_PATIENCE_S):
            self._is_closed = True
            self._container.close()
            self._in_use.release()

    def __enter__(self) -> VideoReader:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def open_media_file(path: Path) -> Any:
    """PyAV's container of a file with pictures or sound. Raises FileError."""
    with open_file(path, "a video") as file, error_context(path):
        check_sample_counts(file, path.stat().st_size)
    # Without the prefix "http:a.mp4" is an address, and "12:30:45.mp4" one of no known kind.
    return open_media(f"file:{path}", path, protocols="file")


def open_media(
    address: Any, name: object, *, protocols: str = "none", formats: Collection[str] = FORMATS
) -> Any:
    """PyAV's container of an address of FFmpeg's, or an open file. Raises FileError, about `name`.

    protocols: by which it is reached, of FFmpeg's. An MP4 is one whose header has been looked at.
    """
    options = {
        "protocol_whitelist": protocols,
        "format_whitelist": ",".join(formats),
        **DECODER_OPTIONS,
    }
    return open_container(address, name, f"a video ({', '.join(formats)})", options=options)


def open_container(
    address: Any,
    name: object,
    expected: str,
    *,
    form: str | None = None,
    options: dict[str, str] | None = None,
) -> Any:
    """PyAV's container of whatever FFmpeg finds at an address. Raises FileError, about `name`."""
    import av

    try:
        return av.open(address, format=form, options=options or {}, metadata_errors="replace")
    except (av.error.FFmpegError, ValueError, MemoryError) as error:
        raise FileError(
            f"{name}: expected {expected}, but it cannot be read "
            f"({getattr(error, 'strerror', None) or first_line(error)}); give another one"
        ) from error
