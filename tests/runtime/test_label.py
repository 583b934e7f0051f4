"""`label` and `label-export`: rows as `image` and `video` give them, whatever stands in the way."""

import contextlib
import json
import os
import resource
import subprocess
import sys
import threading

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("pyarrow")
pytest.importorskip("fsspec")

import pyarrow as pa
import pyarrow.parquet as pq

from cigpose_runtime import FixedBoxesDetector, PoseModel, WholeFrameDetector, cli
from cigpose_runtime.commands import options
from cigpose_runtime.files import locked
from cigpose_runtime.labelling.children import Child, ChildError
from cigpose_runtime.labelling.decoding import Still
from cigpose_runtime.labelling.folder import open_folder
from cigpose_runtime.labelling.shards import plan
from cigpose_runtime.labelling.sources import find_items
from cigpose_runtime.labelling.worker import ShardWorker
from hostile_decoder import decoder as hostile_decoder
from labels import label, make_clip, make_model, make_pictures, rows
from tiny_yolox import yolox


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return make_model(tmp_path_factory.mktemp("model") / "tiny.onnx")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    return make_pictures(tmp_path_factory.mktemp("pictures"), 8)


@pytest.fixture(scope="module")
def labelled(model, pictures, tmp_path_factory):
    """Eight pictures in shards of three."""
    out = tmp_path_factory.mktemp("labels") / "out"
    assert label(model, pictures, "--whole-frame", "--out", out, "--shard-size", 3) == 0
    return out


@pytest.fixture
def run(capsys):
    """Runs a command line in this process; returns exit status, stdout and stderr."""

    def call(*arguments):
        status = cli.main([str(argument) for argument in arguments])
        output = capsys.readouterr()
        assert "Traceback" not in output.err
        return status, output.out, output.err

    return call


# What is in the rows


def test_rows_are_what_the_model_says_of_each_picture(model, pictures, labelled):
    found = rows(labelled)
    files = sorted(pictures.rglob("*.png"))
    assert [row["source"] for row in found] == [str(path) for path in files]
    estimate = PoseModel(model)
    for row, path in zip(found, files, strict=True):
        frame = np.asarray(Image.open(path))[:, :, ::-1]
        height, width = frame.shape[:2]
        poses = estimate(frame, [[0, 0, width, height]], box_scores=[1.0])
        assert (row["width"], row["height"], row["error"]) == (width, height, None)
        assert (row["frame"], row["seconds"], row["person"]) == (0, None, 0)
        assert (row["box_xyxy"], row["box_score"]) == ([0, 0, width, height], 1.0)
        assert row["keypoints"] == poses.keypoints.ravel().tolist()
        assert row["scores"] == pytest.approx(poses.scores.ravel().tolist(), abs=1e-5)
        assert row["person_score"] == pytest.approx(float(poses.person_scores[0]), abs=1e-5)


def test_columns_have_the_types_that_the_page_says(labelled):
    schema = pq.read_schema(labelled / "shard-000000.parquet")
    assert {field.name: str(field.type).replace("element: ", "") for field in schema} == {
        "source": "string",
        "frame": "int64",
        "seconds": "double",
        "person": "int32",
        "width": "int32",
        "height": "int32",
        "box_xyxy": "fixed_size_list<float>[4]",
        "box_score": "float",
        "keypoints": "fixed_size_list<float>[266]",
        "scores": "fixed_size_list<float>[133]",
        "person_score": "float",
        "error": "string",
    }


def test_files_and_manifest_say_what_they_were_made_from(model, labelled):
    manifest = json.loads((labelled / "manifest.json").read_text())
    assert (manifest["complete"], manifest["pictures"], manifest["people"]) == (True, 8, 8)
    assert list(manifest["shards"]) == [f"shard-{i:06d}.parquet" for i in range(3)]
    about = json.loads(pq.read_schema(labelled / "shard-000000.parquet").metadata[b"cigpose_label"])
    assert about.pop("inputs_sha256")
    assert about == manifest["about"]
    assert about["model"]["name"] == "tiny"
    assert about["options"]["shard_size"] == 3


