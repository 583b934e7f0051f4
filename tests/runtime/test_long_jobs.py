"""A long job never loses what it has: full disks, bad targets, single bad frames and pictures."""

import csv
import json
import shutil
import subprocess
import sys

import av
import pytest
from PIL import Image

from cigpose_runtime import cli
from cigpose_runtime.errors import InputError
from cigpose_runtime.estimation.pose_pipeline import PosePipeline
from clips import flash_and_click


@pytest.fixture
def clip(tmp_path):
    return flash_and_click(tmp_path / "clip.mp4", count=20)


@pytest.fixture
def pictures(tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    for index in range(3):
        Image.new("RGB", (80, 60), (90 * index, 60, 30)).save(folder / f"{index}.png")
    return folder


@pytest.fixture
def run(capsys):
    """Runs a command line in this process; returns exit status and the lines of errors."""

    def call(*arguments):
        status = cli.main([str(argument) for argument in arguments])
        err = capsys.readouterr().err
        assert "Traceback" not in err
        return status, [line for line in err.splitlines() if "error: " in line]

    return call


def frames_of(path):
    with av.open(str(path)) as container:
        return sum(1 for _ in container.decode(video=0))


def frames_in_results(path):
    """The numbers of the frames in a file of any form; that it can be parsed is half the test."""
    text = path.read_text()
    if path.suffix == ".jsonl":
        assert text.endswith("\n")
        return [json.loads(line)["frame"] for line in text.splitlines()]
    if path.suffix == ".json":
        return [person["image_id"] for person in json.loads(text)]
    rows = [int(row["frame"]) for row in csv.DictReader(text.splitlines())]
    assert all(rows.count(frame) == 133 for frame in set(rows))
    return sorted(set(rows))


LIMITED = """
import resource, sys
size, *arguments = sys.argv[1:]
resource.setrlimit(resource.RLIMIT_FSIZE, (int(size), int(size)))
from cigpose_runtime import cli
sys.exit(cli.main(arguments))
"""
"""Files of more than so many bytes are refused by the system, as all are on a full disk."""


@pytest.mark.skipif(sys.platform == "win32", reason="the platform has no such limit")
@pytest.mark.parametrize(
    ("option", "name"), [("--json", "a.jsonl"), ("--coco", "a.json"), ("--csv", "a.csv")]
)
def test_on_a_full_disk_results_are_whole_as_far_as_they_go(model, clip, tmp_path, option, name):
    other = flash_and_click(tmp_path / "other.mp4", count=20)
    arguments = ["video", model, clip, other, "--whole-frame", option, tmp_path / name]
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, "50000", *map(str, arguments)],
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    (line,) = [line for line in done.stderr.splitlines() if "error: " in line]
    assert (done.returncode, f"{name}: expected a place to write to" in line) == (2, True)
    frames = frames_in_results(tmp_path / name)
    assert frames == list(range(len(frames)))
    assert 0 < len(frames) < 20
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(
        [name, "clip.mp4", "other.mp4", "tiny.onnx"]
    )


def test_a_disk_that_is_nearly_full_ends_the_video_and_not_the_results(
    run, model, clip, tmp_path, monkeypatch
):
    real, asked = shutil.disk_usage, []

    def usage(path):
        asked.append(path)
        return real(path)._replace(free=1 << (40 if len(asked) <= 12 else 20))

    monkeypatch.setattr(shutil, "disk_usage", usage)
    out, lines = tmp_path / "out.mp4", tmp_path / "a.jsonl"
    status, (line,) = run("video", model, clip, "--whole-frame", "--save", out, "--json", lines)
    assert (status, "out.mp4: expected room for more" in line) == (2, True)
    assert frames_of(out) == 12
    assert frames_in_results(lines) == list(range(20))


def test_without_results_a_video_that_cannot_be_saved_ends_the_work(
    run, model, clip, tmp_path, monkeypatch
):
    real = shutil.disk_usage
    monkeypatch.setattr(shutil, "disk_usage", lambda path: real(path)._replace(free=0))
    status, (line,) = run("video", model, clip, "--whole-frame", "--save", tmp_path / "out.mp4")
    assert (status, "expected room for more" in line) == (2, True)
    assert not (tmp_path / "out.mp4").exists()


@pytest.mark.parametrize("option", ["--json", "--coco", "--csv", "--save"])
@pytest.mark.parametrize("command", ["image", "video"])
def test_a_folder_in_the_place_of_a_result_is_found_before_the_work(
    run, model, clip, pictures, tmp_path, monkeypatch, command, option
):
    def work(*_args):
        raise AssertionError

    monkeypatch.setattr(PosePipeline, "__call__", work)
    target = tmp_path / ("out.mp4" if command == "video" else "out")
    in_the_way = target / "1.png" if (command, option) == ("image", "--save") else target
    in_the_way.mkdir(parents=True)
    source = clip if command == "video" else pictures
    status, (line,) = run(command, model, source, "--whole-frame", option, target)
    assert (status, f"{in_the_way}: expected a place" in line) == (2, True)


@pytest.fixture
def fails_on(monkeypatch):
    """Poses of the calls with these numbers cannot be estimated."""

    def seed(numbers):
        estimate, calls = PosePipeline.__call__, iter(range(1000))

        def call(self, *frame):
            if next(calls) in numbers:
                raise InputError("seeded")
            return estimate(self, *frame)

        monkeypatch.setattr(PosePipeline, "__call__", call)

    return seed


def test_a_bad_frame_is_an_error_of_its_own(run, model, clip, tmp_path, fails_on):
    fails_on({3})
    out, lines = tmp_path / "out.mp4", tmp_path / "a.jsonl"
    status, (line,) = run("video", model, clip, "--whole-frame", "--save", out, "--json", lines)
    assert (status, f"{clip}, frame 3: seeded" in line) == (2, True)
    assert frames_in_results(lines) == [n for n in range(20) if n != 3]
    assert frames_of(out) == 20


def test_many_bad_frames_are_counted(run, model, clip, tmp_path, fails_on):
    fails_on(range(2, 20))
    status, lines = run("video", model, clip, "--whole-frame", "--json", tmp_path / "a.jsonl")
    assert (status, len(lines)) == (2, 11)
    assert "found 8 more that are not" in lines[-1]
    assert frames_in_results(tmp_path / "a.jsonl") == [0, 1]


def test_a_picture_that_cannot_be_saved_is_in_the_results(
    run, model, pictures, tmp_path, monkeypatch
):
    def save(_frame, path):
        if path.name == "1.png":
            raise InputError(f"{path}: seeded")

    monkeypatch.setattr("cigpose_runtime.media.images.write_image", save)
    status, (line,) = run(
        *("image", model, pictures, "--whole-frame", "--json", tmp_path / "a.jsonl"),
        *("--save", tmp_path / "out"),
    )
    assert (status, "1.png: seeded" in line) == (2, True)
    assert frames_in_results(tmp_path / "a.jsonl") == [0, 1, 2]


def test_a_place_for_pictures_is_tried_before_the_work(run, model, pictures, tmp_path):
    (tmp_path / "file").write_text("")
    status, (line,) = run(
        *("image", model, pictures, "--whole-frame", "--json", tmp_path / "a.jsonl"),
        *("--save", tmp_path / "file" / "out"),
    )
    assert (status, "expected a place to write to" in line) == (2, True)
    assert not (tmp_path / "a.jsonl").exists()
