"""The demonstration model finds what was drawn, through export and runtime, and faults cost AP."""

import json
from dataclasses import replace

import numpy as np
import onnx
import pytest

from cigpose_export.accuracy import labelled
from cigpose_export.accuracy.annotations import read_pictures
from cigpose_export.accuracy.protocols import COCO
from cigpose_export.accuracy.stage import measure_accuracy
from cigpose_export.cli.console import counted_progress
from cigpose_export.drawn.calibration import write_calibration
from cigpose_export.drawn.dataset import write_dataset
from cigpose_export.graph.calibration import CalibrationSet
from cigpose_export.graph.derived_file import derive_file
from cigpose_export.graph.stamp import stamp
from cigpose_export.jobs.export import export_models
from cigpose_export.project import Project
from cigpose_export.variants import DEMO
from cigpose_runtime import PoseModel, read_contract
from cigpose_runtime.estimation import pose_model
from cigpose_runtime.estimation.preprocess import boxes_to_crops, make_input
from cigpose_runtime.estimation.session import CPU
from cigpose_runtime.keypoints import KEYPOINT_SETS
from cigpose_runtime.labelling import batches
from cigpose_runtime.labelling.rows import read_shards
from cigpose_runtime.media.images import read_image
from cigpose_verify.matrix import Setting, run_all
from cigpose_verify.reduced.emulate import with_rounded_tensors
from cigpose_verify.stages.choice import exposed, find_intervention

UNSEEN = 1_000_000
"""The seed of the pictures that are measured on; training draws from [0, ...]."""
PICTURES = 500
LEAST_AP = 0.85


@pytest.fixture(scope="module")
def model_path(tmp_path_factory):
    """The demonstration model, exported from the checkpoint in git."""
    out = tmp_path_factory.mktemp("demo")
    project = Project.of_this_clone()
    (outcome,) = export_models(project, [DEMO], weights="demo", out=out)
    assert outcome.error is None
    return outcome.path


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    folder = tmp_path_factory.mktemp("drawn")
    write_dataset(
        folder,
        pictures=PICTURES,
        keypoints=KEYPOINT_SETS["coco"],
        seed=UNSEEN,
        on_done=lambda _: None,
    )
    return folder


def measure(model_path, drawn, tmp_path, **settings):
    return measure_accuracy(
        Project.of_this_clone(),
        model_path,
        annotations=drawn / "annotations.json",
        images=drawn / "images",
        boxes=None,
        out=tmp_path,
        progress=counted_progress,
        **{"flip": False, "pytorch": False, **settings},
    )


def poses_in(folder, side):
    """Places (n, K, 2) of the keypoints in each picture."""
    if side == "runtime":
        names = sorted(path.name for path in (folder / "runtime.labels").glob("shard*"))
        shards = read_shards(str(folder / "runtime.labels"), names, KEYPOINT_SETS["coco"])
        return [picture.poses.keypoints for picture in shards]
    lines = (folder / "pytorch.journal.jsonl").read_text().splitlines()[1:]
    rows = (np.array(poses) for _, poses in map(json.loads, lines))
    return [poses.reshape(len(poses), -1, 3)[..., :2] for poses in rows]


def errors_in_boxes(folder, side, drawn):
    """Distances (n,) of the annotated keypoints from where one side sees them, in frame pixels, and
    as a share of the longer side of the box."""
    annotations = json.loads((drawn / "annotations.json").read_text())["annotations"]
    by_number = {annotation["id"]: annotation for annotation in annotations}
    distances, shares = [], []
    pictures = read_pictures(drawn / "annotations.json", drawn / "images", None, COCO)
    for picture, found in zip(pictures, poses_in(folder, side), strict=True):
        for person, pose in zip(picture.people, found, strict=True):
            annotation = by_number[person.number]
            truth = np.array(annotation["keypoints"]).reshape(-1, 3)
            some = np.linalg.norm(pose - truth[:, :2], axis=1)
            distances.extend(some[truth[:, 2] > 0])
            shares.extend(some[truth[:, 2] > 0] / max(annotation["bbox"][2:]))
    return np.array(distances), np.array(shares)


@pytest.fixture(scope="module")
def baseline(model_path, drawn, tmp_path_factory):
    """Figures of the runtime and of MMPose, single pass, and of the runtime with flip test; and
    the folder of the former."""
    folder = tmp_path_factory.mktemp("accuracy")
    both = measure(model_path, drawn, folder / "both", pytorch=True)
    flipped = measure(model_path, drawn, folder / "flip", flip=True)
    return both, flipped, folder / "both"


def test_the_model_sees(baseline):
    both, flipped, _ = baseline
    assert both.pictures > 0.95 * PICTURES
    assert both.figures["runtime"]["AP"] >= LEAST_AP
    assert flipped.figures["runtime"]["AP"] >= both.figures["runtime"]["AP"]


