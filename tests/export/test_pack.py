"""`cigpose-tools pack`: one graph from frame to keypoints, bit for bit the runtime's."""

import json

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from cigpose_export.cli import main as cli
from cigpose_export.drawn.scene import draw_scene
from cigpose_export.graph.frame.assemble import FixedSize
from cigpose_export.graph.frame.builder import Graph
from cigpose_export.graph.frame.crop import centers_and_scales, crops
from cigpose_export.graph.frame.detector import letterboxed
from cigpose_export.graph.frame.pack import DetectorOptions, pack_file
from cigpose_export.graph.frame.pixels import Frame
from cigpose_runtime import PoseModel, YoloxDetector, parse_onnx, read_onnx_file
from cigpose_runtime.estimation.letterbox import letterbox
from cigpose_runtime.estimation.preprocess import boxes_to_crops, make_input
from cigpose_runtime.estimation.session import open_session
from cigpose_runtime.keypoints import COCO
from cigpose_runtime.model_file.frame_contract import FRAME_METADATA_KEY, frame_contract_of
from packed_campaign import (
    BOXES,
    FRAMES_HW,
    SIZES_WH,
    boxes_around,
    noise,
    unequal_people,
    write_models,
)
from packing import packed, save
from tiny_onnx import tiny_contract, tiny_model
from tiny_yolox import P5, P6, looking_yolox, yolox


def crop_session(contract):
    """The crop alone: from frame and boxes to the model's input."""
    graph = Graph(17, "crop")
    frame = Frame.of(graph.value("frame", np.uint8), "rgb", None)
    corners = centers_and_scales(graph.value("boxes", np.float32), contract)
    made = crops(frame, *corners, contract)
    boxes = helper.make_tensor_value_info("boxes", TensorProto.FLOAT, ["n", 4])
    return session_of(graph, made, boxes)


def session_of(graph, made, *more):
    """A session on a part of a graph: from a frame, and more, to one value."""
    info = helper.make_tensor_value_info
    inputs = [info("frame", TensorProto.UINT8, "hwc"), *more]
    outputs = [info(made.name, TensorProto.FLOAT, None)]
    model = helper.make_model(
        helper.make_graph(graph.nodes, "crop", inputs, outputs, graph.initializers),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=8,
    )
    return open_session(model.SerializeToString())


def letterbox_session(size_wh):
    """The letterbox alone: from a frame to YOLOX's input."""
    graph = Graph(17, "letterbox")
    made, _ = letterboxed(Frame.of(graph.value("frame", np.uint8), "rgb", None), size_wh)
    return session_of(graph, made)


def unequal_crops(contract, frames_hw, boxes_per_frame, seed=0):
    """How many crops of seeded boxes differ from make_input's, and how many there were."""
    rng = np.random.default_rng(seed)
    session, size = crop_session(contract), (contract.input_w, contract.input_h)
    unequal = 0
    for hw in frames_hw:
        frame = noise(rng, *hw)
        rgb = np.ascontiguousarray(frame[..., ::-1])
        for start in range(0, boxes_per_frame, 4):
            scale = None if start % 8 else 10.0 ** rng.uniform(-1.5, 5, (4, 1))
            boxes = boxes_around(rng, frame, 4, scale)
            if start % 12 == 0:  # where rounding noise decides
                boxes = np.rint(boxes)
                boxes[:, 2:] = np.maximum(boxes[:, 2:], boxes[:, :2] + 1)
            expected = make_input(frame, *boxes_to_crops(boxes, size), contract)
            (found,) = session.run(None, {"frame": rgb, "boxes": boxes})
            unequal += sum(not np.array_equal(a, b) for a, b in zip(expected, found, strict=True))
    return unequal, len(frames_hw) * boxes_per_frame


@pytest.mark.parametrize("size_wh", SIZES_WH)
def test_every_pixel_of_a_crop_is_the_runtimes(size_wh):
    contract = tiny_contract(input_size_wh=size_wh)
    assert unequal_crops(contract, FRAMES_HW[:4], 12) == (0, 48)


