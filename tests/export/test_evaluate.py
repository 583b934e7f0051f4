"""AP and AR, beside MMPose's own metric classes, which evaluate with xtcocotools."""

import json
import sys

import numpy as np
import pytest

from cigpose_export.accuracy.annotations import read_pictures
from cigpose_export.accuracy.evaluate import Estimate, evaluate, write_results
from cigpose_export.accuracy.protocols import PROTOCOLS
from cigpose_export.cli.console import in_percent
from cigpose_export.drawn.dataset import write_dataset
from cigpose_export.openmmlab.placeholders import missing_packages_as_placeholders
from cigpose_runtime.errors import InstallError
from cigpose_runtime.estimation.preprocess import boxes_to_crops
from cigpose_runtime.keypoints import KEYPOINT_SETS

# xtcocotools leaves CrowdPose's annotations to the garbage collector, open; and says that MMPose
# gives it one score for all parts.
pytestmark = [
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore:.*use 'score' instead"),
]

PICTURES = 60


@pytest.fixture(scope="module", params=KEYPOINT_SETS)
def dataset(request, tmp_path_factory):
    """Name of the keypoints, annotation file, and seeded estimates beside the annotated poses."""
    folder = tmp_path_factory.mktemp(f"drawn{request.param}")
    annotations = write_dataset(
        folder,
        pictures=PICTURES,
        keypoints=KEYPOINT_SETS[request.param],
        seed=3,
        on_done=lambda _: None,
    )
    protocol = PROTOCOLS[request.param]
    pictures = read_pictures(annotations, folder / "images", None, protocol)
    truth = {a["id"]: a for a in json.loads(annotations.read_text())["annotations"]}
    rng = np.random.default_rng(0)
    estimates = []
    for picture in pictures:
        for person in picture.people:
            rows = [truth[person.number][field] for field in protocol.fields]
            points = np.concatenate([np.reshape(row, (-1, 3)) for row in rows])[:, :2]
            points = points + rng.normal(0, rng.choice((0.3, 2, 8)), points.shape)
            scores = rng.uniform(0, 0.9, (len(points), 1))
            box = np.array([person.box_xyxy], np.float32)
            _, scales = boxes_to_crops(box, (192, 256), 1.25)
            estimates.append(
                Estimate(
                    image_id=picture.image_id,
                    number=person.number,
                    box_xyxy=person.box_xyxy,
                    box_score=float(rng.uniform(0.3, 1)),
                    area=float(scales.prod()),
                    keypoints=np.hstack([points, scores]).astype(np.float32),
                )
            )
    # Two doubles, one of which the protocol drops.
    twins = [estimates[0], estimates[1]]
    for number, twin in enumerate(twins):
        moved = twin.keypoints + np.array([0.2 + 60 * number, 0, -0.01], np.float32)
        estimates.append(
            Estimate(twin.image_id, 10_000 + number, twin.box_xyxy, 0.2, twin.area, moved)
        )
    return request.param, annotations, estimates


def figures_of_mmpose(name, annotations, estimates, folder):
    pytest.importorskip("xtcocotools", reason="Python up to 3.12 and a C compiler can build it")
    with missing_packages_as_placeholders():
        from mmpose.evaluation.metrics import CocoMetric, CocoWholeBodyMetric  # noqa: TID251
    settings = {"iou_type": "keypoints_crowd", "use_area": False} if name == "crowdpose" else {}
    metric_class = CocoWholeBodyMetric if name == "coco-wholebody" else CocoMetric
    prefix = str(folder / "mmpose")
    metric = metric_class(ann_file=str(annotations), outfile_prefix=prefix, **settings)
    sigmas = np.array(KEYPOINT_SETS[name].oks_sigmas)
    metric.dataset_meta = {"num_keypoints": len(sigmas), "sigmas": sigmas}
    metric.process(
        [],
        [
            {
                "id": e.number,
                "img_id": e.image_id,
                "pred_instances": {
                    "keypoints": e.keypoints[None, :, :2],
                    "keypoint_scores": e.keypoints[None, :, 2],
                    "bboxes": np.array([e.box_xyxy]),
                    "bbox_scores": np.array([e.box_score]),
                },
                "gt_instances": {"bbox_scales": np.array([[e.area, 1.0]])},
            }
            for e in estimates
        ],
    )
    return metric.compute_metrics(metric.results)