def test_exported_results_are_the_bytes_that_image_writes(run, model, pictures, labelled, tmp_path):
    forms = {form: f"--{form}" for form in ("json", "coco", "csv")}
    for command, place in (("image", "a"), ("label-export", "b")):
        wanted = [part for form in forms for part in (forms[form], tmp_path / f"{place}.{form}")]
        given = [model, *sorted(pictures.rglob("*.png")), "--whole-frame"]
        assert run(command, *(given if command == "image" else [labelled]), *wanted)[0] == 0
    for form in forms:
        content = (tmp_path / f"b.{form}").read_text().replace('"frame":0', "")
        assert content == (tmp_path / f"a.{form}").read_text().replace('"frame":0', "")


def test_openpose_files_are_named_after_the_pictures(run, labelled, tmp_path):
    assert run("label-export", labelled, "--openpose", tmp_path / "o")[:2] == (0, "")
    names = sorted(path.name for path in (tmp_path / "o").iterdir())
    assert names == [f"{i:02d}_keypoints.json" for i in range(8)]
    assert len(json.loads((tmp_path / "o" / names[0]).read_text())["people"]) == 1


def test_openpose_files_of_one_name_are_numbered(run, model, pictures, tmp_path):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "x.png").write_bytes((pictures / "0" / "00.png").read_bytes())
    given = [model, tmp_path / "a", tmp_path / "b", "--whole-frame", "--out", tmp_path / "out"]
    assert run("label", *given)[0] == 0
    assert run("label-export", tmp_path / "out", "--openpose", tmp_path / "o")[0] == 0
    names = sorted(path.name for path in (tmp_path / "o").iterdir())
    assert names == ["x-2_keypoints.json", "x_keypoints.json"]
    status, _, err = run("label-export", tmp_path / "out", "--openpose", model)
    assert (status, err.count("\n")) == (2, 1)


def test_frames_of_a_video_are_what_video_says(run, model, tmp_path):
    clip = make_clip(tmp_path / "clip.mp4", 7)
    boxes = tmp_path / "boxes.json"
    boxes.write_text(json.dumps([[5, 5, 40, 50], [30, 10, 70, 55]]))
    out = tmp_path / "out"
    assert label(model, clip, "--boxes", boxes, "--out", out, "--every", 3) == 0
    assert run("video", model, clip, "--boxes", boxes, "--json", tmp_path / "v.jsonl")[0] == 0
    frames = [json.loads(line) for line in (tmp_path / "v.jsonl").read_text().splitlines()]
    assert [(row["frame"], row["person"], round(row["seconds"], 6)) for row in rows(out)] == [
        (frame["frame"], person, frame["seconds"]) for frame in frames[::3] for person in (0, 1)
    ]
    exported = run("label-export", out)[1].splitlines()
    for line, frame in zip(exported, frames[::3], strict=True):
        people = json.loads(line)["people"]
        expected = [{k: v for k, v in one.items() if k != "track_id"} for one in frame["people"]]
        assert people == expected


def test_crops_of_different_pictures_share_a_batch(model, pictures, tmp_path):
    estimate, sizes = PoseModel(model), []
    simcc = estimate.simcc
    estimate.simcc = lambda crops: (sizes.append(len(crops)), simcc(crops))[1]
    boxes = FixedBoxesDetector([[5 + i, 5, 30 + i, 38] for i in range(3)])
    with ShardWorker(
        estimate, lambda _path: boxes, open_folder(str(tmp_path / "out")), {}
    ) as worker:
        (shard,) = plan(find_items([str(pictures)], out=""), 100)
        assert list(worker.label(shard)) == [3] * 8
    assert sizes == [16, 8]