@pytest.mark.long
@pytest.mark.parametrize("size_wh", SIZES_WH)
@pytest.mark.parametrize("frame_hw", FRAMES_HW)
def test_every_pixel_of_2000_crops_of_a_frame_is_the_runtimes(size_wh, frame_hw):
    contract = tiny_contract(input_size_wh=size_wh)
    assert unequal_crops(contract, [frame_hw], 2000, seed=1) == (0, 2000)


@pytest.mark.parametrize("frame_hw", [(270, 480), (640, 416), (3, 200), (37, 5), (1, 1)])
def test_every_pixel_of_the_letterbox_is_the_runtimes(frame_hw):
    frame = noise(np.random.default_rng(0), *frame_hw)
    feed = {"frame": np.ascontiguousarray(frame[..., ::-1])}
    for size_wh in ((128, 64), (416, 416)):
        (found,) = letterbox_session(size_wh).run(None, feed)
        np.testing.assert_array_equal(found[0], letterbox(frame, size_wh)[0])


@pytest.mark.parametrize(
    ("made", "packing"),
    [
        ({}, {}),
        ({}, {"flip_test": True}),
        ({}, {"frame_color_order": "bgr"}),
        ({"color_order": "bgr", "box_padding": 1.4, "opset": 17}, {"flip_test": True}),
        ({"split_ratio": 3.0, "num_keypoints": 133}, {"flip_test": True}),
        ({"input_size_wh": (192, 256)}, {}),
        ({"input_size_wh": (288, 384)}, {"flip_test": True}),
    ],
)
def test_keypoints_and_scores_are_the_runtimes_bit_by_bit(tmp_path, made, packing):
    path = save(tmp_path, **made)
    session = open_session(packed(path, **packing))
    model = PoseModel(path, flip=packing.get("flip_test", False))
    rng = np.random.default_rng(0)
    for hw, counts in (((270, 480), (1, 3)), ((5, 37), (2,))):
        frame = noise(rng, *hw)
        is_bgr = packing.get("frame_color_order") == "bgr"
        fed = frame if is_bgr else np.ascontiguousarray(frame[..., ::-1])
        for people in counts:
            boxes = boxes_around(rng, frame, people)
            keypoints, scores = session.run(None, {"frame": fed, "boxes": boxes})
            expected = model(frame, boxes)
            np.testing.assert_array_equal(keypoints, expected.keypoints)
            np.testing.assert_array_equal(scores, expected.scores)
            assert (scores[:, -1] < 0).all()  # not found


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_keypoints_and_scores_of_2000_boxes_in_each_of_5_frames_are_the_runtimes(tmp_path):
    write_models(tmp_path)
    found = [(different, count) for _, different, count in unequal_people(tmp_path)]
    assert found == [(0, BOXES * len(FRAMES_HW))] * 2 * len(SIZES_WH)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """The file of a small model, and what it is packed into, opened."""
    path = save(tmp_path_factory.mktemp("packed"))
    return path, open_session(packed(path))


def test_nobody_gives_empty_outputs(tiny):
    frame = noise(np.random.default_rng(0), 40, 60)
    found = tiny[1].run(None, {"frame": frame, "boxes": np.zeros((0, 4), np.float32)})
    assert [array.shape for array in found] == [(0, 17, 2), (0, 17)]


