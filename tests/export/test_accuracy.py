"""The accuracy stage: what it reads, that it goes on where it stopped, and what it refuses."""

import json

import numpy as np
import pytest

from cigpose_export.accuracy.annotations import Person, Picture, Selection, read_pictures
from cigpose_export.accuracy.estimate import estimate
from cigpose_export.accuracy.protocols import COCO, CROWDPOSE
from cigpose_runtime.errors import FileError
from cigpose_runtime.media.images import write_image

FRAME = np.zeros((40, 30, 3), np.uint8)


def annotation(number, **changes):
    person = {
        "id": number,
        "image_id": 1,
        "category_id": 1,
        "bbox": [5, 5, 10, 20],
        "area": 90,
        "iscrowd": 0,
        "keypoints": [8, 9, 2] * 17,
        "num_keypoints": 17,
    }
    return {**person, **changes}


@pytest.fixture
def save(tmp_path):
    """Writes annotations of one picture of 30 x 40, and the picture."""

    def write(*people, images=None, **parts):
        image = {"id": 1, "file_name": "a.png", "width": 30, "height": 40}
        content = {
            "images": [image] if images is None else images,
            "annotations": list(people),
            "categories": [{"id": 1, "name": "person"}],
            **parts,
        }
        path = tmp_path / "annotations.json"
        path.write_text(json.dumps(content))
        write_image(FRAME, tmp_path / "a.png")
        return path

    return write


def test_boxes_are_cut_to_the_picture_and_what_is_no_person_is_left_out(save, tmp_path):
    path = save(
        annotation(1, bbox=[-5, 30, 100, 100]),
        annotation(2, iscrowd=1),
        annotation(3, num_keypoints=0, keypoints=[0] * 51),
        annotation(4, bbox=[40, 5, 10, 10]),
    )
    (picture,) = read_pictures(path, tmp_path, None, COCO)
    assert picture == Picture(1, tmp_path / "a.png", (Person(1, (0, 30, 29, 39), 1.0),))


