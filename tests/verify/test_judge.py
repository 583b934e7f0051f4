"""Verdicts, records and reports, on a tiny model."""

import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import onnx
import pytest
import torch
from onnx import helper, numpy_helper

from cigpose_export.checkpoints.load import load_checkpoint, load_weights
from cigpose_export.graph.opset import to_opset_17
from cigpose_export.graph.simplify import simplify
from cigpose_export.graph.stamp import stamp
from cigpose_export.graph.translate import export_graph
from cigpose_export.jobs.verify import may_be_rounding
from cigpose_export.modeling.build import build_reference, load_config
from cigpose_export.modeling.dense import lower
from cigpose_export.reference.record import plausible_choices, record_reference
from cigpose_export.reference.trace import trace
from cigpose_runtime.errors import FileError, MetadataError, OnnxFileError
from cigpose_verify.__main__ import main
from cigpose_verify.cases import CROPS, NOISE_SEEDS, make_cases
from cigpose_verify.diverge import find_divergence
from cigpose_verify.judge import judge
from cigpose_verify.matrix import Matrix
from cigpose_verify.measures.stage_texts import STAGES
from cigpose_verify.reference_record import Outputs, ReferenceRecord
from cigpose_verify.report.document import Report
from cigpose_verify.stages.choice import find_intervention
from cigpose_verify.stages.intervention import plausible
from faults import apply_fault

SMALL = Matrix(levels=("disabled", "all"), threads=(1,), batches=(1, 3))


@pytest.fixture(scope="module")
def report(tiny):
    return judge("tiny.onnx", tiny.data, tiny.record, Matrix())


def test_the_matrix_is_complete(tiny, report):
    matrix = Matrix()
    settings = {(c.level, c.threads, c.batch) for c in report.cells}
    assert settings == {
        (level, threads, batch)
        for level in ("disabled", "basic", "extended", "all")
        for threads in matrix.threads
        for batch in (1, 2, 3, 8)
    }
    assert len(matrix.threads) == 2
    assert all(cell.rows >= len(tiny.record.cases) for cell in report.cells)


def test_a_sound_file_passes_with_figures_far_from_the_gates(report):
    assert (report.verdict, report.failures) == ("passed", ())
    assert 0 < report.precision.ratio <= 4
    assert report.intervention.agreeing == report.intervention.choices == 4 * 16
    assert report.keypoints.argmax_agreement == 1
    assert report.keypoints.confident > 0
    assert report.keypoints.near_tie_share <= 0.01
    assert max(cell.excess for cell in report.cells) < 1


def test_cases_are_noise_flat_colours_and_crops_inside_and_beyond_the_frame(tiny):
    kinds = [recorded.case.kind for recorded in tiny.record.cases]
    assert [kinds.count(kind) for kind in ("noise", "flat", "crop")] == [
        len(NOISE_SEEDS),
        2,
        len(CROPS),
    ]
    boxes = np.array([r.case.box_xyxy for r in tiny.record.cases if r.case.kind == "crop"])
    sides = boxes[:, 2:] - boxes[:, :2]
    assert (boxes[:, 0] < 0).any()
    assert (boxes[:, 2:] > 600).any()
    assert sides.min() < 20


def test_cases_are_the_same_each_time(tiny):
    hashes = [[case.sha256 for case in make_cases(tiny.contract)] for _ in range(2)]
    assert hashes[0] == hashes[1]
    assert len(set(hashes[0])) == len(hashes[0])


def test_a_record_read_back_is_the_record_written(tiny, tmp_path):
    tiny.record.write(tmp_path / "again.npz")
    again = ReferenceRecord.read(tmp_path / "again.npz")
    assert again.contract == tiny.record.contract
    assert again.sweep.floor == tiny.record.sweep.floor > 0
    for first, second in zip(tiny.record.cases, again.cases, strict=True):
        assert second.score_floor == first.score_floor > 0
        assert second.own.floor == first.own.floor > 0
        assert first.case.sha256 == second.case.sha256
        assert np.array_equal(first.own.double.simcc_x, second.own.double.simcc_x)
    assert np.array_equal(again.sweep.single.simcc_y, tiny.record.sweep.single.simcc_y)