@pytest.mark.parametrize(
    "bad",
    [
        (np.nan, 0, 9, 9),
        (0, 0, 9, np.nan),
        (-np.inf, 0, 9, 9),
        (9, 0, 1, 9),
        (3, 9, 8, 1),
        (3, 4, 3.005, 9),
        (60, 4, 70, 9),
        (3, 40, 9, 50),
        (-9, 4, 0, 9),
        (3, -9, 9, 0),
        (0, 0, 1e5 + 1, 9),
    ],
)
def test_a_box_that_is_none_gets_score_0_and_leaves_the_others_alone(tiny, bad):
    frame = noise(np.random.default_rng(0), 40, 60)
    good = np.array([[10, 5, 30, 35], [2, 2, 50, 30]], np.float32)
    beside = np.insert(good, 1, np.array(bad, np.float32), axis=0)
    keypoints, scores = tiny[1].run(None, {"frame": frame, "boxes": beside})
    expected = tiny[1].run(
        None, {"frame": frame, "boxes": np.insert(good, 1, [0, 0, 1, 1], axis=0)}
    )
    assert not scores[1].any()
    assert not keypoints[1].any()
    np.testing.assert_array_equal(keypoints[[0, 2]], expected[0][[0, 2]])
    np.testing.assert_array_equal(scores[[0, 2]], expected[1][[0, 2]])


def test_a_box_at_the_limits_of_what_the_runtime_takes_is_one(tiny):
    frame = noise(np.random.default_rng(0), 40, 60)
    boxes = np.array([[59.9, 39.9, 1e5, 1e5], [0, 0, 0.0101, 0.0101]], np.float32)
    expected = PoseModel(tiny[0])(frame, boxes)
    rgb = np.ascontiguousarray(frame[..., ::-1])
    keypoints, scores = tiny[1].run(None, {"frame": rgb, "boxes": boxes})
    np.testing.assert_array_equal(keypoints, expected.keypoints)
    np.testing.assert_array_equal(scores, expected.scores)


def test_a_fourth_channel_is_ignored(tiny):
    rng = np.random.default_rng(0)
    rgba = noise(rng, 40, 60, 4)
    boxes = boxes_around(rng, rgba, 3)
    with_alpha = tiny[1].run(None, {"frame": rgba, "boxes": boxes})
    rgb = np.ascontiguousarray(rgba[..., :3])
    for one, other in zip(
        with_alpha, tiny[1].run(None, {"frame": rgb, "boxes": boxes}), strict=True
    ):
        np.testing.assert_array_equal(one, other)


def test_a_file_of_fixed_size_has_no_free_size_and_answers_the_same(tiny):
    path, free = tiny
    data = packed(path, fixed=FixedSize(40, 60, 3))
    described = parse_onnx(data)
    shapes = [value.shape for value in (*described.inputs, *described.outputs)]
    assert shapes == [(40, 60, 3), (3, 4), (3, 17, 2), (3, 17)]
    rng = np.random.default_rng(0)
    frame = noise(rng, 40, 60)
    boxes = boxes_around(rng, frame, 3)
    boxes[1] = 0  # nobody
    feed = {"frame": frame, "boxes": boxes}
    for one, other in zip(open_session(data).run(None, feed), free.run(None, feed), strict=True):
        np.testing.assert_array_equal(one, other)


PEOPLE = [
    (40, 30, 30, 50, 0.9, 0),
    (48, 31, 30, 50, 0.8, 0),  # the same person once more
    (90, 30, 20, 40, 0.35, 0),  # at the threshold
    (75, 12, 20, 20, 0.34, 0),  # below it
    (100, 50, 60, 60, 0.5, 1),  # no person
    (20, 20, 0.2, 30, 0.7, 0),  # too thin in small frames
    (10, 10, 12, 14, 0.6, 0),
]


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("decoded", [True, False])
@pytest.mark.parametrize(("strides", "size_wh"), [(P5, (128, 64)), (P6, (192, 128))])
def test_with_a_detector_people_and_poses_are_the_runtimes(
    tmp_path, strides, size_wh, decoded, batch
):
    path = save(tmp_path)
    model = yolox(PEOPLE, strides=strides, size_wh=size_wh, decoded=decoded, batch=batch)
    onnx.save(model, tmp_path / "yolox.onnx")
    target = pack_file(path, detector=DetectorOptions(tmp_path / "yolox.onnx", max_people=3))
    assert target.name == "tiny_coco_frame_det.onnx"
    session, model = open_session(target), PoseModel(path)
    detector = YoloxDetector(tmp_path / "yolox.onnx")
    rng = np.random.default_rng(0)
    counts = set()
    for hw in ((540, 960), (300, 200), (50, 900), (64, 128), (3, 3)):
        frame = noise(rng, *hw)
        rgb = np.ascontiguousarray(frame[..., ::-1])
        boxes, sure, keypoints, scores = session.run(None, {"frame": rgb})
        expected = detector(frame)
        counts.add(len(expected))
        np.testing.assert_array_equal(sure, expected.scores[:3])
        # Raw predictions go through an exponential, whose last bits differ.
        np.testing.assert_allclose(boxes, expected.boxes_xyxy[:3], atol=0 if decoded else 5e-4)
        poses = model(frame, boxes)
        np.testing.assert_array_equal(keypoints, poses.keypoints)
        np.testing.assert_array_equal(scores, poses.scores)
    assert max(counts) > 3 > min(counts)


