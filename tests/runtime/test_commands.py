"""The command line on pictures, videos and a camera: results, messages, exit statuses."""

import csv
import json
import os
import signal
import stat
import subprocess
import sys
import threading
from pathlib import Path

import av
import numpy as np
import onnx
import pytest
from PIL import Image

from chromium import chromium, needs_chromium
from cigpose_runtime import cli
from cigpose_runtime.errors import FileError
from cigpose_runtime.media.video_writer import VideoWriter
from clips import flash_and_click
from tiny_onnx import tiny_contract, tiny_model
from tiny_yolox import yolox

RUN = [sys.executable, "-m", "cigpose_runtime.cli"]


@pytest.fixture
def picture(tmp_path):
    path = tmp_path / "photo.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (60, 80, 3), np.uint8)).save(path)
    return path


def make_clip(path, count):
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 80, 60, "yuv420p"
        for index in range(count):
            pixels = np.full((60, 80, 3), 40 + index % 100, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="bgr24")))
        container.mux(stream.encode(None))
    return path


@pytest.fixture
def clip(tmp_path):
    return make_clip(tmp_path / "clip.mp4", 20)


@pytest.fixture
def run(capsys):
    """Runs a command line in this process; returns exit status, stdout and stderr."""

    def call(*arguments):
        try:
            status = cli.main([str(argument) for argument in arguments])
        except SystemExit as ended:  # argparse's own
            status = ended.code
        output = capsys.readouterr()
        assert "Traceback" not in output.err
        return status, output.out, output.err

    return call


def test_a_picture_gives_json_coco_csv_and_an_annotated_copy(run, model, picture, tmp_path):
    out = tmp_path / "out"
    status, stdout, _ = run(
        *("image", model, picture, "--whole-frame", "--threshold", "-100"),
        *("--json", out / "a.jsonl", "--coco", out / "a.json", "--csv", out / "a.csv"),
        *("--save", out / "pictures"),
    )
    assert (status, stdout) == (0, "")
    (line,) = (out / "a.jsonl").read_text().splitlines()
    (person,) = json.loads(line)["people"]
    assert (person["box_xyxy"], len(person["keypoints"])) == ([0, 0, 80, 60], 133)
    (result,) = json.loads((out / "a.json").read_text())
    assert (result["image_id"], len(result["face_kpts"])) == (0, 68 * 3)
    rows = (out / "a.csv").read_text().splitlines()
    assert len(list(csv.DictReader(rows))) == 133
    annotated = np.asarray(Image.open(out / "pictures" / "photo.png"))
    assert (annotated != np.asarray(Image.open(picture))).any()
    assert sorted(p.name for p in out.iterdir()) == ["a.csv", "a.json", "a.jsonl", "pictures"]


def test_without_a_place_for_results_they_go_to_stdout(run, model, picture):
    status, stdout, _ = run("image", model, picture, "--whole-frame")
    assert status == 0
    assert json.loads(stdout)["source"] == str(picture)


def test_folders_and_patterns_are_gone_through_in_order(run, model, picture, tmp_path):
    for name in ("b.jpg", "a.png", "notes.txt"):
        if name.endswith("txt"):
            (tmp_path / name).write_text("")
        else:
            Image.open(picture).save(tmp_path / name)
    for given in (tmp_path, tmp_path / "*.*g"):
        _, stdout, _ = run("image", model, given, "--whole-frame")
        sources = [Path(json.loads(line)["source"]).name for line in stdout.splitlines()]
        assert sources == ["a.png", "b.jpg", "photo.png"]


