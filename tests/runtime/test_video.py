"""Videos in and out: time stamps, rotation, audio, damage."""

import os
import stat
import struct
import subprocess
import sys
import threading
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from PIL import Image

from chromium import chromium, needs_chromium
from cigpose_runtime.errors import FileError
from cigpose_runtime.media import video, video_writer
from cigpose_runtime.media.kept import batched
from cigpose_runtime.media.threads import Behind, in_order, prefetched
from cigpose_runtime.media.video import Frame, VideoReader
from cigpose_runtime.media.video_writer import VideoWriter


def level(index):
    return 20 + 4 * index


def make_clip(
    path, *, count=30, size=(64, 48), times=None, audio=None, codec="libx264", options=None
):
    """A clip whose frames get brighter and whose left half is darker than its right one."""
    with av.open(str(path), "w", options=options or {}) as container:
        stream = container.add_stream(codec, rate=25, options={"g": "5"})
        stream.width, stream.height = size
        stream.pix_fmt = "yuv420p"
        stream.codec_context.time_base = Fraction(1, 1000) if times else Fraction(1, 25)
        heard = container.add_stream(audio, rate=8000) if audio else None
        noise = np.random.default_rng(0)
        for index in range(count):
            pixels = np.full((size[1], size[0], 3), level(index), np.uint8)
            pixels[:, size[0] // 2 :] += 60
            pixels[size[1] // 2 :] += noise.integers(
                0, 40, (size[1] - size[1] // 2, size[0], 3), np.uint8
            )
            picture = av.VideoFrame.from_ndarray(pixels, format="bgr24")
            picture.pts = times[index] if times else index
            picture.time_base = stream.codec_context.time_base
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))
        if heard is not None:
            sound = (np.sin(np.arange(8000) / 5) * 9000).astype(np.int16)[None]
            frame = av.AudioFrame.from_ndarray(sound, format="s16", layout="mono")
            frame.sample_rate = 8000
            container.mux(heard.encode(frame))
            container.mux(heard.encode(None))
    return path


def copied(source, target, **options):
    with (
        VideoReader(source) as reader,
        VideoWriter(target, rate=reader.rate, **options) as writer,
    ):
        for frame in reader:
            writer.write(frame)
    return target


def test_frames_come_in_order_with_their_times(tmp_path):
    with VideoReader(make_clip(tmp_path / "a.mp4")) as reader:
        frames = list(reader)
    assert [frame.index for frame in frames] == list(range(30))
    assert [frame.seconds for frame in frames] == pytest.approx([i / 25 for i in range(30)])
    assert [abs(int(f.pixels[5, 5, 1]) - level(f.index)) <= 3 for f in frames] == [True] * 30
    assert (reader.read, reader.skipped, reader.announced) == (30, 0, 30)


def test_pixels_are_those_that_opencv_reads(tmp_path):
    path = make_clip(tmp_path / "a.mp4", size=(320, 240))
    capture = cv2.VideoCapture(str(path))
    with VideoReader(path) as reader:
        for frame in reader:
            is_there, pixels = capture.read()
            assert is_there
            assert np.array_equal(frame.pixels, pixels)


def test_a_written_video_plays_everywhere_and_keeps_its_times(tmp_path):
    times = [0, 40, 50, 200, 205, 900, 1000]
    clip = make_clip(tmp_path / "a.mp4", count=7, times=times)
    with av.open(str(copied(clip, tmp_path / "b.mp4"))) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")
        seen = [frame.time for frame in container.decode(video=0)]
    assert seen == pytest.approx([t / 1000 for t in times], abs=1e-3)


@pytest.mark.parametrize("size", [(64, 48), (63, 47), (1, 1)])
def test_odd_sizes_are_made_even(tmp_path, size):
    pixels = np.full((size[1], size[0], 3), 120, np.uint8)
    with VideoWriter(tmp_path / "a.mp4", rate=Fraction(25)) as writer:
        for index in range(3):
            writer.write(Frame(pixels, index, index, Fraction(1, 25)))
    with VideoReader(tmp_path / "a.mp4") as reader:
        heights = {frame.pixels.shape[:2] for frame in reader}
    assert heights == {(size[1] + size[1] % 2, size[0] + size[0] % 2)}