def test_export_and_runtime_lose_nothing_of_mmposes_accuracy(baseline):
    both, _, _ = baseline
    ours, theirs = both.figures["runtime"], both.figures["pytorch"]
    assert abs(ours["AP"] - theirs["AP"]) <= 0.002
    assert abs(ours["AR"] - theirs["AR"]) <= 0.002
    assert both.keypoint_difference <= 0.05


def test_pck_and_mean_pixel_error_are_those_of_mmpose(baseline, drawn, record_property):
    folder = baseline[2]
    errors = {side: errors_in_boxes(folder, side, drawn) for side in ("runtime", "pytorch")}
    pck = {side: float((shares <= 0.05).mean()) for side, (_, shares) in errors.items()}
    mean = {side: float(distances.mean()) for side, (distances, _) in errors.items()}
    record_property("figure", f"PCK@0.05 {pck}, mean error {mean} px")
    assert abs(pck["runtime"] - pck["pytorch"]) <= 0.001
    assert abs(mean["runtime"] - mean["pytorch"]) <= 0.05
    assert pck["runtime"] >= 0.9


@pytest.fixture(scope="module")
def emulated_path(model_path, tmp_path_factory):
    """The model in float16, every tensor of which is rounded, on this machine, too."""
    path = tmp_path_factory.mktemp("emulated") / "model.onnx"
    derive_file(model_path, "fp16", path, on_stage=lambda _: None)
    emulated = with_rounded_tensors(onnx.load(path)).model
    path.write_bytes(stamp(emulated, read_contract(model_path)))
    return path


def test_float16_costs_no_accuracy(baseline, emulated_path, drawn, tmp_path, record_property):
    exact = baseline[0].figures["runtime"]["AP"]
    found = measure(emulated_path, drawn, tmp_path).figures["runtime"]["AP"]
    record_property("figure", f"float16: AP {100 * exact:.2f} -> {100 * found:.2f}")
    assert found >= exact - 0.003


def test_openvino_in_the_precision_that_it_takes_costs_no_accuracy(
    baseline, model_path, drawn, tmp_path, monkeypatch, record_property
):
    """bfloat16, where the processor has it."""
    openvino = pytest.importorskip("openvino", reason="one of `make engines`, docs/engines.md")
    found = openvino.Core().compile_model(str(model_path), "CPU")
    precision = found.get_property("INFERENCE_PRECISION_HINT").to_string()

    class Session:
        def run(self, names, feed):
            answer = found(feed)
            return [answer[name] for name in names]

    monkeypatch.setattr(pose_model, "open_session", lambda path, **_: Session())
    exact = baseline[0].figures["runtime"]["AP"]
    lowered = measure(model_path, drawn, tmp_path).figures["runtime"]["AP"]
    record_property("figure", f"OpenVINO, {precision}: AP {100 * exact:.2f} -> {100 * lowered:.2f}")
    assert lowered >= exact - 0.003


def beside_float32(model_path, path, drawn):
    """Of all people with another file: the share of same choices, and how far (n, K) keypoints are
    from float32's, in pixels of the input."""
    contract, crops = read_contract(model_path), []
    for picture in read_pictures(drawn / "annotations.json", drawn / "images", None, COCO):
        boxes = np.array([person.box_xyxy for person in picture.people], np.float32)
        places = boxes_to_crops(boxes, (96, 128), contract.box_padding)
        crops.append(make_input(read_image(picture.path), *places, contract))
    inputs, answers = {"input": np.concatenate(crops)}, []
    for file in (model_path, path):
        model = onnx.load(file)
        index = find_intervention(model.graph).choice
        session = Setting(CPU, "all", 2).open(exposed(model, [index]))
        ran = [one.outputs for one in run_all(session, inputs, 1)]
        chosen, x, y = (
            np.concatenate([one[name] for one in ran]) for name in (index, "simcc_x", "simcc_y")
        )
        answers.append((chosen, np.stack([x.argmax(-1), y.argmax(-1)], -1) / contract.split_ratio))
    (chosen, exact), (chosen_there, found) = answers
    return (chosen == chosen_there).mean(), np.abs(found - exact).max(-1)


def in_words(same_choice, off):
    return (
        f"{len(off)} people: same choice {same_choice:.1%}, same bins {(off == 0).mean():.1%}, "
        f"within 1 px {(off <= 1).mean():.2%}"
    )


def test_float16_chooses_and_reads_as_float32(model_path, emulated_path, drawn, record_property):
    same_choice, off = beside_float32(model_path, emulated_path, drawn)
    record_property("figure", f"float16, {in_words(same_choice, off)}")
    assert same_choice >= 0.99
    assert (off <= 1).mean() >= 0.995


