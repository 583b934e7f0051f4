"""The gate that outputs have to pass."""

import numpy as np
import pytest

from cigpose_runtime.releases.golden import largest_tolerance
from cigpose_verify.measures.tolerances import (
    LEAST_COSINE,
    PRECISION_FACTOR,
    RELATIVE_TOLERANCE,
    compare,
    least_cosine,
    tolerance_of,
)


def outputs(scale=1.0):
    return (np.random.default_rng(0).standard_normal((2, 17, 384)) * scale).astype(np.float32)


def test_equal_outputs_agree_without_error():
    agreement = compare(outputs(), outputs())
    assert (agreement.error, agreement.holds) == (0, True)


@pytest.mark.parametrize("scale", [0.01, 1, 50])
def test_tolerance_follows_the_scale_of_the_reference_from_1_upwards(scale):
    reference = outputs(scale)
    largest = np.quantile(np.abs(reference), 0.999)
    assert compare(reference, reference).tolerance == pytest.approx(
        RELATIVE_TOLERANCE * max(1, largest)
    )


@pytest.mark.parametrize(("share", "holds"), [(0.9, True), (1.1, False)])
def test_one_element_decides(share, holds):
    reference = outputs()
    output = reference.copy()
    output[1, 5, 7] += share * compare(reference, reference).tolerance
    assert compare(output, reference).holds is holds


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("sides", ["output", "reference", "both"])
def test_a_value_that_is_not_finite_never_agrees(value, sides):
    output, reference = outputs(), outputs()
    for name, array in (("output", output), ("reference", reference)):
        if sides in (name, "both"):
            array[0] = value
    assert not compare(output, reference).holds


def test_another_shape_or_type_is_refused():
    with pytest.raises(ValueError, match="expected float32"):
        compare(outputs()[:1], outputs())
    with pytest.raises(ValueError, match="found float64"):
        compare(outputs().astype(np.float64), outputs())


@pytest.mark.parametrize("scale", [0.1, 1, 40])
def test_who_receives_golden_vectors_allows_what_verification_does(scale):
    reference = np.random.default_rng(0).normal(0, scale, (3, 17, 384)).astype(np.float32)
    assert largest_tolerance(reference) == tolerance_of(reference)


@pytest.mark.parametrize("floor", [0, 1e-6, 1e-5])
def test_a_floor_below_the_tolerance_loosens_nothing(floor):
    reference = outputs()
    assert tolerance_of(reference, floor) == tolerance_of(reference)
    assert least_cosine(reference, floor) == pytest.approx(LEAST_COSINE, abs=1e-12)


def test_an_ill_conditioned_case_may_be_off_by_what_its_floor_explains():
    reference = outputs()
    tolerance = tolerance_of(reference, 1e-3)
    assert tolerance == pytest.approx((PRECISION_FACTOR + 1) * 1e-3 + 1e-6)
    looser = tolerance / tolerance_of(reference)
    assert 1 - least_cosine(reference, 1e-3) == pytest.approx(1e-6 * looser**2)
