"""Files that somebody else exported: what they compute and say counts, what they omit is noted."""

import json

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper, version_converter

from cigpose_export.checkpoints.load import SYNTHETIC_MARK, load_checkpoint
from cigpose_export.errors import ReleaseError
from cigpose_export.release.verified_models import verified_models
from cigpose_runtime import MetadataError
from cigpose_runtime.errors import error_context
from cigpose_verify.__main__ import main
from cigpose_verify.judge import judge
from cigpose_verify.matrix import Matrix
from faults import apply_fault
from tiny_onnx import tiny_model

SMALL = Matrix(levels=("all",), threads=(1,), batches=(1, 3))


def short_metadata(contract) -> dict:
    """What the published ONNX files carry."""
    return {
        "input_w": contract.input_w,
        "input_h": contract.input_h,
        "split_ratio": contract.split_ratio,
        "normalization": {"mean": contract.mean, "std": contract.std},
    }


def stamped(data: bytes, document: dict | None) -> bytes:
    """A file with other metadata, or with none."""
    model = onnx.load_from_string(data)
    del model.metadata_props[:]
    if document is not None:
        model.metadata_props.add(key="cigpose_meta", value=json.dumps(document))
    return model.SerializeToString()


def changed(change):
    """A file without metadata whose graph a function has changed in place."""

    def make(tiny) -> bytes:
        model = onnx.load_from_string(stamped(tiny.data, None))
        return (change(model) or model).SerializeToString()

    return make


def with_batch(size):
    def fix(model):
        for value in (*model.graph.input, *model.graph.output):
            value.type.tensor_type.shape.dim[0].dim_value = size

    return fix


def with_another_top_k(model):
    one = numpy_helper.from_array(np.array([1], np.int64), "one_more")
    model.graph.initializer.append(one)
    name = model.graph.node[0].output[0]
    model.graph.node.insert(1, helper.make_node("TopK", [name, "one_more"], ["v", "i"], axis=1))


def with_non_zero(model):
    name = model.graph.node[0].output[0]
    model.graph.node.insert(1, helper.make_node("NonZero", [name], ["not_used"]))


def in_half_precision(model):
    casts = []
    for tensor in model.graph.initializer:
        if tensor.data_type == TensorProto.FLOAT:
            half = numpy_helper.to_array(tensor).astype(np.float16)
            casts.append(helper.make_node("Cast", [f"{tensor.name}_16"], [tensor.name], to=1))
            tensor.CopyFrom(numpy_helper.from_array(half, f"{tensor.name}_16"))
    nodes = [*casts, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)


def judged(tiny, data, **options):
    return judge("theirs.onnx", data, tiny.record, SMALL, foreign=True, **options)


NOT_STAMPED = "not stamped: name, dataset, input_w, input_h, split_ratio, mean, std, color_order"
SOUND = {
    "no metadata": (lambda tiny: stamped(tiny.data, None), NOT_STAMPED),
    "the published metadata": (
        lambda tiny: stamped(tiny.data, short_metadata(tiny.contract)),
        "not stamped: name, dataset, color_order, box_padding, decode, keypoint_names",
    ),
    "another name of the model and data set": (
        lambda tiny: stamped(
            tiny.data, {**json.loads(tiny.contract.to_json()), "dataset": "COCO", "name": "theirs"}
        ),
        "dataset: expected 'coco', found 'COCO'",
    ),
    "a batch of one": (changed(with_batch(1)), "batches of 1 alone were tried"),
    "a batch of four": (changed(with_batch(4)), "batches of 4 alone were tried"),
    "another opset": (changed(lambda m: version_converter.convert_version(m, 20)), NOT_STAMPED),
    "another intervention": (changed(with_another_top_k), "expected one choice that decides what"),
    "operators that we do not use": (changed(with_non_zero), "found NonZero"),
}


@pytest.mark.parametrize(("make", "note"), SOUND.values(), ids=SOUND)
def test_a_foreign_file_of_the_same_function_passes_with_a_note(tiny, make, note):
    report = judged(tiny, make(tiny))
    assert report.failures == ()
    assert report.passed
    assert report.foreign
    assert any(said.startswith(note) or note in said for said in report.notes), report.notes
    assert 0 < report.precision.ratio <= 4


def test_the_same_file_fails_by_its_contract_when_it_passes_for_ours(tiny):
    short = stamped(tiny.data, short_metadata(tiny.contract))
    assert {f.stage for f in judge("ours.onnx", short, tiny.record, SMALL).failures} == {"contract"}


def test_our_own_file_has_nothing_to_note(tiny):
    assert judged(tiny, tiny.data).notes == ()


