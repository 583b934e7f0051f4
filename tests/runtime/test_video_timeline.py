"""Pictures and sound have one timeline, whatever the clock of the file says."""

import shutil
from contextlib import contextmanager
from fractions import Fraction

import av
import numpy as np
import pytest

from cigpose_runtime.commands.webcam import _as_they_happen
from cigpose_runtime.media import video_writer
from cigpose_runtime.media.video import VideoReader
from cigpose_runtime.media.video_writer import VideoWriter
from clips import FLASH, flash_and_click, when

SYNC_S = 0.003
"""AAC spreads a click over some samples; the largest difference here is 0.00013 s."""


def saved(source, target, *, stop_after=None):
    """What the reader reads and the writer writes; the writer. stop_after: frames until Ctrl-C."""
    try:
        with (
            VideoReader(source) as reader,
            VideoWriter(target, rate=reader.rate, audio_from=source) as writer,
        ):
            for frame in reader:
                if frame.index == stop_after:
                    raise KeyboardInterrupt
                writer.write(frame)
    except KeyboardInterrupt:
        pass
    return writer


def seconds(path):
    with VideoReader(path) as reader:
        return [frame.seconds for frame in reader]


SOUNDS = [
    ("a.ts", "aac", 16_000),  # as these are, the sound is copied
    ("a.mp4", "aac", 16_000),
    ("a.mkv", "libopus", 48_000),
    ("a.ts", "mp2", 16_000),  # as these are, it is encoded again
    ("a.mkv", "pcm_s16le", 11_000),
    ("a.mkv", "pcm_s16le", 96_000),
    ("a.mkv", "libmp3lame", 8_000),  # a rate that MP4 does not have for it
]


@pytest.mark.parametrize(("name", "sound", "rate"), SOUNDS)
@pytest.mark.parametrize(("pictures_from", "sound_from"), [(1.48, 1.48), (10.4, 10), (10, 10.4)])
def test_the_sound_is_heard_when_the_picture_is_seen(
    tmp_path, name, sound, rate, pictures_from, sound_from
):
    times = {"pictures_from": pictures_from, "sound_from": sound_from}
    clip = flash_and_click(tmp_path / name, sound=sound, sample_rate=rate, **times)
    flash, click, *_ = when(clip)
    assert saved(clip, tmp_path / "b.mp4").sound_left_out == ""
    assert when(tmp_path / "b.mp4")[:2] == pytest.approx((flash, click), abs=SYNC_S)


def test_the_results_have_the_times_of_the_saved_video(tmp_path):
    clip = flash_and_click(tmp_path / "a.ts", pictures_from=10.4, sound_from=10)
    saved(clip, tmp_path / "b.mp4")
    with av.open(str(tmp_path / "b.mp4")) as container:
        shown = [frame.time for frame in container.decode(video=0)]
    assert seconds(clip) == pytest.approx(shown, abs=1e-3)


@pytest.mark.parametrize("sound", ["aac", "mp2"])
def test_after_ctrl_c_there_is_no_more_sound_than_pictures(tmp_path, sound):
    clip = flash_and_click(tmp_path / "a.ts", sound=sound, seconds_of_sound=4)
    saved(clip, tmp_path / "b.mp4", stop_after=20)
    _, _, pictures, heard = when(tmp_path / "b.mp4")
    shift = seconds(clip)[0]
    assert pictures == pytest.approx(shift + 20 / 25, abs=1e-3)
    assert pictures - 0.1 < heard < pictures + 1024 / 16_000 + 0.001  # one AAC frame


@contextmanager
def growing(clip, target):
    """The file of a copy that has all frames and is not finished."""
    with (
        VideoReader(clip) as reader,
        VideoWriter(target, rate=reader.rate, audio_from=clip) as writer,
    ):
        for frame in reader:
            writer.write(frame)
        (partial,) = target.parent.glob(f".{target.name}.*.partial")
        yield partial


@pytest.mark.parametrize("name", ["a.mp4", "a.ts"])
def test_what_is_written_plays_in_sync_before_it_is_finished(tmp_path, name):
    clip = flash_and_click(tmp_path / name, count=100)
    with growing(clip, tmp_path / "b.mp4") as partial:
        flash, click, pictures, heard = when(partial)
    assert flash == pytest.approx(click, abs=SYNC_S)
    assert pictures > 2  # of 4 seconds: one of them and what the encoder looks ahead are to come
    assert abs(pictures - heard) < 0.25  # two AAC frames, and pictures that come out of order


def test_what_is_written_plays_where_the_sound_has_ended(tmp_path):
    clip = flash_and_click(tmp_path / "a.mp4", count=100, seconds_of_sound=1)
    with growing(clip, tmp_path / "b.mp4") as partial, av.open(str(partial)) as container:
        shown = [frame.time for frame in container.decode(video=0)]
    # Of 4 seconds, two of them and what the encoder looks ahead are to come.
    assert shown[:25] == pytest.approx([n / 25 for n in range(25)], abs=1e-3)


