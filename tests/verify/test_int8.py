"""Files in int8 are accepted when they are good, and rejected for what is not."""

import hashlib
import json
from dataclasses import replace

import onnx
import pytest

from cigpose_export.drawn.calibration import write_calibration
from cigpose_export.graph.calibration import LEAST_CROPS, CalibrationSet
from cigpose_export.graph.derived_file import derive_file
from cigpose_runtime import METADATA_KEY, read_contract
from cigpose_verify.golden import write_golden
from cigpose_verify.matrix import Matrix
from cigpose_verify.reduced.judge_int8 import judge_int8, own_answers
from cigpose_verify.reduced.quantisation import calibration_path
from int8_faults import FAULTS, apply_fault, change, derived

MATRIX = Matrix(levels=("disabled", "all"), threads=(1,), batches=(1, 3))


@pytest.fixture(scope="session")
def int8_path(tiny, tmp_path_factory):
    """The tiny model in int8; not to be changed."""
    folder = tmp_path_factory.mktemp("int8")
    pictures, path = folder / "pictures", folder / f"{tiny.path.stem}_int8.onnx"
    pictures.mkdir()
    write_calibration(pictures, LEAST_CROPS)
    crops = CalibrationSet.read("drawn", pictures)
    derive_file(tiny.path, "int8", path, calibration=crops, on_stage=lambda _: None)
    return path


@pytest.fixture
def judge(tiny, int8_path):
    """The verdict on bytes in the place of the good file's."""
    listed = calibration_path(int8_path).read_bytes()

    def call(data, crops=listed, matrix=MATRIX, record=tiny.record, parent=tiny.data):
        return judge_int8("x.onnx", data, record, parent, crops, matrix)

    return call


def test_a_good_file_is_accepted_and_nothing_is_said_about_accuracy(judge, tiny, int8_path):
    report = judge(int8_path.read_bytes())
    assert report.failures == ()
    assert report.model == f"{tiny.contract.name}_int8"
    assert report.notes == ("int8 of synthetic weights: nothing can be said about its accuracy",)


@pytest.mark.long
def test_five_times_in_a_row_a_good_file_is_accepted_and_every_fault_rejected(judge, int8_path):
    data, contract = int8_path.read_bytes(), read_contract(int8_path)
    for _ in range(5):
        assert judge(data).passed
        verdicts = {name: judge(apply_fault(name, data, contract)) for name in FAULTS}
        assert [name for name, verdict in verdicts.items() if verdict.passed] == []


@pytest.mark.parametrize("name", FAULTS)
def test_a_seeded_fault_is_rejected_at_its_stage(judge, int8_path, record_property, name):
    stage, _ = FAULTS[name]
    report = judge(apply_fault(name, int8_path.read_bytes(), read_contract(int8_path)))
    assert report.verdict == "failed"
    first = next(f.message for f in report.failures if f.stage == report.stage)
    record_property("fault", f"int8: {name} | {report.stage} | {first[:90]}")
    assert report.stage == stage


@pytest.mark.parametrize("crops", [None, b"{}"], ids=["none", "another"])
def test_a_file_is_rejected_without_its_calibration_list(judge, int8_path, crops):
    report = judge(int8_path.read_bytes(), crops)
    (failure,) = report.failures
    assert (report.verdict, failure.stage) == ("failed", "contract")
    assert "_int8.calibration.json beside it" in failure.message


def test_outputs_of_the_demonstration_model_have_to_be_close(judge, tiny, int8_path):
    """Those of the tiny model, whose weights are random, are not."""
    contract = replace(read_contract(int8_path), weights="demo")
    model = onnx.load(int8_path)
    onnx.helper.set_model_props(model, {METADATA_KEY: contract.to_json()})
    record = replace(tiny.record, contract=replace(tiny.record.contract, weights="demo"))
    (failure,) = judge(model.SerializeToString(), record=record).failures
    assert failure.stage == "precision"
    assert "dB; expected at least 24 dB" in failure.message


def test_a_float32_file_that_is_not_pytorchs_fails_what_is_made_of_it(judge, tiny, int8_path):
    models = onnx.load(int8_path), tiny.model
    for model in models:
        change(model, "head.cim.canonical", lambda array: array * 1.01)
    parent = models[1].SerializeToString()
    contract = derived(read_contract(int8_path), sha256=hashlib.sha256(parent).hexdigest())
    onnx.helper.set_model_props(models[0], {METADATA_KEY: contract.to_json()})
    (failure,) = judge(models[0].SerializeToString(), parent=parent).failures
    assert failure.stage == "parity"
    assert "the float32 file beside it" in failure.message


def test_golden_vectors_hold_the_clearer_half_however_far_optimisation_moves_them(
    tiny, int8_path, tmp_path
):
    own = own_answers(tiny.record, int8_path.read_bytes())
    cases = tuple(replace(r, candidates=(replace(r.own, floor=1.0),)) for r in own.cases)
    write_golden(replace(own, cases=cases), "0" * 64, tmp_path / "golden", "int8")
    document = json.loads((tmp_path / "golden" / "golden.json").read_text())
    people = [ties for one in document["sets"] for ties in one["near_ties"]]
    assert len(people) == 5
    assert all(sum(ties) <= len(ties) / 2 for ties in people)