def test_detected_boxes_take_the_place_of_the_annotated_ones(save, tmp_path):
    boxes = tmp_path / "boxes.json"
    found = {"image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4], "score": 0.5}
    boxes.write_text(json.dumps([{**found, "category_id": 3}, found]))
    (picture,) = read_pictures(save(annotation(1)), tmp_path, boxes, COCO)
    assert picture.people == (Person(1, (1, 2, 4, 6), 0.5),)


@pytest.mark.parametrize(
    ("selection", "scores"),
    [
        ({}, [0.9, 0.6, 0.3]),
        ({"score_threshold": 0.6}, [0.9, 0.6]),
        ({"nms_threshold": 0.5}, [0.9, 0.3]),
        ({"max_people": 1}, [0.9]),
    ],
)
def test_detected_boxes_count_as_the_selection_says(save, tmp_path, selection, scores):
    boxes = tmp_path / "boxes.json"
    places = {0.6: [1, 2, 10, 20], 0.9: [2, 2, 10, 20], 0.3: [16, 2, 10, 20]}
    found = [
        {"image_id": 1, "category_id": 1, "bbox": bbox, "score": score}
        for score, bbox in places.items()
    ]
    boxes.write_text(json.dumps(found))
    (picture,) = read_pictures(save(annotation(1)), tmp_path, boxes, COCO, Selection(**selection))
    assert [person.score for person in picture.people] == scores


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda save: save(annotation(1), images=7), "expected a list 'images'"),
        (lambda save: save(annotation(1), images=[{"id": 1}]), r"images\[0\]: expected id, file"),
        (lambda save: save(annotation(1, image_id=9)), r"annotations\[0\]: .* one of the images"),
        (lambda save: save(annotation(1, category_id=3)), "expected category_id 1, .* found 3"),
        (lambda save: save(annotation(1), categories=[]), "expected category_id 1"),
        (lambda save: save(annotation(1, bbox=[1, 2, 3])), "expected bbox as"),
        (lambda save: save(annotation(1, bbox=[1, 2, 3, float("nan")])), "expected bbox as"),
        (lambda save: save(annotation(1, keypoints=[1, 2, 2])), "keypoints as 17 .* 3 values"),
        (lambda save: save(annotation(1, area=None)), "expected area"),
        (lambda save: save(annotation(1), annotation(1)), "each annotation's id once, found 1 2"),
        (lambda save: save(), "expected people, found none"),
    ],
)
def test_malformed_annotations_are_one_line(save, tmp_path, spoil, message):
    path = spoil(save)
    with pytest.raises(FileError, match=message) as raised:
        read_pictures(path, tmp_path, None, COCO)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe", b"[" * 100_000])
def test_what_is_no_json_is_one_line(tmp_path, content):
    path = tmp_path / "annotations.json"
    path.write_bytes(content)
    with pytest.raises(
        FileError, match=r"expected annotations in COCO's form, (found|but it is not JSON)"
    ):
        read_pictures(path, tmp_path, None, COCO)


def test_annotations_of_another_keypoint_set_are_refused(save, tmp_path):
    with pytest.raises(FileError, match="give annotations for 14 keypoints"):
        read_pictures(save(annotation(1)), tmp_path, None, CROWDPOSE)


def test_missing_pictures_are_counted(save, tmp_path):
    path = save(annotation(1))
    (tmp_path / "a.png").unlink()
    with pytest.raises(FileError, match=r"1 missing, the first is a\.png; give their folder"):
        read_pictures(path, tmp_path, None, COCO)


def test_malformed_boxes_are_one_line(save, tmp_path):
    boxes = tmp_path / "boxes.json"
    boxes.write_text(json.dumps([{"image_id": 5, "category_id": 1, "bbox": [], "score": 1}]))
    with pytest.raises(FileError, match=r"boxes\.json\[0\]: expected image_id"):
        read_pictures(save(annotation(1)), tmp_path, boxes, COCO)


class Estimator:
    """Answers with the number of the call, and stops at one of them."""

    def __init__(self, stop_at=None):
        self.frames, self.stop_at = 0, stop_at

    def __call__(self, frames, boxes):
        if self.stop_at is not None and self.frames >= self.stop_at:
            raise KeyboardInterrupt
        self.frames += len(frames)
        return [np.full((len(some), 17, 3), some[0, 0], np.float32) for some in boxes]


def run(pictures, estimator, journal, key=None):
    done = []
    key = {"schema_version": 1} if key is None else key
    poses = estimate(pictures, estimator, journal, key, done.append)
    assert sum(done) == len(pictures)
    return poses


@pytest.fixture
def pictures(tmp_path):
    some = []
    for number in range(40):
        write_image(FRAME, tmp_path / f"{number}.png")
        people = tuple(Person(100 * number + n, (number, 1, 50, 60), 1.0) for n in range(4))
        some.append(Picture(number, tmp_path / f"{number}.png", people))
    return some


def test_an_interrupted_run_goes_on_where_it_stopped(pictures, tmp_path):
    journal = tmp_path / "journal.jsonl"
    with pytest.raises(KeyboardInterrupt):
        run(pictures, Estimator(stop_at=20), journal)
    with journal.open("a") as file:
        file.write("[39, [[1, 2")  # as a kill in the middle of a line leaves it
    again = Estimator()
    poses = run(pictures, again, journal)
    assert again.frames == 20
    assert [found.shape for found in poses] == [(4, 17, 3)] * 40
    assert [found[0, 0, 0] for found in poses] == [
        picture.people[0].box_xyxy[0] for picture in pictures
    ]
    untouched = Estimator()
    run(pictures, untouched, journal)
    assert untouched.frames == 0


def test_another_model_or_data_set_begins_anew(pictures, tmp_path):
    journal = tmp_path / "journal.jsonl"
    run(pictures, Estimator(), journal)
    again = Estimator()
    run(pictures, again, journal, key={"schema_version": 1, "flip": True})
    assert again.frames == len(pictures)
