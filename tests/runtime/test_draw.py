"""Skeletons on pictures."""

import numpy as np
import pytest

from cigpose_runtime.draw import CENTRE, LEFT, OUTLINE, RIGHT, draw_poses
from cigpose_runtime.errors import InputError
from people import people

GREY = np.full((300, 400, 3), 90, np.uint8)


def placed(places, *, score=0.9, box=(20, 20, 220, 220)):
    """One person of 17 keypoints of which these, by index, are seen."""
    keypoints, scores = np.zeros((1, 17, 2), np.float32), np.full((1, 17), -1, np.float32)
    for index, xy in places.items():
        keypoints[0, index], scores[0, index] = xy, score
    return people(1, keypoints=keypoints, scores=scores, boxes_xyxy=np.array([box], np.float32))


def changed(picture):
    return (picture != GREY).any(axis=2)


def test_the_frame_itself_is_left_as_it_was():
    before = GREY.copy()
    draw_poses(GREY, people(2))
    assert np.array_equal(GREY, before)


@pytest.mark.parametrize(
    ("index", "colour"), [(0, CENTRE), (5, LEFT), (6, RIGHT)], ids=["nose", "left", "right"]
)
def test_a_keypoint_is_a_dot_in_the_colour_of_its_side(index, colour):
    picture = draw_poses(GREY, placed({index: (150, 120)}))
    assert picture[120, 150].tolist() == list(colour)
    assert 3 < changed(picture).sum() < 200


def test_a_line_joins_two_keypoints_that_are_seen():
    picture = draw_poses(GREY, placed({5: (50, 60), 7: (250, 200)}))
    assert np.abs(picture[130, 150].astype(int) - LEFT).max() < 20
    assert (picture[50, 200] == 90).all()


def test_a_line_to_a_keypoint_that_is_not_seen_is_left_out():
    picture = draw_poses(GREY, placed({5: (50, 60)}))
    assert (picture[130, 150] == 90).all()


@pytest.mark.parametrize(("threshold", "drawn"), [(0.5, True), (0.95, False)])
def test_the_threshold_decides(threshold, drawn):
    picture = draw_poses(GREY, placed({0: (150, 120)}), threshold=threshold)
    assert changed(picture).any() == drawn


def test_larger_boxes_have_wider_lines():
    areas = [
        changed(draw_poses(GREY, placed({5: (50, 60), 7: (250, 200)}, box=box))).sum()
        for box in ((0, 0, 60, 60), (0, 0, 390, 290), (0, 0, 4000, 4000))
    ]
    assert areas == sorted(areas)
    assert areas[0] < areas[1] / 1.4


def test_edges_are_smooth():
    picture = draw_poses(GREY, placed({5: (50, 60), 7: (250, 200)}))
    assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 15  # background, edge and line are 3


def test_a_line_keeps_its_width_whatever_its_direction():
    angles = np.linspace(0, np.pi, 9)
    areas = []
    for angle in angles:
        end = 150 + 90 * np.cos(angle), 150 + 90 * np.sin(angle)
        drawn = draw_poses(GREY, placed({5: (150, 150), 7: end}))
        areas.append(np.abs(drawn.astype(int) - 90).sum())
    assert max(areas) < min(areas) * 1.05


@pytest.mark.parametrize("xy", [(-500, -500), (1e7, 20), (399.6, 299.6), (np.nan, 3), (np.inf, 3)])
def test_keypoints_beyond_the_frame_do_no_harm(xy):
    picture = draw_poses(GREY, placed({5: (150, 120), 7: xy}))
    assert picture.shape == GREY.shape
    assert picture[120, 150].tolist() == list(LEFT)


def test_nobody_leaves_the_frame_as_it_is():
    assert np.array_equal(draw_poses(GREY, people(1)[[]]), GREY)


def test_another_frame_is_refused():
    with pytest.raises(InputError, match="frame: expected uint8"):
        draw_poses(GREY.astype(np.float32), people(1))


def test_every_pixel_is_blended_by_its_distance_from_the_strokes():
    """Once more, pixel by pixel: a line and two dots over the dark edge around all of them."""
    a, b = np.array([50.3, 60.8]), np.array([120.6, 97.1])
    width = 0.011 * 200  # the box is 200 x 200
    rows, columns = np.mgrid[:300, :400]
    pixels = np.stack([columns, rows], -1)
    along = np.clip((pixels - a) @ (b - a) / ((b - a) @ (b - a)), 0, 1)[..., None]
    far = [np.linalg.norm(pixels - p, axis=-1) for p in (a + along * (b - a), a, b)]
    covers = [r * width + 0.5 - d for r, d in zip((0.5, 0.85, 0.85), far, strict=True)]
    most = np.max(covers, axis=0)[..., None]
    expected = 90 + 0.5 * np.clip(most + 1, 0, 1) * (np.array(OUTLINE) - 90)
    expected += np.clip(most, 0, 1) * (np.array(LEFT) - expected)
    picture = draw_poses(GREY, placed({5: a, 7: b}))
    assert np.abs(picture - expected).max() <= 1
