"""The forms that detectors come in: expected values are rtmlib's, or what the model was told."""

import pickle
import warnings

import numpy as np
import onnx
import pytest

from cigpose_runtime import (
    FunctionDetector,
    InputError,
    MmdeployDetector,
    OnnxFileError,
    YoloxDetector,
    open_onnx_detector,
)
from cigpose_runtime.estimation.own_detector import names_function
from tiny_mmdeploy import mmdeploy
from tiny_yolox import yolox

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import rtmlib

SIZE_HW = 64, 128
TWO = [(10, 8, 40, 50, 0.9, 0), (70, 12, 110, 60, 0.6, 0)]
FRAME = np.random.default_rng(0).integers(0, 255, (128, 200, 3), np.uint8)
FRAME[..., 2] //= 4  # of another mean than green and blue


@pytest.mark.parametrize("batch", [1, "batch"])
@pytest.mark.parametrize("frame", [FRAME, FRAME[:64, :128], FRAME[:, :50]])
def test_an_rtmdet_sees_and_finds_what_rtmlib_does(save, frame, batch):
    path = save(mmdeploy(TWO, shown=3.0, batch=batch))
    peer = rtmlib.RTMDet(str(path), model_input_size=SIZE_HW)
    ratio = min(SIZE_HW[0] / frame.shape[0], SIZE_HW[1] / frame.shape[1])
    limits = np.array([*frame.shape[1::-1]] * 2)
    expected = np.clip(peer(frame.copy()), 0, limits)
    found = open_onnx_detector(path)(frame)
    is_there = (expected[:, 2:] - expected[:, :2] >= 1).all(axis=1)
    assert is_there[0]
    # A resized level may be rounded the other way: a mean of 0.2 levels, 60 of them a pixel.
    np.testing.assert_allclose(found.boxes_xyxy, expected[is_there], atol=0.02 / ratio)


@pytest.mark.parametrize("first", ["Slice", "Reshape"])
def test_a_yolox_of_mmdeploy_sees_and_finds_what_rtmlib_does(save, first):
    path = save(mmdeploy(TWO, first=first, attention=False, shown=0.05))
    peer = rtmlib.YOLOX(str(path), model_input_size=SIZE_HW)
    found = open_onnx_detector(path)(FRAME)
    expected = np.clip(peer(FRAME.copy()), 0, [200, 128, 200, 128])
    np.testing.assert_allclose(found.boxes_xyxy, expected, atol=0.05)
    np.testing.assert_allclose(found.scores, [0.9, 0.6], atol=1e-6)


def near(box, count=3):
    """A prediction and others beside it that see less of the same person."""
    cx, cy, w, h, score, label = box
    return [(cx + 8 * n, cy, w * 1.1**n, h * 1.1**n, score - 0.05 * n, label) for n in range(count)]


@pytest.mark.parametrize("sizes", ["static", "dynamic batch", "dynamic size", "all dynamic"])
def test_a_raw_yolox_finds_what_rtmlib_does(save, sizes):
    people = [(100, 200, 80, 200, 0.9, 0), (300, 330, 120, 260, 0.8, 0), (500, 60, 60, 80, 0.4, 0)]
    told = [one for box in people for one in near(box)]
    model = yolox(told, size_wh=(640, 640), classes=1)
    dims = model.graph.input[0].type.tensor_type.shape.dim
    said = model.graph.output[0].type.tensor_type.shape.dim
    if sizes in ("dynamic batch", "all dynamic"):
        dims[0].dim_param = said[0].dim_param = "batch"
    if sizes in ("dynamic size", "all dynamic"):
        dims[2].dim_param, dims[3].dim_param, said[1].dim_param = "height", "width", "cells"
    path = save(model)
    frame = np.zeros((480, 600, 3), np.uint8)
    peer = rtmlib.YOLOX(str(path), nms_thr=0.45, score_thr=0.35)
    expected = np.clip(peer(frame), 0, [600, 480, 600, 480])
    assert len(expected) == 3
    np.testing.assert_allclose(open_onnx_detector(path)(frame).boxes_xyxy, expected, atol=1e-3)


def test_each_form_is_opened_as_its_class(save):
    assert type(open_onnx_detector(save(mmdeploy(TWO)))) is MmdeployDetector
    assert type(open_onnx_detector(save(yolox([])))) is YoloxDetector


