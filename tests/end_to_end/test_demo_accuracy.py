"""The demonstration model finds what was drawn, through export and runtime, and faults cost AP."""

import json
from dataclasses import replace

import numpy as np
import onnx
import pytest

from cigpose_export.accuracy.annotations import read_pictures
from cigpose_export.accuracy.estimate import RuntimeEstimator, estimate
from cigpose_export.accuracy.evaluate import evaluate, write_results
from cigpose_export.accuracy.protocols import COCO
from cigpose_export.accuracy.stage import measure_accuracy
from cigpose_export.cli.console import counted_progress
from cigpose_export.drawn.dataset import write_dataset
from cigpose_export.graph.reduced_file import reduce_file
from cigpose_export.graph.stamp import stamp
from cigpose_export.jobs.export import export_models
from cigpose_export.project import Project
from cigpose_export.variants import DEMO
from cigpose_runtime import PoseModel, read_contract
from cigpose_runtime.estimation.decode import decode_simcc
from cigpose_runtime.estimation.preprocess import boxes_to_crops, make_input
from cigpose_runtime.estimation.session import CPU
from cigpose_runtime.keypoints import KEYPOINT_SETS
from cigpose_runtime.media.images import read_image
from cigpose_verify.matrix import Setting, run_all
from cigpose_verify.reduced.emulate import with_rounded_tensors
from cigpose_verify.stages.intervention import exposed, find_intervention

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


def errors_in_boxes(folder, side, drawn):
    """Distances (n,) of the annotated keypoints from where one side sees them, in frame pixels, and
    as a share of the longer side of the box."""
    annotations = json.loads((drawn / "annotations.json").read_text())["annotations"]
    by_number = {annotation["id"]: annotation for annotation in annotations}
    lines = (folder / f"{side}.journal.jsonl").read_text().splitlines()[1:]
    found = {image: np.array(poses) for image, poses in map(json.loads, lines)}
    distances, shares = [], []
    for picture in read_pictures(drawn / "annotations.json", drawn / "images", None, COCO):
        for person, pose in zip(picture.people, found[picture.image_id], strict=True):
            annotation = by_number[person.number]
            truth = np.array(annotation["keypoints"]).reshape(-1, 3)
            some = np.linalg.norm(pose.reshape(-1, 3)[:, :2] - truth[:, :2], axis=1)
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
    reduce_file(model_path, "fp16", path, on_stage=lambda _: None)
    emulated = with_rounded_tensors(onnx.load(path)).model
    path.write_bytes(stamp(emulated, read_contract(model_path)))
    return path


def test_float16_costs_no_accuracy(baseline, emulated_path, drawn, tmp_path, record_property):
    exact = baseline[0].figures["runtime"]["AP"]
    found = measure(emulated_path, drawn, tmp_path).figures["runtime"]["AP"]
    record_property("figure", f"float16: AP {100 * exact:.2f} -> {100 * found:.2f}")
    assert found >= exact - 0.003


def test_float16_chooses_and_reads_as_float32(model_path, emulated_path, drawn, record_property):
    contract, crops = read_contract(model_path), []
    for picture in read_pictures(drawn / "annotations.json", drawn / "images", None, COCO):
        boxes = np.array([person.box_xyxy for person in picture.people], np.float32)
        places = boxes_to_crops(boxes, (96, 128), contract.box_padding)
        crops.append(make_input(read_image(picture.path), *places, contract))
    inputs, answers = {"input": np.concatenate(crops)}, []
    for path in (model_path, emulated_path):
        model = onnx.load(path)
        index = find_intervention(model.graph).index
        session = Setting(CPU, "all", 2).open(exposed(model, [index]))
        ran = [one.outputs for one in run_all(session, inputs, 1)]
        chosen, x, y = (
            np.concatenate([one[name] for one in ran]) for name in (index, "simcc_x", "simcc_y")
        )
        answers.append((chosen, np.stack([x.argmax(-1), y.argmax(-1)], -1) / contract.split_ratio))
    (chosen, exact), (chosen_16, found) = answers
    same_choice = (chosen == chosen_16).mean()
    off = np.abs(found - exact).max(-1)
    record_property(
        "figure",
        f"float16, {len(exact)} people: same choice {same_choice:.1%}, same bins "
        f"{(off == 0).mean():.1%}, within 1 px {(off <= 1).mean():.2%}",
    )
    assert same_choice >= 0.99
    assert (off <= 1).mean() >= 0.995


