"""Clean files of random weights that nobody calibrated pass: rounding alone is no fault."""

import pytest

from cigpose_export.jobs.verify import may_be_rounding
from cigpose_export.project import Project
from cigpose_export.reference.record import record_reference
from cigpose_runtime.releases.selftest import selftest
from cigpose_verify.cases import make_cases
from cigpose_verify.golden import write_golden
from cigpose_verify.judge import judge
from cigpose_verify.matrix import Matrix
from tiny_project import ONE_OF_EACH_SET, make_tiny_project, tiny_name
from uncalibrated import TINY_GAIN, Exported

CLONE = Project.of_this_clone()
SEEDS, TINY_SEEDS = range(20), range(2)
ONE_RUN_FACTOR = 4
"""What the precision gate allowed when one float32 run was all that it knew of rounding."""
MATRIX = Matrix(threads=(1,), batches=(1,))


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


def verdict_on(exported, seed, folder):
    """The record, the verdict on a clean file, and what a replay of its golden vectors says."""
    estimator, contract = exported.estimator(seed), exported.contract
    path, data = folder / f"{contract.name}.onnx", exported.data(estimator)
    path.write_bytes(data)
    for thorough in (False, True):
        record = record_reference(estimator, contract, make_cases(contract), {}, thorough=thorough)
        report = judge(path.name, data, record, MATRIX)
        if not may_be_rounding(report):
            break
    write_golden(record, report.sha256, folder / "golden")
    replayed, is_of_this_file = selftest(path, golden=folder / "golden")
    assert is_of_this_file
    return record, report, replayed


@pytest.fixture(scope="module")
def tiny_verdicts(tiny_exported, tmp_path_factory):
    return [verdict_on(tiny_exported, s, tmp_path_factory.mktemp("seed")) for s in TINY_SEEDS]


@pytest.mark.parametrize("seed", TINY_SEEDS)
def test_a_tiny_clean_file_passes_and_replays(tiny_verdicts, seed):
    _, report, replayed = tiny_verdicts[seed]
    assert report.failures == ()
    assert all(one.holds for one in replayed)


def test_one_float32_run_says_too_little_of_rounding(tiny_verdicts):
    pairs = [
        (case.error_float64, error)
        for record, report, _ in tiny_verdicts
        for case, error in zip(report.cases, errors_of_one_run(record), strict=True)
    ]
    assert any(found > ONE_RUN_FACTOR * error + 1e-6 for found, error in pairs)


@pytest.mark.long
def test_other_weights_make_the_file_that_an_export_of_them_makes(tiny_exported):
    other = Exported(tiny_exported.project, tiny_exported.name, seed=1, gain=TINY_GAIN)
    estimator = other.estimator(1)
    assert tiny_exported.data(estimator) == other.data(estimator)


@pytest.mark.long
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("seed", SEEDS)
def test_a_clean_file_of_uncalibrated_weights_passes_and_replays(
    exported, tmp_path, record_property, seed
):
    record, report, replayed = verdict_on(exported, seed, tmp_path)
    ratios = [case.error_float64 / case.floor_float64 for case in report.cases]
    conditions = [case.condition for case in report.cases]
    scores = report.intervention.score_error / report.intervention.score_limit
    swept = report.intervention.sweep_error / report.intervention.sweep_limit
    record_property("ratios", " ".join(f"{ratio:.3g}" for ratio in ratios))
    record_property("conditions", " ".join(f"{condition:.3g}" for condition in conditions))
    record_property(
        "figure",
        f"{exported.name}, seed {seed}: error to float64 at most {max(ratios):.2f} x the noise "
        f"floor, {max(c.error_float64 for c in report.cases) / max(errors_of_one_run(record)):.2f} "
        f"x PyTorch's own; scores {scores:.2f}, replaced {swept:.2f} of what is allowed; noise "
        f"floor at most {max(conditions):.1e} of the outputs; golden vectors at most "
        f"{max(one.error / one.tolerance for one in replayed):.2f} of their tolerance; "
        f"{report.keypoints.near_tie_share:.1%} near ties",
    )
    assert report.failures == ()
    assert all(one.holds for one in replayed)