def test_what_mmdeploy_fills_up_with_is_nobody(save):
    filling = [(0, 0, 0, 0, 0, -1), (5, 5, 30, 30, 0.99, -1), (5, 5, 30, 30, 0.9, 16)]
    found = MmdeployDetector(save(mmdeploy([*TWO, *filling])), score_threshold=0)(FRAME)
    assert found.scores.tolist() == pytest.approx([0.9, 0.6])
    assert MmdeployDetector(save(mmdeploy(filling[:1])))(FRAME).boxes_xyxy.shape == (0, 4)


def test_thresholds_and_the_most_people_hold_for_every_form(save):
    pair = [(10, 8, 40, 50, 0.7, 0), (10, 8, 44, 50, 0.9, 0), (70, 12, 110, 60, 0.5, 0)]
    path = save(mmdeploy(pair))
    open_with = MmdeployDetector

    def scores(**options):
        return open_with(path, **options)(FRAME).scores.tolist()

    assert scores() == pytest.approx([0.9, 0.7, 0.5])
    assert scores(nms_threshold=0.5) == pytest.approx([0.9, 0.5])
    assert scores(score_threshold=0.6) == pytest.approx([0.9, 0.7])
    assert scores(max_people=1) == pytest.approx([0.9])


@pytest.mark.parametrize(
    ("model", "found"),
    [
        (mmdeploy(TWO, attention=False), "another detector that mmdeploy exported"),
        (mmdeploy(TWO, first="Mul", attention=False), "another detector that mmdeploy exported"),
        (mmdeploy(TWO, output=(2, 4)), r"dets float32 \(1, 2, 4\), labels int64 \(1, 2\)"),
        (mmdeploy(TWO, output=(10**9, 5)), "found 1 x 1000000000 x 5"),
        (mmdeploy(TWO, size_wh=(20_000, 20_000)), "found 1 x 20000 x 20000"),
    ],
)
def test_another_model_of_mmdeploy_is_refused(save, model, found):
    with pytest.raises(OnnxFileError, match=rf"detector.onnx: .*{found}"):
        open_onnx_detector(save(model))


def test_an_unknown_form_is_one_error_that_names_what_was_found(save):
    model = mmdeploy(TWO)
    model.graph.output[1].name = "whole"
    with pytest.raises(
        OnnxFileError,
        match=r"expected a detector: a YOLOX: .*, or an RTMDet .* found the inputs input float32 "
        r"\(1, 3, 64, 128\) and outputs dets float32 \(1, \?, 5\), whole int64 \(1, \?\)",
    ):
        open_onnx_detector(save(model))


def test_a_label_less_than_boxes_is_one_error(save):
    model = mmdeploy(TWO)
    shorter = onnx.numpy_helper.from_array(np.zeros((1, 1), np.int64), "labels_said")
    labels = next(one for one in model.graph.initializer if one.name == "labels_said")
    labels.CopyFrom(shorter)
    with pytest.raises(OnnxFileError, match="expected a label for each of 2 boxes, found 1"):
        open_onnx_detector(save(model))(FRAME)


@pytest.mark.parametrize("model", [mmdeploy(TWO, shown=3.0, batch="n"), yolox([], batch="n")])
def test_frames_of_several_sizes_go_through_at_once_as_alone(save, model):
    detector = open_onnx_detector(save(model))
    frames = [FRAME, FRAME[:64, :128], FRAME[:, :50]]
    for found, frame in zip(detector.detect(frames), frames, strict=True):
        alone = detector(frame)
        np.testing.assert_allclose(found.boxes_xyxy, alone.boxes_xyxy, rtol=1e-5)
        assert found.scores.tolist() == alone.scores.tolist()


@pytest.mark.parametrize("batch", [1, 3])
def test_several_frames_need_a_dynamic_batch(save, batch):
    detector = open_onnx_detector(save(mmdeploy(TWO, batch=batch)))
    assert len(detector(FRAME)) == 2
    with pytest.raises(InputError, match=f"found one that takes {batch}; export it with a dynamic"):
        detector.detect([FRAME, FRAME])


def test_detectors_arrive_elsewhere_with_their_options(save):
    path = save(mmdeploy(TWO))
    there = pickle.loads(pickle.dumps(MmdeployDetector(path, max_people=1, score_threshold=0.1)))
    assert (there.max_people, there.score_threshold, there.nms_threshold) == (1, 0.1, 1.0)
    assert len(there(FRAME)) == 1