@pytest.fixture(scope="module")
def int8_path(model_path, tmp_path_factory):
    folder = tmp_path_factory.mktemp("int8")
    path, pictures = folder / "model.onnx", folder / "pictures"
    pictures.mkdir()
    write_calibration(pictures)
    crops = CalibrationSet.read("drawn", pictures)
    derive_file(model_path, "int8", path, calibration=crops, on_stage=lambda _: None)
    return path


@pytest.mark.long
def test_int8_costs_little_accuracy(baseline, int8_path, drawn, tmp_path, record_property):
    for flip, most, figures in ((False, 0.006, baseline[0]), (True, 0.005, baseline[1])):
        exact = figures.figures["runtime"]["AP"]
        folder = tmp_path / f"flip {flip}"
        found = measure(int8_path, drawn, folder, flip=flip).figures["runtime"]["AP"]
        record_property("figure", f"int8, flip {flip}: AP {100 * exact:.2f} -> {100 * found:.2f}")
        assert found >= exact - most


@pytest.mark.long
def test_int8_mostly_chooses_and_reads_as_float32(model_path, int8_path, drawn, record_property):
    same_choice, off = beside_float32(model_path, int8_path, drawn)
    record_property("figure", f"int8, {in_words(same_choice, off)}")
    assert same_choice >= 0.9
    assert (off <= 1).mean() >= 0.94


def half_pixel_shift(patched):
    """Takes pixels to be at their corners, in the crop."""
    to_frame = batches.to_frame

    def shifted(in_crop, centers, scales, input_wh):
        return to_frame(in_crop, centers, scales, input_wh) + 0.5 * scales[:, None] / input_wh

    patched.setattr(batches, "to_frame", shifted)


def clipped_crops(patched):
    """Cuts crops off at the frame's edge and stretches what is left, as the published client."""
    people = batches._people

    def clipped(model, detector_for, decoded, picture):
        limit = np.array(decoded.pixels.shape[1::-1], np.float32)
        for person, _ in people(model, detector_for, decoded, picture):
            low = np.clip(person.center - person.scale / 2, 0, limit)
            high = np.clip(person.center + person.scale / 2, 0, limit)
            center, scale = (low + high) / 2, high - low
            crops = make_input(decoded.pixels, center[None], scale[None], model.contract)
            yield replace(person, center=center, scale=scale), crops[0]

    patched.setattr(batches, "_people", clipped)


def halved_split_ratio(patched):
    """Decodes bins of half a pixel as bins of a pixel."""
    decode = batches.decode_simcc

    def decoded(*arguments):
        in_crop, scores = decode(*arguments)
        return in_crop * 2, scores

    patched.setattr(batches, "decode_simcc", decoded)


def changed(**fields):
    """A file that says another thing of itself."""

    class Changed(PoseModel):
        def __init__(self, *arguments, **named):
            super().__init__(*arguments, **named)
            self.contract = replace(self.contract, **fields)
            self.keypoint_set = self.contract.keypoints

    return lambda patched: patched.setattr(labelled, "PoseModel", Changed)


class NotMirroredBack(PoseModel):
    """Flips the picture, swaps left and right, and leaves x as it is."""

    def simcc(self, crops):
        straight = self._run_batch(crops)
        flipped = self._run_batch(np.ascontiguousarray(crops[..., ::-1]))
        order = list(self.keypoint_set.flip_indices)
        return tuple((a + b[:, order]) / 2 for a, b in zip(straight, flipped, strict=True))


NEIGHBOURS = ((5, 7), (6, 8), (11, 13), (12, 14))

FAULTS = {
    "BGR for RGB": changed(color_order="bgr"),
    "half-pixel shift": half_pixel_shift,
    "clipped crops": clipped_crops,
    "no padding around the box": changed(box_padding=1.0),
    "wrong split ratio": halved_split_ratio,
    "no normalisation": changed(mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0)),
    "flip test: wrong pairs": changed(flip_pairs=NEIGHBOURS),
    "flip test: no swap": changed(flip_pairs=()),
    "flip test: x not mirrored back": lambda patched: patched.setattr(
        labelled, "PoseModel", NotMirroredBack
    ),
}
"""What random weights cannot feel."""


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_costs_accuracy(
    fault, baseline, model_path, drawn, tmp_path, monkeypatch, record_property
):
    both, flipped, _ = baseline
    flip = fault.startswith("flip")
    right = (flipped if flip else both).figures["runtime"]["AP"]
    FAULTS[fault](monkeypatch)
    found = measure(model_path, drawn, tmp_path, flip=flip).figures["runtime"]["AP"]
    record_property("fault", f"{fault} | accuracy | AP {right:.3f} -> {found:.3f}")
    assert found <= right - 0.01
