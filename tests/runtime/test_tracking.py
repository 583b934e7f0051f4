"""Who is who from frame to frame, and detector, model and tracker in a row."""

from dataclasses import replace
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from benchmarks.moving_people import clips, look
from cigpose_runtime import FixedBoxesDetector, PoseModel, PosePipeline, Poses, Tracker
from cigpose_runtime.errors import InputError
from cigpose_runtime.estimation.detector import Detections
from cigpose_runtime.estimation.pose_pipeline import followed
from cigpose_runtime.tracking.assignment import assign
from cigpose_runtime.tracking.likeness import oks
from cigpose_runtime.tracking.motion import Motion
from people import people
from tiny_onnx import tiny_model


def ids(poses):
    return poses.track_ids.tolist()


def test_ids_stay_while_people_move_and_change_places_in_the_list():
    tracker = Tracker()
    assert ids(tracker(people(3))) == [1, 2, 3]
    assert ids(tracker(people(3, shift=(6, -4)))) == [1, 2, 3]
    assert ids(tracker(people(3, shift=(12, -8))[[2, 0, 1]])) == [3, 1, 2]


def test_a_newcomer_gets_a_number_of_its_own():
    tracker = Tracker()
    assert ids(tracker(people(2)[[1]])) == [1]
    assert ids(tracker(people(2))) == [2, 1]


@pytest.mark.parametrize(("absence", "number"), [(1, 1), (5, 1), (6, 3)])
def test_who_comes_back_within_the_window_keeps_the_number(absence, number):
    tracker = Tracker(window=5)
    assert ids(tracker(people(2))) == [1, 2]
    for _ in range(absence):
        assert ids(tracker(people(2)[[1]])) == [2]
    assert ids(tracker(people(2))) == [number, 2]


def test_nobody_is_tracked_in_an_empty_frame():
    tracker = Tracker()
    tracker(people(2))
    nobody = tracker(people(2)[[]])
    assert (len(nobody), nobody.track_ids.dtype) == (0, np.int64)
    assert ids(tracker(people(2))) == [1, 2]


def test_two_people_never_share_a_number():
    tracker = Tracker()
    tracker(people(1))
    twice = people(1)[[0, 0]]
    assert len(set(ids(tracker(twice)))) == 2


def test_similarity_is_1_for_the_same_pose_and_falls_with_distance():
    values = [oks(people(1), people(1, shift=(d, 0)))[0, 0] for d in (0, 2, 10, 200)]
    assert values[0] == pytest.approx(1)
    assert values == sorted(values, reverse=True)
    assert values[-1] < 0.01


def test_keypoints_that_were_not_found_are_not_compared():
    unseen = people(1, scores=np.zeros((1, 17), np.float32))
    assert oks(people(1), unseen)[0, 0] == 0


def numbers_of(kind, seed):
    """By person of a drawn clip, the ids that they get, in the order of time."""
    clip, tracker, numbers = clips(seed)[kind], Tracker(), {}
    for seen in look(clip.people, fps=clip.fps, seconds=clip.seconds, seed=seed):
        for person, number in zip(seen.people, ids(tracker(seen.poses)), strict=True):
            numbers.setdefault(int(person), []).append(number)
    return numbers


@pytest.mark.parametrize("kind", ["running", "running, 5 fps"])
@pytest.mark.parametrize("seed", range(200, 203))
def test_runners_keep_their_numbers(kind, seed):
    assert all(len(set(numbers)) == 1 for numbers in numbers_of(kind, seed).values())


@pytest.mark.parametrize("speed", [0.3, 0.42, 0.7, 1.2, 1.5])
def test_a_runner_of_any_speed_in_box_widths_a_frame_is_one_person(speed):
    tracker = Tracker()
    found = [ids(tracker(people(1, shift=(80 * speed * frame, 0)))) for frame in range(20)]
    assert found == [[1]] * 20


def test_two_who_walk_through_each_other_keep_their_numbers():
    tracker = Tracker()
    for frame in range(-20, 21):
        right, left = people(1, shift=(6 * frame, 0)), people(1, seed=3, shift=(-6 * frame, 0))
        both = {
            name: np.concatenate([getattr(who, name) for who in (right, left)])
            for name in ("keypoints", "scores", "boxes_xyxy")
        }
        assert ids(tracker(Poses(keypoint_set=right.keypoint_set, **both))) == [1, 2]


def test_who_is_hidden_while_walking_on_keeps_the_number():
    tracker = Tracker()
    for frame in range(10):
        tracker(people(1, shift=(8 * frame, 0)))
    for _ in range(15):
        tracker(people(1)[[]])
    assert ids(tracker(people(1, shift=(8 * 25, 0)))) == [1]


def test_who_comes_in_where_somebody_left_is_another_person():
    numbers = numbers_of("leaving", 0)
    assert not set(numbers[0]) & set(numbers[1])


def test_a_stranger_of_another_size_does_not_take_over_a_number():
    tracker = Tracker()
    tracker(people(1))
    small = people(1, shift=(40, 0))
    half = replace(small, boxes_xyxy=small.boxes_xyxy * 0.5, keypoints=small.keypoints * 0.5)
    assert ids(tracker(half)) == [2]