@pytest.mark.parametrize("decoded", [True, False])
@pytest.mark.parametrize("pictures", [10, pytest.param(200, marks=pytest.mark.long)])
def test_people_in_drawn_pictures_are_the_runtimes(tmp_path, decoded, pictures, record_property):
    path = save(tmp_path, input_size_wh=(48, 64))
    onnx.save(looking_yolox(decoded=decoded), tmp_path / "yolox.onnx")
    inside = DetectorOptions(tmp_path / "yolox.onnx", max_people=16)  # one batch of the runtime
    session = open_session(pack_file(path, detector=inside))
    detector, model = YoloxDetector(tmp_path / "yolox.onnx"), PoseModel(path)
    people, furthest = [], 0.0
    for number in range(pictures):
        frame = draw_scene([3, number], COCO).picture
        rgb = np.ascontiguousarray(frame[..., ::-1])
        boxes, sure, keypoints, scores = session.run(None, {"frame": rgb})
        expected = detector(frame)
        people.append(len(expected))
        np.testing.assert_array_equal(sure, expected.scores[:16])
        # Raw predictions go through an exponential, whose last bits differ.
        off = np.abs(boxes - expected.boxes_xyxy[:16]).max(initial=0)
        assert off <= (0 if decoded else 5e-4)
        furthest = max(furthest, float(off))
        poses = model(frame, boxes)
        np.testing.assert_array_equal(keypoints, poses.keypoints)
        np.testing.assert_array_equal(scores, poses.scores)
    record_property("drawn", f"{sum(people)} people, boxes within {furthest:.1e} px")
    assert min(people) < 16 < max(people)


def test_a_detector_that_finds_nobody_gives_empty_outputs(tmp_path):
    path = save(tmp_path)
    onnx.save(yolox(PEOPLE), tmp_path / "yolox.onnx")
    session = open_session(
        pack_file(path, detector=DetectorOptions(tmp_path / "yolox.onnx", score=1.0))
    )
    frame = noise(np.random.default_rng(0), 40, 60)
    shapes = [array.shape for array in session.run(None, {"frame": frame})]
    assert shapes == [(0, 4), (0,), (0, 17, 2), (0, 17)]


@pytest.fixture
def run(capsys):
    """Runs `cigpose-tools pack`; returns exit status, stdout and stderr."""

    def call(*arguments):
        with pytest.raises(SystemExit) as ended:
            cli.main(["pack", *map(str, arguments)])
        output = capsys.readouterr()
        assert "Traceback" not in output.err
        return ended.value.code, output.out, output.err

    return call