def of_another_version(path):
    with np.load(path) as arrays:
        changed = dict(arrays)
    document = json.loads(str(changed["document"])) | {"schema_version": 1}
    np.savez(path, **changed | {"document": np.array(json.dumps(document))})


def altered_input(path):
    with np.load(path) as arrays:
        changed = dict(arrays)
    changed["inputs"] = changed["inputs"] + np.float32(1e-6)
    np.savez(path, **changed)


def saved_again(save=np.savez, **changes):
    """Writes the arrays of a record again, some of them changed by functions."""

    def spoil(path):
        with np.load(path) as arrays:
            changed = dict(arrays)
        for name, change in changes.items():
            changed[name] = change(changed[name])
        save(path, **changed)

    return spoil


@pytest.mark.parametrize(
    "spoil",
    [
        saved_again(np.savez_compressed),
        saved_again(counts=lambda counts: counts * 2),
        saved_again(floors=lambda floors: floors * np.inf),
        saved_again(floors=lambda floors: -floors),
        saved_again(score_floors=lambda floors: floors[1:]),
        saved_again(swept_floor=lambda floor: np.array([floor])),
        saved_again(choices=lambda choices: choices + 1000),
        saved_again(scores=lambda scores: scores[:, :-1]),
        saved_again(simcc_x_double=lambda outputs: outputs * np.nan),
        saved_again(simcc_y_single=lambda outputs: outputs.astype(str)),
        saved_again(document=lambda _: np.array("[" * 100_000)),
        lambda path: path.write_bytes(path.read_bytes().replace(b"'descr'", b"'dosis'")),
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(path.read_bytes()[:-1000]),
        lambda path: path.write_text("<html>"),
        altered_input,
        of_another_version,
    ],
    ids=[
        "compressed",
        "other counts",
        "infinite floors",
        "negative floors",
        "floors of fewer cases",
        "several floors of one sweep",
        "no such keypoint",
        "scores of fewer keypoints",
        "NaN",
        "texts",
        "deep JSON",
        "no array",
        "empty",
        "truncated",
        "another file",
        "altered",
        "another version",
    ],
)
def test_a_spoilt_record_is_refused(tiny, tmp_path, spoil):
    path = tmp_path / "record.npz"
    path.write_bytes(tiny.record_path.read_bytes())
    spoil(path)
    with pytest.raises(FileError, match="expected a reference record"):
        ReferenceRecord.read(path)


def test_a_report_read_back_is_the_report_written(report, tmp_path):
    report.write(tmp_path / "report.json")
    assert Report.read(tmp_path / "report.json") == report
    document = json.loads((tmp_path / "report.json").read_text())
    assert document["schema_version"] == 3


@pytest.mark.parametrize("text", ["", "[]", '{"schema_version": 99}', '{"schema_version": 2}'])
def test_another_file_is_no_report(tmp_path, text):
    (tmp_path / "report.json").write_text(text)
    with pytest.raises(FileError, match="expected a parity report"):
        Report.read(tmp_path / "report.json")


