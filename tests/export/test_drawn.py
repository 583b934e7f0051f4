"""Drawn people: the same from a seed, and annotated where they are."""

import json

import numpy as np
import pytest

from cigpose_export.accuracy.annotations import read_pictures
from cigpose_export.accuracy.protocols import PROTOCOLS
from cigpose_export.drawn.clip import draw_clip
from cigpose_export.drawn.dataset import crowd_index, write_dataset
from cigpose_export.drawn.figure import make_figure
from cigpose_export.drawn.scene import annotation_of, draw_scene
from cigpose_runtime.keypoints import KEYPOINT_SETS
from cigpose_runtime.media.images import read_image

SCENES = 30


@pytest.fixture(scope="module")
def scenes():
    return [draw_scene([7, number]) for number in range(SCENES)]


def test_a_seed_always_draws_the_same(scenes):
    again = draw_scene([7, 3])
    assert np.array_equal(again.picture, scenes[3].picture)
    assert again.picture.tobytes() != scenes[4].picture.tobytes()
    for one, other in zip(again.people, scenes[3].people, strict=True):
        assert np.array_equal(one.keypoints, other.keypoints)
        assert np.array_equal(one.visibility, other.visibility)


def test_people_vary_and_some_are_covered_or_cut_off(scenes):
    people = [person for scene in scenes for person in scene.people]
    assert {len(scene.people) for scene in scenes} >= {1, 2, 3}
    visibility = np.concatenate([person.visibility for person in people])
    shares = np.bincount(visibility, minlength=3) / len(visibility)
    assert (shares > 0.02).all()  # not annotated, covered, seen
    heights = [person.box_xyxy[3] - person.box_xyxy[1] for person in people]
    assert max(heights) > 2 * min(heights)


def test_what_is_annotated_lies_in_the_frame_and_near_the_box(scenes):
    for scene in scenes:
        height, width = scene.picture.shape[:2]
        for person in scene.people:
            left, top, right, bottom = person.box_xyxy
            assert 0 <= left < right <= width - 1
            assert 0 <= top < bottom <= height - 1
            x, y = person.keypoints[person.visibility > 0].T
            assert ((x >= left - 1) & (x <= right + 1)).all()
            assert ((y >= top - 1) & (y <= bottom + 1)).all()
            assert 0 < person.area <= (right - left + 2) * (bottom - top + 2)


def test_left_is_left_as_in_life():
    """Who faces the viewer has the left shoulder on the right of the picture."""
    names = KEYPOINT_SETS["coco"].names
    facing = {True: 0, False: 0}
    for seed in range(200):
        figure = make_figure(np.random.default_rng(seed), (0, 0), 100)
        left, right = (figure.points[f"{side}_shoulder"] for side in ("left", "right"))
        nose_seen = "nose" not in figure.hidden
        if abs(left[0] - right[0]) > 15:
            facing[nose_seen == (left[0] > right[0])] += 1
    assert facing[True] > 9 * facing[False]  # some look over their shoulder
    assert set(names) <= set(figure.points)


@pytest.mark.parametrize("name", KEYPOINT_SETS)
def test_a_data_set_is_in_the_form_that_is_read(name, tmp_path):
    keypoints = KEYPOINT_SETS[name]
    done = []
    path = write_dataset(tmp_path, pictures=6, keypoints=keypoints, seed=1, on_done=done.append)
    assert sum(done) == 6
    pictures = read_pictures(path, tmp_path / "images", None, PROTOCOLS[name])
    assert 1 <= len(pictures) <= 6
    content = json.loads(path.read_text())
    first = draw_scene([1, 0], keypoints)
    assert np.array_equal(read_image(tmp_path / "images" / "000000.png"), first.picture)
    written = [a for a in content["annotations"] if a["image_id"] == 0]
    assert [annotation_of(p, keypoints)["keypoints"] for p in first.people] == [
        a["keypoints"] for a in written
    ]
    if name == "crowdpose":
        assert all(0 <= image["crowdIndex"] <= 1 for image in content["images"])


def test_crowding_is_0_for_people_far_apart_and_1_for_one_over_the_other(scenes):
    alone = next(scene for scene in scenes if len(scene.people) == 1)
    assert crowd_index(alone) == 0
    twice = type(alone)(alone.picture, (alone.people[0], alone.people[0]))
    assert crowd_index(twice) == 1


def test_a_clip_moves_a_little_from_frame_to_frame_and_comes_back():
    clip = list(draw_clip(3, 20, (192, 256), people=1))
    places = np.array([scene.people[0].keypoints for scene in clip])
    steps = np.linalg.norm(np.diff(places, axis=0, append=places[:1]), axis=-1)
    assert 0.1 < steps.max() < 15  # the step from the last frame to the first one, too
    assert np.ptp(places, axis=0).max() > 5
