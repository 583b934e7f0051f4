"""Clean files of random weights that nobody calibrated pass: rounding alone is no fault."""

import pytest

from cigpose_export.project import Project
from cigpose_export.reference.record import record_reference
from cigpose_verify.cases import make_cases
from cigpose_verify.judge import judge
from cigpose_verify.matrix import Matrix
from tiny_project import ONE_OF_EACH_SET, make_tiny_project, tiny_name
from uncalibrated import TINY_GAIN, Exported

CLONE = Project.of_this_clone()
SEEDS = range(20)
ONE_RUN_FACTOR = 4
"""What the precision gate allowed when one float32 run was all that it knew of rounding."""
MATRIX = Matrix(levels=("disabled", "all"), threads=(1,), batches=(1,))


@pytest.fixture(scope="module", params=ONE_OF_EACH_SET)
def exported(request):
    return Exported(CLONE, request.param)


@pytest.fixture(scope="module")
def tiny_exported(tmp_path_factory):
    project = make_tiny_project(tmp_path_factory.mktemp("tiny"))
    return Exported(project, tiny_name(), gain=TINY_GAIN)


def errors_of_one_run(record):
    """Of each case: what PyTorch's own float32 run is off by."""
    return [max(r.own.single.errors(r.own.double)) for r in record.cases]


def test_a_clean_file_passes_where_one_float32_run_says_too_little_of_rounding(tiny_exported):
    estimator, contract = tiny_exported.estimator(1), tiny_exported.contract
    record = record_reference(estimator, contract, make_cases(contract)[8:], {})
    report = judge("clean.onnx", tiny_exported.data(estimator), record, MATRIX)
    assert report.failures == ()
    pairs = zip(report.cases, errors_of_one_run(record), strict=True)
    assert any(case.error_float64 > ONE_RUN_FACTOR * error + 1e-6 for case, error in pairs)


def test_other_weights_make_the_file_that_an_export_of_them_makes(tiny_exported):
    other = Exported(tiny_exported.project, tiny_exported.name, seed=1, gain=TINY_GAIN)
    estimator = other.estimator(1)
    assert tiny_exported.data(estimator) == other.data(estimator)


@pytest.mark.long
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("seed", SEEDS)
def test_a_clean_file_of_uncalibrated_weights_passes(exported, record_property, seed):
    estimator = exported.estimator(seed)
    record = record_reference(estimator, exported.contract, make_cases(exported.contract), {})
    report = judge("clean.onnx", exported.data(estimator), record, MATRIX)
    ratios = [case.error_float64 / case.floor_float64 for case in report.cases]
    conditions = [case.condition for case in report.cases]
    plain = max(errors_of_one_run(record))
    record_property("ratios", " ".join(f"{ratio:.3g}" for ratio in ratios))
    record_property("conditions", " ".join(f"{condition:.3g}" for condition in conditions))
    record_property(
        "figure",
        f"{exported.name}, seed {seed}: error to float64 at most {max(ratios):.2f} x the noise "
        f"floor, {max(c.error_float64 for c in report.cases) / plain:.2f} x PyTorch's own; noise "
        f"floor at most {max(conditions):.1e} of the outputs",
    )
    assert report.failures == ()