def test_pictures_of_one_name_do_not_overwrite_each_other(run, model, picture, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    Image.open(picture).save(other / "photo.png")
    Image.open(picture).save(other / "Photo.png")  # one name to some file systems
    given = (picture, other / "photo.png", other / "Photo.png")
    run("image", model, *given, "--whole-frame", "--save", tmp_path / "o")
    names = ["Photo-3.png", "photo-2.png", "photo.png"]
    assert sorted(p.name for p in (tmp_path / "o").iterdir()) == names


def test_a_bad_picture_is_named_and_the_others_are_done(run, model, picture, tmp_path):
    (tmp_path / "bad.jpg").write_bytes(b"")
    status, stdout, err = run(
        "image", model, tmp_path / "bad.jpg", tmp_path / "none.jpg", picture, "--whole-frame"
    )
    assert status == 2
    assert len(stdout.splitlines()) == 1
    assert [line.split(": ")[2] for line in err.splitlines() if "error" in line] == [
        str(tmp_path / "none.jpg"),
        str(tmp_path / "bad.jpg"),
    ]


@pytest.mark.parametrize(
    ("content", "people"),
    [
        ("[[5, 5, 40, 50], [30, 10, 70, 55]]", 2),
        ('{"photo.png": [[5, 5, 40, 50]], "x.png": []}', 1),
        ("[]", 0),
        ('{"photo.png": []}', 0),
    ],
)
def test_boxes_come_from_a_file(run, model, picture, tmp_path, content, people):
    (tmp_path / "boxes.json").write_text(content)
    status, stdout, _ = run("image", model, picture, "--boxes", tmp_path / "boxes.json")
    assert status == 0
    assert len(json.loads(stdout)["people"]) == people


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "expected JSON"),
        ("3", "expected a list"),
        ("[[1, 2, 3]]", "expected numbers of shape"),
        ("[[NaN, 2, 30, 40]]", "expected finite"),
        ("[[1, 2, 1e999, 40]]", "expected finite"),
        ("[[30, 2, 3, 40]]", "left < right"),
        ("[[3, 2, 3, 40]]", "left < right"),
        ("[[300, 2, 340, 40]]", "expected a box that overlaps"),
        ('{"other.png": []}', "expected boxes for photo.png"),
        ('{"photo.png": 5}', "expected a list"),
        ('[["a", 2, 3, 4]]', "expected numbers"),
        ("[" * 100_000, "expected JSON with boxes"),
        ("[" * 900 + "]" * 900, "expected numbers"),
        ('{"photo.png": ' * 100_000, "expected JSON with boxes"),
        ("[[1, 2, 1" + "0" * 400 + ", 4]]", "expected "),
        ("[[1, 2, 1" + "0" * 5000 + ", 4]]", "expected JSON with boxes"),
        ("[[1, 2], [1, 2, 3, 4]]", "expected numbers"),
        ("[[{}, 2, 3, 4]]", "expected numbers"),
        ("\ud800[[1, 2, 3, 4]]", "expected JSON with boxes"),
    ],
)
def test_bad_boxes_are_one_line_and_status_2(run, model, picture, tmp_path, content, message):
    (tmp_path / "boxes.json").write_bytes(content.encode("utf-8", "surrogatepass"))
    status, stdout, err = run(
        *("image", model, picture, "--boxes", tmp_path / "boxes.json"),
        *("--json", tmp_path / "out.jsonl"),
    )
    (line,) = [line for line in err.splitlines() if "error" in line]
    assert (status, stdout) == (2, "")
    assert message in line


def test_boxes_are_read_up_to_a_size_that_fits_in_memory(run, model, picture, tmp_path):
    (tmp_path / "boxes.json").write_bytes(b"[" + b" " * (32 << 20) + b"]")
    status, _, err = run("image", model, picture, "--boxes", tmp_path / "boxes.json")
    assert status == 2
    assert "expected a file with boxes, at most 33554432 bytes, found more" in err


def test_old_results_stay_when_there_is_no_place_for_others(run, model, picture, tmp_path):
    (tmp_path / "old.jsonl").write_text("precious")
    status, _, err = run(
        *("image", model, picture, "--whole-frame", "--json", tmp_path / "old.jsonl"),
        *("--coco", tmp_path / "new.json", "--csv", model / "below"),
    )
    assert (status, "expected a place to write to" in err) == (2, True)
    assert (tmp_path / "old.jsonl").read_text() == "precious"
    assert not (tmp_path / "new.json").exists()


