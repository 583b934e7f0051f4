"""--resume: what is there is not done again, and the end is as if nothing had happened."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cigpose_runtime import cli
from cigpose_runtime.estimation.pose_pipeline import PosePipeline
from cigpose_runtime.files import growing_file
from clips import flash_and_click
from tiny_onnx import tiny_model


@pytest.fixture
def here(tmp_path, monkeypatch):
    """The working folder, with a model, a clip and some pictures."""
    monkeypatch.chdir(tmp_path)
    Path("tiny.onnx").write_bytes(tiny_model(num_keypoints=133, seed=3).SerializeToString())
    for name in ("a.mp4", "b.mp4"):
        flash_and_click(Path(name), count=20)
    Path("pictures").mkdir()
    for index in range(5):
        Image.new("RGB", (80, 60), (50 * index, 90, 30)).save(f"pictures/{index}.png")
    Path("boxes.json").write_text("[[2, 2, 30, 40], [31, 3, 60, 44]]")
    return tmp_path


@pytest.fixture
def run(capsys, monkeypatch):
    """Runs a command on the model; returns its status, stderr, and how many frames it looked at."""
    looked = []
    estimate = PosePipeline.__call__
    monkeypatch.setattr(
        PosePipeline, "__call__", lambda self, *frame: looked.append(1) or estimate(self, *frame)
    )

    def call(*arguments):
        looked.clear()
        status = cli.main([*map(str, arguments), "--boxes", "boxes.json"])
        err = capsys.readouterr().err
        assert "Traceback" not in err
        return status, err, len(looked)

    return call


VIDEO = ("video", "tiny.onnx", "a.mp4", "b.mp4")
IMAGE = ("image", "tiny.onnx", "pictures")
FILES = ("--json", "x.jsonl", "--csv", "x.csv")


def files():
    return Path("x.jsonl").read_bytes(), Path("x.csv").read_bytes()


def cut(lines, more=b""):
    """As if so many lines had been written, and the beginning of another one."""
    whole = Path("x.jsonl").read_bytes().splitlines(keepends=True)
    Path("x.jsonl").write_bytes(b"".join(whole[:lines]) + more)
    Path("x.csv").unlink()


@pytest.mark.parametrize("torn", [b"", b'{"schema_version":1,"source":"a.m'])
@pytest.mark.parametrize(
    ("command", "total", "done"), [(VIDEO, 40, 7), (VIDEO, 40, 27), (IMAGE, 5, 2)]
)
def test_after_a_stop_all_is_as_without_one(here, run, command, total, done, torn):
    assert run(*command, *FILES)[2] == total
    expected = files()
    cut(done, torn)
    status, _, looked = run(*command, *FILES, "--resume")
    assert (status, looked) == (0, total - done)
    assert files() == expected


@pytest.mark.parametrize("done", [4, 5, 6])
def test_after_a_stop_the_detector_runs_on_the_same_frames(here, run, done):
    """In between, boxes follow the last pose, of which a file has thousandths of a pixel."""
    command = ("video", "tiny.onnx", "a.mp4", "--detect-every", "3")

    def boxes():
        lines = [json.loads(line) for line in Path("x.jsonl").read_text().splitlines()]
        people = [person for line in lines for person in line["people"]]
        return [[*person["box_xyxy"], person["track_id"]] for person in people]

    run(*command, *FILES)
    expected = boxes()
    cut(done)
    run(*command, *FILES, "--resume")
    assert np.abs(np.subtract(boxes(), expected)).max() <= 0.0021


def test_the_first_run_may_say_it_too_and_a_finished_one_does_nothing_more(here, run):
    for expected in (40, 0):
        assert run(*VIDEO, *FILES, "--resume")[2] == expected
    resumed = files()
    run(*VIDEO, *FILES)
    assert files() == resumed


def test_pictures_that_failed_are_tried_again(here, run):
    content = Path("pictures/1.png").read_bytes()
    Path("pictures/1.png").write_bytes(b"")
    assert run(*IMAGE, *FILES, "--resume")[0] == 2
    Path("pictures/1.png").write_bytes(content)
    assert run(*IMAGE, *FILES, "--resume")[::2] == (0, 1)
    lines = [json.loads(line) for line in Path("x.jsonl").read_text().splitlines()]
    assert sorted(Path(line["source"]).name for line in lines) == [f"{i}.png" for i in range(5)]


def test_an_annotated_picture_that_is_missing_is_made(here, run):
    run(*IMAGE, *FILES, "--save", "out")
    expected = files()
    Path("out/3.png").unlink()
    assert run(*IMAGE, *FILES, "--save", "out", "--resume")[::2] == (0, 1)
    assert Path("out/3.png").exists()
    assert files() == expected


@pytest.mark.long
@pytest.mark.skipif(sys.platform == "win32", reason="sends a signal")
def test_what_was_written_before_sigkill_is_there(here, run):
    for number in range(6):
        flash_and_click(Path(f"pictures/{number}.mkv"), count=60)
    arguments = ["video", "tiny.onnx", "pictures", "--boxes", "boxes.json", "--resume"]
    command = [sys.executable, "-m", "cigpose_runtime.cli", *arguments, "--json", "y.jsonl"]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        while not Path("y.jsonl").exists() or Path("y.jsonl").stat().st_size < 200_000:
            assert process.poll() is None
        os.kill(process.pid, signal.SIGKILL)
    kept = Path("y.jsonl").read_bytes().count(b"\n")
    assert 0 < kept < 6 * 60
    status, _, looked = run(*arguments[:3], "--json", "y.jsonl", "--resume")
    assert (status, looked) == (0, 6 * 60 - kept)
    seen = [json.loads(line) for line in Path("y.jsonl").read_text().splitlines()]
    assert len({(line["source"], line["frame"]) for line in seen}) == len(seen) == 6 * 60


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--csv", "x.csv"], "expected results that can be taken up again"),
        (["--json", "x.jsonl", "--coco", "x.json"], "expected results that can be taken up again"),
        (["--json", "-"], "expected results that can be taken up again"),
        (["--json", "x.jsonl", "--save", "x.mp4"], "found --save"),
        (["--json", "other.jsonl"], "other.jsonl, line 2: expected what --json wrote"),
    ],
)
def test_what_cannot_be_taken_up_is_one_line_and_stays(here, run, options, message):
    line = '{"schema_version":1,"source":"a.mp4","frame":0,"seconds":0.0,"people":[]}\n'
    content = line + '{"people": [{"keypoints": [1]}]}\n'
    Path("other.jsonl").write_text(content)
    status, err, looked = run("video", "tiny.onnx", "a.mp4", *options, "--resume")
    assert (status, looked, message in err) == (2, 0, True)
    assert Path("other.jsonl").read_text() == content


@pytest.mark.skipif(sys.platform == "win32", reason="the platform has no such locks")
def test_two_runs_do_not_write_one_file(here, run):
    with growing_file(Path("x.jsonl")):
        status, err, looked = run(*IMAGE, "--json", "x.jsonl", "--resume")
    assert (status, looked, "expected that no other run writes there" in err) == (2, 0, True)


@pytest.mark.parametrize(
    "line",
    [
        *("[]", "3", "\0", '{"source": 1}', '{"source":"a","frame":0,"people":3}'),
        '{"source":"a","frame":0,"people":[{"track_id":1' + "0" * 30 + "}]}",
        pytest.param("[" * 100_000, id="deep"),
    ],
)
def test_what_is_no_line_of_results_is_one_line(here, run, line):
    Path("x.jsonl").write_text(line + "\n")
    status, err, looked = run(*IMAGE, "--json", "x.jsonl", "--resume")
    assert (status, looked, "x.jsonl, line 1: expected what --json wrote" in err) == (2, 0, True)


def test_lines_of_another_model_are_not_mixed_with_this_one_s(here, run):
    run(*IMAGE, "--json", "x.jsonl")
    Path("tiny.onnx").write_bytes(tiny_model(num_keypoints=17, seed=3).SerializeToString())
    status, err, _ = run(*IMAGE, "--json", "x.jsonl", "--resume")
    assert (status, "for a model of 17 keypoints" in err) == (2, True)
