"""What `image` and `video` may be given: folders, patterns, lists, sequences, URLs, stdin."""

import io
import json
import signal
import struct
import subprocess
import sys
from contextlib import closing
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import av
import numpy as np
import pytest
from PIL import Image

from cigpose_runtime import cli
from cigpose_runtime.errors import DownloadError, FileError
from cigpose_runtime.media.video import Frame, VideoReader
from cigpose_runtime.sources import http_file, streams
from cigpose_runtime.sources.find import Endings
from cigpose_runtime.sources.sequence import PictureSequence
from cigpose_runtime.sources.streams import LiveStream, open_url
from clips import FLASH, flash_and_click
from file_server import serving_file
from raw_server import answering, response
from rtsp_server import serving_rtsp
from tiny_onnx import tiny_model


@pytest.fixture
def here(tmp_path, monkeypatch):
    """The working folder, with a model in it."""
    monkeypatch.chdir(tmp_path)
    Path("tiny.onnx").write_bytes(tiny_model(num_keypoints=133, seed=3).SerializeToString())
    return tmp_path


def picture(path, level=90):
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((60, 80, 3), level, np.uint8)).save(path)


@pytest.fixture
def run(capsys):
    """Runs a command on the model; returns its status, the lines of results, and stderr."""

    def call(command, *arguments):
        status = cli.main([command, "tiny.onnx", *map(str, arguments), "--whole-frame"])
        output = capsys.readouterr()
        assert "Traceback" not in output.err
        return status, [json.loads(line) for line in output.out.splitlines()], output.err

    return call


def sources(lines):
    return list(dict.fromkeys(line["source"] for line in lines))


# Pictures


@pytest.fixture
def photos(here):
    for name in ("a/0.png", "a/b/0.png", "c.jpg"):
        picture(Path("photos", name))
    Path("photos/notes.md").write_text("")
    Path("photos/._c.jpg").write_bytes(b"what a Mac leaves there")
    return Path("photos")


def test_a_folder_gives_the_pictures_of_its_folders_too(run, photos):
    status, lines, err = run("image", "photos")
    assert (status, sources(lines)) == (
        0,
        ["photos/a/0.png", "photos/a/b/0.png", "photos/c.jpg"],
    )
    assert "left out what is no picture by its name (.md: 1)" in err


def test_annotated_pictures_have_the_folders_of_the_pictures(run, photos):
    for _ in range(2):  # the second run does not take them for pictures
        assert run("image", "photos", "--save", "photos/out")[0] == 0
    saved = [path.as_posix() for path in Path("photos/out").rglob("*") if path.is_file()]
    assert sorted(saved) == ["photos/out/a/0.png", "photos/out/a/b/0.png", "photos/out/c.jpg"]


def test_the_working_folder_is_a_folder_as_any_other(run, photos, here, monkeypatch):
    (here / "tiny.onnx").rename(photos / "a" / "tiny.onnx")
    monkeypatch.chdir(photos / "a")
    _, lines, _ = run("image", "..")
    assert sources(lines) == ["../a/0.png", "../a/b/0.png", "../c.jpg"]


def test_annotated_pictures_stay_in_their_folder(run, photos):
    Path("elsewhere").mkdir()
    picture("elsewhere/x.png")
    assert run("image", "photos/*/../../elsewhere/*.png", "--save", "out")[0] == 0
    assert [path.as_posix() for path in Path("out").rglob("*")] == ["out/x.png"]


def test_two_stars_go_through_folders(run, photos):
    _, lines, _ = run("image", "photos/**/*.png")
    assert sources(lines) == ["photos/a/0.png", "photos/a/b/0.png"]


def test_a_picture_behind_a_url_is_one_line(run, here):
    with serving_file(b"") as server:
        status, lines, err = run("image", f"{server.url}/a.png")
        assert (status, lines, server.asked) == (2, [], [])
    assert "expected pictures here, found a URL" in err


def test_a_list_names_pictures(run, photos):
    Path("list.txt").write_text("photos/c.jpg\n\nphotos/none.png\nphotos/a/0.png\n")
    status, lines, err = run("image", "list.txt")
    assert (status, sources(lines)) == (2, ["photos/c.jpg", "photos/a/0.png"])
    assert "photos/none.png: expected a picture, found: No such file" in err


