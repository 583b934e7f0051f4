"""Videos and cameras, in and out, with PyAV.

What cannot be decoded is left out and counted; who reads decides what follows from that.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from os import PathLike
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from cigpose_runtime.arrays import Pixels
from cigpose_runtime.errors import FileError
from cigpose_runtime.files import open_file

CODEC, PIXEL_FORMAT = "libx264", "yuv420p"
"""What every browser plays."""

QUALITY = {"crf": "20", "preset": "veryfast"}

COPIED_AUDIO = frozenset({"aac", "ac3", "alac", "flac", "mp3", "opus"})
"""Codecs that MP4 holds; other audio is encoded as AAC."""

CAMERA_FORMATS = {"linux": "v4l2", "darwin": "avfoundation", "win32": "dshow"}


@dataclass(frozen=True, eq=False)
class Frame:
    """One picture of a video: (H, W, 3) uint8 BGR, upright, and when it is shown."""

    pixels: Pixels
    index: int
    pts: int
    time_base: Fraction

    @property
    def seconds(self) -> float:
        """From the start of the file's clock."""
        return float(self.pts * self.time_base)


class VideoReader:
    """The frames of a video file, in order; upright, with their own time stamps.

    Raises FileError for a file that is no video, has no codec here, or is cut before anything can
    be read. After the last frame, `skipped` says how many could not be decoded, and `announced`
    how many the file's header had promised, 0 if it did not.
    """

    def __init__(self, path: str | PathLike[str]) -> None:
        with open_file(path, "a video"):
            pass  # for what may be wrong with the path
        self.path = Path(path)
        self._container = _opened(str(path), self.path)
        streams = self._container.streams.video
        if not streams:
            raise FileError(f"{path}: expected a video, found no pictures in it; give another file")
        self._stream = streams[0]
        self._stream.thread_type = "AUTO"
        self.skipped = 0
        self.read = 0
        self.announced = int(self._stream.frames or 0)
        self.rate = Fraction(self._stream.average_rate or self._stream.guessed_rate or 25)

    def __iter__(self) -> Iterator[Frame]:
        import av

        last = -1
        for packet in self._packets():
            try:
                decoded = packet.decode()
            except av.error.FFmpegError:
                self.skipped += 1
                continue
            for picture in decoded:
                if picture.is_corrupt:
                    self.skipped += 1
                    continue
                pts = last + 1 if picture.pts is None else max(picture.pts, last + 1)
                last = pts
                yield Frame(_upright(picture), self.read, pts, picture.time_base)
                self.read += 1
        if not self.read:
            raise FileError(
                f"{self.path}: expected a video, found no frame that can be decoded; "
                "give another file"
            )

    def _packets(self) -> Iterator[Any]:
        import av

        packets = self._container.demux(self._stream)
        while True:
            try:
                packet = next(packets, None)
            except av.error.FFmpegError:
                return  # the file ends in the middle of something
            if packet is None:
                return
            yield packet

    def close(self) -> None:
        """Closes the file."""
        self._container.close()

    def __enter__(self) -> VideoReader:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class Camera:
    """The frames of a camera, by its number or its name on this platform; endless."""

    def __init__(self, device: str) -> None:
        form = CAMERA_FORMATS.get(sys.platform)
        if form is None:
            raise FileError(f"expected a camera, found a platform without one ({sys.platform})")
        name = f"/dev/video{device}" if device.isdigit() and form == "v4l2" else device
        self.path = Path(name)
        self._container = _opened(name, self.path, form)
        self.rate = Fraction(self._container.streams.video[0].average_rate or 30)

    def __iter__(self) -> Iterator[Frame]:
        for index, picture in enumerate(self._container.decode(video=0)):
            yield Frame(_upright(picture), index, picture.pts or index, picture.time_base)


