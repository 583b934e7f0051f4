"""A check that cannot fail is a defect: every seeded fault is rejected, at the right stage."""

import pytest

from cigpose_verify.__main__ import main
from cigpose_verify.judge import judge
from cigpose_verify.matrix import Matrix
from cigpose_verify.report.document import Report
from faults import FAULTS, HALVES, apply_fault

SMALL = Matrix(levels=("all",), threads=(1,), batches=(1, 3))


def verdict_on(data, tiny, folder):
    """Judges bytes as the command line does: its exit status, and its report."""
    (folder / "model.onnx").write_bytes(data)
    report = folder / "report.json"
    status = main([str(folder / "model.onnx"), str(tiny.record_path), str(report)])
    return status, Report.read(report)


def figure_of(report):
    """What gave a fault away, for the table: the largest error over its limit, if it came to it."""
    excess = [cell.excess for cell in report.cells]
    if report.stage in ("structure", "contract") or not excess:
        return next(f.message for f in report.failures if f.stage == report.stage)[:60]
    if None in excess:
        return "not finite"
    chosen = report.intervention
    scores = "" if chosen is None else f", scores {chosen.score_error / chosen.score_limit:.3g} x"
    swept = "" if chosen is None else f", replaced {chosen.sweep_error / chosen.sweep_limit:.3g} x"
    return f"outputs {max(excess):.3g} x what is allowed{scores}{swept}"


@pytest.mark.parametrize("name", FAULTS)
def test_a_seeded_fault_is_rejected_at_its_stage(tiny, tmp_path, record_property, name):
    stage, _ = FAULTS[name]
    status, report = verdict_on(apply_fault(name, tiny.data, tiny.contract), tiny, tmp_path)
    record_property("fault", f"{name} | {report.stage} | {figure_of(report)}")
    assert (status, report.verdict) == (1, "failed")
    assert report.stage == stage


@pytest.mark.parametrize("name", HALVES)
def test_half_of_a_fault_is_rejected_at_its_stage(tiny, record_property, name):
    stage, _ = HALVES[name]
    data = apply_fault(name, tiny.data, tiny.contract)
    report = judge("half.onnx", data, tiny.record, SMALL)
    record_property("fault", f"{name} | {report.stage} | {figure_of(report)}")
    assert report.stage == stage


def test_the_file_without_a_fault_is_accepted(tiny, tmp_path):
    status, report = verdict_on(tiny.data, tiny, tmp_path)
    assert (status, report.failures) == (0, ())


@pytest.mark.long
@pytest.mark.parametrize("run", range(5))
def test_verdicts_are_the_same_five_runs_in_a_row(tiny, tmp_path, run):
    assert verdict_on(tiny.data, tiny, tmp_path)[0] == 0
    for name, (stage, _) in (FAULTS | HALVES).items():
        status, report = verdict_on(apply_fault(name, tiny.data, tiny.contract), tiny, tmp_path)
        assert (name, status, report.stage) == (name, 1, stage)
