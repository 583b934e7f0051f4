"""--detector with its options, from the command line."""

import json
import re
from pathlib import Path

import numpy as np
import onnx
import pytest
from PIL import Image

from cigpose_runtime import cli
from cigpose_runtime.estimation.onnx_detector import OnnxDetector
from clips import flash_and_click
from tiny_mmdeploy import mmdeploy
from tiny_yolox import yolox

PAIR = [(4, 4, 20, 40, 0.7, 0), (4, 4, 22, 40, 0.9, 0), (30, 8, 44, 40, 0.5, 0)]
"""In an input of the clip's size."""


@pytest.fixture
def run(capsys, tmp_path, monkeypatch):
    """Runs a command line in a folder of its own; returns exit status, results and errors."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments):
        try:
            status = cli.main([str(argument) for argument in arguments])
        except SystemExit as ended:  # argparse's own
            status = ended.code
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        lines = [json.loads(line) for line in out.splitlines()]
        return status, lines, [line for line in err.splitlines() if "error: " in line]

    return call


@pytest.fixture
def clip(tmp_path):
    return flash_and_click(tmp_path / "clip.mp4", count=15, sound=None)


@pytest.fixture
def rtmdet(tmp_path):
    path = tmp_path / "rtmdet.onnx"
    onnx.save(mmdeploy(PAIR, size_wh=(64, 48), batch="batch", shown=1.0), path)
    return path


@pytest.fixture
def picture(tmp_path):
    path = tmp_path / "photo.png"
    Image.new("RGB", (64, 48)).save(path)
    return path


def box_scores(line):
    return [person["box_score"] for person in line["people"]]


@pytest.mark.parametrize(
    ("options", "scores"),
    [
        ([], [0.9, 0.7, 0.5]),
        (["--detector-threshold", "0.6"], [0.9, 0.7]),
        (["--detector-nms", "0.5"], [0.9, 0.5]),
        (["--max-people", "1"], [0.9]),
    ],
)
@pytest.mark.parametrize("command", ["image", "video"])
def test_the_options_say_whom_the_detector_keeps(
    run, model, rtmdet, picture, clip, command, options, scores
):
    source = picture if command == "image" else clip
    status, lines, _ = run(command, model, source, "--detector", rtmdet, *options)
    assert (status, box_scores(lines[0])) == (0, scores)


@pytest.mark.parametrize("option", ["--detector-threshold", "--detector-nms", "--max-people"])
@pytest.mark.parametrize("command", ["image", "video", "label"])
def test_without_a_detector_they_are_an_error(run, model, picture, clip, tmp_path, command, option):
    source = clip if command == "video" else picture
    out = ["--out", tmp_path / "out"] if command == "label" else []
    status, _, (line,) = run(command, model, source, *out, "--whole-frame", option, "1")
    assert (status, f"{option}: expected --detector beside it, found none" in line) == (2, True)


@pytest.mark.parametrize(
    "option", [["--detector-threshold", "1.5"], ["--detector-nms", "x"], ["--max-people", "0"]]
)
def test_numbers_out_of_bounds_are_an_error(run, model, picture, option):
    status, _, (line,) = run("image", model, picture, "--whole-frame", *option)
    assert (status, f"argument {option[0]}: expected a number from" in line) == (2, True)


def test_an_error_of_a_function_is_that_of_its_picture(run, model, tmp_path):
    (tmp_path / "find_dark.py").write_text(
        "def people(picture):\n"
        "    if picture.max() > 100:\n"
        "        raise RuntimeError('too bright')\n"
        "    return [[4, 4, 20, 40]], [0.8]\n"
    )
    for name, level in (("a", 10), ("b", 200), ("c", 20)):
        Image.new("RGB", (64, 48), (level,) * 3).save(tmp_path / f"{name}.png")
    status, lines, (line,) = run("image", model, tmp_path, "--detector", "find_dark:people")
    assert (status, [box_scores(one) for one in lines]) == (2, [[0.8], [0.8]])
    assert "b.png: find_dark:people: expected boxes" in line
    assert "found RuntimeError: too bright" in line


def test_the_function_of_the_page_finds_its_person(run, model, tmp_path):
    page = (Path(__file__).parents[2] / "docs" / "detectors.md").read_text("utf-8")
    (example,) = re.findall(r"```python\n(.*?)```", page, re.S)
    (tmp_path / "my_detector.py").write_text(example)
    Image.new("RGB", (640, 480)).save(tmp_path / "photo.png")
    status, (line,), _ = run("image", model, "photo.png", "--detector", "my_detector:people")
    assert status == 0
    assert [person["box_xyxy"] for person in line["people"]] == [[40, 30, 180, 420]]


def test_frames_detected_at_once_have_the_people_of_each(run, model, rtmdet, clip, monkeypatch):
    _, alone, _ = run("video", model, clip, "--detector", rtmdet)
    seen, detect = [], OnnxDetector.detect

    def counted(self, frames):
        seen.append(len(frames))
        return detect(self, frames)

    monkeypatch.setattr(OnnxDetector, "detect", counted)
    status, together, _ = run("video", model, clip, "--detector", rtmdet, "--detector-batch", "6")
    assert (status, seen) == (0, [6, 6, 3])
    assert together == alone
    assert len({str(line["people"]) for line in alone}) > 1  # as the pictures differ


def test_of_frames_that_fail_together_each_has_its_own_error(run, model, rtmdet, clip, monkeypatch):
    run_alone = OnnxDetector.detect

    def fails(self, frames):
        if len(frames) > 1 or frames[0].mean() > 100:  # the one that flashes
            raise cli.CigposeError("expected one, found another; stop")
        return run_alone(self, frames)

    monkeypatch.setattr(OnnxDetector, "detect", fails)
    bright = flash_and_click(clip.with_name("bright.mp4"), count=15, sound=None)
    arguments = ("video", model, bright, "--detector", rtmdet, "--detector-batch", "5")
    status, lines, (line,) = run(*arguments)
    assert (status, "bright.mp4, frame 12: expected one" in line) == (2, True)
    assert [one["frame"] for one in lines] == [*range(12), 13, 14]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--detector", "static.onnx"], "static.onnx: expected a detector that takes any number"),
        (["--detector", "json:loads"], "expected --detector with an ONNX file, found none"),
        (["--whole-frame"], "expected --detector with an ONNX file, found none"),
        (["--detector", "rtmdet.onnx", "--detect-every", "2"], "found --detect-every; leave"),
    ],
)
def test_what_cannot_detect_on_several_frames_says_so(run, model, rtmdet, clip, options, said):
    onnx.save(yolox([]), rtmdet.with_name("static.onnx"))
    status, lines, (line,) = run("video", model, clip, *options, "--detector-batch", "3")
    assert (status, lines) == (2, [])
    assert "error: --detector-batch: " in line
    assert said in line


def test_label_goes_on_with_the_same_detector_alone(run, model, rtmdet, picture, tmp_path):
    pq = pytest.importorskip("pyarrow.parquet")
    arguments = ("label", model, picture, "--out", "out", "--detector")
    assert run(*arguments, rtmdet, "--max-people", "2")[0] == 0
    rows = pq.read_table(tmp_path / "out/shard-000000.parquet")
    np.testing.assert_allclose(rows["box_score"], [0.9, 0.7])
    status, _, (line,) = run(*arguments, rtmdet, "--max-people", "1")
    assert (status, "detector_options max_people was 2 and is 1" in line) == (2, True)


def test_label_takes_another_function_of_a_module_for_another_detector(
    run, model, picture, tmp_path
):
    (tmp_path / "find_corner.py").write_text(
        "def left(picture):\n    return [[4, 4, 20, 40]], [0.8]\n\n"
        "def right(picture):\n    return [[40, 4, 60, 40]], [0.8]\n"
    )
    arguments = ("label", model, picture, "--out", "out", "--detector")
    assert run(*arguments, "find_corner:left")[0] == 0
    status, _, (line,) = run(*arguments, "find_corner:right")
    said = "detector_function was 'find_corner:left' and is 'find_corner:right'"
    assert (status, said in line) == (2, True)
