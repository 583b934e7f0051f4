"""Sound never costs a video: which is taken, and what becomes of one that MP4 cannot hold."""

from fractions import Fraction

import av
import numpy as np
import pytest

from cigpose_runtime.media.video import VideoReader
from cigpose_runtime.media.video_writer import VideoWriter
from clips import flash_and_click


def saved(source, target):
    with (
        VideoReader(source) as reader,
        VideoWriter(target, rate=reader.rate, audio_from=source) as writer,
    ):
        for frame in reader:
            writer.write(frame)
    return writer.sound_left_out


def types(path):
    with av.open(str(path)) as container:
        assert sum(1 for _ in container.decode(video=0)) == 30
        return [stream.type for stream in container.streams]


def test_sound_of_an_unknown_codec_is_left_out(tmp_path):
    clip = flash_and_click(tmp_path / "a.mkv", sound="pcm_s16le")
    clip.write_bytes(clip.read_bytes().replace(b"A_PCM/INT/LIT", b"A_ODD/NEW/ONE"))
    assert saved(clip, tmp_path / "b.mp4") == "its codec is unknown here"
    assert types(tmp_path / "b.mp4") == ["video"]


@pytest.mark.parametrize("sound", ["aac", "mp2"])
def test_sound_that_cannot_be_decoded_is_left_out(tmp_path, sound):
    clip = flash_and_click(tmp_path / "a.mkv", sound=sound, sample_rate=16_000)
    data = clip.read_bytes()
    with av.open(str(clip)) as container:
        packets = [bytes(packet) for packet in container.demux(audio=0) if packet.size]
    for packet in packets:
        data = data.replace(packet, b"\xff" * len(packet))
    clip.write_bytes(data)
    assert saved(clip, tmp_path / "b.mp4") == "nothing of it can be decoded"
    assert types(tmp_path / "b.mp4") == ["video"]


def test_sound_that_breaks_off_leaves_the_pictures_whole(tmp_path):
    """AAC of a TS has a header before each frame, without which it cannot be copied."""
    clip = flash_and_click(tmp_path / "a.ts", seconds_of_sound=1.2)
    data = bytearray(clip.read_bytes())
    place = [i for i in range(len(data)) if data[i : i + 2] == b"\xff\xf1"]
    for start in place[len(place) // 2 :]:
        data[start : start + 2] = b"\0\0"
    clip.write_bytes(data)
    assert saved(clip, tmp_path / "b.mp4").startswith("the rest of it is damaged")
    assert types(tmp_path / "b.mp4") == ["video", "audio"]


def two_sounds(path, default):
    """A loud and a quiet one, of which one has the flag."""
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=25)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        sounds = [container.add_stream("aac", rate=16_000, layout="mono") for _ in range(2)]
        for index, stream in enumerate(sounds):
            stream.disposition = av.stream.Disposition.default if index == default else 0
        for index in range(30):
            picture = av.VideoFrame.from_ndarray(np.zeros((48, 64, 3), np.uint8), "bgr24")
            picture.pts, picture.time_base = index, Fraction(1, 25)
            container.mux(video.encode(picture))
        container.mux(video.encode(None))
        for stream, level in zip(sounds, (20_000, 2_000), strict=True):
            wave = (np.sin(np.arange(16_000) / 5) * level).astype(np.int16)[None]
            frame = av.AudioFrame.from_ndarray(wave, "s16", "mono")
            frame.sample_rate = 16_000
            container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
    return path


@pytest.mark.parametrize(("default", "is_loud"), [(0, True), (1, False)])
def test_the_default_sound_is_taken(tmp_path, default, is_loud):
    clip = two_sounds(tmp_path / "a.mkv", default)
    assert saved(clip, tmp_path / "b.mp4") == ""
    with av.open(str(tmp_path / "b.mp4")) as container:
        assert len(container.streams.audio) == 1
        level = max(np.abs(frame.to_ndarray()).max() for frame in container.decode(audio=0))
    assert (level > 0.3) == is_loud
