"""AP of keypoints that none of the published data sets has, as Halpe-26, in COCO's form."""

import json
from dataclasses import replace

import numpy as np
import pytest

from cigpose_export.accuracy.annotations import read_pictures
from cigpose_export.accuracy.evaluate import Estimate, evaluate, write_results
from cigpose_export.accuracy.protocols import COCO, PROTOCOLS, protocol_of
from cigpose_runtime.errors import FileError
from tiny_onnx import tiny_contract

COUNT = 26
HALPE = replace(
    tiny_contract(),
    dataset="halpe26",
    num_keypoints=COUNT,
    keypoint_names=tuple(f"k{i}" for i in range(COUNT)),
    skeleton=(),
    flip_pairs=(),
    oks_sigmas=(0.05,) * COUNT,
)


def annotated(folder, count=COUNT):
    """Two people in one picture, annotated with so many keypoints; the file, and their places."""
    places = np.random.default_rng(0).uniform(20, 180, (2, count, 2))
    people = [
        {
            "id": number,
            "image_id": 1,
            "category_id": 1,
            "bbox": [10, 10, 180, 180],
            "area": 180 * 180,
            "iscrowd": 0,
            "num_keypoints": count,
            "keypoints": np.hstack([xy, np.full((count, 1), 2)]).ravel().tolist(),
        }
        for number, xy in enumerate(places, start=1)
    ]
    document = {
        "images": [{"id": 1, "file_name": "one.jpg", "width": 200, "height": 200}],
        "annotations": people,
        "categories": [{"id": 1, "name": "person"}],
    }
    (folder / "one.jpg").touch()
    (folder / "people.json").write_text(json.dumps(document))
    return folder / "people.json", places


def test_data_sets_that_are_published_keep_their_protocol():
    for name, protocol in PROTOCOLS.items():
        assert protocol_of(replace(tiny_contract(), dataset=name)) is protocol


def test_other_keypoints_are_evaluated_as_cocos_with_their_own_number():
    protocol = protocol_of(HALPE)
    assert (protocol.name, protocol.num_keypoints, protocol.published) == ("halpe26", COUNT, {})
    assert (protocol.parts, protocol.crowded) == (COCO.parts, COCO.crowded)


@pytest.mark.parametrize(("shift", "expected"), [(0, 1.0), (200, 0.0)])
def test_ap_of_26_keypoints_is_1_in_their_places_and_0_elsewhere(tmp_path, shift, expected):
    annotations, places = annotated(tmp_path)
    protocol = protocol_of(HALPE)
    (picture,) = read_pictures(annotations, tmp_path, None, protocol)
    estimates = [
        Estimate(
            image_id=1,
            number=person.number,
            box_xyxy=person.box_xyxy,
            box_score=1.0,
            area=180.0 * 180,
            keypoints=np.hstack([xy + shift, np.ones((COUNT, 1))]).astype(np.float32),
        )
        for person, xy in zip(picture.people, places, strict=True)
    ]
    results = tmp_path / "results.json"
    write_results(results, estimates, protocol, HALPE.oks_sigmas)
    assert evaluate(annotations, results, protocol, HALPE.oks_sigmas)["AP"] == expected


def test_annotations_of_another_number_are_refused(tmp_path):
    annotations, _ = annotated(tmp_path, count=17)
    with pytest.raises(FileError, match="give annotations for 26 keypoints"):
        read_pictures(annotations, tmp_path, None, protocol_of(HALPE))
