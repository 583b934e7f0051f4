"""Portable files are accepted when they are good, and rejected for what is not."""

import pytest

from cigpose_export.graph.derived_file import derive_file
from cigpose_runtime import read_contract
from cigpose_runtime.errors import InputError
from cigpose_verify.__main__ import main
from cigpose_verify.judge import judge
from cigpose_verify.matrix import Matrix
from portable_faults import FAULTS, apply_fault

MATRIX = Matrix(levels=("disabled", "all"), threads=(1,))


@pytest.fixture(scope="session")
def portable(tiny, tmp_path_factory):
    """The tiny model's portable files, by their batch; not to be changed."""
    folder = tmp_path_factory.mktemp("portable")
    paths = {batch: folder / f"b{batch}.onnx" for batch in (1, 3)}
    for batch, path in paths.items():
        derive_file(tiny.path, "fp32", path, batch=batch, on_stage=lambda _: None)
    return paths


def verdict_on(data, tiny):
    return judge("x.onnx", data, tiny.record, MATRIX, parent=tiny.data)


@pytest.mark.parametrize("batch", [1, 3])
def test_a_good_file_is_accepted(tiny, portable, batch):
    report = verdict_on(portable[batch].read_bytes(), tiny)
    assert report.failures == ()
    assert {cell.batch for cell in report.cells} == {batch}
    assert report.intervention.choices == report.intervention.agreeing
    ending = "_portable" if batch == 1 else "_portable_b3"
    assert report.model == tiny.contract.name + ending


@pytest.mark.parametrize("name", FAULTS)
def test_a_seeded_fault_is_rejected_at_its_stage(tiny, portable, record_property, name):
    stage, _ = FAULTS[name]
    path = portable[3]
    report = verdict_on(apply_fault(name, path.read_bytes(), read_contract(path)), tiny)
    first = next(f.message for f in report.failures if f.stage == report.stage)
    record_property("fault", f"{name} | {report.stage} | {first[:90]}")
    assert (report.verdict, report.stage) == ("failed", stage)


def test_a_portable_file_judged_without_the_file_that_it_was_made_from_fails(tiny, portable):
    report = judge("x.onnx", portable[1].read_bytes(), tiny.record, MATRIX)
    assert report.stage == "contract"


def test_the_record_alone_says_nothing_of_a_portable_file(tiny, portable, capsys):
    assert main([str(portable[1]), str(tiny.record_path)]) == InputError.exit_status
    assert "found one that was made from it; use cigpose-tools verify" in capsys.readouterr().err


@pytest.mark.long
@pytest.mark.parametrize("run", range(5))
def test_verdicts_are_the_same_five_runs_in_a_row(tiny, portable, run):
    for path in portable.values():
        assert verdict_on(path.read_bytes(), tiny).failures == ()
    path = portable[3]
    for name, (stage, _) in FAULTS.items():
        report = verdict_on(apply_fault(name, path.read_bytes(), read_contract(path)), tiny)
        assert (name, report.stage) == (name, stage)