def test_results_go_into_a_pipe_which_stays_one(model, picture, tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    command = [*RUN, "image", str(model), str(picture), "--whole-frame", "--json", str(pipe)]
    with subprocess.Popen(command) as process, pipe.open() as reader:
        (line,) = reader
    assert process.returncode == 0
    assert json.loads(line)["source"] == str(picture)
    assert stat.S_ISFIFO(pipe.stat().st_mode)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["image", "{model}", "{picture}"], "--detector, --boxes and --whole-frame, found none"),
        (["image", "{folder}/no.onnx", "{picture}", "--whole-frame"], "No such file"),
        (["image", "{picture}", "{picture}", "--whole-frame"], "photo.png: "),
        (["image", "{model}", "{folder}/*.xyz", "--whole-frame"], "expected pictures"),
        (["image", "{model}", "{picture}", "--whole-frame", "--device", "cuda"], "CUDAExecution"),
        (["image", "{model}", "{picture}", "--whole-frame", "--threads", "0"], "from 1 to 1024"),
        (["image", "{model}", "{picture}", "--whole-frame", "--save", "{model}"], "found a file"),
        (["image", "{model}", "{picture}", "--whole-frame", "--csv", "{model}/x"], "write to"),
        (
            ["image", "{model}", "{picture}", "--whole-frame", "--save", "{folder}"],
            "another folder",
        ),
        (
            ["image", "{model}", "{folder}", "--whole-frame", "--save", "{folder}/."],
            "another folder",
        ),
        (["image", "{model}", "{picture}", "--whole-frame", "--json", "{model}"], "another file"),
        (["image", "{model}", "{picture}", "--whole-frame", "--csv", "{picture}"], "another file"),
        (
            ["image", "{model}", "{picture}", "--whole-frame", "--csv", "{folder}/a/../photo.png"],
            "for --csv than a picture",
        ),
        (
            ["image", "{model}", "{picture}", "--boxes", "{clip}", "--coco", "{clip}"],
            "for --coco than --boxes",
        ),
        (
            [
                *("image", "{model}", "{picture}", "--whole-frame"),
                *("--json", "{folder}/new", "--csv", "{folder}/new"),
            ],
            "for --csv than --json",
        ),
        (
            ["image", "{model}", "{picture}", "--whole-frame", "--json", "-", "--csv", "-"],
            "one form of results on stdout",
        ),
        (["video", "{model}", "{clip}", "--whole-frame", "--json", "{clip}"], "another file"),
        (
            [
                *("video", "{model}", "{clip}", "--whole-frame"),
                *("--json", "{folder}/x.mp4", "--save", "{folder}/x.mp4"),
            ],
            "for --save than --json",
        ),
        (["image", "{model}", "{picture}", "--detector", "{model}"], "expected a detector"),
        (["video", "{model}", "{clip}", "--whole-frame", "--save", "{folder}/x.gif"], ".mp4"),
        (["video", "{model}", "{clip}", "--whole-frame", "--save", "{clip}"], "another file"),
        (["video", "{model}", "{clip}", "--whole-frame", "--detect-every", "0"], "detect_every"),
        (["video", "{model}", "{model}", "--whole-frame"], "expected a video"),
        (["webcam", "{model}", "--whole-frame", "--serve", "0", "--source", "/dev/none"], "none"),
        (["webcam", "{model}", "--whole-frame", "--serve", "65536"], "from 0 to 65535"),
        (["webcam", "{model}", "--whole-frame", "--serve", "-1"], "from 0 to 65535"),
        (["webcam", "{model}", "--whole-frame", "--serve", "9" * 5000], "from 0 to 65535"),
        (["bench", "{model}", "--threads", "9" * 12], "from 1 to 1024"),
    ],
)
def test_bad_usage_is_status_2_and_leaves_nothing(
    run, model, picture, clip, tmp_path, arguments, message
):
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    places = {"model": model, "picture": picture, "clip": clip, "folder": tmp_path}
    status, _, err = run(*(argument.format(**places) for argument in arguments))
    assert status == 2
    assert message in err
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_metadata_may_be_supplied(run, picture, tmp_path):
    bare = tmp_path / "bare.onnx"
    bare.write_bytes(tiny_model(metadata="").SerializeToString())
    (tmp_path / "meta.json").write_text(tiny_contract().to_json())
    assert run("image", bare, picture, "--whole-frame")[0] == 2
    status, stdout, _ = run(
        "image", bare, picture, "--whole-frame", "--metadata", tmp_path / "meta.json"
    )
    assert (status, len(json.loads(stdout)["people"])) == (0, 1)


