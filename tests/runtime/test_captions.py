"""Numbers and names on annotated pictures."""

from dataclasses import replace

import numpy as np
import pytest

from cigpose_runtime.commands.captions import draw_captions
from people import people

FRAME = np.full((300, 500, 3), 90, np.uint8)


def changed(poses, *, ids=False, names=False, threshold=0.3):
    """Rows and columns of the pixels that are written on."""
    canvas = FRAME.copy()
    draw_captions(canvas, poses, ids=ids, names=names, threshold=threshold)
    return np.nonzero((canvas != FRAME).any(axis=-1))


def tracked(count=2, **changes):
    return replace(people(count, **changes), track_ids=np.arange(3, 3 + count))


def test_each_number_is_at_the_top_left_of_its_box():
    rows, columns = changed(tracked(2), ids=True)  # boxes from (20, 30) and (140, 30), 80 x 200
    first = columns < 130
    for left, mine in ((20, first), (140, ~first)):
        assert (columns[mine].min(), rows[mine].max() + 1) == pytest.approx((left, 30), abs=8)
        assert columns[mine].max() < left + 40


def test_other_numbers_look_different():
    canvases = []
    for number in (3, 8):
        canvas = FRAME.copy()
        poses = replace(people(1), track_ids=np.array([number]))
        draw_captions(canvas, poses, ids=True, names=False, threshold=0)
        canvases.append(canvas)
    assert (canvases[0] != canvases[1]).any()


def test_names_are_written_beside_the_keypoints_that_are_drawn():
    scores = np.full((1, 17), 0.1, np.float32)
    scores[0, 9] = 0.9
    poses = people(1, scores=scores)
    rows, columns = changed(poses, names=True)
    x, y = poses.keypoints[0, 9]
    assert x < columns.min() < x + 12
    assert rows.min() < y < rows.max()
    assert not len(changed(poses, names=True, threshold=0.95)[0])


@pytest.mark.parametrize("shift", [(-400, -400), (480, 280), (0, 1e7)])
def test_captions_stay_in_the_picture(shift):
    rows, _ = changed(tracked(1, shift=shift), ids=True, names=True)
    assert len(rows)


def test_nothing_is_written_without_numbers_or_people():
    assert not len(changed(people(2), ids=True)[0])
    assert not len(changed(tracked(2)[[]], ids=True, names=True)[0])


def test_a_picture_that_is_smaller_than_the_text_is_no_error():
    canvas = np.zeros((4, 5, 3), np.uint8)
    draw_captions(canvas, tracked(1), ids=True, names=True, threshold=0)


def test_names_of_strangers_are_short_and_harmless():
    names = ("\x1b[31m" + "x" * 10_000, *people(1).names[1:])
    poses = replace(people(1), keypoint_set=replace(people(1).keypoint_set, names=names))
    assert changed(poses, names=True)[1].max() < 500