def test_what_is_named_twice_is_done_once(run, photos):
    _, lines, _ = run("image", "photos/c.jpg", "photos", "photos/c.jpg")
    assert sources(lines) == ["photos/c.jpg", "photos/a/0.png", "photos/a/b/0.png"]


def test_what_would_read_pictures_that_are_left_out_is_said():
    endings = Endings({".png"})
    for name in ("a.heic", "b.HEIC", "c.jxl", "d"):
        assert not endings(name)
    said = endings.said("picture")
    assert ".heic: 2" in said
    assert "pip install pillow-heif pillow-jxl-plugin" in said


def test_a_form_that_cannot_be_written_is_annotated_as_jpeg(run, here):
    Image.new("RGB", (80, 60)).save("a.gif")
    assert run("image", "a.gif", "--save", "out")[0] == 0
    with Image.open("out/a.jpg") as saved:
        assert saved.format == "JPEG"


def test_a_picture_comes_from_stdin(here, run, photos, monkeypatch):
    stdin = SimpleNamespace(buffer=io.BytesIO(Path("photos/c.jpg").read_bytes()))
    monkeypatch.setattr(sys, "stdin", stdin)
    status, (line,), _ = run("image", "-")
    assert (status, line["source"]) == (0, "-")
    assert line["people"][0]["box_xyxy"] == [0, 0, 80, 60]


# Videos


def test_each_of_several_videos_is_tracked_and_saved_by_itself(run, here):
    for name in ("a/x.mp4", "b/x.mkv"):
        Path(name).parent.mkdir()
        flash_and_click(Path(name), count=4)
    status, _, _ = run("video", "a", "b/x.mkv", "--save", "out", "--json", "a.jsonl")
    lines = [json.loads(line) for line in Path("a.jsonl").read_text().splitlines()]
    assert status == 0
    assert [(line["source"], line["frame"]) for line in lines] == [
        (name, frame) for name in ("a/x.mp4", "b/x.mkv") for frame in range(4)
    ]
    assert {line["people"][0]["track_id"] for line in lines} == {1}
    for saved in ("out/x.mp4", "out/x-2.mp4"):
        with av.open(saved) as container:
            assert sum(1 for _ in container.decode(video=0)) == 4


def test_a_video_that_cannot_be_read_costs_itself(run, here):
    flash_and_click(Path("good.mp4"), count=3)
    Path("bad.mp4").write_bytes(b"")
    status, lines, err = run("video", "bad.mp4", "good.mp4")
    assert (status, sources(lines), "bad.mp4: expected a video" in err) == (2, ["good.mp4"], True)


def test_several_videos_do_not_go_into_one_file(run, here):
    for name in ("a.mp4", "b.mp4"):
        flash_and_click(Path(name), count=3)
    status, _, err = run("video", "a.mp4", "b.mp4", "--save", "out.mp4")
    assert (status, "expected a folder for 2 annotated videos" in err) == (2, True)


def test_image_ids_of_several_videos_differ(run, sequence):
    (sequence / "frame_5.png").write_bytes(b"")
    flash_and_click(Path("b.mp4"), count=3)
    run("video", "frames", "b.mp4", "--coco", "a.json")
    ids = [person["image_id"] for person in json.loads(Path("a.json").read_text())]
    assert ids == [n for n in range(15) if n != 5]


@pytest.fixture
def sequence(here):
    for index in range(12):
        picture(f"frames/frame_{index}.png", 20 * index)
    return Path("frames")


def test_pictures_of_a_folder_are_read_as_ffmpeg_reads_their_sequence(run, sequence):
    _, lines, _ = run("video", "frames", "--rate", "10", "--json", "-")
    assert [line["frame"] for line in lines] == list(range(12))
    assert [line["seconds"] for line in lines] == pytest.approx([i / 10 for i in range(12)])
    assert {line["people"][0]["track_id"] for line in lines} == {1}
    names = sorted(map(str, sequence.iterdir()), key=lambda name: int(name[13:-4]))
    ours = [frame.pixels for frame in PictureSequence(names, Fraction(10))]
    options = {"start_number": "0"}
    with av.open("frames/frame_%d.png", format="image2", options=options) as container:
        theirs = [one.to_ndarray(format="bgr24") for one in container.decode(video=0)]
    assert np.array_equal(ours, theirs)