def test_pictures_do_not_wait_in_memory_for_sound_that_comes_late(tmp_path):
    clip = flash_and_click(tmp_path / "a.mp4", count=1000, sound_from=30, seconds_of_sound=5)
    target = tmp_path / "b.mp4"
    with (
        VideoReader(clip) as reader,
        VideoWriter(target, rate=reader.rate, audio_from=clip) as writer,
    ):
        for frame in reader:
            writer.write(frame)
            if frame.index == 700:
                (partial,) = tmp_path.glob(".b.mp4.*.partial")
                written = partial.stat().st_size
    assert written > target.stat().st_size / 4
    with av.open(str(target)) as container:
        assert next(container.decode(audio=0)).time == pytest.approx(30, abs=0.07)


def boxes(path):
    """The names of an MP4's outermost boxes, in order."""
    data, place, names = path.read_bytes(), 0, []
    while place < len(data):
        names.append(data[place + 4 : place + 8].decode())
        place += int.from_bytes(data[place : place + 4], "big")
    return names


def test_a_finished_video_has_its_index_first_where_there_is_room_for_a_copy(tmp_path, monkeypatch):
    clip = flash_and_click(tmp_path / "a.mp4")
    saved(clip, tmp_path / "b.mp4")
    real = shutil.disk_usage
    monkeypatch.setattr(
        shutil, "disk_usage", lambda path: real(path)._replace(free=video_writer.ROOM_BYTES)
    )
    saved(clip, tmp_path / "c.mp4")
    assert boxes(tmp_path / "b.mp4") == ["ftyp", "moov", "free", "mdat"]
    assert boxes(tmp_path / "c.mp4") == ["ftyp", "free", "mdat", "moov"]
    assert when(tmp_path / "b.mp4") == pytest.approx(when(tmp_path / "c.mp4"), abs=1e-4)
    assert not list(tmp_path.glob(".*"))


def test_sound_that_outlasts_the_pictures_stays_whole(tmp_path):
    clip = flash_and_click(tmp_path / "a.mp4", seconds_of_sound=4)
    saved(clip, tmp_path / "b.mp4")
    assert when(tmp_path / "b.mp4")[3] == pytest.approx(4, abs=2 * 1024 / 16_000)


@pytest.mark.parametrize(("name", "codec"), [("a.h264", "libx264"), ("a.hevc", "libx265")])
def test_frames_without_time_stamps_come_one_after_the_other(tmp_path, name, codec):
    clip = flash_and_click(tmp_path / name, sound=None, codec=codec, count=50)
    assert seconds(clip) == pytest.approx([index / 25 for index in range(50)])


def test_a_recording_that_starts_again_goes_on(tmp_path):
    one = flash_and_click(tmp_path / "one.ts", sound=None, pictures_from=2)
    two = flash_and_click(tmp_path / "two.ts", sound=None, pictures_from=1, count=50)
    (tmp_path / "a.ts").write_bytes(one.read_bytes() + two.read_bytes())
    times = seconds(tmp_path / "a.ts")
    assert len(times) >= 79  # the demuxer calls a packet damaged where the two meet
    assert times == pytest.approx([index / 25 for index in range(len(times))], abs=0.041)
    assert np.diff(times) == pytest.approx(1 / 25, abs=0.041)


def test_a_file_is_shown_at_once_whatever_its_clock_says(tmp_path, monkeypatch):
    clip = flash_and_click(tmp_path / "a.ts", pictures_from=30, sound_from=10)
    slept = []
    monkeypatch.setattr("time.monotonic", lambda: 1000.0 + sum(slept))
    monkeypatch.setattr("time.sleep", slept.append)
    with VideoReader(clip) as reader:
        assert len(list(_as_they_happen(reader))) == 30
    assert sum(slept) == pytest.approx(29 / 25)


def test_a_header_that_counts_more_frames_is_no_damage(tmp_path):
    """An AVI with gaps counts the empty packets in them; FFmpeg writes them so."""
    path = tmp_path / "a.avi"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for time in (0, 1, 5, 11):
            picture = av.VideoFrame.from_ndarray(np.zeros((48, 64, 3), np.uint8), "bgr24")
            picture.pts, picture.time_base = time, Fraction(1, 25)
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))
    with VideoReader(path) as reader:
        assert [frame.seconds * 25 for frame in reader] == pytest.approx([0, 1, 5, 11])
    assert (reader.read, reader.skipped, reader.announced) == (4, 0, 12)


def test_a_clip_that_was_trimmed_without_encoding_it_again_is_no_damage(tmp_path):
    """Its edit list (ISO 14496-12, elst) says that it starts at the 11th of the 50 frames."""
    path = flash_and_click(tmp_path / "a.mp4", sound=None, count=50)
    with av.open(str(path)) as container:
        unit = container.streams.video[0].time_base
    data = bytearray(path.read_bytes())
    media_time = data.index(b"elst") + 4 + 4 + 4 + 4
    starts = int.from_bytes(data[media_time : media_time + 4], "big") + round(10 / 25 / unit)
    data[media_time : media_time + 4] = starts.to_bytes(4, "big")
    path.write_bytes(data)
    with VideoReader(path) as reader:
        frames = list(reader)
    assert [frame.seconds for frame in frames] == pytest.approx([i / 25 for i in range(40)])
    assert [frame.index for frame in frames if frame.pixels.mean() > 128] == [FLASH - 10]
    assert (reader.skipped, reader.announced) == (0, 50)
