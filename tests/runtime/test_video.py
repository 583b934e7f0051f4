"""Videos in and out: time stamps, rotation, audio, damage."""

from fractions import Fraction

import av
import cv2
import numpy as np
import pytest

from chromium import chromium, needs_chromium
from cigpose_runtime.errors import FileError
from cigpose_runtime.media.threads import Behind, prefetched
from cigpose_runtime.media.video import Frame, VideoReader, VideoWriter


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


@pytest.mark.parametrize(("degrees", "turned"), [(90, True), (180, False), (270, True)])
def test_rotation_is_honoured(tmp_path, degrees, turned):
    """The file says, as a phone's does, that its pictures are to be turned."""
    path = make_clip(tmp_path / "a.mp4", count=3)
    path.write_bytes(with_rotation(path.read_bytes(), degrees))
    with av.open(str(path)) as container:
        stored = next(container.decode(video=0))
        expected = np.rot90(stored.to_ndarray(format="bgr24"), round(stored.rotation / 90) % 4)
        assert stored.rotation % 360 in (degrees, 360 - degrees)
    with VideoReader(path) as reader:
        upright = next(iter(reader)).pixels
    assert upright.shape[:2] == ((64, 48) if turned else (48, 64))
    assert np.array_equal(upright, expected)


def with_rotation(data, degrees):
    """An MP4 with another matrix in its track header (ISO 14496-12, tkhd)."""
    one = 1 << 16
    cosine, sine = {90: (0, one), 180: (-one, 0), 270: (0, -one)}[degrees]
    matrix = np.array([cosine, sine, 0, -sine, cosine, 0, 0, 0, 1 << 30], ">i4").tobytes()
    plain = np.array([one, 0, 0, 0, one, 0, 0, 0, 1 << 30], ">i4").tobytes()
    place = data.index(plain, data.index(b"tkhd"))
    return data[:place] + matrix + data[place + len(plain) :]


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
    assert reader.skipped or reader.read < reader.announced


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
    with av.open(str(tmp_path / "a.wav"), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), "s16", "mono")
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
    with pytest.raises(FileError, match="found no pictures"):
        VideoReader(tmp_path / "a.wav")


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


# Threads before and behind.


def test_items_come_in_order_and_errors_come_through():
    def items():
        yield from range(20)
        raise KeyError("seeded")

    taken = []
    with pytest.raises(KeyError, match="seeded"):
        taken.extend(prefetched(items()))
    taken = []
    with pytest.raises(KeyError):
        for item in prefetched(items()):
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
    import threading

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


def test_an_error_behind_comes_back():
    def fail(item):
        raise ValueError(item)

    with pytest.raises(ValueError, match="0"), Behind(fail) as behind:
        for item in range(50):
            behind.put(item)


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
