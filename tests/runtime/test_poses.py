"""The result of pose estimation: shapes, slices, and the score of a person."""

import numpy as np
import pytest

from cigpose_runtime import InputError, Poses
from people import people
from tiny_onnx import SET_OF


def test_arrays_are_read_only_and_not_the_givers():
    given = np.zeros((1, 17, 2), np.float32)
    poses = people(1, keypoints=given)
    given[0, 0] = 5
    assert poses.keypoints[0, 0, 0] == 0
    with pytest.raises(ValueError, match="read-only"):
        poses.keypoints[0, 0] = 1


@pytest.mark.parametrize(
    "changes",
    [
        {"keypoints": np.zeros((2, 16, 2), np.float32)},
        {"keypoints": np.zeros((2, 17, 3), np.float32)},
        {"scores": np.zeros((1, 17), np.float32)},
        {"boxes_xyxy": np.zeros((2, 5), np.float32)},
        {"box_scores": np.zeros(3, np.float32)},
        {"track_ids": np.zeros(2, np.float32)},
        {"scores": np.full((2, 17), "x")},
    ],
)
def test_other_shapes_and_types_are_refused(changes):
    with pytest.raises(InputError, match=f"{next(iter(changes))}: expected"):
        people(2, **changes)


@pytest.mark.parametrize("k", [14, 17, 133])
def test_nobody_has_the_shapes_of_everybody(k):
    poses = Poses.none(SET_OF[k])
    assert (len(poses), poses.keypoints.shape, poses.scores.shape) == (0, (0, k, 2), (0, k))
    assert poses.boxes_xyxy.shape == (0, 4)
    assert poses.person_scores.shape == (0,)
    assert list(poses) == []


@pytest.mark.parametrize(
    ("which", "kept"),
    [
        (0, [0]),
        (-1, [3]),
        (np.int64(2), [2]),
        (slice(1, 3), [1, 2]),
        ([3, 0], [3, 0]),
        ([], []),
        (np.array([True, False, False, True]), [0, 3]),
    ],
)
def test_some_of_the_people(which, kept):
    poses = people(4, track_ids=np.arange(4), box_scores=np.linspace(0, 1, 4, dtype=np.float32))
    some = poses[which]
    assert some.track_ids.tolist() == kept
    assert np.array_equal(some.keypoints, poses.keypoints[kept])
    assert np.array_equal(some.box_scores, poses.box_scores[kept])
    assert some.names == poses.names


@pytest.mark.parametrize("index", [4, -5])
def test_an_index_beyond_the_people_is_an_index_error(index):
    with pytest.raises(IndexError, match="there are 4 people"):
        people(4)[index]


@pytest.mark.parametrize(
    ("scores", "box_score", "expected"),
    [
        ([0.2] * 17, None, 0),
        ([0.5] * 17, None, 0.5),
        ([0.8, 0.4] + [0.1] * 15, None, 0.6),
        ([0.8, 0.4] + [-3] * 15, 0.5, 0.3),
    ],
)
def test_a_persons_score_is_that_of_mmpose(scores, box_score, expected):
    box_scores = None if box_score is None else np.array([box_score], np.float32)
    poses = people(1, scores=np.array([scores], np.float32), box_scores=box_scores)
    assert poses.person_scores[0] == pytest.approx(expected)