def best_total(worth):
    """Of all assignments, tried one after another."""
    if worth.shape[0] > worth.shape[1]:
        worth = worth.T
    rows = np.arange(len(worth))
    return max(
        np.maximum(worth, 0)[rows, list(columns)].sum()
        for columns in permutations(range(worth.shape[1]), len(worth))
    )


@given(
    arrays(np.float64, st.tuples(st.integers(1, 5), st.integers(1, 5)), elements=st.floats(-1, 1))
)
def test_no_other_assignment_is_worth_more(worth):
    pairs = assign(worth)
    assert sum(worth[pair] for pair in pairs) == pytest.approx(best_total(worth))
    assert all(len({pair[side] for pair in pairs}) == len(pairs) for side in (0, 1))
    assert all(worth[pair] > 0 for pair in pairs)


def test_what_is_no_number_is_worth_nothing():
    assert assign(np.array([[np.nan, 0.2], [np.nan, 0.5]])) == [(1, 1)]


@pytest.mark.parametrize("shape", [(0, 0), (0, 3), (3, 0)])
def test_nobody_is_assigned_to_nobody(shape):
    assert assign(np.ones(shape)) == []


def test_the_filter_is_the_general_kalman_filter():
    def box(t):
        return np.array([10 + 3 * t, 40 - t, 110 + 4 * t, 260 + t], np.float32)

    motion, value, velocity = Motion.of(box(0)), 60.0, 0.0
    size = 220.0
    state, covariance = np.array([value, velocity]), np.diag([0.1**2, 0.4**2]) * size**2
    step, look_at = np.array([[1, 1], [0, 1]]), np.array([[1.0, 0.0]])
    push = np.array([[0.5], [1.0]])
    for t in range(1, 8):
        noise, drive = (0.1 * size) ** 2, (size / 160) ** 2
        state = step @ state
        covariance = step @ covariance @ step.T + drive * push @ push.T
        gain = covariance @ look_at.T / (look_at @ covariance @ look_at.T + noise)
        state = state + gain[:, 0] * (60 + 3.5 * t - state[0])
        covariance = (np.eye(2) - gain @ look_at) @ covariance
        motion = motion.next().seen(box(t))
        size = 220.0 + 2 * t
        assert motion.value[0] == pytest.approx(state[0])
        assert motion.velocity[0] == pytest.approx(state[1])
        wanted = [covariance[0, 0], covariance[0, 1], covariance[1, 1]]
        assert motion.variances[0] == pytest.approx(wanted)


class CountedDetector:
    def __init__(self, boxes):
        self.boxes, self.calls = boxes, 0

    def __call__(self, frame):
        self.calls += 1
        return Detections(np.array(self.boxes, np.float32).reshape(-1, 4), np.ones(len(self.boxes)))


@pytest.fixture
def model(tmp_path):
    path = tmp_path / "tiny.onnx"
    path.write_bytes(tiny_model().SerializeToString())
    return PoseModel(path)


FRAME = np.full((200, 300, 3), (200, 90, 30), np.uint8)


def test_no_detection_is_no_person(model):
    pipeline = PosePipeline(CountedDetector([]), model, Tracker())
    assert len(pipeline(FRAME)) == 0


def test_every_person_detected_gets_a_pose_and_a_number(model):
    boxes = [[10, 10, 90, 180], [150, 20, 240, 190]]
    poses = PosePipeline(FixedBoxesDetector(boxes), model, Tracker())(FRAME)
    assert poses.boxes_xyxy.tolist() == boxes
    assert ids(poses) == [1, 2]
    assert poses.box_scores.tolist() == [1, 1]


@pytest.mark.parametrize(("every", "calls"), [(1, 7), (3, 3), (7, 1)])
def test_the_detector_runs_on_every_nth_frame(model, every, calls):
    detector = CountedDetector([[10, 10, 90, 180]])
    pipeline = PosePipeline(detector, model, detect_every=every)
    for _ in range(7):
        pipeline(FRAME)
    assert detector.calls == calls


def test_detecting_on_no_frame_is_refused(model):
    with pytest.raises(InputError, match="detect_every: expected at least 1"):
        PosePipeline(CountedDetector([]), model, detect_every=0)


def test_a_person_is_followed_by_the_extent_of_the_keypoints():
    found = followed(people(2), 640, 480)
    last = people(2)
    assert len(found) == 2
    low, high = last.keypoints.min(axis=1), last.keypoints.max(axis=1)
    assert (found.boxes_xyxy[:, :2] < low).all()
    assert (found.boxes_xyxy[:, 2:] > high).all()
    assert (found.boxes_xyxy[:, 2:] - found.boxes_xyxy[:, :2] < (high - low) * 1.3).all()


@pytest.mark.parametrize(
    "lost",
    [
        people(1, scores=np.full((1, 17), 0.1, np.float32)),
        people(1, shift=(-500, 0)),
        people(1, shift=(0, 900)),
        Poses.none(people(1).keypoint_set),
    ],
    ids=["unsure", "left", "below", "nobody"],
)
def test_who_is_lost_is_not_followed(lost):
    assert len(followed(lost, 640, 480)) == 0


def test_the_score_of_a_box_is_handed_on():
    seen = replace(people(2), box_scores=np.array([0.4, 0.9], np.float32))
    assert followed(seen, 640, 480).scores.tolist() == pytest.approx([0.4, 0.9])
