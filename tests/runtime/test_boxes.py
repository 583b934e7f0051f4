"""Boxes of a file: forms, which picture or frame they are for, and bad ones."""

import json
from pathlib import Path

import pytest
from PIL import Image

from cigpose_runtime import cli
from clips import flash_and_click
from tiny_onnx import tiny_model


@pytest.fixture
def here(tmp_path, monkeypatch):
    """The working folder, with a model, a clip of 6 frames, 64 x 48, and pictures of that size."""
    monkeypatch.chdir(tmp_path)
    Path("tiny.onnx").write_bytes(tiny_model(num_keypoints=133, seed=3).SerializeToString())
    flash_and_click(Path("clip.mp4"), count=6)
    for name in ("photos/a/0.png", "photos/b/0.png"):
        Path(name).parent.mkdir(parents=True)
        Image.new("RGB", (64, 48)).save(name)
    return tmp_path


@pytest.fixture
def run(here, capsys):
    """Runs a command with boxes; returns its status, the lines of results, and errors."""

    def call(command, source, content, *options):
        Path("boxes").write_text(content)
        arguments = [command, "tiny.onnx", source, "--boxes", "boxes", "--json", "-", *options]
        status = cli.main([str(one) for one in arguments])
        output = capsys.readouterr()
        assert "Traceback" not in output.err
        errors = [line for line in output.err.splitlines() if "error: " in line]
        return status, [json.loads(line) for line in output.out.splitlines()], errors

    return call


def boxes(lines):
    return [[person["box_xyxy"] for person in line["people"]] for line in lines]


LEFT, RIGHT, WIDE = [2, 4, 22, 44], [30, 4, 60, 40], [0, 0, 64, 48]

MOT = """\
1,1,2,4,20,40,1,-1,-1,-1
1,2,30,4,30,36,0.5,-1,-1,-1

3,1,2,4,20,40,0.9,-1,-1,-1
"""

MOT_TRUTH = """\
1,1,2,4,20,40,1,1,1
1,2,30,4,30,36,0,1,1
1,3,30,4,30,36,1,7,1
3,1,2,4,20,40,1,1,0.3
"""
"""With one that does not count, and one who sits (class 7, static person)."""

COCO = json.dumps(
    [
        {"image_id": 0, "category_id": 1, "bbox": [2, 4, 20, 40], "score": 0.7},
        {"image_id": 0, "category_id": 1, "bbox": [30, 4, 30, 36], "score": 0.5},
        {"image_id": 2, "category_id": 18, "bbox": [0, 0, 9, 9], "score": 0.9},
        {"image_id": 2, "category_id": 1, "bbox": [2, 4, 20, 40], "score": 0.9},
    ]
)


def line(frame, *people, source="/elsewhere/clip.mp4", **more):
    document = {"source": source, "frame": frame, "people": [{"box_xyxy": one} for one in people]}
    return json.dumps({**document, **more}) + "\n"


JSON_LINES = line(0, LEFT, RIGHT, seconds=0) + line(2, LEFT, seconds=0.08)


@pytest.mark.parametrize("content", [MOT, COCO, JSON_LINES])
def test_each_frame_of_a_video_has_its_boxes(run, content):
    status, lines, _ = run("video", "clip.mp4", content)
    assert status == 0
    assert boxes(lines) == [[LEFT, RIGHT], [], [LEFT], [], [], []]


def test_of_a_benchmark_s_truth_persons_count_alone(run):
    _, lines, _ = run("video", "clip.mp4", MOT_TRUTH)
    assert boxes(lines) == [[LEFT], [], [LEFT], [], [], []]


def test_the_scores_of_boxes_are_kept(run):
    for content, scores in ((MOT, [1, 0.5]), (COCO, [0.7, 0.5]), (JSON_LINES, [1, 1])):
        _, lines, _ = run("video", "clip.mp4", content)
        assert [person["box_score"] for person in lines[0]["people"]] == scores


def test_results_of_one_model_are_boxes_of_another(run):
    _, first, _ = run("video", "clip.mp4", MOT)
    Path("tiny.onnx").write_bytes(tiny_model(num_keypoints=17).SerializeToString())
    _, second, _ = run("video", "clip.mp4", "".join(json.dumps(one) + "\n" for one in first))
    assert boxes(second) == boxes(first)
    _, first, _ = run("image", "photos", json.dumps({"a/0.png": [LEFT], "b/0.png": []}))
    _, second, _ = run("image", "photos", "".join(json.dumps(one) + "\n" for one in first))
    assert boxes(second) == boxes(first) == [[LEFT], []]


def test_a_video_without_its_source_in_the_lines_is_one_line(run):
    status, lines, (error,) = run("video", "clip.mp4", line(0, LEFT, source="x.mp4", seconds=0))
    assert (status, lines) == (2, [])
    assert "expected boxes for clip.mp4, found none" in error


def test_pictures_of_one_name_are_told_apart_by_their_folders(run):
    content = json.dumps({"a/0.png": [LEFT], "photos/b/0.png": [RIGHT]})
    _, lines, _ = run("image", "photos", content)
    assert boxes(lines) == [[LEFT], [RIGHT]]


def test_a_longer_name_is_nearer_than_a_shorter_one(run):
    _, lines, _ = run("image", "photos", json.dumps({"0.png": [WIDE], "b/0.png": [RIGHT]}))
    assert boxes(lines) == [[WIDE], [RIGHT]]