def test_a_bad_picture_of_a_sequence_leaves_the_time_of_the_others(run, sequence):
    (sequence / "frame_5.png").write_bytes(b"")
    status, lines, err = run("video", "frames/*.png")
    assert [line["frame"] for line in lines] == [n for n in range(12) if n != 5]
    assert (status, "frame_5.png: expected a picture" in err) == (2, True)


def test_pictures_beside_videos_are_left_out_and_said(run, sequence):
    flash_and_click(sequence / "clip.mp4", count=3)
    status, lines, err = run("video", "frames")
    assert (status, sources(lines)) == (0, ["frames/clip.mp4"])
    assert "left out what is no video by its name (.png: 12)" in err


def lying_mp4():
    """Its header says that it has 60 million frames, for which FFmpeg would take 2 GB."""
    table = struct.pack(">I4sIII", 20, b"stsz", 0, 1, 60_000_000)
    moov = struct.pack(">I4s", 8 + len(table), b"moov") + table
    return struct.pack(">I4s4sI", 16, b"ftyp", b"isom", 0) + moov


def from_stdin(content):
    command = [sys.executable, "-m", "cigpose_runtime.cli", "video", "tiny.onnx", "-"]
    return subprocess.run(
        [*command, "--whole-frame"], input=content, capture_output=True, check=False
    )


@pytest.mark.parametrize("name", ["a.mkv", "a.ts", "a.mp4"])
def test_a_video_comes_from_stdin(here, name):
    """The index of this MP4 is at its end."""
    content = flash_and_click(Path(name), count=20).read_bytes()
    done = from_stdin(content)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 0
    assert [line["frame"] for line in lines] == list(range(20))
    assert sources(lines) == ["-"]


@pytest.mark.skipif(sys.platform == "win32", reason="sends a signal")
def test_a_pipe_that_has_stalled_does_not_keep_a_job_from_ending(here):
    content = flash_and_click(Path("a.ts"), count=60).read_bytes()
    command = [sys.executable, "-m", "cigpose_runtime.cli", "video", "tiny.onnx", "-"]
    command += ["--whole-frame", "--json", "a.jsonl", "--csv", "-"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, **pipes) as process:
        process.stdin.write(content)
        process.stdin.flush()
        for _ in range(133 * 20):
            assert process.stdout.readline()
        process.send_signal(signal.SIGTERM)
        said = process.stderr.read()
        process.stdout.read()
        assert process.wait(timeout=60) == 128 + signal.SIGTERM
        process.stdin.close()
    assert b"Fatal" not in said
    assert 20 <= len(Path("a.jsonl").read_text().splitlines()) <= 60


@pytest.mark.parametrize("content", [b"", b"#EXTM3U\n#EXTINF:9,\nfile:a.ts\n", lying_mp4()])
def test_what_is_no_video_on_stdin_is_one_line(here, content):
    done = from_stdin(content)
    (line,) = [line for line in done.stderr.splitlines() if b"error: " in line]
    assert (done.returncode, done.stdout) == (2, b"")
    assert b"stdin: expected" in line or b"expected at most" in line


# URLs


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch):
    monkeypatch.setattr(http_file, "WAIT_S", 0.0)
    monkeypatch.setattr(streams, "WAIT_S", 0.0)


@pytest.fixture
def clip(here):
    return flash_and_click(Path("clip.mp4"), count=20)


def frames(reader):
    with closing(reader):
        return [(frame.index, frame.seconds, frame.pixels.mean()) for frame in reader]


def test_a_video_behind_a_url_is_that_video(run, clip):
    with serving_file(clip.read_bytes()) as server:
        status, lines, _ = run("video", f"{server.url}/clip.mp4")
        assert frames(open_url(f"{server.url}/clip.mp4")) == frames(VideoReader(clip))
    assert (status, sources(lines)) == (0, [f"{server.url}/clip.mp4"])
    assert [line["frame"] for line in lines] == list(range(20))


