"""Writes H.264 videos that browsers play, with PyAV."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from fractions import Fraction
from os import PathLike
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from cigpose_runtime.arrays import Pixels
from cigpose_runtime.errors import FileError, first_line
from cigpose_runtime.files import partial_name, place_to_write
from cigpose_runtime.media.sound import Sound
from cigpose_runtime.media.video import LARGE_PIXELS, Frame

CODEC, PIXEL_FORMAT = "libx264", "yuv420p"
"""What every browser plays."""

MATRIX_BT709 = 1
"""Of YUV, as ISO 23091-2 numbers it. Files say which, lest players guess by the size."""

QUALITY = {"crf": "20", "preset": "superfast", "mbtree": "1", "rc-lookahead": "10"}
"""Half the time of veryfast. Without mbtree, noise makes files of superfast 5 times as large."""

LARGE_QUALITY = {"crf": "20", "preset": "veryfast", "rc-lookahead": "0", "bf": "0"}
"""Of frames of more than LARGE_PIXELS: 0.7 GB for 8K, where looking ahead takes 2.3 GB."""


ROOM_BYTES = 64 << 20
"""That stay free: the index, 30 bytes a frame, comes last, and other results may go there, too."""


SUFFIXES = frozenset({".mp4", ".mov", ".m4v"})
"""Of names that such a video may have."""

AS_IT_COMES = {"max_interleave_delta": "1000000", "flush_packets": "1"}
"""Of FFmpeg: what is written goes to the disk, and waits for a second at most for later sound."""

GROWING = {"movflags": "hybrid_fragmented+delay_moov", "frag_duration": "1000000"}
"""Of FFmpeg's MP4: it plays at any time but for its last second, and has one index when it ends."""

MOST_SOUND_LATE_S = 10.0
"""For FFmpeg keeps the first fragment in memory until there is sound; else there are none."""