@pytest.mark.parametrize(
    ("container", "audio", "expected"), [("a.mp4", "aac", "aac"), ("a.avi", "pcm_s16le", "aac")]
)
def test_audio_comes_along(tmp_path, container, audio, expected):
    clip = make_clip(tmp_path / container, audio=audio)
    with av.open(str(copied(clip, tmp_path / "b.mp4", audio_from=clip))) as target:
        assert [stream.type for stream in target.streams] == ["video", "audio"]
        assert target.streams.audio[0].codec_context.name == expected
        heard = sum(frame.samples for frame in target.decode(audio=0))
    assert heard == pytest.approx(8000, abs=2048)


def test_a_video_without_audio_stays_without(tmp_path):
    clip = make_clip(tmp_path / "a.mp4")
    with av.open(str(copied(clip, tmp_path / "b.mp4", audio_from=clip))) as target:
        assert [stream.type for stream in target.streams] == ["video"]


def test_a_video_cut_at_its_end_has_no_index_and_is_refused(tmp_path):
    path = make_clip(tmp_path / "a.mp4")
    path.write_bytes(path.read_bytes()[:-600])
    with pytest.raises(FileError, match=r"a\.mp4: expected a video"):
        VideoReader(path)


@pytest.mark.parametrize("name", ["a.avi", "a.mp4"])
def test_a_video_cut_in_the_middle_gives_what_is_there_and_says_so(tmp_path, name):
    options = {"movflags": "faststart"} if name == "a.mp4" else None
    codec = "libx264" if name == "a.mp4" else "mpeg4"
    path = make_clip(tmp_path / name, size=(320, 240), options=options, codec=codec)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * 0.6)])
    with VideoReader(path) as reader:
        frames = list(reader)
    assert 0 < len(frames) < 30
    assert reader.announced == 30
    assert reader.skipped


def test_damaged_frames_are_counted(tmp_path):
    path = make_clip(tmp_path / "a.mp4", count=40)
    data = bytearray(path.read_bytes())
    start = data.index(b"mdat") + 4
    rng = np.random.default_rng(0)
    for place in rng.integers(start + 900, start + (len(data) - start) // 2, 200):
        data[place] ^= 0xFF
    path.write_bytes(data)
    with VideoReader(path) as reader:
        frames = list(reader)
    assert reader.skipped > 0
    assert 0 < len(frames) < 40
    assert len(frames) + reader.skipped >= 30


@pytest.mark.parametrize(
    "spoil",
    [
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(b"\0" * 5000),
        lambda path: path.write_text("<html></html>"),
        lambda path: path.mkdir(),
        lambda path: None,
    ],
    ids=["empty", "zeros", "html", "directory", "missing"],
)
def test_what_is_no_video_is_one_line(tmp_path, spoil):
    path = tmp_path / "a.mp4"
    spoil(path)
    with pytest.raises(FileError, match=r"a\.mp4: expected a video") as raised:
        VideoReader(path)
    assert "\n" not in str(raised.value)


def test_sound_alone_is_no_video(tmp_path):
    with av.open(str(tmp_path / "a.m4a"), "w") as container:
        stream = container.add_stream("alac", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), "s16p", "mono")
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    with pytest.raises(FileError, match="found no pictures"):
        VideoReader(tmp_path / "a.m4a")


@pytest.mark.parametrize("name", ["a.gif", "a", "folder/file/a.mp4"])
def test_a_place_that_no_video_goes_to_is_refused(tmp_path, name):
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "file").write_text("")
    with pytest.raises(FileError, match="expected a"):
        VideoWriter(tmp_path / name, rate=Fraction(25))


def test_an_error_discards_the_video_and_keeps_what_was_there(tmp_path):
    path = make_clip(tmp_path / "a.mp4", count=3)
    before = path.read_bytes()
    with pytest.raises(RuntimeError), VideoWriter(path, rate=Fraction(25)) as writer:
        writer.write(Frame(np.zeros((4, 4, 3), np.uint8), 0, 0, Fraction(1, 25)))
        raise RuntimeError
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["a.mp4"]


# Files that strangers made, and names that look like something else.