def test_runs_of_the_model_at_once_give_the_same_rows(model, pictures, labelled, tmp_path):
    estimate = PoseModel(model, max_batch=2)
    simcc, both = estimate.simcc, threading.Barrier(2)
    estimate.simcc = lambda crops: (both.wait(timeout=30), simcc(crops))[1]
    folder = open_folder(str(tmp_path / "out"))
    with ShardWorker(estimate, lambda _path: WholeFrameDetector(), folder, {}, at_once=2) as worker:
        (shard,) = plan(find_items([str(pictures)], out=""), 100)
        assert list(worker.label(shard)) == [1] * 8
    assert rows(tmp_path / "out") == rows(labelled)


def test_a_crop_for_which_the_model_overflows_costs_its_picture(model, pictures, tmp_path):
    estimate = PoseModel(model)
    simcc = estimate.simcc

    def overflowing(crops):
        x, y = simcc(crops)
        x[2, 5, 0] = np.nan
        return x, y

    estimate.simcc = overflowing
    folder = open_folder(str(tmp_path / "out"))
    with ShardWorker(estimate, lambda _path: WholeFrameDetector(), folder, {}) as worker:
        (shard,) = plan(find_items([str(pictures)], out=""), 100)
        assert list(worker.label(shard)) == [1, 1, 0, 1, 1, 1, 1, 1]
    errors = [row["error"] for row in rows(tmp_path / "out")]
    assert "02.png: simcc_x: expected finite peaks, found nan for keypoint 5" in errors.pop(2)
    assert errors == [None] * 7


def test_a_detectors_people_are_those_that_image_finds(run, model, pictures, tmp_path):
    detector = tmp_path / "yolox.onnx"
    seen = [(20, 20, 20, 24, 0.9, 0), (60, 30, 24, 20, 0.8, 0)]
    detector.write_bytes(yolox(seen).SerializeToString())
    files = sorted(pictures.rglob("*.png"))[:3]
    options_ = ["--detector", detector, "--flip"]
    assert label(model, *files, *options_, "--out", tmp_path / "out") == 0
    image = run("image", model, *files, *options_)[1]
    export = run("label-export", tmp_path / "out")[1]
    assert export == image
    assert json.loads(image.splitlines()[0])["people"][0]["box_score"] == 0.9


def test_a_picture_without_people_is_a_row_without_person(model, pictures, tmp_path):
    boxes = tmp_path / "boxes.json"
    boxes.write_text("[]")
    assert label(model, pictures / "0", "--boxes", boxes, "--out", tmp_path / "out") == 0
    found = rows(tmp_path / "out")
    assert [(row["person"], row["keypoints"], row["error"]) for row in found] == [
        (None, None, None)
    ] * 3
    assert [row["height"] for row in found] == [40, 41, 42]


# Pictures that cannot be read


def test_unreadable_pictures_are_rows_with_their_errors(run, model, pictures, tmp_path):
    folder = tmp_path / "mixed"
    folder.mkdir()
    (folder / "a.png").write_bytes((pictures / "0" / "00.png").read_bytes())
    (folder / "b.jpg").write_bytes(b"")
    (folder / "c.jpg").write_bytes(b"<html>")
    os.mkfifo(folder / "d.jpg")
    status, _, err = run("label", model, folder, "--whole-frame", "--out", tmp_path / "out")
    assert status == 1
    assert "found 3 errors" in err
    first, *others = rows(tmp_path / "out")
    assert (first["person"], first["error"]) == (0, None)
    said = ("found nothing", "(cannot identify image file)", "no regular file")
    for row, name, what in zip(others, "bcd", said, strict=True):
        assert (row["person"], row["width"]) == (None, None)
        assert f"{name}.jpg" in row["error"]
        assert what in row["error"]


