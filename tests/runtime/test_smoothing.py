"""The One-Euro filter: jitter and lag on drawn people, and the paper's own steps."""

from dataclasses import replace

import numpy as np
import pytest

from benchmarks.moving_people import Person, look, straight
from cigpose_runtime import Smoother, Tracker
from cigpose_runtime.errors import InputError
from people import people

FPS = 30


def errors_of(person, seconds=4):
    """(frames, K, 2) off the truth: as measured, and smoothed; and the true speeds a second."""
    track, smooth = Tracker(), Smoother()
    measured, smoothed, truth = [], [], []
    for number, seen in enumerate(look([person], fps=FPS, seconds=seconds, seed=1)):
        if len(seen.poses):
            measured.append(seen.poses.keypoints[0])
            smoothed.append(smooth(track(seen.poses), number / FPS).keypoints[0])
            truth.append(seen.true_keypoints[0])
    speeds = np.diff(truth, axis=0) * FPS
    return (np.subtract(some, truth)[10:] for some in (measured, smoothed)), speeds[9:]


def jitter(errors):
    return np.diff(errors, axis=0).std()


def test_who_stands_shakes_a_quarter_as_much():
    (measured, smoothed), _ = errors_of(Person(lambda _: (0.0, 0.0), steps_per_s=0))
    assert jitter(smoothed) < 0.3 * jitter(measured)  # 0.24
    assert np.sqrt((smoothed**2).mean()) < 0.6 * np.sqrt((measured**2).mean())  # 0.47


@pytest.mark.parametrize(
    ("person", "seconds", "most_lag"),
    [
        (Person(straight(-1.8, 0.8)), 4, 0.016),  # 12 ms
        (Person(straight(-2, 3), steps_per_s=3), 1.2, 0.007),  # 4 ms
    ],
    ids=["walking", "running"],
)
def test_who_moves_shakes_less_and_is_half_a_frame_late_at_most(person, seconds, most_lag):
    (measured, smoothed), speeds = errors_of(person, seconds)
    assert jitter(smoothed) < 0.9 * jitter(measured)  # 0.64, 0.84
    lag = -(smoothed * speeds).sum() / (speeds**2).sum()
    assert 0 < lag < most_lag


def one_euro(values, rate, min_cutoff, beta):
    """The paper's algorithm for one value, as it is printed there."""

    def alpha(cutoff):
        return 1 / (1 + rate / (2 * np.pi * cutoff))

    smoothed, speed = values[0], 0.0
    yield smoothed
    for value in values[1:]:
        speed = alpha(1) * (value - smoothed) * rate + (1 - alpha(1)) * speed
        share = alpha(min_cutoff + beta * abs(speed))
        smoothed = share * value + (1 - share) * smoothed
        yield smoothed


def test_along_a_line_it_is_the_papers_filter():
    steps = np.random.default_rng(0).normal(0, 5, 12).cumsum()
    track, smooth = Tracker(), Smoother(min_cutoff=2, beta=6)
    found = []
    for number, step in enumerate(steps):
        moved = people(1, shift=(step, 0))
        found.append(smooth(track(moved), number / 20).keypoints[0, :, 0])
    expected = list(one_euro(steps, 20, 2, 6 / 200))  # boxes are 200 pixels high
    start = people(1).keypoints[0, :, 0]
    np.testing.assert_allclose(found, start + np.array(expected)[:, None], atol=0.01)


def tracked(count=2, **changes):
    return replace(people(count, **changes), track_ids=np.arange(1, count + 1))


def test_each_person_is_smoothed_by_number_not_by_place():
    smooth = Smoother()
    smooth(tracked(), 0)
    turned = smooth(tracked(shift=(4, 0))[[1, 0]], 0.04).keypoints
    again = Smoother()
    again(tracked(), 0)
    assert (turned == again(tracked(shift=(4, 0)), 0.04).keypoints[[1, 0]]).all()


def test_what_was_not_found_is_left_and_starts_anew():
    scores = np.full((1, 17), 0.8, np.float32)
    scores[0, 3] = -0.2
    smooth = Smoother()
    smooth(tracked(1), 0)
    lost = smooth(tracked(1, shift=(9, 0), scores=scores), 0.04)
    measured = people(1, shift=(9, 0)).keypoints
    assert (lost.keypoints[0, 3] == measured[0, 3]).all()
    assert (lost.keypoints[0, 4] != measured[0, 4]).any()
    back = smooth(tracked(1, shift=(30, 0)), 0.08)
    assert (back.keypoints[0, 3] == people(1, shift=(30, 0)).keypoints[0, 3]).all()


def test_nobody_and_a_repeated_time_are_no_trouble():
    smooth = Smoother()
    smooth(tracked(2), 1)
    assert np.isfinite(smooth(tracked(2, shift=(5, 5)), 1).keypoints).all()
    assert len(smooth(tracked(2)[[]], 2)) == 0


def test_poses_without_numbers_are_refused():
    with pytest.raises(InputError, match="track first"):
        Smoother()(people(1), 0)


@pytest.mark.parametrize("options", [{"min_cutoff": 0}, {"beta": -1}, {"min_cutoff": float("nan")}])
def test_settings_without_meaning_are_refused(options):
    with pytest.raises(InputError, match="min_cutoff, beta: expected"):
        Smoother(**options)
