"""Detectors: YOLOX in its variants, and the two that detect nothing."""

import itertools

import cv2
import numpy as np
import onnx
import pytest

from cigpose_runtime import FixedBoxesDetector, OnnxFileError, WholeFrameDetector, YoloxDetector
from cigpose_runtime.errors import InputError
from cigpose_runtime.estimation import detector as detector_module
from cigpose_runtime.estimation.detector import Detections, nms
from cigpose_runtime.estimation.letterbox import letterbox
from cigpose_runtime.overlap import iou
from tiny_yolox import P5, P6, yolox

PEOPLE = [(40, 30, 20, 40, 0.9, 0), (90, 30, 24, 50, 0.7, 0)]
FRAME = np.zeros((128, 256, 3), np.uint8)  # twice the input's size


@pytest.mark.parametrize(
    ("strides", "size_wh", "decoded", "batch"),
    [
        (P5, (128, 64), False, 1),
        (P5, (128, 64), True, 1),
        (P6, (128, 64), False, 1),
        (P6, (128, 64), True, 1),
        (P5, (128, 64), False, "batch"),
        (P5, (128, 64), True, 3),
        (P5, (640, 640), False, 1),
        (P5, (640, 640), True, 1),
    ],
)
def test_boxes_are_found_in_frame_pixels_the_surest_first(save, strides, size_wh, decoded, batch):
    detector = YoloxDetector(
        save(yolox(PEOPLE, size_wh=size_wh, strides=strides, decoded=decoded, batch=batch))
    )
    ratio = size_wh[0] / 256
    found = detector(FRAME)
    expected = np.array([[30, 10, 50, 50], [78, 5, 102, 55]]) / ratio
    np.testing.assert_allclose(found.boxes_xyxy, expected, atol=0.01)
    np.testing.assert_allclose(found.scores, [0.9, 0.7], atol=1e-5)


def test_other_classes_are_left_out_and_can_be_asked_for(save):
    path = save(yolox([*PEOPLE, (60, 40, 10, 10, 0.95, 16)]))
    assert len(YoloxDetector(path)(FRAME)) == 2
    assert YoloxDetector(path, class_id=16)(FRAME).scores.tolist() == pytest.approx([0.95])


def test_thresholds_hold(save):
    path = save(yolox([*PEOPLE, (41, 38, 20, 40, 0.5, 0)]))
    assert len(YoloxDetector(path)(FRAME)) == 2
    assert len(YoloxDetector(path, nms_threshold=0.95)(FRAME)) == 3
    assert len(YoloxDetector(path, score_threshold=0.8)(FRAME)) == 1


def test_nothing_found_is_no_detection(save):
    found = YoloxDetector(save(yolox([])))(FRAME)
    assert (found.boxes_xyxy.shape, found.scores.shape) == ((0, 4), (0,))


def test_boxes_end_at_the_frame(save):
    found = YoloxDetector(save(yolox([(4, 30, 40, 100, 0.9, 0)])))(FRAME)
    assert found.boxes_xyxy[0].tolist() == pytest.approx([0, 0, 48, 128], abs=0.01)


@pytest.mark.parametrize("change", ["cells", "classes", "rank"])
def test_another_model_is_refused(save, change):
    model = yolox(PEOPLE)
    shape = model.graph.output[0].type.tensor_type.shape
    if change == "cells":
        shape.dim[1].dim_value = 100
    elif change == "classes":
        shape.dim[2].dim_value = 5
    else:
        del shape.dim[2]
    with pytest.raises(OnnxFileError, match=r"detector.onnx: .*expected a YOLOX"):
        YoloxDetector(save(model))