UNSOUND = {
    "another mean in its metadata": (
        lambda tiny: stamped(
            tiny.data,
            {**short_metadata(tiny.contract), "normalization": {"mean": [0, 0, 0], "std": [1] * 3}},
        ),
        {"contract"},
    ),
    "weights in half precision": (changed(in_half_precision), {"parity", "precision"}),
    "an edge of the skeleton missing": (
        lambda tiny: stamped(apply_fault("one graph edge removed", tiny.data, tiny.contract), None),
        {"parity", "precision"},
    ),
}


@pytest.mark.parametrize(("make", "stages"), UNSOUND.values(), ids=UNSOUND)
def test_a_foreign_file_that_computes_or_says_something_else_fails(tiny, make, stages):
    report = judged(tiny, make(tiny))
    assert {failure.stage for failure in report.failures} >= stages
    assert report.stage not in ("structure", "interface")


def test_metadata_from_a_file_of_their_own_stand_in(tiny):
    data = stamped(tiny.data, None)
    right, wrong = short_metadata(tiny.contract), short_metadata(tiny.contract)
    wrong["normalization"] = {"mean": [0, 0, 0], "std": [1, 1, 1]}
    assert judged(tiny, data, metadata=json.dumps(right).encode()).passed
    failed = judged(tiny, data, metadata=json.dumps(wrong).encode())
    assert {failure.stage for failure in failed.failures} == {"contract"}


def test_a_file_of_another_interface_is_one_line(tiny):
    other = stamped(tiny_model().SerializeToString(), None)
    with pytest.raises(MetadataError) as caught, error_context("theirs.onnx"):
        judged(tiny, other)
    said = str(caught.value)
    assert said.startswith(f"theirs.onnx: compared with {tiny.contract.name}: metadata contradicts")
    assert len(said.splitlines()) == 1


def test_a_verdict_on_a_foreign_file_is_repeated_without_pytorch(tiny, tmp_path, capsys):
    theirs = tmp_path / "theirs.onnx"
    theirs.write_bytes(stamped(tiny.data, None))
    assert main([str(theirs), str(tiny.record_path)]) == 2  # as ours, it has to have metadata
    assert main([str(theirs), str(tiny.record_path), "--foreign"]) == 0
    assert "note: not stamped: name" in capsys.readouterr().out


# The command


def test_the_command_compares_a_foreign_file_and_keeps_it_from_a_release(
    tiny, project, run, tmp_path
):
    name, folder = tiny.contract.name, tmp_path / "theirs"
    folder.mkdir()
    theirs = folder / f"{name}.onnx"
    theirs.write_bytes(stamped(tiny.data, None))
    checkpoint = tmp_path / "theirs.pth"
    weights = load_checkpoint(project.checkpoint_path(name, "synthetic")).state_dict
    meta = {SYNTHETIC_MARK: True, "cfg": "model = dict("}
    torch.save({"meta": meta, "state_dict": dict(weights)}, checkpoint)

    status, out, _ = run(theirs, "--as", name, "--checkpoint", checkpoint)
    assert status == 0
    assert f"{name}: note: not stamped: name, dataset" in out
    assert "theirs.pth: the config that it carries was not compared" in out
    page = (folder / "parity" / "index.html").read_text()
    summary = (folder / "parity" / "summary.md").read_text()
    assert "not stamped: name" in page
    assert "not stamped: name" in summary
    assert str(tmp_path) not in page + summary
    with pytest.raises(ReleaseError, match="verified as somebody else's"):
        verified_models(project, folder, allow_synthetic=True)

    metadata = tmp_path / "theirs.json"
    metadata.write_text(json.dumps(short_metadata(tiny.contract)))
    status, out, _ = run(theirs, "--as", name, "--checkpoint", checkpoint, "--metadata", metadata)
    assert (status, "up to date" in out) == (0, False)
    assert "not stamped: name, dataset, color_order" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{file}", "--as", "cigpose-s"], "no variant 'cigpose-s'"),
        (["{file}", "--metadata", "a.json"], "--metadata FILE needs --as NAME"),
        (["--all", "--as", "{name}"], "--as NAME needs files of others"),
        (["{file}", "--as", "{name}", "--metadata", "none.json"], "expected a JSON file"),
    ],
)
def test_bad_usage_of_the_command_is_one_line(tiny, run, arguments, message):
    places = {"file": tiny.path, "name": tiny.contract.name}
    status, _, err = run(*(argument.format(**places) for argument in arguments))
    assert status == 2
    (line,) = [line for line in err.splitlines() if "error: " in line]
    assert message in line