def test_figures_are_those_of_mmposes_metric_classes(dataset, tmp_path):
    name, annotations, estimates = dataset
    protocol, sigmas = PROTOCOLS[name], KEYPOINT_SETS[name].oks_sigmas
    results = tmp_path / "results.json"
    write_results(results, estimates, protocol, sigmas)
    assert len(json.loads(results.read_text())) == len(estimates) - 1  # one double is dropped
    figures = evaluate(annotations, results, protocol, sigmas)
    theirs = figures_of_mmpose(name, annotations, estimates, tmp_path)
    whole = "whole " if name == "coco-wholebody" else ""
    names = {key: f"{whole}{key.replace('AP(', 'AP (')}" for key in theirs}
    assert len(theirs) >= 9
    for key, value in theirs.items():
        assert figures[names[key]] == pytest.approx(float(value), abs=1e-6), key
    assert 0.1 < figures[f"{whole}AP"] < 0.99  # neither all right nor all wrong


def test_the_annotated_poses_themselves_are_perfect(dataset, tmp_path):
    name, annotations, estimates = dataset
    protocol, sigmas = PROTOCOLS[name], KEYPOINT_SETS[name].oks_sigmas
    truth = {a["id"]: a for a in json.loads(annotations.read_text())["annotations"]}
    perfect = []
    for e in estimates:
        if e.number in truth:
            rows = [np.reshape(truth[e.number][field], (-1, 3)) for field in protocol.fields]
            points = np.concatenate(rows).astype(np.float32)
            points[:, 2] = 0.9
            perfect.append(Estimate(e.image_id, e.number, e.box_xyxy, 1.0, e.area, points))
    write_results(tmp_path / "results.json", perfect, protocol, sigmas)
    figures = evaluate(annotations, tmp_path / "results.json", protocol, sigmas)
    assert figures["whole AP" if name == "coco-wholebody" else "AP"] == pytest.approx(1.0, abs=1e-6)


def test_what_nobody_is_annotated_for_is_undefined_and_shown_as_a_dash(dataset, tmp_path):
    name, annotations, estimates = dataset
    document = json.loads(annotations.read_text())
    for person in document["annotations"]:
        person["area"] = 200.0**2  # nobody is of medium size
        for field in ("righthand_kpts",):
            if field in person:
                person["righthand_valid"] = False
                person[field] = [0] * len(person[field])
    large = tmp_path / "large.json"
    large.write_text(json.dumps(document))
    protocol, sigmas = PROTOCOLS[name], KEYPOINT_SETS[name].oks_sigmas
    write_results(tmp_path / "results.json", estimates, protocol, sigmas)
    figures = evaluate(large, tmp_path / "results.json", protocol, sigmas)
    undefined = {
        "coco": {"AP (M)", "AR (M)"},
        "coco-wholebody": {"whole AP (M)", "right hand AP", "hand AP", "hand AR"},
        "crowdpose": set(),  # measures crowding, not size
    }[name]
    assert {key for key in undefined if in_percent(figures[key]) == "–"} == undefined
    assert all(in_percent(v) == "–" or 0 <= float(in_percent(v)) <= 100 for v in figures.values())


def test_without_the_evaluator_one_line_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "faster_coco_eval", None)
    with pytest.raises(InstallError, match="run make setup"):
        evaluate(tmp_path / "none.json", tmp_path / "none.json", PROTOCOLS["coco"], [])
