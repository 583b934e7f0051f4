"""Videos with drawn truth: a frame that flashes at the very moment when the sound clicks."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np

RATE = 16_000
FLASH = 12
"""The index of the bright frame; there are 25 a second."""


def flash_and_click(
    path: Path,
    *,
    sound="aac",
    codec="libx264",
    count=30,
    pictures_from=0.0,
    sound_from=0.0,
    seconds_of_sound=None,
    sample_rate=RATE,
):
    """A clip whose pictures and sound start at these seconds of its clock."""
    with av.open(str(path), "w", options={"avoid_negative_ts": "disabled"}) as container:
        stream = container.add_stream(codec, rate=25)
        stream.width, stream.height = 64, 48
        stream.pix_fmt = "yuv420p"
        stream.codec_context.time_base = Fraction(1, 1000)
        heard = container.add_stream(sound, rate=sample_rate, layout="mono") if sound else None
        packets = []
        for index in range(count):
            level = 230 if index == FLASH else 30
            picture = av.VideoFrame.from_ndarray(np.full((48, 64, 3), level, np.uint8), "bgr24")
            picture.pts = round((pictures_from + index / 25) * 1000)
            picture.time_base = Fraction(1, 1000)
            packets += stream.encode(picture)
        packets += stream.encode(None)
        if heard is not None:
            seconds = count / 25 if seconds_of_sound is None else seconds_of_sound
            samples = np.zeros(round(seconds * sample_rate), np.int16)
            click = round((pictures_from + FLASH / 25 - sound_from) * sample_rate)
            samples[click : click + 4] = 30_000
            for start in range(0, len(samples), 1024):
                frame = av.AudioFrame.from_ndarray(
                    samples[None, start : start + 1024], "s16", "mono"
                )
                frame.sample_rate = sample_rate
                frame.time_base = Fraction(1, sample_rate)
                frame.pts = round(sound_from * sample_rate) + start
                packets += heard.encode(frame)
            packets += heard.encode(None)
        for packet in sorted(packets, key=lambda packet: packet.dts * packet.time_base):
            container.mux(packet)
    return path


def when(path: Path):
    """Seconds of the flash, the click, and the ends of pictures and sound, as FFmpeg reads them."""
    with av.open(str(path)) as container:
        start = (container.start_time or 0) / 1e6
        seen = [
            (frame.to_ndarray(format="gray").mean(), frame.time)
            for frame in container.decode(video=0)
        ]
        last = seen[-1][1] + 1 / 25
    with av.open(str(path)) as container:
        heard = [
            (level, frame.time + place / frame.sample_rate)
            for frame in container.decode(audio=0)
            for place, level in enumerate(np.abs(frame.to_ndarray().astype(float)).max(axis=0))
        ]
    times = max(seen)[1], max(heard)[1], last, heard[-1][1]
    return tuple(time - start for time in times)