@pytest.mark.parametrize("size_wh", [(640, 480), (1920, 1080), (100, 300), (33, 17)])
def test_the_letterbox_is_that_of_opencv(size_wh):
    rng = np.random.default_rng(0)
    small = rng.integers(0, 255, (size_wh[1] // 8 + 1, size_wh[0] // 8 + 1, 3), np.uint8)
    frame = cv2.resize(small, size_wh)
    blob, ratio = letterbox(frame, (416, 416))
    assert ratio == min(416 / size_wh[0], 416 / size_wh[1])
    padded = np.full((416, 416, 3), 114, np.uint8)
    new_w, new_h = int(size_wh[0] * ratio), int(size_wh[1] * ratio)
    padded[:new_h, :new_w] = cv2.resize(frame, (new_w, new_h))
    assert np.abs(blob.transpose(1, 2, 0) - padded).max() <= 1


def test_nms_keeps_what_a_plain_loop_keeps():
    rng = np.random.default_rng(0)
    for _ in range(50):
        corners = rng.random((30, 2)) * 60
        boxes = np.hstack([corners, corners + 5 + rng.random((30, 2)) * 30]).astype(np.float32)
        scores = rng.random(30).astype(np.float32)
        overlaps = iou(boxes, boxes)
        kept = []
        for index in np.argsort(-scores):
            if all(overlaps[index, other] <= 0.4 for other in kept):
                kept.append(index)
        assert nms(boxes, scores, 0.4).tolist() == kept


def test_overlap_of_known_boxes():
    boxes = np.array([[0, 0, 10, 10], [5, 0, 15, 10], [20, 20, 30, 30]], np.float32)
    expected = np.eye(3)
    expected[0, 1] = expected[1, 0] = 1 / 3
    np.testing.assert_allclose(iou(boxes, boxes), expected, atol=1e-6)


def test_the_whole_frame_is_one_person():
    found = WholeFrameDetector()(FRAME)
    assert (found.boxes_xyxy.tolist(), found.scores.tolist()) == ([[0, 0, 256, 128]], [1])


def test_fixed_boxes_are_the_same_in_every_frame():
    detector = FixedBoxesDetector([[1, 2, 3, 4], [5, 6, 7, 8]])
    for frame in (FRAME, FRAME[:10]):
        assert detector(frame).boxes_xyxy.tolist() == [[1, 2, 3, 4], [5, 6, 7, 8]]


def test_detections_of_two_lengths_are_refused():
    for boxes, scores in itertools.product([np.zeros((2, 4)), np.zeros((1, 5))], [np.zeros(1)]):
        with pytest.raises(InputError, match="detections: expected"):
            Detections(boxes, scores)


def with_sizes(model, *, input_wh=None, batch=None, output=None):
    """A YOLOX that says other sizes of itself."""
    value, result = (
        v.type.tensor_type.shape.dim for v in (model.graph.input[0], model.graph.output[0])
    )
    if input_wh is not None:
        value[3].dim_value, value[2].dim_value = input_wh
    if batch is not None:
        value[0].dim_value = batch
    for dimension, size in zip(result, output or (), strict=False):
        dimension.dim_value = size
    return model


@pytest.mark.parametrize(
    ("sizes", "found"),
    [
        ({"input_wh": (20_000, 20_000)}, "found 1 x 20000 x 20000"),
        ({"input_wh": (-8, 64)}, "found 1 x -8 x 64"),
        ({"batch": 10**9}, "found 1000000000 x 128 x 64"),
        ({"batch": -1}, "found -1 x 128 x 64"),
        ({"batch": 0}, "found 0 x 128 x 64"),
        ({"output": (1, 168, 10**9)}, "found 1 x 168 x 1000000000"),
    ],
)
def test_sizes_beyond_every_yolox_are_refused_before_memory_is_taken(save, sizes, found):
    with pytest.raises(OnnxFileError, match=found):
        YoloxDetector(save(with_sizes(yolox(PEOPLE), **sizes)))


def test_an_output_of_another_shape_than_the_file_says_is_one_error(save):
    model = yolox(PEOPLE)
    model.graph.node.append(onnx.helper.make_node("Transpose", ["output"], ["turned"]))
    model.graph.output[0].name = "turned"
    for dimension in model.graph.output[0].type.tensor_type.shape.dim:
        dimension.Clear()
    with pytest.raises(OnnxFileError, match=r"turned: expected float32 \(1, any, any\), found"):
        YoloxDetector(save(model))


def test_suppression_looks_at_the_surest_boxes_alone(monkeypatch):
    """Of as many as a P6 model has cells at 2048 x 2048, none of which overlap."""
    monkeypatch.setattr(detector_module, "MAX_CANDIDATES", 64)
    corners = np.arange(86_016, dtype=np.float32)[:, None] * 3
    scores = np.random.default_rng(0).permutation(86_016).astype(np.float32)
    kept = nms(np.hstack([corners, corners * 0, corners + 1, corners * 0 + 1]), scores, 0.5)
    assert kept.tolist() == np.argsort(-scores)[:64].tolist()


def test_boxes_that_are_not_finite_are_none(save):
    model = yolox([*PEOPLE, (60, 40, np.inf, 10, 0.95, 0), (100, 20, 10, np.nan, 0.95, 0)])
    assert YoloxDetector(
        save(model),
    )(FRAME).scores.tolist() == pytest.approx([0.9, 0.7])
