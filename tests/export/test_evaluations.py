"""The float32 evaluations that the noise floor is taken from: one function, other rounding."""

import copy

import numpy as np
import pytest
import torch

from cigpose_export.reference.evaluations import NUDGED, evaluations
from cigpose_export.reference.run import run_reference
from tiny_project import make_tiny_project, tiny_name
from uncalibrated import TINY_GAIN, uncalibrated

ULP = 2.0**-23


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


def test_the_first_evaluation_is_the_model_itself(estimator):
    assert next(evaluations(estimator)) is estimator


def test_each_rounds_otherwise_than_the_others(estimator, image):
    answers = [simcc_of(model, image).tobytes() for model in evaluations(estimator)]
    assert len(set(answers)) == len(answers) == 3 + NUDGED


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
    *_, nudged = evaluations(estimator)
    for old, new in zip(estimator.parameters(), nudged.parameters(), strict=True):
        assert torch.equal(old == 0, new == 0)
        relative = ((new - old) / old).abs()[old != 0]
        assert (relative <= ULP).all()
        assert (relative > 0).float().mean() > 0.99 or old.numel() < 100


def test_what_is_evaluated_is_not_changed(estimator):
    before = {key: value.clone() for key, value in estimator.state_dict().items()}
    assert len(list(evaluations(estimator))) == 3 + NUDGED
    assert all(torch.equal(value, before[key]) for key, value in estimator.state_dict().items())