def test_a_name_in_another_folder_is_another_picture(run):
    status, lines, errors = run("image", "photos/a/0.png", json.dumps({"b/0.png": [RIGHT]}))
    assert (status, lines, len(errors)) == (2, [], 1)


def test_image_ids_of_annotations_find_boxes_and_name_results(run):
    images = [{"id": 7, "file_name": "b/0.png"}, {"id": 42, "file_name": "a/0.png"}]
    Path("ids.json").write_text(json.dumps({"images": images}))
    results = [{"image_id": 42, "bbox": [2, 4, 20, 40]}, {"image_id": 7, "bbox": [30, 4, 30, 36]}]
    options = ("--coco-ids", "ids.json", "--coco", "out.json")
    _, lines, _ = run("image", "photos", json.dumps(results), *options)
    assert boxes(lines) == [[LEFT], [RIGHT]]
    assert [one["image_id"] for one in json.loads(Path("out.json").read_text())] == [42, 7]


def test_a_picture_that_is_not_in_the_annotations_costs_itself(run):
    images = [{"id": 7, "file_name": "b/0.png"}]
    Path("ids.json").write_text(json.dumps({"images": images}))
    status, lines, (error,) = run("image", "photos", json.dumps([LEFT]), "--coco-ids", "ids.json")
    assert (status, len(lines)) == (2, 1)
    assert "photos/a/0.png: expected a picture in ids.json, found none" in error


def test_without_them_the_numbers_of_pictures_are_their_ids(run):
    _, lines, _ = run("image", "photos", json.dumps([{"image_id": 1, "bbox": [2, 4, 20, 40]}]))
    assert boxes(lines) == [[], [LEFT]]


BAD = {
    "expected finite": [1, 2, float("nan"), 40],
    "left < right": [30, 2, 3, 40],
    "that overlaps the frame": [300, 2, 340, 40],
    "expected numbers of shape": [1, 2, 3],
    "expected numbers": ["a", 2, 3, 4],
}


@pytest.mark.parametrize("message", BAD)
def test_a_bad_box_costs_itself(run, message):
    content = json.dumps({"a/0.png": [LEFT, BAD[message], RIGHT], "b/0.png": [WIDE]})
    status, lines, (error,) = run("image", "photos", content)
    assert (status, boxes(lines)) == (2, [[LEFT, RIGHT], [WIDE]])
    assert "photos/a/0.png, box 1: " in error
    assert message in error


@pytest.mark.parametrize("score", ["NaN", "-1", "1e999", "1e300"])
def test_a_score_that_is_none_costs_its_box(run, score):
    one = f'{{"image_id": 0, "bbox": [2, 4, 20, 40], "score": {score}}}'
    other = '{"image_id": 0, "bbox": [30, 4, 30, 36], "score": 0.5}'
    status, lines, (error,) = run("video", "clip.mp4", f"[{one}, {other}]")
    assert (status, boxes(lines)[0]) == (2, [RIGHT])
    assert "frame 0, box 0: expected a score from 0 to 1000" in error


def test_a_bad_box_of_a_frame_costs_itself(run):
    status, lines, (error,) = run("video", "clip.mp4", MOT.replace("1,2,30,4", "1,2,300,4"))
    assert (status, boxes(lines)) == (2, [[LEFT], [], [LEFT], [], [], []])
    assert "clip.mp4, frame 0, box 1: expected a box that overlaps" in error


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('[{"image_id": 0}]', "expected COCO results with bbox"),
        ('[{"image_id": "a", "bbox": [1, 2, 3, 4]}]', "expected COCO results with bbox"),
        ('[{"image_id": 1e999, "bbox": [1, 2, 3, 4]}]', "expected COCO results with bbox"),
        ('[{"image_id": 0, "bbox": [1, 2, 3, 1' + "0" * 400 + "]}]", "expected COCO results"),
        ('{"people": [3], "source": "x"}', "expected what --json writes"),
        ('{"people": []}\n{"people"', "expected JSON with boxes"),
        ("1,2,3", "expected frame,id,left,top,width,height"),
        ("1,2,3,4,5,x", "expected frame,id,left,top,width,height"),
        ("1,2,3,4,5,6\n1e999,2,3,4,5,6", "expected frame,id,left,top,width,height"),
    ],
)
def test_a_file_of_another_form_is_one_line(run, content, message):
    status, lines, (error,) = run("video", "clip.mp4", content)
    assert (status, lines) == (2, [])
    assert f"boxes: {message}" in error


@pytest.mark.parametrize("content", ["", "{}", '{"images": [3]}', '{"images": [{"id": 1}]}'])
def test_annotations_of_another_form_are_one_line(run, content):
    Path("ids.json").write_text(content)
    status, lines, (error,) = run("image", "photos", json.dumps([LEFT]), "--coco-ids", "ids.json")
    assert (status, lines) == (2, [])
    assert "ids.json: expected COCO annotations" in error


def test_label_takes_no_boxes_by_frame(run, here):
    pytest.importorskip("pyarrow")
    Path("boxes").write_text(MOT)
    options = ["--boxes", "boxes", "--out", "labels"]
    assert cli.main(["label", "tiny.onnx", "photos", *options]) == 1