def test_a_decoder_that_crashes_or_hangs_costs_that_picture(model, pictures, tmp_path):
    folder = tmp_path / "mixed"
    folder.mkdir()
    (folder / "killed.token").touch()
    for name in ("a", "crash", "hang", "killed", "z"):
        (folder / f"{name}.png").write_bytes((pictures / "0" / "00.png").read_bytes())
    worker = ShardWorker(
        PoseModel(model),
        lambda _path: WholeFrameDetector(),
        open_folder(str(tmp_path / "out")),
        {},
        time_limit=0.5,
        make_decoder=hostile_decoder,
    )
    with worker:
        (shard,) = plan(find_items([str(folder)], out=""), 100)
        assert list(worker.label(shard)) == [1, 0, 0, 1, 1]
    first, crashed, hung, killed, last = rows(tmp_path / "out")
    assert "found that its process died (signal 11) in each of 3 tries" in crashed["error"]
    assert "found no answer within 0.5 s" in hung["error"]
    assert first["keypoints"] == killed["keypoints"] == last["keypoints"]
    assert not (folder / "killed.token").exists()


def test_a_shorter_time_limit_than_for_the_last_picture_holds(pictures):
    content = (pictures / "0" / "00.png").read_bytes()
    child = Child(hostile_decoder)
    with contextlib.closing(child):
        assert len(list(child.replies(Still("a.png", content), patience=3600))) == 1
        with pytest.raises(ChildError, match=r"found no answer within 0\.2 s"):
            list(child.replies(Still("hang.png", content), patience=0.2))


def test_a_damaged_video_has_its_frames_and_a_row_with_the_error(run, model, tmp_path):
    whole = make_clip(tmp_path / "clip.mp4", 60)
    cut = tmp_path / "none.mp4"
    cut.write_bytes(whole.read_bytes()[:300])
    assert run("label", model, cut, whole, "--whole-frame", "--out", tmp_path / "out")[0] == 1
    first, *others = rows(tmp_path / "out")
    assert (first["frame"], first["person"]) == (None, None)
    assert "none.mp4: expected a video" in first["error"]
    assert [row["frame"] for row in others] == list(range(60))


def test_boxes_that_miss_a_picture_are_its_error(model, pictures, tmp_path):
    boxes = tmp_path / "boxes.json"
    boxes.write_text(json.dumps({"00.png": [[900, 900, 950, 950]], "01.png": [[1, 1, 20, 30]]}))
    assert label(model, pictures / "0", "--boxes", boxes, "--out", tmp_path / "out") == 1
    outside, good, missing = rows(tmp_path / "out")
    assert "expected a box that overlaps the frame" in outside["error"]
    assert (good["box_xyxy"], good["error"]) == ([1, 1, 20, 30], None)
    assert "expected boxes for 02.png" in missing["error"]


# Going on, and not


def test_the_same_command_makes_only_what_is_missing(run, model, pictures, labelled, tmp_path):
    out = tmp_path / "out"
    given = ["label", model, pictures, "--whole-frame", "--out", out, "--shard-size", 3]
    assert run(*given)[0] == 0
    manifest = (out / "manifest.json").read_bytes()
    (out / "shard-000001.parquet").unlink()
    times = {path.name: path.stat().st_mtime_ns for path in out.glob("shard*")}
    (out / ".shard-000001.parquet.x1y2.partial").write_bytes(b"half")
    _, _, err = run(*given, "--workers", 2)
    assert "2 of 3 shards are done already" in err
    assert "3 pictures, 3 people" in err
    assert rows(out) == rows(labelled)
    assert (out / "manifest.json").read_bytes() == manifest
    assert {name: (out / name).stat().st_mtime_ns for name in times} == times
    assert sorted(path.name for path in out.iterdir()) == sorted(
        [*times, "manifest.json", "shard-000001.parquet"]
    )


