"""AP from the shards of label is that of the model picture by picture, whoever makes the shards."""

import numpy as np
import pytest
from PIL import Image

from cigpose_export.accuracy.annotations import read_pictures
from cigpose_export.accuracy.evaluate import Estimate, evaluate, write_results
from cigpose_export.accuracy.protocols import protocol_of
from cigpose_export.accuracy.stage import measure_accuracy
from cigpose_export.cli.console import counted_progress
from cigpose_export.drawn.dataset import write_dataset
from cigpose_export.graph.frame.pack import pack_file
from cigpose_export.jobs.export import export_models
from cigpose_export.project import Project
from cigpose_export.variants import DEMO
from cigpose_runtime import PoseModel
from cigpose_runtime.estimation.preprocess import boxes_to_crops
from cigpose_runtime.keypoints import KEYPOINT_SETS
from seeing_models import seeing_model

PICTURES = 120


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    project = Project.of_this_clone()
    (outcome,) = export_models(project, [DEMO], weights="demo", out=tmp_path_factory.mktemp("demo"))
    return outcome.path


def one_by_one(model, pictures):
    contract = model.contract
    for picture in pictures:
        boxes = np.array([person.box_xyxy for person in picture.people], np.float32)
        poses = model(np.asarray(Image.open(picture.path).convert("RGB"))[..., ::-1], boxes)
        found = np.concatenate([poses.keypoints, poses.scores[..., None]], axis=-1)
        found = np.array([round(float(value), 4) for value in found.ravel()], np.float32).reshape(
            found.shape
        )
        _, scales = boxes_to_crops(
            boxes, (contract.input_w, contract.input_h), contract.box_padding
        )
        for person, pose, scale in zip(picture.people, found, scales, strict=True):
            box, area = person.box_xyxy, float(scale.prod())
            yield Estimate(picture.image_id, person.number, box, person.score, area, pose)


@pytest.mark.parametrize(
    ("protocol", "flip", "workers", "packed"),
    [
        ("coco", False, 2, False),
        ("coco", False, 2, True),
        pytest.param("coco", True, 1, False, marks=pytest.mark.long),
        pytest.param("coco", True, 1, True, marks=pytest.mark.long),
        pytest.param("coco-wholebody", True, 2, False, marks=pytest.mark.long),
        pytest.param("crowdpose", False, 2, False, marks=pytest.mark.long),
    ],
)
def test_figures_are_those_of_the_model_picture_by_picture(
    demo, tmp_path, protocol, flip, workers, packed
):
    keypoints = KEYPOINT_SETS[protocol]
    annotations = write_dataset(
        tmp_path, pictures=PICTURES, keypoints=keypoints, seed=9, on_done=lambda _: None
    )
    path = seeing_model(demo, keypoints, tmp_path / "model.onnx")
    found = measure_accuracy(
        Project.of_this_clone(),
        pack_file(path, flip=flip) if packed else path,
        annotations=annotations,
        images=tmp_path / "images",
        boxes=None,
        flip=flip and not packed,
        pytorch=False,
        workers=workers,
        out=tmp_path / "out",
        progress=counted_progress,
    )
    model = PoseModel(path, flip=flip)
    rule, sigmas = protocol_of(model.contract), model.contract.oks_sigmas
    pictures = read_pictures(annotations, tmp_path / "images", None, rule)
    results = tmp_path / "results.json"
    write_results(results, list(one_by_one(model, pictures)), rule, sigmas)
    expected = evaluate(annotations, results, rule, sigmas)
    assert max(expected.values()) > 0.5  # the model sees
    assert found.figures["runtime"] == expected
    assert (found.model.endswith("_frame"), found.flip) == (packed, flip)
