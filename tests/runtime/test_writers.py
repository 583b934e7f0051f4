"""The forms in which poses are written."""

import csv
import io
import json
from dataclasses import replace

import numpy as np
import pytest

from cigpose_runtime.errors import InputError
from cigpose_runtime.writers import (
    CSV_HEADER,
    WHOLE_BODY_FIELDS,
    to_coco,
    to_coco_wholebody,
    to_csv,
    to_json,
    to_json_line,
    to_openpose,
)
from people import people


def test_coco_results_have_the_official_fields():
    poses = people(2, box_scores=np.array([1, 0.5], np.float32))
    first, second = to_coco(poses, 42)
    assert first.keys() == {"image_id", "category_id", "keypoints", "score"}
    assert (first["image_id"], first["category_id"]) == (42, 1)
    triples = np.reshape(first["keypoints"], (17, 3))
    np.testing.assert_allclose(triples[:, :2], poses.keypoints[0], atol=5e-4)
    np.testing.assert_allclose(triples[:, 2], 0.8, atol=5e-4)
    assert (first["score"], second["score"]) == (0.8, 0.4)


def test_whole_body_results_are_split_into_all_parts():
    poses = people(1, k=133)
    (person,) = to_coco_wholebody(poses, 7)
    lengths = {field: len(person[field]) // 3 for field in WHOLE_BODY_FIELDS.values()}
    assert lengths == {
        "keypoints": 17,
        "foot_kpts": 6,
        "face_kpts": 68,
        "lefthand_kpts": 21,
        "righthand_kpts": 21,
    }
    together = np.concatenate([np.reshape(person[f], (-1, 3)) for f in WHOLE_BODY_FIELDS.values()])
    np.testing.assert_allclose(together[:, :2], poses.keypoints[0], atol=5e-4)


@pytest.mark.parametrize("write", [lambda p: to_coco_wholebody(p, 1), to_openpose])
def test_forms_for_whole_bodies_refuse_other_models(write):
    with pytest.raises(InputError, match="found the 17 of 'coco'; use a whole-body model"):
        write(people(1))


@pytest.mark.parametrize("write", [lambda p: to_coco_wholebody(p, 1), to_openpose])
def test_133_other_keypoints_are_no_whole_body(write):
    names = tuple(f"point {index}" for index in range(133))
    others = replace(people(1, k=133).keypoint_set, dataset="mine", names=names)
    poses = replace(people(1, k=133), keypoint_set=others)
    with pytest.raises(InputError, match="found the 133 of 'mine'"):
        write(poses)


def test_openpose_has_its_own_order():
    poses = people(1, k=133, track_ids=np.array([5]))
    document = to_openpose(poses)
    (person,) = document["people"]
    assert (document["version"], person["person_id"]) == (1.3, [5])
    lengths = {k: len(v) // 3 for k, v in person.items() if k.endswith("_2d")}
    assert lengths == {
        "pose_keypoints_2d": 25,
        "face_keypoints_2d": 70,
        "hand_left_keypoints_2d": 21,
        "hand_right_keypoints_2d": 21,
    }
    body = np.reshape(person["pose_keypoints_2d"], (25, 3))
    place = {name: poses.keypoints[0, i] for i, name in enumerate(poses.names)}
    expected = {
        0: place["nose"],
        1: (place["left_shoulder"] + place["right_shoulder"]) / 2,
        2: place["right_shoulder"],
        4: place["right_wrist"],
        7: place["left_wrist"],
        8: (place["left_hip"] + place["right_hip"]) / 2,
        11: place["right_ankle"],
        14: place["left_ankle"],
        15: place["right_eye"],
        18: place["left_ear"],
        19: place["left_big_toe"],
        24: place["right_heel"],
    }
    for index, xy in expected.items():
        np.testing.assert_allclose(body[index, :2], xy, atol=1e-3)


@pytest.mark.parametrize("score", [-0.3, 0, np.nan])
def test_openpose_has_zeros_for_what_was_not_found_and_its_middles(score):
    poses = people(1, k=133)
    lost = [poses.names.index(name) for name in ("left_shoulder", "left_ankle", "face-3")]
    keypoints, scores = poses.keypoints.copy(), poses.scores.copy()
    keypoints[0, lost], scores[0, lost] = (-50, -60), score
    (person,) = to_openpose(replace(poses, keypoints=keypoints, scores=scores))["people"]
    body = np.reshape(person["pose_keypoints_2d"], (25, 3))
    empty = np.flatnonzero((body == 0).all(axis=1)).tolist()
    assert empty == [1, 5, 14]  # OpenPose's Neck, LShoulder, LAnkle
    assert (body[np.setdiff1d(range(25), empty)] > 0).all()
    face = np.reshape(person["face_keypoints_2d"], (70, 3))
    assert np.flatnonzero((face == 0).all(axis=1)).tolist() == [3, 68, 69]


def test_openpose_has_the_size_of_the_canvas_where_it_is_known():
    poses = people(1, k=133)
    document = to_openpose(poses, canvas_wh=(640, 480))
    assert (document["canvas_width"], document["canvas_height"]) == (640, 480)
    assert "canvas_width" not in to_openpose(poses)


def test_json_is_versioned_and_complete():
    poses = people(2, box_scores=np.array([1, 0.5], np.float32), track_ids=np.array([3, 9]))
    document = to_json(poses, source="a.jpg", frame=4)
    assert (document["schema_version"], document["source"], document["frame"]) == (1, "a.jpg", 4)
    assert [person["track_id"] for person in document["people"]] == [3, 9]
    assert document["people"][1]["box_score"] == 0.5
    line = to_json_line(poses, source="a\nb.jpg", frame=4)
    assert line.count("\n") == 1
    assert json.loads(line)["people"] == document["people"]


def test_nobody_is_an_empty_list_in_every_form():
    nobody = people(1, k=133)[[]]
    assert to_coco(nobody, 1) == to_coco_wholebody(nobody, 1) == []
    assert to_openpose(nobody)["people"] == to_json(nobody)["people"] == []
    assert to_csv(nobody, "a.jpg", 0) == ""


def test_csv_has_a_line_for_each_keypoint_of_each_person():
    poses = people(2, track_ids=np.array([3, 9]))
    rows = list(csv.DictReader(io.StringIO(CSV_HEADER + to_csv(poses, 'a,"b".jpg', 7))))
    assert len(rows) == 2 * 17
    assert rows[17]["source"] == 'a,"b".jpg'
    assert (rows[17]["person"], rows[17]["track_id"], rows[17]["keypoint"]) == ("1", "9", "nose")
    assert float(rows[17]["x"]) == pytest.approx(poses.keypoints[1, 0, 0], abs=5e-4)


@pytest.mark.parametrize(
    ("source", "cell"),
    [
        ("=HYPERLINK(1).png", "'=HYPERLINK(1).png"),
        ("+1.png", "'+1.png"),
        ("-1.png", "'-1.png"),
        ("@SUM(A1).png", "'@SUM(A1).png"),
        ("\uff1d1.png", "'\uff1d1.png"),
        ("\t=1.png", r"\t=1.png"),
        ("\r=1.png", r"\r=1.png"),
        ("\x1b[31m.png", r"\x1b[31m.png"),
        ("\udcff.png", r"\udcff.png"),
        ("a=b.png", "a=b.png"),
        ("", ""),
    ],
)
def test_csv_has_names_that_nothing_is_computed_from(source, cell):
    poses = people(1)
    names = (source, *poses.names[1:])
    poses = replace(poses, keypoint_set=replace(poses.keypoint_set, names=names))
    row = next(csv.DictReader(io.StringIO(CSV_HEADER + to_csv(poses, source, 0))))
    assert (row["source"], row["keypoint"]) == (cell, cell)


def test_csv_has_numbers_that_are_numbers_below_zero_too():
    poses = replace(people(1), keypoints=np.full((1, 17, 2), -2.5, np.float32))
    row = next(csv.DictReader(io.StringIO(CSV_HEADER + to_csv(poses, "a.png", 0))))
    assert (row["x"], row["y"]) == ("-2.5", "-2.5")
