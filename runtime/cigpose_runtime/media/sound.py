"""The sound of a video, put into another one as its pictures proceed."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

from cigpose_runtime.errors import CigposeError, first_line
from cigpose_runtime.media.timeline import Clock
from cigpose_runtime.media.video import open_media_file

COPIED = frozenset({"aac", "ac3", "alac", "flac", "mp3", "opus"})
"""Codecs that MP4 holds and browsers play; other sound is encoded as AAC."""

RATES = (48000, 44100, 32000, 24000, 22050, 16000, 12000, 11025, 8000)
"""Samples a second, of those that AAC has; 96 kHz and more become 48."""

Way = Callable[[Any, Any, Any], Iterator[Any]]
"""From PyAV's container, one of its streams and a target, the packets for that target."""


class Sound:
    """The default sound of a file, muxed into `target`, a container of PyAV.

    left_out: why there is none of it, or from where on, "" if all of it is there. No sound keeps
    the pictures from being written.
    """

    def __init__(self, source: Path, target: Any) -> None:
        self.left_out = ""
        self._target = target
        self._packets: Iterator[Any] = iter(())
        self._waiting: Any = None
        container, stream = _opened(source)
        if stream is None:
            return
        if stream.codec_context is None:
            self.left_out = "its codec is unknown here"
            return
        for way in (_copied, _encoded):
            self.left_out = _tried(way, source)
            if not self.left_out:
                self._packets = way(container, stream, target)
                self._waiting = next(self._packets)
                return

    @property
    def next_at(self) -> float:
        """When the next of it is heard, in seconds; 0 where there is no more."""
        return float(self._waiting.dts * self._waiting.time_base) if self._waiting else 0.0

    def mux_until(self, seconds: float) -> None:
        """Muxes what is heard before this time."""
        while True:
            try:
                packet = self._waiting or next(self._packets, None)
                self._waiting = packet
                if packet is None or packet.dts * packet.time_base >= seconds:
                    return
                self._target.mux(packet)
            except ValueError as error:  # of PyAV, for what cannot be decoded, encoded or muxed
                self.left_out = f"the rest of it is damaged ({_reason(error)})"
                self._packets = iter(())
            self._waiting = None


def _opened(source: Path) -> tuple[Any, Any]:
    """The container, and the stream that players take, None if there is none."""
    container = open_media_file(source)
    return container, container.streams.best("audio")


def _tried(way: Way, source: Path) -> str:
    """What is wrong with an MP4 of this sound alone, whose start is written to memory; or ""."""
    import av

    container, stream = _opened(source)
    try:
        with container, av.open(io.BytesIO(), "w", format="mp4") as target:
            target.mux(next(way(container, stream, target)))
    except StopIteration:
        return "nothing of it can be decoded"
    except (av.error.FFmpegError, ValueError, CigposeError) as error:
        return _reason(error)
    return ""


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or first_line(error)


def _copied(container: Any, stream: Any, target: Any) -> Iterator[Any]:
    from av.bitstream import BitStreamFilterContext

    if stream.codec_context.name not in COPIED:
        raise ValueError(f"{stream.codec_context.name} does not play in browsers")
    clock = Clock(container, stream.time_base)
    copied = target.add_stream_from_template(stream)
    is_adts = stream.codec_context.name == "aac" and not stream.codec_context.extradata
    # As in MPEG-TS. FFmpeg's MP4 changes it by itself, but not where its index comes later.
    unwrap = BitStreamFilterContext("aac_adtstoasc", stream) if is_adts else None
    for whole in _packets(container, stream):
        if whole.size and whole.dts is not None:
            whole.pts = whole.dts = clock(whole.dts, whole.duration)
            for packet in unwrap.filter(whole) if unwrap is not None else [whole]:
                packet.stream = copied
                yield packet


def _encoded(container: Any, stream: Any, target: Any) -> Iterator[Any]:
    """Gaps become silence, also the one before a sound that starts after the pictures."""
    import av

    encoded: Any = None
    for frame in _frames(container, stream):
        if encoded is None:
            rate = min(RATES, key=lambda rate: abs(rate - frame.sample_rate))
            clock = Clock(container, Fraction(1, frame.sample_rate))
            layout = "mono" if frame.layout.nb_channels == 1 else "stereo"
            encoded = target.add_stream("aac", rate=rate, layout=layout)
            graph = av.filter.Graph()
            graph.link_nodes(
                graph.add_abuffer(
                    format=frame.format.name,
                    layout=frame.layout.name,
                    sample_rate=frame.sample_rate,
                    time_base=Fraction(1, frame.sample_rate),
                ),
                graph.add("aresample", f"{rate}:async=1:first_pts=0"),
                graph.add("abuffersink"),
            ).configure()
        stamp = (
            None if frame.pts is None else round(frame.pts * frame.time_base * frame.sample_rate)
        )
        frame.pts, frame.time_base = clock(stamp, frame.samples), Fraction(1, frame.sample_rate)
        graph.push(frame)
        yield from _pulled(graph, encoded)
    if encoded is not None:
        graph.push(None)
        yield from _pulled(graph, encoded)
        yield from encoded.encode(None)


def _pulled(graph: Any, encoded: Any) -> Iterator[Any]:
    import av

    while True:
        try:
            frame = graph.pull()
        except (av.error.BlockingIOError, av.error.EOFError):
            return
        yield from encoded.encode(frame)


def _packets(container: Any, stream: Any) -> Iterator[Any]:
    """Those until the file ends, which may be in the middle of something."""
    import av

    try:
        yield from container.demux(stream)
    except av.error.FFmpegError:
        return


def _frames(container: Any, stream: Any) -> Iterator[Any]:
    """Those that can be decoded."""
    import av

    for packet in _packets(container, stream):
        try:
            frames = packet.decode()
        except av.error.FFmpegError:
            continue
        yield from frames