class VideoWriter:
    """An H.264 file that plays in a browser, with the audio of another file.

    Frames keep their time stamps. The file has its name only when `close` has finished it; what
    was written until then is kept, also when that comes early. Leaving a `with` block by an error
    discards it.
    Raises FileError for a place that cannot be written to.
    """

    def __init__(
        self, path: str | PathLike[str], *, rate: Fraction, audio_from: Path | None = None
    ) -> None:
        import av

        self.path = Path(path)
        if self.path.suffix.lower() not in (".mp4", ".mov", ".m4v"):
            raise FileError(f"{path}: expected a name that ends in .mp4; give another one")
        self._partial = self.path.with_name(f".{self.path.stem}.partial{self.path.suffix}")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._container = av.open(
                str(self._partial), "w", format="mp4", options={"movflags": "faststart"}
            )
        except (OSError, av.error.FFmpegError) as error:
            raise FileError(
                f"{path}: expected a place to write to, found: {error}; correct the path"
            ) from error
        self._rate = rate
        self._video: Any = None
        self._audio_from = audio_from
        self._audio: _Audio | None = None
        self._first_pts = 0

    def write(self, frame: Frame) -> None:
        """Adds a frame; all have the first one's size."""
        import av

        if self._video is None:
            self._start(frame)
        picture = av.VideoFrame.from_ndarray(_even(frame.pixels), format="bgr24")
        picture.pts = frame.pts - self._first_pts
        picture.time_base = frame.time_base
        self._mux(self._video.encode(picture))

    def _start(self, frame: Frame) -> None:
        height, width = _even(frame.pixels).shape[:2]
        self._video = self._container.add_stream(CODEC, rate=self._rate, options=dict(QUALITY))
        self._video.width, self._video.height = width, height
        self._video.pix_fmt = PIXEL_FORMAT
        self._video.codec_context.time_base = frame.time_base
        self._first_pts = frame.pts
        if self._audio_from is not None:
            self._audio = _Audio(self._audio_from, self._container)

    def _mux(self, packets: Any) -> None:
        for packet in packets:
            if self._audio is not None and packet.dts is not None:
                self._audio.mux_until(float(packet.dts * packet.time_base))
            self._container.mux(packet)

    def close(self) -> None:
        """Finishes the file and gives it its name; without a frame there is none."""
        if self._video is not None:
            self._mux(self._video.encode(None))
            if self._audio is not None:
                self._audio.mux_until(float("inf"))
        self._container.close()
        if self._video is None:
            self._partial.unlink(missing_ok=True)
        else:
            self._partial.replace(self.path)

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is None:
            self.close()
        else:
            self._container.close()
            self._partial.unlink(missing_ok=True)


class _Audio:
    """The audio of a file, muxed into another one as its pictures proceed."""

    def __init__(self, source: Path, target: Any) -> None:
        import av

        self._target = target
        self._container = av.open(str(source))
        streams = self._container.streams.audio
        self._packets: Iterator[Any] = iter(())
        self._waiting: Any = None
        if streams:
            stream = streams[0]
            if stream.codec_context.name in COPIED_AUDIO:
                copied = target.add_stream_from_template(stream)
                self._packets = _retargeted(self._container.demux(stream), copied)
            else:
                encoded = target.add_stream("aac", rate=stream.codec_context.sample_rate)
                self._packets = _encoded(self._container.decode(stream), encoded)

    def mux_until(self, seconds: float) -> None:
        """Muxes what is heard up to this time."""
        import av

        while True:
            try:
                packet = self._waiting or next(self._packets, None)
            except av.error.FFmpegError:
                packet = None  # the file is damaged there: what was heard so far stays
                self._packets = iter(())
            self._waiting = packet
            if packet is None:
                return
            if packet.dts is not None and float(packet.dts * packet.time_base) > seconds:
                return
            self._target.mux(packet)
            self._waiting = None


def _retargeted(packets: Iterator[Any], stream: Any) -> Iterator[Any]:
    for packet in packets:
        if packet.dts is not None:
            packet.stream = stream
            yield packet


def _encoded(frames: Iterator[Any], stream: Any) -> Iterator[Any]:
    for frame in frames:
        frame.pts = None
        yield from stream.encode(frame)
    yield from stream.encode(None)


def _opened(name: str, path: Path, form: str | None = None) -> Any:
    import av

    try:
        return av.open(name, format=form)
    except av.error.FFmpegError as error:
        raise FileError(
            f"{path}: expected a video, found none that can be read ({error.strerror}); "
            "give another file or device"
        ) from error


def _upright(picture: Any) -> Pixels:
    """BGR, turned as the file says it has to be shown."""
    pixels: Pixels = picture.to_ndarray(format="bgr24")
    turns = round(picture.rotation / 90) % 4
    return np.ascontiguousarray(np.rot90(pixels, turns)) if turns else pixels


def _even(pixels: Pixels) -> Pixels:
    """Its last row and column repeated where the size is odd, which yuv420p cannot have."""
    height, width = pixels.shape[:2]
    if height % 2 == 0 and width % 2 == 0:
        return pixels
    return np.pad(pixels, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