def test_without_the_extra_one_line_says_how_to_install_it(model, picture):
    code = (
        "import importlib.util, sys\n"
        "real = importlib.util.find_spec\n"
        "importlib.util.find_spec = lambda n, *a: None if n in ('av', 'rich') else real(n, *a)\n"
        "from cigpose_runtime.cli import main\n"
        "sys.exit(main(sys.argv[1:]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "image", str(model), str(picture), "--whole-frame"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert "found no PyAV, rich" in line
    assert 'pip install "cigpose-runtime[cli]"' in line


def test_the_bench_times_each_stage(run, model):
    status, stdout, _ = run("bench", model, "--rounds", "2", "--threads", "1", "--json")
    document = json.loads(stdout)
    assert (status, document["schema_version"]) == (0, 1)
    assert [timing["people"] for timing in document["timings"]] == [1, 4, 16]
    assert all(min(timing.values()) > 0 for timing in document["timings"])
    assert "people/s" in run("bench", model, "--rounds", "1")[1]


def test_a_detector_finds_the_people(run, model, picture, tmp_path):
    detector = tmp_path / "yolox.onnx"
    boxes = [(40, 30, 20, 40, 0.9, 0), (90, 30, 24, 50, 0.7, 0)]
    onnx.save(yolox(boxes), detector)  # for an input of 128 x 64
    status, stdout, _ = run("image", model, picture, "--detector", detector)
    people = json.loads(stdout)["people"]
    assert status == 0
    assert [person["box_score"] for person in people] == [0.9, 0.7]


def test_a_video_is_annotated_frame_by_frame(run, model, clip, tmp_path):
    status, _, err = run(
        *("video", model, clip, "--whole-frame", "--threshold", "-100"),
        *("--save", tmp_path / "out.mp4", "--json", tmp_path / "out.jsonl"),
    )
    assert status == 0
    lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [line["frame"] for line in lines] == list(range(20))
    assert [line["seconds"] for line in lines] == pytest.approx([i / 25 for i in range(20)])
    assert {line["people"][0]["track_id"] for line in lines} == {1}
    with av.open(str(tmp_path / "out.mp4")) as container:
        frames = [frame.to_ndarray(format="bgr24") for frame in container.decode(video=0)]
    assert len(frames) == 20
    assert "video: 20 frames, 20 people" in err


def test_a_damaged_video_is_done_as_far_as_it_goes_with_status_1(run, model, tmp_path):
    path = tmp_path / "cut.mp4"
    with av.open(str(path), "w", options={"movflags": "faststart"}) as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 320, 240, "yuv420p"
        rng = np.random.default_rng(0)
        for _ in range(20):
            pixels = rng.integers(0, 255, (240, 320, 3), np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="bgr24")))
        container.mux(stream.encode(None))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    status, stdout, err = run("video", model, path, "--whole-frame")
    assert status == 1
    assert 0 < len(stdout.splitlines()) < 20
    assert "damaged or missing" in err


HEEDED = """
import os, signal, sys
number, *command = sys.argv[1:]
signal.signal(int(number), signal.SIG_DFL)
os.execv(command[0], command)
"""
"""Runs a command that heeds a signal, though the tests may have been started to ignore it."""


