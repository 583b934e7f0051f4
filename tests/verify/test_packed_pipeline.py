"""Packed files beside MMPose's pipeline: what the runtime's own side cannot see is rejected."""

from dataclasses import replace

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from cigpose_export.graph.derived_file import derive_file
from cigpose_export.graph.frame.pack import DetectorOptions, pack_file
from cigpose_export.reference.mmpose_pipeline import mmpose_beside
from cigpose_runtime import METADATA_KEY
from cigpose_verify.packed.judge import Campaign, judge_packed
from cigpose_verify.report.document import Report
from tiny_yolox import yolox

# Faults of a model's own file: whatever it is packed into has them, and so has the runtime.


def another(**changes):
    return lambda model, contract: replace(contract, **changes)


def mean_and_std_swapped(_model, contract):
    return replace(contract, mean=contract.std, std=contract.mean)


def one_side_for_the_other(_model, contract):
    """Of the mirror image, each keypoint keeps its name."""
    return replace(contract, flip_pairs=())


def a_weight_perturbed(model, contract):
    largest = max(model.graph.initializer, key=lambda tensor: len(tensor.raw_data))
    values = numpy_helper.to_array(largest) * np.float32(1.05)
    largest.CopyFrom(numpy_helper.from_array(values, largest.name))
    return contract


def x_mirrored(model, contract):
    graph = model.graph
    for node in graph.node:
        node.output[:] = ["backwards" if name == "simcc_x" else name for name in node.output]
    for name, value in (("start", [-1]), ("stop", [-(2**31)]), ("axis", [2]), ("step", [-1])):
        graph.initializer.append(numpy_helper.from_array(np.array(value), f"mirror_{name}"))
    limits = [f"mirror_{name}" for name in ("start", "stop", "axis", "step")]
    graph.node.append(helper.make_node("Slice", ["backwards", *limits], ["simcc_x"], name="mirror"))
    return contract


FAULTS = {
    "padding of boxes": another(box_padding=1.4),
    "colour order of the model": another(color_order="bgr"),
    "mean and std swapped": mean_and_std_swapped,
    "no flip pairs": one_side_for_the_other,
    "a weight perturbed": a_weight_perturbed,
    "x mirrored": x_mirrored,
}


@pytest.fixture(scope="module")
def beside(tiny):
    """Packs a file and judges it beside MMPose on the tiny model's checkpoint."""
    (variant,) = tiny.project.variants.values()
    checkpoint = tiny.project.checkpoint_path(variant.name, "synthetic")

    def judge(path, *, detector=None, change=lambda mmpose: mmpose, **options):
        packed = path.with_name("packed.onnx")
        inside = DetectorOptions(detector) if detector else None
        data = pack_file(path, packed, detector=inside, **options).read_bytes()
        mmpose = mmpose_beside(
            data,
            project=str(tiny.project.root),
            model={"name": variant.name, "config": None, "keypoints": None},
            checkpoint=str(checkpoint),
            weights_key=None,
            fork=False,
            threads=1,
        )
        return judge_packed("x.onnx", data, path, detector, Campaign.full(), mmpose=change(mmpose))

    return judge


@pytest.mark.parametrize("options", [{}, {"flip": True}, {"color_order": "bgr"}])
def test_a_packed_file_gives_what_mmposes_pipeline_gives(beside, tiny, tmp_path, options):
    path = tmp_path / tiny.path.name
    path.write_bytes(tiny.data)
    report = beside(path, **options)
    assert report.failures == ()
    assert "40 people, 100.00% of their keypoints in the same place" in report.notes[0]