def test_the_sound_of_a_url_is_said_to_be_left_out(run, clip):
    with serving_file(clip.read_bytes()) as server:
        status, _, err = run("video", f"{server.url}/clip.mp4", "--save", "out.mp4")
    assert (status, "without all the sound of" in err) == (0, True)
    with av.open("out.mp4") as container:
        assert [stream.type for stream in container.streams] == ["video"]


def test_what_breaks_off_is_taken_up_where_it_stopped(clip):
    content = clip.read_bytes()
    with serving_file(content, portions=[len(content) // 3] * 40) as server:
        assert frames(open_url(server.url)) == frames(VideoReader(clip))


def test_tries_have_an_end(clip):
    with serving_file(clip.read_bytes(), portions=[0] * 99) as server:
        with pytest.raises(DownloadError, match="broke off"):
            open_url(server.url)
        assert len(server.asked) == 1 + http_file.TRIES


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("{url}/gone", "answers 404 Not Found"),
        ("ftp://127.0.0.1/a.mp4", "expected a URL with http, https, rtsp or rtsps, found 'ftp'"),
        ("file:///etc/passwd", "found 'file'"),
        ("s3://bucket/a.mp4", "found 's3'"),
        ("rtsp://127.0.0.1:9/a", "expected a stream"),
    ],
)
def test_a_url_that_gives_nothing_is_one_line(run, here, url, message):
    with serving_file(b"") as server:
        status, lines, err = run("video", url.format(url=server.url))
    assert (status in (1, 2), lines, message in err) == (True, [], True)


@pytest.mark.parametrize("has_length", [True, False])
def test_a_list_behind_a_url_leads_nowhere(here, has_length):
    with serving_file(b"") as other:
        content = f"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{other.url}/a.ts\n".encode()
        with (
            serving_file(content, has_length=has_length) as server,
            pytest.raises(FileError, match="expected a video"),
        ):
            open_url(f"{server.url}/a.m3u8")
        assert other.asked == []


def test_a_url_in_a_list_is_no_url(run, clip):
    """Whoever wrote the list is not who runs the command."""
    with serving_file(clip.read_bytes()) as server:
        Path("list.txt").write_text(f"{server.url}/clip.mp4\n")
        status, lines, _ = run("video", "list.txt")
        assert (status, lines, server.asked) == (2, [], [])


def test_an_mp4_that_claims_frames_that_are_not_there_is_refused(here):
    says = "found a header that says 60,000,000"
    with serving_file(lying_mp4()) as server, pytest.raises(FileError, match=says):
        open_url(server.url)


def test_an_mp4_without_a_length_is_no_stream(clip):
    """Nobody can look at its header first."""
    with (
        serving_file(clip.read_bytes(), has_length=False) as server,
        pytest.raises(FileError, match="expected a video"),
    ):
        open_url(server.url)


def test_user_and_password_are_sent_and_not_shown(run, clip):
    with serving_file(clip.read_bytes()) as server:
        url = server.url.replace("http://", "http://me:s3cret@") + "/clip.mp4?token=t0p"
        _, lines, err = run("video", url)
        assert {asked[2] for asked in server.asked} == {"Basic bWU6czNjcmV0"}
    assert "s3cret" not in (said := json.dumps(lines) + err)
    assert "t0p" not in said


def test_user_and_password_do_not_go_where_a_server_sends_us(clip):
    with serving_file(clip.read_bytes()) as other:
        moved = [response(302, f"Location: {other.url}/clip.mp4", "Content-Length: 0")]
        with answering(lambda _path: moved) as server:
            reader = open_url(server.url.replace("http://", "http://me:s3cret@"))
        assert len(frames(reader)) == 20
        assert {asked[2] for asked in other.asked} == {None}