def test_the_command_writes_the_same_standard_file_each_time(run, tmp_path):
    path = save(tmp_path)
    onnx.save(yolox(PEOPLE), tmp_path / "yolox.onnx")
    options = ["--flip", "--frame-order", "bgr", "--detector", tmp_path / "yolox.onnx"]
    limits = ["--score", "0.5", "--nms", "0.6", "--max-people", "7"]
    status, out, _ = run(path, *options, *limits)
    target = tmp_path / "tiny_coco_frame_det.onnx"
    assert (status, out) == (0, f"{target}\n")
    assert run(path, *options, *limits, "--out", tmp_path / "again.onnx")[0] == 0
    assert target.read_bytes() == (tmp_path / "again.onnx").read_bytes()

    onnx.checker.check_model(target.read_bytes(), full_check=True)
    model = onnx.load(target)
    assert [(one.domain, one.version) for one in model.opset_import] == [("", 18)]
    assert [prop.key for prop in model.metadata_props] == [FRAME_METADATA_KEY]
    document = json.loads(model.metadata_props[0].value)
    assert document["frame_color_order"] == "bgr"
    assert document["flip_test"] is True
    assert document["model"]["keypoint_names"][0] == "nose"
    found = frame_contract_of(read_onnx_file(target)).detector
    assert (found.score_threshold, found.nms_threshold, found.max_people) == (0.5, 0.6, 7)
    assert found.input_w, found.input_h == (128, 64)


PUBLISHED = {"input_w": 6, "input_h": 8, "split_ratio": 2, "mean": [1, 2, 3], "std": [4, 5, 6]}
"""The metadata of models that others published, which may take one person at a time."""


@pytest.mark.parametrize(
    ("arguments", "message", "status"),
    [
        (["{folder}/none.onnx"], "No such file", 2),
        (["{folder}"], "found a directory", 2),
        (["{folder}/yolox.onnx"], "give a CIGPose model", 2),
        (["{folder}/text.onnx"], "found damaged or foreign content", 2),
        (["{folder}/fixed.onnx"], "expected a model with a free batch, found one for 1", 2),
        (["{folder}/packed.onnx"], "found one that is packed already", 2),
        (["{model}", "--detector", "{model}"], "expected a YOLOX", 2),
        (["{model}", "--detector", "{folder}/none.onnx"], "No such file", 2),
        (["{model}", "--detector", "{folder}/packed.onnx"], "expected a YOLOX", 2),
        (["{model}", "--detector", "{folder}/yolox.onnx", "--static", "9,9,1"], "--static", 2),
        (["{model}", "--max-people", "3"], "--max-people: expected --detector FILE", 2),
        (["{model}", "--static", "9,9"], "expected height, width and people", 2),
        (["{model}", "--static", "9,9,0"], "expected height, width and people", 2),
        (["{model}", "--static", "9,99999,1"], "at most 16384 px", 2),
        (["{model}", "--static", "-9,9,1"], "expected height, width and people", 2),
        (["{model}", "--out", "{model}"], "expected another file", 2),
    ],
)
def test_what_cannot_be_packed_is_one_line_and_leaves_nothing(
    run, tmp_path, arguments, message, status
):
    path = save(tmp_path)
    onnx.save(yolox(PEOPLE), tmp_path / "yolox.onnx")
    onnx.save(tiny_model(batch=1, metadata=json.dumps(PUBLISHED)), tmp_path / "fixed.onnx")
    (tmp_path / "text.onnx").write_text("no model")
    (tmp_path / "packed.onnx").write_bytes(packed(path))
    before = {p: p.read_bytes() for p in tmp_path.iterdir()}
    places = {"model": path, "folder": tmp_path}
    ended, out, err = run(*(argument.format(**places) for argument in arguments))
    assert (ended, out) == (status, "")
    (line,) = err.splitlines()
    assert message in line
    assert {p: p.read_bytes() for p in tmp_path.iterdir()} == before


def test_a_model_that_no_packed_file_may_hold_is_refused_before_it_has_a_name(run, tmp_path):
    model = tiny_model()
    model.graph.node.append(helper.make_node("NonZero", ["input"], ["where_not_zero"]))
    onnx.save(model, tmp_path / "odd.onnx")
    status, _, err = run(tmp_path / "odd.onnx")
    assert (status, "found NonZero; nothing was written" in err) == (1, True)
    assert [path.name for path in tmp_path.iterdir()] == ["odd.onnx"]