def test_with_a_detector_its_people_are_compared(beside, tiny, tmp_path):
    path = tmp_path / tiny.path.name
    path.write_bytes(tiny.data)
    people = [(40, 30, 30, 50, 0.9, 0), (90, 30, 20, 40, 0.8, 0)]
    onnx.save(yolox(people, decoded=True), tmp_path / "yolox.onnx")
    report = beside(path, detector=tmp_path / "yolox.onnx")
    assert report.failures == ()
    assert " 100.00% of their keypoints" in report.notes[0]


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_that_the_runtime_shares_is_rejected(beside, tiny, tmp_path, record_property, name):
    model = tiny.model
    contract = FAULTS[name](model, tiny.contract)
    helper.set_model_props(model, {METADATA_KEY: contract.to_json()})
    path = tmp_path / tiny.path.name
    onnx.save(model, path)
    report = beside(path, flip=name == "no flip pairs")
    assert (report.verdict, report.stage) == ("failed", "pipeline")
    figure = report.failures[0].message[:90]
    record_property("fault", f"packed, shared: {name} | {report.stage} | {figure}")


def test_another_checkpoint_than_the_files_is_no_reference(beside, tiny, tmp_path):
    path = tmp_path / tiny.path.name
    path.write_bytes(tiny.data)
    report = beside(path, change=lambda mmpose: replace(mmpose, checkpoint_sha256="0" * 64))
    assert report.stage == "pipeline"
    assert (
        "expected to be compared with the checkpoint that it is from" in report.failures[0].message
    )


def test_of_40_people_two_may_be_elsewhere_and_three_may_not(beside, tiny, tmp_path):
    path = tmp_path / tiny.path.name
    path.write_bytes(tiny.data)

    def moving(people):
        def change(mmpose):
            left = [people]

            def estimate(frame, boxes):
                poses = mmpose.estimate(frame, boxes)
                moved = min(left[0], len(poses))
                left[0] -= moved
                poses[:moved, :, :2] += 5
                return poses

            return replace(mmpose, estimate=estimate)

        return change

    assert beside(path, change=moving(2)).failures == ()
    report = beside(path, change=moving(3))
    assert "3 of 40 people have less than 99% of their keypoints" in report.failures[0].message


def test_of_few_people_none_may_be_elsewhere(beside, tiny, tmp_path):
    path = tmp_path / tiny.path.name
    path.write_bytes(tiny.data)
    onnx.save(yolox([(40, 30, 30, 50, 0.9, 0)], decoded=True), tmp_path / "yolox.onnx")

    def lower(mmpose):
        down = np.array([0, 9, 0])
        return replace(mmpose, estimate=lambda *given: mmpose.estimate(*given) + down)

    report = beside(path, detector=tmp_path / "yolox.onnx", change=lower)
    assert report.stage == "pipeline"


# The command.


def test_the_command_compares_with_the_checkpoint_of_the_project(project, run):
    (variant,) = project.variants.values()
    path = project.artefact_path(variant.name, "synthetic")
    packed = pack_file(path)
    status, out, err = run(packed)
    assert (status, "of their keypoints in the same place" in out + err) == (0, True)
    checkpoint = project.checkpoint_path(variant.name, "synthetic")
    assert "up to date" in run(packed)[1]
    checkpoint.unlink()
    status, out, err = run(packed)
    assert (status, "not with MMPose's pipeline" in out + err) == (0, True)
    status, _, err = run(packed, "--checkpoint", checkpoint)
    assert (status, "expected a checkpoint, found no file" in err) == (2, True)


def test_the_command_holds_a_file_in_reduced_precision_to_the_runtime_alone(project, run):
    (variant,) = project.variants.values()
    path = project.artefact_path(variant.name, "synthetic")
    reduced = path.with_name(f"{path.stem}_fp16.onnx")
    derive_file(path, "fp16", reduced, on_stage=lambda _: None)
    packed = pack_file(reduced)
    assert run(packed)[0] == 0
    report = Report.read(path.parent / "parity" / f"{packed.stem}.json")
    assert report.notes == (
        "compared with the runtime, not with MMPose's pipeline: in reduced precision",
    )
    assert report.origin["compared with"] == "cigpose-runtime"