def test_a_changed_picture_is_labelled_again_and_a_shard_too_many_removed(run, model, tmp_path):
    folder = make_pictures(tmp_path / "pictures", 6)
    given = ["label", model, folder, "--whole-frame", "--out", tmp_path / "o", "--shard-size", 2]
    assert run(*given)[0] == 0
    Image.new("RGB", (50, 50), "red").save(folder / "0" / "00.png")
    for name in ("04.png", "05.png"):
        (folder / "1" / name).unlink()
    assert "1 of 2 shards are done already" in run(*given)[2]
    assert [row["width"] for row in rows(tmp_path / "o")] == [50, 60, 60, 60]


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        (["--flip"], "options flip was False and is True"),
        (["--shard-size", 4], "options shard_size was 3 and is 4"),
        (["--every", 2], "options every was 1 and is 2"),
    ],
)
def test_other_options_than_recorded_are_an_error(run, model, pictures, labelled, changed, named):
    before = rows(labelled)
    given = [model, pictures, "--whole-frame", "--out", labelled, "--shard-size", 3]
    status, _, err = run("label", *given, *changed)
    assert (status, err.count("\n")) == (2, 1)
    assert named in err
    assert rows(labelled) == before


def test_another_model_or_source_is_an_error_even_without_the_manifest(
    run, model, pictures, tmp_path
):
    out = tmp_path / "out"
    assert run("label", model, pictures / "0", "--whole-frame", "--out", out)[0] == 0
    (out / "manifest.json").unlink()
    other = make_model(tmp_path / "other.onnx", num_keypoints=17)
    status, _, err = run("label", other, pictures / "1", "--whole-frame", "--out", out)
    assert status == 2
    assert "model name was 'tiny' and is 'other'" in err
    assert "options sources was" in err


def test_files_of_others_are_named_and_left_alone(run, model, pictures, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    for name in ("notes.txt", "manifest.json.bak", "shard-000000.parquet.old"):
        (out / name).write_text("mine")
    status, _, err = run("label", model, pictures / "0", "--whole-frame", "--out", out)
    assert status == 0
    assert (
        "left alone what label did not write: manifest.json.bak, notes.txt, "
        "shard-000000.parquet.old" in err
    )
    assert (out / "notes.txt").read_text() == "mine"
    assert len(list(out.iterdir())) == 5


@pytest.mark.parametrize("name", ["shard-000000.parquet", "manifest.json"])
def test_a_file_of_others_under_a_name_of_ours_stops_the_run(run, model, pictures, tmp_path, name):
    out = tmp_path / "out"
    out.mkdir()
    if name == "manifest.json":
        (out / name).write_text('{"schema_version": 1}')
    else:
        pq.write_table(pa.table({"a": [1]}), out / name)
    before = (out / name).read_bytes()
    status, _, err = run("label", model, pictures / "0", "--whole-frame", "--out", out)
    assert (status, err.count("\n")) == (2, 1)
    assert name in err
    assert (out / name).read_bytes() == before


def test_a_second_run_in_the_same_folder_says_so_at_once(run, model, pictures, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    with locked(out):
        status, _, err = run("label", model, pictures / "0", "--whole-frame", "--out", out)
    assert (status, err.count("\n")) == (2, 1)
    assert "expected that no other run writes there" in err


# What cannot be done


@pytest.mark.parametrize(
    ("source", "what"),
    [
        ("none.jpg", "expected pictures or videos, found nothing"),
        ("none*.jpg", "expected pictures or videos, found nothing"),
        ("empty", "found none in it"),
        ("list.txt", "found none in it"),
        ("bad.zip", "expected a ZIP archive"),
        ("bad.tar", "expected a tar archive without compression"),
        ("bad.parquet", "expected a Parquet file"),
        ("nosuch://a/b.jpg", "nosuch"),
    ],
)
def test_sources_without_pictures_are_an_error(run, model, tmp_path, monkeypatch, source, what):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "list.txt").write_text("\n")
    for name in ("bad.zip", "bad.tar", "bad.parquet"):
        (tmp_path / name).write_bytes(b"nothing of the kind" * 100)
    status, _, err = run("label", model, source, "--whole-frame", "--out", "out")
    assert (status, err.count("\n")) == (2, 1)
    assert what in err
    assert source in err
    assert not (tmp_path / "out").exists()


def test_an_out_folder_that_is_a_file_is_an_error(run, model, pictures, tmp_path):
    (tmp_path / "out").write_text("")
    for out in (tmp_path / "out", tmp_path / "out" / "below"):
        status, _, err = run("label", model, pictures / "0", "--whole-frame", "--out", out)
        assert (status, err.count("\n")) == (2, 1)
        assert "expected a folder to write to" in err


def test_a_full_disk_is_one_line_and_no_half_file(model, pictures, tmp_path):
    """A limit on the size of files stands in for the disk's end: it comes at the same place."""
    command = [sys.executable, "-m", "cigpose_runtime.cli", "label", str(model), str(pictures)]
    ended = subprocess.run(
        [*command, "--whole-frame", "--out", str(tmp_path / "out")],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000)),
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 2
    assert "free some space and run the same command again" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["manifest.json"]