class VideoWriter:
    """An H.264 file that plays in a browser, with the sound of another file.

    Frames keep their times, and so does the sound. The file has its name only when `close` has
    finished it; what was written until then is kept, also when that comes early. Leaving a `with`
    block by Ctrl-C finishes it, with no more sound than pictures, and so does a disk that is nearly
    full; leaving it by another error discards it. SIGKILL leaves a hidden `.partial` file beside
    its place, which plays as far as it was written.
    Raises FileError for a place that cannot be written to, and for frames that cannot be encoded.
    """

    def __init__(
        self, path: str | PathLike[str], *, rate: Fraction, audio_from: Path | None = None
    ) -> None:
        import av

        self.path = Path(path)
        if self.path.suffix.lower() not in SUFFIXES:
            raise FileError(f"{path}: expected a name that ends in .mp4; give another one")
        if self.path.exists() and not self.path.is_file():
            raise FileError(
                f"{path}: expected a place for a file, in which MP4 goes back and forth, found "
                "none; give another name"
            )
        self._target = Path(os.path.realpath(self.path))
        self._partial = partial_name(self._target)
        with place_to_write(self.path):
            self._target.parent.mkdir(parents=True, exist_ok=True)
            self._partial.touch(exist_ok=False)
        with self._encoding():
            self._container = av.open(
                f"file:{self._partial}", "w", format="mp4", options=dict(AS_IT_COMES)
            )
        self._rate = rate
        self._video: Any = None
        self._sound_from = audio_from
        self._sound: Sound | None = None
        self._end = 0.0

    def write(self, frame: Frame) -> None:
        """Adds a frame; all have the first one's size."""
        import av
        from av.video.reformatter import ColorRange, Colorspace

        if shutil.disk_usage(self._target.parent).free < ROOM_BYTES:
            self.close(ends_early=True)
            raise FileError(
                f"{self.path}: expected room for more, found less than {ROOM_BYTES >> 20} MB; the "
                "file has the frames until then; make room"
            )
        with self._encoding():
            if self._video is None:
                self._start(frame)
            picture = av.VideoFrame.from_ndarray(_even(frame.pixels), format="bgr24").reformat(
                format=PIXEL_FORMAT,
                dst_colorspace=Colorspace.ITU709,
                dst_color_range=ColorRange.MPEG,
            )
            picture.pts = frame.pts
            picture.time_base = frame.time_base
            self._mux(self._video.encode(picture))
            self._end = frame.seconds + float(1 / self._rate)

    def _start(self, frame: Frame) -> None:
        from av.video.reformatter import ColorRange

        height, width = _even(frame.pixels).shape[:2]
        options = dict(LARGE_QUALITY if height * width > LARGE_PIXELS else QUALITY)
        self._video = self._container.add_stream(CODEC, rate=self._rate, options=options)
        self._video.width, self._video.height = width, height
        self._video.pix_fmt = PIXEL_FORMAT
        self._video.codec_context.time_base = frame.time_base
        self._video.codec_context.colorspace = MATRIX_BT709
        self._video.codec_context.color_range = ColorRange.MPEG
        if self._sound_from is not None:
            self._sound = Sound(self._sound_from, self._container)
        if self._sound is None or self._sound.next_at < MOST_SOUND_LATE_S:
            self._container.options.update(GROWING)

    def _mux(self, packets: Any) -> None:
        for packet in packets:
            if self._sound is not None:
                self._sound.mux_until(float(packet.dts * packet.time_base))
            self._container.mux(packet)

    @property
    def sound_left_out(self) -> str:
        """Why sound is missing, "" if none is."""
        return self._sound.left_out if self._sound is not None else ""

    def close(self, *, ends_early: bool = False) -> None:
        """Finishes the file and gives it its name; without a frame there is none.

        ends_early: leaves out the sound after the last frame.
        """
        with self._encoding():
            if self._video is not None:
                self._mux(self._video.encode(None))
                if self._sound is not None:
                    self._sound.mux_until(self._end if ends_early else float("inf"))
            self._container.close()
        with place_to_write(self.path):
            if self._video is None:
                self._partial.unlink(missing_ok=True)
            else:
                self._put_index_first()
                self._partial.replace(self._target)

    def _put_index_first(self) -> None:
        """As a browser wants it, which then plays what it has; where there is room for a copy."""
        import av

        if shutil.disk_usage(self._target.parent).free < self._partial.stat().st_size + ROOM_BYTES:
            return
        copy, options = partial_name(self._target), {"movflags": "faststart"}
        with suppress(av.error.FFmpegError, OSError, ValueError):  # what is there plays, too
            with (
                av.open(f"file:{self._partial}") as whole,
                av.open(f"file:{copy}", "w", format="mp4", options=options) as target,
            ):
                streams = [target.add_stream_from_template(stream) for stream in whole.streams]
                for packet in whole.demux():
                    if packet.dts is not None:
                        packet.stream = streams[packet.stream.index]
                        target.mux(packet)
            copy.replace(self._partial)
        copy.unlink(missing_ok=True)

    def discard(self) -> None:
        """Leaves nothing of it."""
        import av

        with suppress(av.error.FFmpegError, OSError, ValueError):  # whose cause is on its way
            self._container.close()
        self._partial.unlink(missing_ok=True)

    @contextmanager
    def _encoding(self) -> Iterator[None]:
        import av

        try:
            yield
        except (av.error.FFmpegError, OSError, ValueError, OverflowError) as error:
            raise FileError(
                f"{self.path}: expected frames, times and sound that an MP4 can hold, and room for "
                f"it, found: {getattr(error, 'strerror', None) or first_line(error)}; give another "
                "video or place, or leave --save out"
            ) from error

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if error is None or isinstance(error, KeyboardInterrupt):
                self.close(ends_early=error is not None)
        finally:
            self.discard()


def _even(pixels: Pixels) -> Pixels:
    """Its last row and column repeated where the size is odd, which yuv420p cannot have."""
    height, width = pixels.shape[:2]
    if height % 2 == 0 and width % 2 == 0:
        return pixels
    return np.pad(pixels, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