def jpegs(count):
    """As web cameras send pictures: multipart/x-mixed-replace."""
    parts = []
    for index in range(count):
        file = io.BytesIO()
        Image.fromarray(np.full((48, 64, 3), 20 + 10 * index, np.uint8)).save(file, "JPEG")
        head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {file.tell()}\r\n\r\n"
        parts.append(head.encode() + file.getvalue() + b"\r\n")
    return b"".join(parts) + b"--frame--\r\n"


def test_a_web_camera_is_read_to_its_end(here):
    kind = "multipart/x-mixed-replace; boundary=frame"
    with serving_file(jpegs(9), has_length=False, kind=kind) as server:
        seen = frames(open_url(server.url))
    assert [index for index, _, _ in seen] == list(range(9))
    assert [level for _, _, level in seen] == pytest.approx([20 + 10 * i for i in range(9)], abs=2)


# Live streams that break off


class StubReader:
    """A connection that ends after so many frames. duration: None for what is live."""

    rate, is_large, is_pale = Fraction(25), False, False

    def __init__(self, count, duration=None):
        self.count, self.duration, self.closed = count, duration, False

    def __iter__(self):
        for index in range(self.count):
            yield Frame(np.zeros((4, 4, 3), np.uint8), index, 100 + index, Fraction(1, 25))

    def close(self):
        self.closed = True


def live(connections):
    """A stream of these connections, each frames, or None where none can be made."""
    waiting, made = list(connections), []

    def open_once(_url):
        if (one := waiting.pop(0) if waiting else None) is None:
            raise FileError("seeded")
        made.append(one)
        return one

    return LiveStream("rtsp://me:s3cret@camera/1", open_once), made


def test_a_stream_that_breaks_off_goes_on_and_so_does_its_time():
    stream, made = live([StubReader(3), None, None, StubReader(2), StubReader(4, duration=1.0)])
    seen = list(stream)
    assert [frame.index for frame in seen] == list(range(9))
    times = [frame.seconds for frame in seen]
    assert times == sorted(times)
    assert times[:3] == pytest.approx([0, 0.04, 0.08], abs=1e-4)
    assert all(one.closed for one in made)


def test_a_stream_that_does_not_come_back_is_one_line_after_some_tries():
    stream, _ = live([StubReader(3), *[None] * streams.TRIES, StubReader(3)])
    seen = []
    with pytest.raises(FileError, match=r"5 tries in vain .seeded.") as raised:
        seen.extend(stream)
    assert len(seen) == 3
    assert "s3cret" not in str(raised.value)


def test_connections_without_a_frame_are_tries_too():
    stream, made = live([StubReader(3), *[StubReader(0)] * 99])
    with pytest.raises(FileError, match="5 tries in vain"):
        list(stream)
    assert len(made) == 1 + streams.TRIES


def test_a_recording_that_ends_is_not_begun_again():
    stream, made = live([StubReader(3, duration=0.12), StubReader(3)])
    assert (len(list(stream)), len(made)) == (3, 1)


def test_the_flash_of_a_stream_of_matroska_is_where_it_was_drawn(here):
    content = flash_and_click(Path("clip.mkv"), count=20).read_bytes()
    with serving_file(content, has_length=False) as server:
        seen = frames(open_url(server.url))
    assert max(seen, key=lambda one: one[2])[:2] == (FLASH, pytest.approx(FLASH / 25, abs=1e-3))


def test_a_camera_of_the_network_that_restarts_goes_on(run, here):
    first, second = [30, 60, 90], [120, 150, 180, 210]
    with serving_rtsp((first, None), (second, 0.16)) as server:
        seen = frames(open_url(f"{server.url}/1"))
    assert [level for _, _, level in seen] == pytest.approx([*first, *second], abs=3)
    assert [index for index, _, _ in seen] == list(range(7))
    times = [seconds for _, seconds, _ in seen]
    assert times[:3] == pytest.approx([0, 0.04, 0.08], abs=1e-3)
    assert times == sorted(times)


def test_a_camera_that_does_not_come_back_leaves_what_it_sent(run, here):
    with serving_rtsp(([30, 60, 90], None)) as server:
        status, lines, err = run("video", f"{server.url}/1", "--json", "-")
    assert ([line["frame"] for line in lines], status) == ([0, 1, 2], 2)
    assert "expected that the stream goes on" in err