@pytest.mark.skipif(sys.platform == "win32", reason="sends a signal")
@pytest.mark.parametrize("ends", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_ctrl_c_and_a_scheduler_s_end_finish_the_files(model, tmp_path, ends):
    clip = make_clip(tmp_path / "long.mp4", 3000)
    out, lines = tmp_path / "out.mp4", tmp_path / "out.jsonl"
    command = [*RUN, "video", model, clip, "--whole-frame", "--save", out, "--json", lines]
    with subprocess.Popen(
        [sys.executable, "-c", HEEDED, str(int(ends)), *map(str, command), "--csv", "-"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        for _ in range(133 * 20):  # so many keypoints have gone by
            assert process.stdout.readline()
        process.send_signal(ends)
        process.communicate(timeout=60)
    assert process.returncode == 128 + ends
    written = lines.read_text().splitlines()
    assert [json.loads(line)["frame"] for line in written] == list(range(len(written)))
    with av.open(str(out)) as container:
        decoded = sum(1 for _ in container.decode(video=0))
    assert 20 <= len(written) < 3000
    assert abs(decoded - len(written)) <= 1
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "long.mp4",
        "out.jsonl",
        "out.mp4",
        "tiny.onnx",
    ]


@pytest.mark.skipif(sys.platform == "win32", reason="sends a signal")
def test_a_job_under_nohup_outlives_its_terminal(model, clip, tmp_path):
    code = (
        "import os, signal, sys\n"
        "from cigpose_runtime import cli\n"
        "from cigpose_runtime.estimation.pose_pipeline import PosePipeline as pipeline\n"
        "estimate = pipeline.__call__\n"
        "def estimate_and_hang_up(*args):\n"
        "    os.kill(os.getpid(), signal.SIGHUP)\n"
        "    return estimate(*args)\n"
        "pipeline.__call__ = estimate_and_hang_up\n"
        "signal.signal(signal.SIGHUP, signal.SIG_IGN)\n"
        "sys.exit(cli.main(sys.argv[1:]))\n"
    )
    arguments = ["video", model, clip, "--whole-frame", "--json", tmp_path / "a.jsonl"]
    done = subprocess.run([sys.executable, "-c", code, *map(str, arguments)], check=False)
    assert done.returncode == 0
    assert len((tmp_path / "a.jsonl").read_text().splitlines()) == 20


def test_sound_that_cannot_be_saved_is_one_line_and_no_error(run, model, tmp_path):
    clip = flash_and_click(tmp_path / "a.mkv", sound="pcm_s16le")
    clip.write_bytes(clip.read_bytes().replace(b"A_PCM/INT/LIT", b"A_ODD/NEW/ONE"))
    status, _, err = run("video", model, clip, "--whole-frame", "--save", tmp_path / "b.mp4")
    assert status == 0
    assert err.count("without all the sound") == 1


def test_a_video_that_cannot_be_saved_is_in_the_results(run, model, clip, tmp_path, monkeypatch):
    def write(*_args):
        raise FileError("seeded")

    monkeypatch.setattr(VideoWriter, "write", write)
    status, _, err = run(
        *("video", model, clip, "--whole-frame", "--save", tmp_path / "out.mp4"),
        *("--json", tmp_path / "a.jsonl", "--coco", tmp_path / "a.json"),
    )
    assert (status, "seeded" in err) == (2, True)
    lines = (tmp_path / "a.jsonl").read_text().splitlines()
    assert [json.loads(line)["frame"] for line in lines] == list(range(len(lines)))
    assert 0 < len(lines) == len(json.loads((tmp_path / "a.json").read_text()))
    assert not (tmp_path / "out.mp4").exists()


@needs_chromium
def test_the_annotated_stream_is_shown_on_a_page(model, tmp_path):
    clip = make_clip(tmp_path / "camera.mp4", 1500)
    command = [*RUN, "webcam", model, "--whole-frame", "--source", clip, "--serve", "0"]
    with subprocess.Popen(
        [*map(str, command)], stderr=subprocess.PIPE, text=True, env=os.environ
    ) as process:
        try:
            url = process.stderr.readline().split()[-1]
            assert url.startswith("http://127.0.0.1:")
            with chromium(tmp_path / "profile") as page:
                page.open("about:blank")
                page.call("Page.navigate", url=url)
                expression = """new Promise(done => { const look = () => {
                    const image = document.querySelector('img');
                    image?.naturalWidth ? done([image.naturalWidth, image.naturalHeight])
                                        : setTimeout(look, 50) }; look(); })"""
                size = page.call(
                    "Runtime.evaluate",
                    expression=expression,
                    awaitPromise=True,
                    returnByValue=True,
                )["result"]["value"]
                complaints = page.complaints
            assert size == [80, 60]
            assert complaints == []
            process.send_signal(signal.SIGINT)
            assert process.wait(timeout=30) == 130
        finally:
            process.kill()


def test_a_window_without_a_display_names_the_way_out(run, model, clip, monkeypatch):
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    if sys.platform != "linux":
        pytest.skip("there is always a display")
    status, _, err = run("webcam", model, "--whole-frame", "--source", clip)
    assert status == 2
    assert "--serve" in err


def test_a_port_that_is_taken_is_named(run, model, clip):
    import socket

    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        status, _, err = run(
            "webcam", model, "--whole-frame", "--source", clip, "--serve", str(port)
        )
    assert status == 2
    assert "expected a free port" in err
    assert threading.active_count() < 10


HOSTILE = "a\x1b[31m\u202e\udcff"
HARMLESS = r"a\x1b[31m\u202e\udcff"


@pytest.mark.parametrize(
    "arguments",
    [
        ["inspect", HOSTILE],
        ["image", HOSTILE, "a.png", "--whole-frame"],
        ["image", "{model}", HOSTILE, "--whole-frame"],
        ["image", "{model}", "a.png", "--whole-frame", f"--{HOSTILE}"],
        ["selftest", HOSTILE],
        ["check", HOSTILE],
        [HOSTILE],
    ],
    ids=lambda arguments: arguments[0][:6],
)
def test_errors_show_arguments_harmless(run, model, arguments):
    status, _, err = run(*(argument.format(model=model) for argument in arguments))
    assert status != 0
    assert HARMLESS in err
    assert all(character.isprintable() or character == "\n" for character in err)


def test_names_that_no_text_can_hold_do_not_stop_any_form(run, model, picture, tmp_path):
    """A file name is bytes; these are no UTF-8."""
    odd = tmp_path / "\udcff\x1b[31m.png"
    try:
        Image.open(picture).save(odd)
    except OSError:
        pytest.skip("the file system takes text alone")
    status, _, err = run(
        *("image", model, odd, "--whole-frame", "--csv", tmp_path / "a.csv"),
        *("--json", tmp_path / "a.jsonl", "--save", tmp_path / "out"),
    )
    assert (status, "error" in err) == (0, False)
    assert json.loads((tmp_path / "a.jsonl").read_text())["source"] == str(odd)
    row = next(csv.DictReader((tmp_path / "a.csv").read_text().splitlines()))
    assert row["source"].endswith(r"\udcff\x1b[31m.png")
    assert [path.name for path in (tmp_path / "out").iterdir()] == [odd.name]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no device that is full")
@pytest.mark.parametrize(
    "arguments", [["inspect", "{model}"], ["bench", "{model}", "--rounds", "1"]]
)
def test_a_stdout_without_room_is_one_line(model, arguments):
    command = [*RUN, *(argument.format(model=model) for argument in arguments)]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert "No space left on device" in line


def test_too_little_memory_is_one_line(run, model, monkeypatch):
    def take(*_args):
        raise MemoryError

    monkeypatch.setattr("cigpose_runtime.commands.inspect.make_report", take)
    status, _, err = run("inspect", model)
    assert (status, len(err.splitlines())) == (2, 1)
