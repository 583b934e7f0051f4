"""The float32 evaluations that the noise floor is taken from: one function, other rounding."""

import copy

import numpy as np
import pytest
import torch

from cigpose_export.reference.evaluations import FURTHER, evaluations, further_evaluations, nudged
from cigpose_export.reference.run import run_reference
from tiny_project import make_tiny_project, tiny_name
from uncalibrated import TINY_GAIN, uncalibrated


@pytest.fixture(scope="module")
def estimator(tmp_path_factory):
    project = make_tiny_project(tmp_path_factory.mktemp("tiny"))
    return uncalibrated(project, tiny_name(), 0, TINY_GAIN)


@pytest.fixture(scope="module")
def image():
    return np.random.default_rng(0).standard_normal((1, 3, 256, 192), dtype=np.float32)


def simcc_of(model, image):
    outputs = run_reference(model, image)
    return np.concatenate([outputs.simcc_x, outputs.simcc_y], axis=-1)


def all_of(estimator):
    return [*evaluations(estimator), *further_evaluations(estimator)]


def test_the_first_evaluation_is_the_model_itself(estimator):
    assert next(evaluations(estimator)) is estimator


def test_each_rounds_otherwise_than_the_others(estimator, image):
    answers = [simcc_of(model, image).tobytes() for model in all_of(estimator)]
    assert len(set(answers)) == len(answers) == 4 + FURTHER


def test_they_are_the_same_each_time(estimator, image):
    first, second = (
        [simcc_of(model, image).tobytes() for model in evaluations(estimator)] for _ in range(2)
    )
    assert first == second


def test_what_has_no_nudged_weights_is_the_same_function(estimator, image):
    exact = simcc_of(copy.deepcopy(estimator).double(), image.astype(np.float64))
    for model, _ in zip(evaluations(estimator), range(3), strict=False):
        there = simcc_of(copy.deepcopy(model).double(), image.astype(np.float64))
        np.testing.assert_allclose(there, exact, atol=1e-10)


def test_nudged_weights_are_the_next_float32_up_or_down(estimator):
    for old, new in zip(estimator.parameters(), nudged(estimator, 0).parameters(), strict=True):
        ups, downs = (torch.nextafter(old, torch.tensor(s * np.inf)) for s in (1, -1))
        assert torch.equal(new, torch.where(old == 0, old, torch.where(new > old, ups, downs)))
        assert 0.2 < (new > old).float().mean() < 0.8 or old.numel() < 100


def test_what_is_evaluated_is_not_changed(estimator):
    before = {key: value.clone() for key, value in estimator.state_dict().items()}
    assert len(all_of(estimator)) == 4 + FURTHER
    assert all(torch.equal(value, before[key]) for key, value in estimator.state_dict().items())