def test_a_verdict_is_repeated_where_torch_cannot_be_imported(tiny):
    code = (
        "import sys\n"
        "for name in ('torch', 'mmengine', 'mmcv', 'mmpose', 'cigpose_export'):\n"
        "    sys.modules[name] = None\n"
        "from cigpose_verify.__main__ import main\n"
        "sys.exit(main(sys.argv[1:]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tiny.path), str(tiny.record_path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1].startswith("passed (sha256 ")


# Files that are none to judge.


def truncated(data, _contract):
    return data[: len(data) // 2]


def external(data, _contract):
    model = onnx.load_from_string(data)
    tensor = next(t for t in model.graph.initializer if t.HasField("raw_data"))
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.ClearField("raw_data")
    tensor.external_data.add(key="location", value="weights.bin")
    return model.SerializeToString()


def contradicting(data, contract):
    model = onnx.load_from_string(data)
    text = replace(contract, split_ratio=1.0).to_json()
    onnx.helper.set_model_props(model, {"cigpose_meta": text})
    return model.SerializeToString()


@pytest.mark.parametrize(
    ("spoil", "error", "message"),
    [
        (truncated, OnnxFileError, "expected"),
        (external, OnnxFileError, "external data"),
        (contradicting, MetadataError, "split_ratio"),
    ],
)
def test_a_file_that_is_none_to_judge_is_one_line_and_status_2(
    tiny, tmp_path, capsys, spoil, error, message
):
    data = spoil(tiny.data, tiny.contract)
    with pytest.raises(error, match=message):
        judge("spoilt.onnx", data, tiny.record, SMALL)
    (tmp_path / "spoilt.onnx").write_bytes(data)
    assert main([str(tmp_path / "spoilt.onnx"), str(tiny.record_path)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "spoilt.onnx: " in line


# The discrete choice.


def test_an_intervention_is_found_by_what_it_feeds(tiny):
    found = find_intervention(tiny.model.graph)
    top_k = [n for n in tiny.model.graph.node if n.op_type == "TopK"]
    assert (found.ranked, found.choice) == (top_k[0].input[0], top_k[0].output[1])


@pytest.mark.parametrize(
    ("k", "slack", "choices"),
    [
        (1, 0.0, {(2,)}),
        (1, 0.011, {(2,), (0,)}),
        (1, 1.0, {(0,), (1,), (2,), (3,)}),
        (2, 0.0, {(0, 2)}),
        (2, 0.25, {(0, 2), (1, 2), (0, 1)}),
        (4, 0.1, {(0, 1, 2, 3)}),
    ],
)
def test_choices_within_rounding_are_all_found(k, slack, choices):
    scores = np.array([0.89, 0.70, 0.90, 0.1])
    found = plausible_choices(scores, k, slack)
    assert set(found) == choices
    assert len(found) == len(choices)
    assert set(found[0]) == set(np.argsort(-scores)[:k].tolist())
    assert all(plausible(choice, scores, slack) for choice in found)


@pytest.fixture(scope="module")
def undecided(tiny):
    """A model all of whose keypoints are equally confounded, its record, and its file."""
    (variant,) = tiny.project.variants.values()
    estimator = build_reference(load_config(tiny.project.config_path(variant.name)))
    path = tiny.project.checkpoint_path(variant.name, "synthetic")
    load_weights(estimator, load_checkpoint(path))
    with torch.no_grad():
        for layer in (estimator.head.initial_pred_x, estimator.head.initial_pred_y):
            layer.weight.zero_()
    contract = tiny.record.contract
    record = record_reference(estimator, contract, make_cases(contract)[6:12], {})
    graph = export_graph(lower(estimator), input_h=contract.input_h, input_w=contract.input_w)
    return record, onnx.load_from_string(stamp(to_opset_17(simplify(graph)), contract))


def with_score_bias(model, keypoint, bias, count):
    """A backend whose rounding raises the confound score of one keypoint."""
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    place, top_k = next((i, n) for i, n in enumerate(changed.graph.node) if n.op_type == "TopK")
    raised = np.zeros(count, np.float32)
    raised[keypoint] = -2 * bias  # the graph ranks the sum of two peaks, the smallest first
    changed.graph.initializer.append(numpy_helper.from_array(raised, "rounding"))
    node = helper.make_node("Add", [top_k.input[0], "rounding"], ["rounded_score"])
    changed.graph.node.insert(place, node)
    top_k.input[0] = "rounded_score"
    return changed.SerializeToString()


def test_another_choice_within_rounding_is_held_to_pytorch_forced_to_it(undecided):
    record, model = undecided
    assert all(len(recorded.candidates) == 17 for recorded in record.cases)
    data = with_score_bias(model, 9, 2e-7, 17)
    verdict = judge("undecided.onnx", data, record, SMALL)
    assert verdict.failures == ()
    assert verdict.intervention.near_ties == len(record.cases)
    assert verdict.intervention.agreeing == 0
    assert verdict.intervention.forced == sum(cell.rows for cell in verdict.cells)


def test_another_choice_beyond_rounding_is_rejected(undecided):
    record, model = undecided
    verdict = judge("undecided.onnx", with_score_bias(model, 9, 1e-3, 17), record, SMALL)
    assert verdict.stage == "precision"
    assert "confound scores are off" in verdict.failures[0].message


def test_a_candidate_is_wrong_where_the_scores_were_right(tiny):
    """The graph exposes the right scores and replaces another keypoint all the same."""
    model = tiny.model
    intervention = find_intervention(model.graph)
    for node in model.graph.node:
        if node.op_type == "Equal":
            (position,) = (i for i, n in enumerate(node.input) if n == intervention.choice)
            node.input[position] = "another"
            place = list(model.graph.node).index(node)
            break
    model.graph.initializer.append(numpy_helper.from_array(np.array(16), "count"))
    shifted = helper.make_node("Sub", ["count", intervention.choice], ["another"])
    model.graph.node.insert(place, shifted)
    verdict = judge("tiny.onnx", model.SerializeToString(), tiny.record, SMALL)
    assert verdict.stage == "parity"


# How much is rounding?


def with_floors(record, floor, names):
    """The record with another noise floor for the cases of these names."""
    cases = (
        replace(r, candidates=(replace(r.own, floor=floor),)) if r.case.name in names else r
        for r in record.cases
    )
    return replace(record, cases=tuple(cases))


def scaled_floors(record, factor):
    """The record with all noise floors of outputs multiplied."""
    cases = (
        replace(r, candidates=(replace(r.own, floor=factor * r.own.floor),)) for r in record.cases
    )
    return replace(record, cases=tuple(cases))


def test_what_fails_by_little_may_be_rounding(tiny):
    def verdict(data, factor):
        return judge("tiny.onnx", data, scaled_floors(tiny.record, factor), SMALL)

    good, close, far = (verdict(tiny.data, factor) for factor in (1, 0.3, 0.01))
    assert [one.stage for one in (good, close, far)] == [None, "precision", "precision"]
    assert [may_be_rounding(one) for one in (good, close, far)] == [False, True, False]
    wrong = verdict(apply_fault("one weight perturbed", tiny.data, tiny.contract), 1)
    assert not may_be_rounding(wrong)


CROP = "cameraman off-frame"


@pytest.mark.parametrize("floor", [1e-3, 0.1])
def test_keypoints_of_a_crop_that_is_not_sound_are_no_near_ties(tiny, floor):
    record = with_floors(tiny.record, floor, {CROP})
    verdict = judge("tiny.onnx", tiny.data, record, SMALL)
    assert verdict.failures == ()
    named = [f"{CROP}: ill-conditioned" in note for note in verdict.notes]
    assert named == ([True] if floor == 0.1 else [])
    clear = next(r.own.clarity for r in record.cases if r.case.name == CROP)
    assert clear.confident.any()
    before = judge("tiny.onnx", tiny.data, tiny.record, SMALL).keypoints.confident
    assert verdict.keypoints.confident == before - clear.confident.sum()


def with_ties(record, count):
    """The record with as many keypoints of a crop whose two highest bins are equal."""

    def tied(r):
        double = r.own.double.simcc_x.copy()
        confident = np.flatnonzero(r.own.clarity.confident)[:count]
        first, second = np.argsort(-double[confident])[:, :2].T
        double[confident, second] = double[confident, first]
        own = replace(r.own, double=Outputs(double, r.own.double.simcc_y))
        return replace(r, candidates=(own,))

    cases = (tied(r) if r.case.name == CROP else r for r in record.cases)
    return replace(record, cases=tuple(cases))


@pytest.mark.parametrize(("count", "says_nothing"), [(1, False), (2, True)])
def test_more_near_ties_on_sound_crops_than_one_are_too_many_of_a_hundred(
    tiny, count, says_nothing
):
    verdict = judge("tiny.onnx", tiny.data, with_ties(tiny.record, count), SMALL)
    assert count - 1 <= 0.01 * verdict.keypoints.confident < 2
    messages = [failure.message for failure in verdict.failures if "sound crops" in failure.message]
    assert len(messages) == says_nothing


def test_where_no_crop_is_well_conditioned_agreement_says_nothing(tiny):
    names = {r.case.name for r in tiny.record.cases if r.case.kind == "crop"}
    verdict = judge("tiny.onnx", tiny.data, with_floors(tiny.record, 0.1, names), SMALL)
    assert "well-conditioned crop, found none" in verdict.failures[-1].message


@pytest.mark.parametrize(("count", "failed"), [(4, None), (5, "precision")])
def test_where_rounding_drowns_several_cases_agreement_says_nothing(tiny, tmp_path, count, failed):
    names = {recorded.case.name for recorded in tiny.record.cases[:count]}
    verdict = judge("tiny.onnx", tiny.data, with_floors(tiny.record, 0.1, names), SMALL)
    assert verdict.stage == failed
    assert len(verdict.notes) == count
    verdict.write(tmp_path / "report.json")
    assert Report.read(tmp_path / "report.json") == verdict


def test_a_floor_loosens_the_gates_of_its_own_case_alone(tiny):
    record = with_floors(tiny.record, 1e-2, {tiny.record.cases[0].case.name})
    data = apply_fault("one weight perturbed", tiny.data, tiny.contract)
    before, after = (judge("wrong.onnx", data, r, SMALL) for r in (tiny.record, record))
    assert after.cases[0].tolerance > before.cases[0].tolerance
    assert [c.tolerance for c in after.cases[1:]] == [c.tolerance for c in before.cases[1:]]
    assert [c.limit_float64 for c in after.cases[1:]] == [c.limit_float64 for c in before.cases[1:]]
    assert after.stage == before.stage == "parity"


# Which node?


@pytest.fixture(scope="module")
def traced(tiny):
    (variant,) = tiny.project.variants.values()
    estimator = build_reference(load_config(tiny.project.config_path(variant.name)))
    path = tiny.project.checkpoint_path(variant.name, "synthetic")
    load_weights(estimator, load_checkpoint(path))
    return trace(lower(estimator), tiny.record.cases[10].case)


def test_a_sound_file_diverges_nowhere(tiny, traced):
    divergence = find_divergence(tiny.data, traced)
    assert divergence.first is None
    assert len(divergence.tensors) > 0.6 * len(tiny.model.graph.node)
    assert {"simcc_x", "simcc_y"} <= {tensor.tensor for tensor in divergence.tensors}


@pytest.mark.parametrize(
    ("fault", "module"),
    [
        ("one weight perturbed", "backbone.stage2.1.main_conv"),
        ("BGR for RGB in the first convolution", "backbone.stem.0"),
        ("one graph edge removed", "head.gcn.layers.0"),
        ("one keypoint left out of its group", "head.gcn.layers.0.attention"),
        ("intervention dropped", "head.cim"),
        ("two keypoints swapped", "head"),
    ],
)
def test_the_first_wrong_tensor_names_its_module(tiny, traced, fault, module):
    divergence = find_divergence(apply_fault(fault, tiny.data, tiny.contract), traced)
    assert divergence.first.module.startswith(module)
    before = divergence.tensors[: divergence.tensors.index(divergence.first)]
    assert all(tensor.error <= tensor.tolerance for tensor in before)


def test_stages_are_those_that_failures_name(tiny):
    data = apply_fault("two keypoints swapped", tiny.data, tiny.contract)
    verdict = judge("tiny.onnx", data, tiny.record, SMALL)
    assert {failure.stage for failure in verdict.failures} <= set(STAGES)
    assert {"parity", "precision", "keypoints"} <= {f.stage for f in verdict.failures}