class HalfPixelShift(RuntimeEstimator):
    """Takes pixels to be at their corners, in the crop."""

    def __call__(self, frames, boxes):
        contract = self.model.contract
        for some, poses in zip(boxes, super().__call__(frames, boxes), strict=True):
            _, scales = boxes_to_crops(
                some, (contract.input_w, contract.input_h), contract.box_padding
            )
            poses[..., :2] += 0.5 * scales[:, None] / (contract.input_w, contract.input_h)
            yield poses


class ClippedCrops(RuntimeEstimator):
    """Cuts crops off at the frame's edge and stretches what is left, as the published client."""

    def __call__(self, frames, boxes):
        contract = self.model.contract
        size = np.array([contract.input_w, contract.input_h], np.float32)
        answers = []
        for frame, some in zip(frames, boxes, strict=True):
            limit = np.array(frame.shape[1::-1], np.float32)
            centers, scales = boxes_to_crops(some, tuple(size), contract.box_padding)
            low = np.clip(centers - scales / 2, 0, limit)
            high = np.clip(centers + scales / 2, 0, limit)
            crops = make_input(frame, (low + high) / 2, high - low, contract)
            in_crop, scores = decode_simcc(*self.model.simcc(crops), contract.split_ratio)
            places = in_crop / size * (high - low)[:, None] + low[:, None]
            answers.append(np.concatenate([places, scores[..., None]], -1).astype(np.float32))
        return answers


class HalvedSplitRatio(RuntimeEstimator):
    """Decodes bins of half a pixel as bins of a pixel."""

    def _decoded(self, crops):
        for in_crop, scores in super()._decoded(crops):
            yield in_crop * 2, scores


def changed(model_path, *, flip=False, **fields):
    model = PoseModel(model_path, flip=flip)
    model.contract = replace(model.contract, **fields)
    model.keypoint_set = model.contract.keypoints
    return RuntimeEstimator(model)


def not_mirrored_back(model_path):
    """Flips the picture, swaps left and right, and leaves x as it is."""
    estimator = changed(model_path, flip=True)
    model = estimator.model

    def simcc(crops):
        straight = model._run_batch(crops)
        flipped = model._run_batch(np.ascontiguousarray(crops[..., ::-1]))
        order = list(model.keypoint_set.flip_indices)
        return tuple((a + b[:, order]) / 2 for a, b in zip(straight, flipped, strict=True))

    model.simcc = simcc
    return estimator


NEIGHBOURS = ((5, 7), (6, 8), (11, 13), (12, 14))

FAULTS = {
    "BGR for RGB": lambda path: changed(path, color_order="bgr"),
    "half-pixel shift": lambda path: HalfPixelShift(PoseModel(path)),
    "clipped crops": lambda path: ClippedCrops(PoseModel(path)),
    "no padding around the box": lambda path: changed(path, box_padding=1.0),
    "wrong split ratio": lambda path: HalvedSplitRatio(PoseModel(path)),
    "no normalisation": lambda path: changed(path, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0)),
    "flip test: wrong pairs": lambda path: changed(path, flip=True, flip_pairs=NEIGHBOURS),
    "flip test: no swap": lambda path: changed(path, flip=True, flip_pairs=()),
    "flip test: x not mirrored back": not_mirrored_back,
}
"""What random weights cannot feel."""


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_costs_accuracy(fault, baseline, model_path, drawn, tmp_path, record_property):
    pictures = read_pictures(drawn / "annotations.json", drawn / "images", None, COCO)
    both, flipped, _ = baseline
    right = (flipped if fault.startswith("flip") else both).figures["runtime"]["AP"]
    estimator = FAULTS[fault](model_path)
    contract = estimator.model.contract
    estimates = estimate(
        pictures,
        lambda frames, boxes: list(estimator(frames, boxes)),
        tmp_path / "journal.jsonl",
        {},
        lambda boxes: boxes_to_crops(boxes, (96, 128), 1.25)[1].prod(axis=1),
        lambda _: None,
    )
    results = tmp_path / "results.json"
    write_results(results, estimates, COCO, contract.oks_sigmas)
    found = evaluate(drawn / "annotations.json", results, COCO, contract.oks_sigmas)["AP"]
    record_property("fault", f"{fault} | accuracy | AP {right:.3f} -> {found:.3f}")
    assert found <= right - 0.01
