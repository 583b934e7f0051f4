"""Files in reduced precision are accepted when they are good, and rejected for what is not."""

from dataclasses import replace

import numpy as np
import pytest

from cigpose_export.graph.derived_file import derive_file
from cigpose_runtime import read_contract
from cigpose_runtime.files import file_sha256
from cigpose_verify.matrix import Matrix
from cigpose_verify.reduced.judge import EMULATED, judge_reduced
from cigpose_verify.reduced.loss import misread
from cigpose_verify.reference_record import Outputs
from reduced_faults import FAULTS, apply_fault

MATRIX = Matrix(levels=("disabled", "all"), threads=(1,), batches=(1, 3))


@pytest.fixture(scope="session")
def reduced(tiny, tmp_path_factory):
    """The tiny model in both reduced precisions, by precision; not to be changed."""
    folder = tmp_path_factory.mktemp("reduced")
    paths = {kind: folder / f"{tiny.path.stem}_{kind}.onnx" for kind in ("fp16", "w16")}
    for kind, path in paths.items():
        derive_file(tiny.path, kind, path, on_stage=lambda _: None)
    return paths


def verdict_on(data, tiny):
    return judge_reduced("x.onnx", data, tiny.record, file_sha256(tiny.path), MATRIX)


@pytest.mark.parametrize("kind", ["fp16", "w16"])
def test_a_good_file_is_accepted(tiny, reduced, kind):
    report = verdict_on(reduced[kind].read_bytes(), tiny)
    assert report.failures == ()
    assert report.model == f"{tiny.contract.name}_{kind}"
    assert (report.cells[0].provider == EMULATED) == (kind == "fp16")


@pytest.mark.parametrize("name", FAULTS)
def test_a_seeded_fault_is_rejected_at_its_stage(tiny, reduced, record_property, name):
    kind, stage, _ = FAULTS[name]
    path = reduced[kind]
    report = verdict_on(apply_fault(name, path.read_bytes(), read_contract(path)), tiny)
    assert report.verdict == "failed"
    first = next(f.message for f in report.failures if f.stage == report.stage)
    record_property("fault", f"{kind}: {name} | {report.stage} | {first[:90]}")
    assert report.stage == stage


def moved_keypoint(recorded, keypoint):
    """The reference's outputs with all of a keypoint's bins one further."""
    x, y = (vector.astype(np.float32) for vector in recorded.own.double.vectors)
    x[keypoint] = np.roll(x[keypoint], 1)
    return Outputs(x, y)


def test_a_keypoint_of_the_clearer_half_that_is_elsewhere_is_misread(tiny):
    recorded = tiny.record.cases[0]
    assert recorded.is_sound
    lead = recorded.own.clarity.lead
    assert misread(moved_keypoint(recorded, lead.argmax()), recorded) == 1
    assert misread(moved_keypoint(recorded, lead.argmin()), recorded) == 0


def test_on_a_case_that_is_not_sound_a_keypoint_is_misread_where_rounding_cannot_explain_it(tiny):
    recorded = tiny.record.cases[0]
    unsound = replace(recorded, candidates=(replace(recorded.own, floor=1e-3),))
    lead = unsound.own.clarity.lead
    assert not unsound.is_sound
    explained = 2 * 2**13 * 1e-3
    assert lead.max() < explained
    clearest = lead.argmax()
    assert misread(moved_keypoint(unsound, clearest), unsound) == 0
    double = Outputs(*(vector.copy() for vector in unsound.own.double.vectors))
    for vector in double.vectors:
        vector[clearest, vector[clearest].argmax()] += 2 * explained
    far = replace(unsound, candidates=(replace(unsound.own, double=double),))
    assert misread(moved_keypoint(far, clearest), far) == 1


def test_where_no_case_is_sound_agreement_says_nothing(tiny, reduced):
    cases = tuple(
        replace(r, candidates=tuple(replace(c, floor=1e-3) for c in r.candidates))
        for r in tiny.record.cases
    )
    record = replace(tiny.record, cases=cases)
    sha256 = file_sha256(tiny.path)
    report = judge_reduced("x.onnx", reduced["w16"].read_bytes(), record, sha256, MATRIX)
    assert [failure.stage for failure in report.failures] == ["keypoints"]
    assert "says nothing" in report.failures[0].message