# A function of the user's.


@pytest.fixture
def function(tmp_path, monkeypatch):
    """Writes a module into the working folder; returns MODULE:FUNCTION."""
    monkeypatch.chdir(tmp_path)

    def write(body):
        name = f"finder_{abs(hash(body))}"
        (tmp_path / f"{name}.py").write_text(f"import numpy as np\ndef find(picture):\n {body}\n")
        return f"{name}:find"

    return write


def test_a_function_has_the_picture_in_rgb_and_says_where_people_are(function):
    body = """
 assert picture.dtype == np.uint8 and picture.flags.c_contiguous
 red, green, blue = (picture == [200, 100, 50]).all(axis=(0, 1))
 picture[:] = 0
 return [[1, 2, 30, 40], [5, 5, 9, 9]], [0.25 * sum([int(red), int(green), int(blue)]), 0.9]
"""
    frame = np.full((60, 80, 3), (50, 100, 200), np.uint8)
    found = FunctionDetector(function(body))(frame)
    assert found.boxes_xyxy.tolist() == [[5, 5, 9, 9], [1, 2, 30, 40]]
    assert found.scores.tolist() == pytest.approx([0.9, 0.75])
    assert (frame == (50, 100, 200)).all()


def test_thresholds_hold_for_a_function_where_they_are_given(function):
    name = function("return [[0, 0, 9, 9], [0, 0, 9, 8], [20, 0, 29, 9]], [-1, 0.2, 0.8]")

    def scores(**options):
        return FunctionDetector(name, **options)(FRAME).scores.tolist()

    assert scores() == pytest.approx([0.8, 0.2, -1])
    assert scores(nms_threshold=0.5) == pytest.approx([0.8, 0.2])
    assert scores(score_threshold=0.5) == pytest.approx([0.8])
    assert scores(max_people=2) == pytest.approx([0.8, 0.2])


@pytest.mark.parametrize("nobody", ["[], []", "np.zeros((0, 4)), np.zeros(0)"])
def test_a_function_that_finds_nobody(function, nobody):
    assert FunctionDetector(function(f"return {nobody}"))(FRAME).boxes_xyxy.shape == (0, 4)


@pytest.mark.parametrize(
    ("body", "found"),
    [
        ("return None", "TypeError: "),
        ("raise RuntimeError('no GPU\\nhere')", "RuntimeError: no GPU; correct"),
        ("return [[0, 0, 9, 9]], []", r"shapes \(1, 4\) and \(0,\)"),
        ("return [[0, 0, 9]], [1]", r"shapes \(1, 3\) and \(1,\)"),
        ("return [0, 0, 9, 9], 1", r"shapes \(4,\) and \(\)"),
        ("return [[0, 0, 9, np.nan]], [1]", "some that are not finite"),
        ("return [['a', 0, 9, 9]], [1]", "ValueError: could not convert"),
    ],
)
def test_what_a_function_does_wrong_is_one_line(function, body, found):
    with pytest.raises(InputError, match=rf"^finder_\d+:find: expected boxes .* found {found}"):
        FunctionDetector(function(body))(FRAME)


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("no_such_module:find", "ModuleNotFoundError: No module named"),
        ("json:no_such_function", "AttributeError: module 'json' has no attribute"),
        ("json:__name__", "TypeError: __name__ is no function"),
    ],
)
def test_a_function_that_is_not_there_is_one_line(name, found):
    with pytest.raises(InputError, match=f"^{name}: expected a function .* found {found}"):
        FunctionDetector(name)


def test_a_function_arrives_elsewhere_as_its_name(function):
    name = function("return [[0, 0, 9, 9]], [1]")
    there = pickle.loads(pickle.dumps(FunctionDetector(name, max_people=3)))
    assert (there.name, there.max_people, len(there(FRAME))) == (name, 3, 1)


@pytest.mark.parametrize(
    ("detector", "is_one"),
    [
        ("find:people", True),
        ("my.package.find:people", True),
        ("yolox.onnx", False),
        (r"C:\\models\\yolox.onnx", False),
        ("C:yolox.onnx", False),
        ("here:too", False),  # a file of this name
    ],
)
def test_files_are_told_from_functions(tmp_path, monkeypatch, detector, is_one):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "here:too").touch()
    assert names_function(detector) is is_one