@pytest.mark.parametrize(
    "name",
    ["http:a.mp4", "tcp:a.mp4", "12:30:45.mp4", "concat:a|b.mp4", "file:a.mp4", "pipe:0", "-"],
)
def test_a_file_is_a_file_whatever_its_name_looks_like(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    make_clip(tmp_path / "plain.mp4", count=3, audio="aac").rename(name)
    with VideoReader(name) as reader:
        assert len(list(reader)) == 3
    copied(name, f"{name}.copy.mp4", audio_from=Path(name))
    with VideoReader(f"{name}.copy.mp4") as reader:
        assert len(list(reader)) == 3
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted([name, f"{name}.copy.mp4"])


def hls(folder):
    """With segments of another folder, and without an end, which FFmpeg would wait for."""
    return "a.m3u8", f"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{folder}/theirs.ts\n"


def concat(folder):
    return "a.txt", f"ffconcat version 1.0\nfile {folder}/theirs.ts\n"


def dash(folder):
    base = f"<BaseURL>{folder}/theirs.ts</BaseURL>"
    period = f"<Representation id='1' bandwidth='1'>{base}</Representation>"
    return "a.mpd", (
        "<MPD xmlns='urn:mpeg:dash:schema:mpd:2011' type='static'><Period>"
        f"<AdaptationSet mimeType='video/mp4'>{period}</AdaptationSet></Period></MPD>"
    )


def sdp(_folder):
    return (
        "a.sdp",
        "v=0\no=- 0 0 IN IP4 127.0.0.1\nm=video 5004 RTP/AVP 96\na=rtpmap:96 H264/90000\n",
    )


@pytest.mark.parametrize("playlist", [hls, concat, dash, sdp])
@pytest.mark.parametrize("suffix", ["", ".mp4"])
def test_a_list_of_other_files_or_servers_is_no_video(tmp_path, playlist, suffix):
    (tmp_path / "their").mkdir()
    make_clip(tmp_path / "their" / "theirs.ts", count=3)
    name, content = playlist(tmp_path / "their")
    path = tmp_path / f"{name}{suffix}"
    path.write_text(content)
    with pytest.raises(FileError, match="expected a video"):
        VideoReader(path)


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.avi", "a.ts"])
def test_tags_in_another_encoding_do_not_matter(tmp_path, name):
    path = tmp_path / name
    with av.open(str(path), "w") as container:
        container.metadata["title"] = "Gr\u00fc\u00dfe"
        stream = container.add_stream("mpeg4", rate=25)
        stream.width, stream.height = 64, 48
        frame = av.VideoFrame.from_ndarray(np.zeros((48, 64, 3), np.uint8), format="bgr24")
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    data = path.read_bytes()
    path.write_bytes(data.replace("Gr\u00fc\u00dfe".encode(), b"Gr\xfc\xdfe\xff\xfe"))
    with VideoReader(path) as reader:
        assert len(list(reader)) == 1


@pytest.mark.skipif(sys.platform != "linux", reason="peak memory is read from /proc")
def test_a_small_gif_does_not_fill_the_memory(tmp_path):
    """Its header says 60,000 x 60,000, for which FFmpeg would take 14 GB."""
    path = tmp_path / "a.gif"
    Image.new("P", (8, 8)).save(path)
    data = bytearray(path.read_bytes())
    data[6:10] = struct.pack("<HH", 60_000, 60_000)
    path.write_bytes(data)
    code = (
        "import re, sys\n"
        "from pathlib import Path\n"
        "from cigpose_runtime.errors import FileError\n"
        "from cigpose_runtime.media.video import VideoReader\n"
        "try:\n"
        "    list(VideoReader(sys.argv[1]))\n"
        "except FileError as error:\n"
        "    print(error)\n"
        # ru_maxrss would count what this process was started from, too.
        "status = Path('/proc/self/status').read_text()\n"
        "print(int(re.search(r'VmHWM:\\s+(\\d+)', status)[1]) // 1024)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, path], capture_output=True, text=True, check=True
    )
    said, megabytes = done.stdout.splitlines()
    assert "expected a video of at most 36,000,000 pixels a frame" in said
    assert int(megabytes) < 300


def box(kind, *parts):
    data = b"".join(parts)
    return struct.pack(">I", 8 + len(data)) + kind + data


def says_samples(kind, count):
    """A header of an MP4 that has so many samples, all of one size, without a table of them."""
    numbers = (0, 1, count) if kind == b"stsz" else (0, count)
    inner = box(kind, struct.pack(f">{len(numbers)}I", *numbers))
    return box(b"moov" if kind == b"stsz" else b"moof", box(b"trak", inner))


@pytest.mark.parametrize("kind", [b"stsz", b"trun"])
@pytest.mark.parametrize("before", [b"", box(b"free", b"\0" * 9), box(b"mdat", b"stsz" * 9)])
def test_a_header_cannot_make_room_for_samples_that_are_not_there(tmp_path, kind, before):
    """FFmpeg took 2 GB for a file of 779 bytes that says it has 60 million samples."""
    path = tmp_path / "a.mp4"
    path.write_bytes(box(b"ftyp", b"isom\0\0\0\0") + before + says_samples(kind, 60_000_000))
    with pytest.raises(
        FileError, match=r"a\.mp4: .* found a header that says 60,000,000"
    ) as raised:
        VideoReader(path)
    assert str(raised.value).count("a.mp4") == 1


def test_samples_of_many_fragments_are_added_up(tmp_path):
    path = tmp_path / "a.mp4"
    path.write_bytes(says_samples(b"trun", 1_000_000) * 5)
    with pytest.raises(FileError, match="found a header that says 5,000,000"):
        VideoReader(path)


def test_a_compressed_header_is_refused(tmp_path):
    path = tmp_path / "a.mov"
    path.write_bytes(box(b"moov", box(b"cmov", box(b"cmvd", b"\0" * 9))))
    with pytest.raises(FileError, match="found a compressed one"):
        VideoReader(path)


def test_a_frame_that_is_too_large_is_refused_before_it_is_decoded(tmp_path, monkeypatch):
    monkeypatch.setattr(video, "MOST_PIXELS", 64 * 48 - 1)
    path = make_clip(tmp_path / "a.mp4", count=3)
    with pytest.raises(FileError, match="at most 3,071 pixels, found 64 x 48"):
        VideoReader(path)


@pytest.mark.parametrize(("limit", "is_large"), [(64 * 48, False), (64 * 48 - 1, True)])
def test_of_large_frames_few_are_kept_at_once(tmp_path, monkeypatch, limit, is_large):
    """8K took 4 GB; x264 keeps 10 frames to look ahead, and says so in its stream."""
    monkeypatch.setattr(video, "LARGE_PIXELS", limit)
    monkeypatch.setattr(video_writer, "LARGE_PIXELS", limit)
    clip = make_clip(tmp_path / "a.mp4", count=3)
    with VideoReader(clip) as reader:
        assert reader.is_large == is_large
    copied(clip, tmp_path / "b.mp4")
    assert (b"rc_lookahead=10" in (tmp_path / "b.mp4").read_bytes()) == (not is_large)


@pytest.mark.parametrize("pts", [2**62, 2**63 - 1])
def test_times_that_no_file_can_hold_are_one_line(tmp_path, pts):
    pixels = np.zeros((4, 4, 3), np.uint8)
    with (
        pytest.raises(FileError, match=r"a\.mp4: expected frames, times and sound"),
        VideoWriter(tmp_path / "a.mp4", rate=Fraction(25)) as writer,
    ):
        for index, time in enumerate((-(2**62), 0, pts, pts)):
            writer.write(Frame(pixels, index, time, Fraction(1, 25)))
    assert list(tmp_path.iterdir()) == []


def test_a_pipe_is_no_place_for_a_video_and_stays_one(tmp_path):
    os.mkfifo(tmp_path / "a.mp4")
    with pytest.raises(FileError, match="expected a place for a file"):
        VideoWriter(tmp_path / "a.mp4", rate=Fraction(25))
    assert stat.S_ISFIFO((tmp_path / "a.mp4").stat().st_mode)


# Threads before and behind.


def counted(items):
    """So many items, and then an error."""
    yield from range(items)
    raise KeyError("seeded")


def test_items_come_in_order_and_errors_come_through():
    taken = []
    with pytest.raises(KeyError, match="seeded"):
        taken.extend(prefetched(counted(20)))
    taken = []
    with pytest.raises(KeyError):
        for item in prefetched(counted(20)):
            taken.append(item)
    assert taken == list(range(20))


def test_who_stops_early_stops_the_maker():
    made = []

    def endless():
        number = 0
        while True:
            made.append(number)
            yield number
            number += 1

    for item in prefetched(endless()):
        if item == 5:
            break
    assert len(made) < 50


def test_a_stalled_camera_is_one_clear_line():
    never = threading.Event()

    def stalled():
        yield 1
        never.wait(30)

    frames = prefetched(stalled(), patience=0.2)
    assert next(frames) == 1
    with pytest.raises(FileError, match=r"expected a frame within 0\.2 s"):
        next(frames)
    never.set()


def test_all_items_are_worked_on_before_the_end():
    done = []
    with Behind(done.append) as behind:
        for item in range(50):
            behind.put(item)
    assert done == list(range(50))


def test_results_come_in_the_order_of_their_items():
    later = [threading.Event() for _ in range(6)]

    def waits_for_the_next(item):
        assert item % 2 or later[item + 1].wait(30)
        later[item].set()
        return item

    assert list(in_order(waits_for_the_next, range(6), at_once=2)) == list(range(6))


def test_one_at_a_time_waits_until_a_result_is_taken():
    log = []

    def items():
        for item in range(3):
            log.append(f"made {item}")
            yield item

    for item in in_order(lambda item: log.append(f"run {item}") or item, items(), at_once=1):
        log.append(f"taken {item}")
    assert log == [f"{what} {item}" for item in range(3) for what in ("made", "run", "taken")]


def test_an_error_comes_in_the_place_of_its_result():
    taken = []
    with pytest.raises(ZeroDivisionError):
        for result in in_order(lambda item: 6 / (3 - item), range(50), at_once=2):
            taken.append(result)
    assert taken == [2, 3, 6]


def test_what_comes_before_a_source_fails_is_not_lost():
    taken = []
    with pytest.raises(KeyError, match="seeded"):
        taken.extend(in_order(str, counted(5), at_once=3))  # extend keeps what came before
    assert taken == ["0", "1", "2", "3", "4"]


def test_a_batch_that_a_source_cannot_fill_is_not_lost():
    taken = []
    with pytest.raises(KeyError, match="seeded"):
        taken.extend(batched(counted(5), 3))
    assert taken == [[0, 1, 2], [3, 4]]


def test_whoever_leaves_early_has_few_items_run():
    run = []
    results = in_order(run.append, range(1000), at_once=2)
    next(results)
    results.close()
    assert len(run) <= 4


def test_an_error_behind_comes_back():
    def fail(item):
        raise ValueError(item)

    with pytest.raises(ValueError, match="0"), Behind(fail) as behind:
        for item in range(50):
            behind.put(item)


def test_a_reader_that_is_closed_has_no_more_frames(tmp_path):
    """As when Ctrl-C comes while another thread reads ahead: FFmpeg would read freed memory."""
    reader = VideoReader(make_clip(tmp_path / "a.mp4"))
    frames = iter(reader)
    next(frames)
    reader.close()
    assert len(list(frames)) <= 1


@needs_chromium
def test_a_written_video_plays_in_a_browser(tmp_path):
    clip = make_clip(tmp_path / "a.mp4", audio="aac")
    copied(clip, tmp_path / "b.mp4", audio_from=clip)
    (tmp_path / "page.html").write_text("<video src='b.mp4' muted></video>")
    with chromium(tmp_path / "profile") as page:
        page.open((tmp_path / "page.html").as_uri())
        state = page.call(
            "Runtime.evaluate",
            expression="""new Promise(done => {
                const video = document.querySelector('video');
                const say = () => done([video.videoWidth, video.ended, video.error?.message]);
                video.onended = video.onerror = say;
                video.play().catch(e => done([0, false, String(e)]));
            })""",
            awaitPromise=True,
            returnByValue=True,
        )["result"]["value"]
    assert state == [64, True, None]