def test_without_the_extra_the_error_names_it(run, model, pictures, tmp_path, monkeypatch):
    there = options.importlib.util.find_spec
    monkeypatch.setattr(
        options.importlib.util, "find_spec", lambda name: name != "pyarrow" and there(name)
    )
    status, _, err = run("label", model, pictures, "--whole-frame", "--out", tmp_path / "out")
    assert status == 2
    assert 'found no PyArrow; run: pip install "cigpose-runtime[label]"' in err


@pytest.mark.parametrize("workers", [1, 2])
def test_a_model_that_a_worker_cannot_open_is_one_line(run, pictures, model, tmp_path, workers):
    given = [model, pictures, "--whole-frame", "--out", tmp_path / "out", "--shard-size", 4]
    status, _, err = run("label", *given, "--device", "tensorrt", "--workers", workers)
    assert status == 2
    assert "expected an execution provider of this onnxruntime" in err


@pytest.mark.parametrize(
    ("changed", "what"),
    [
        ({"format": "another"}, "expected a manifest that label wrote"),
        ({"shards": {"../x.parquet": {}}}, "expected a manifest that label wrote"),
        ({"shards": []}, "expected a manifest that label wrote"),
        ({"schema_version": 2}, "expected schema version 1, found 2"),
        ({"contract": {}}, "missing"),
        ({}, "shard-000000.parquet: expected a file that label wrote"),
    ],
)
def test_results_that_were_tampered_with_are_not_exported(run, labelled, tmp_path, changed, what):
    manifest = json.loads((labelled / "manifest.json").read_text())
    (tmp_path / "manifest.json").write_text(json.dumps({**manifest, **changed}))
    (tmp_path / "shard-000000.parquet").write_bytes(b"PAR1 nothing of the kind PAR1")
    status, stdout, err = run("label-export", tmp_path)
    assert (status, stdout, err.count("\n")) == (2, "", 1)
    assert what in err


def test_many_sources_are_recorded_by_digest(run, model, pictures, tmp_path):
    given = ["label", model, "--whole-frame", "--out", tmp_path / "out"]
    assert run(*given, *[pictures / "0" / "00.png"] * 33)[0] == 0
    assert len(rows(tmp_path / "out")) == 1
    err = run(*given, *[pictures / "0" / "01.png"] * 33)[2]
    assert "options sources was '33 sources, sha256" in err


def test_an_unfinished_run_is_not_exported(run, labelled, tmp_path):
    manifest = json.loads((labelled / "manifest.json").read_text())
    (tmp_path / "manifest.json").write_text(json.dumps({**manifest, "complete": False}))
    status, stdout, err = run("label-export", tmp_path)
    assert (status, stdout) == (2, "")
    assert "found an unfinished one" in err
