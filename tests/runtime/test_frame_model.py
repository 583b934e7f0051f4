"""Packed files in the runtime: their metadata, FrameModel, and the commands."""

import json
import pickle
from dataclasses import replace

import numpy as np
import onnx
import pytest
from onnx import helper
from PIL import Image

from cigpose_export.graph.frame.assemble import FixedSize
from cigpose_export.graph.frame.pack import DetectorOptions, pack_file
from cigpose_runtime import (
    FrameModel,
    InputError,
    MetadataError,
    OnnxFileError,
    PoseModel,
    PosePipeline,
    YoloxDetector,
    parse_onnx,
)
from cigpose_runtime.cli import main
from cigpose_runtime.model_file.frame_contract import (
    FRAME_METADATA_KEY,
    FrameContract,
    PackedDetector,
    frame_contract_of,
)
from packed_campaign import boxes_around
from packing import frame_contract, save
from tiny_onnx import tiny_contract
from tiny_yolox import yolox

PEOPLE = [(40, 30, 30, 50, 0.9, 0), (90, 30, 20, 40, 0.6, 0)]
DETECTOR = PackedDetector(
    sha256="0" * 64,
    input_w=128,
    input_h=64,
    class_id=0,
    score_threshold=0.35,
    nms_threshold=0.45,
    max_people=32,
)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A folder with model.onnx, yolox.onnx, what they are packed into, and picture.png."""
    folder = tmp_path_factory.mktemp("files")
    save(folder).rename(folder / "model.onnx")
    onnx.save(yolox(PEOPLE, decoded=True), folder / "yolox.onnx")
    model = folder / "model.onnx"
    pack_file(model)
    pack_file(model, folder / "flip.onnx", flip=True, color_order="bgr")
    pack_file(model, folder / "fixed.onnx", fixed=FixedSize(60, 80, 3))
    pack_file(model, detector=DetectorOptions(folder / "yolox.onnx"))
    pixels = np.random.default_rng(0).integers(0, 256, (60, 80, 3), np.uint8)
    Image.fromarray(pixels).save(folder / "picture.png")
    return folder


def assert_same(found, expected):
    for name in ("keypoints", "scores", "boxes_xyxy", "box_scores"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))


@pytest.fixture
def frame():
    return np.random.default_rng(1).integers(0, 256, (60, 80, 3), np.uint8)


@pytest.mark.parametrize("people", [0, 1, 3, 4, 20])
@pytest.mark.parametrize(
    ("name", "flip"), [("model_frame", False), ("flip", True), ("fixed", False)]
)
def test_a_packed_file_gives_the_poses_of_its_model(files, frame, name, flip, people):
    boxes = boxes_around(np.random.default_rng(0), frame, people)
    sure = np.linspace(0.2, 0.9, people)
    expected = PoseModel(files / "model.onnx", flip=flip)(frame, boxes, box_scores=sure)
    found = FrameModel(files / f"{name}.onnx")(frame, boxes, box_scores=sure)
    if people:
        np.testing.assert_allclose(found.scores, expected.scores, rtol=1e-5)
        np.testing.assert_array_equal(found.box_scores, expected.box_scores)
    np.testing.assert_array_equal(found.keypoints, expected.keypoints)
    np.testing.assert_array_equal(found.boxes_xyxy, expected.boxes_xyxy)


def test_with_a_detector_inside_it_gives_the_poses_of_the_pipeline(files, frame):
    pipeline = PosePipeline(YoloxDetector(files / "yolox.onnx"), PoseModel(files / "model.onnx"))
    assert_same(FrameModel(files / "model_frame_det.onnx")(frame), pipeline(frame))


@pytest.mark.parametrize(
    ("name", "boxes", "message"),
    [
        ("model_frame", None, "boxes: expected boxes for tiny_coco_frame, found none"),
        ("model_frame_det", [[0, 0, 9, 9]], "boxes: expected no boxes for"),
        ("model_frame", [[0, 0, np.nan, 9]], "expected finite coordinates"),
        ("model_frame", [[9, 0, 0, 9]], "expected left < right"),
        ("model_frame", [[90, 0, 99, 9]], "expected a box that overlaps the frame"),
    ],
)
def test_boxes_that_it_cannot_take_are_an_input_error(files, frame, name, boxes, message):
    with pytest.raises(InputError, match=message):
        FrameModel(files / f"{name}.onnx")(frame, boxes)


def test_a_frame_that_it_cannot_take_is_an_input_error(files, frame):
    with pytest.raises(InputError, match=r"expected \(60, 80, 3\) for a file of fixed size"):
        FrameModel(files / "fixed.onnx")(frame[:50], [[0, 0, 9, 9]])
    with pytest.raises(InputError, match="expected a uint8 array"):
        FrameModel(files / "model_frame.onnx")(frame.astype(np.float32), [[0, 0, 9, 9]])


def test_only_a_detector_inside_does_without_one_and_on_every_frame(files, frame):
    model = FrameModel(files / "model_frame_det.onnx")
    assert_same(PosePipeline(None, model)(frame), model(frame))
    with pytest.raises(InputError, match="detector: expected one, found none"):
        PosePipeline(None, model, detect_every=2)
    with pytest.raises(InputError, match="detector: expected one, found none"):
        PosePipeline(None, PoseModel(files / "model.onnx"))


@pytest.mark.parametrize("detector", [None, DETECTOR])
def test_metadata_survive_a_round_trip(detector):
    contract = frame_contract(tiny_contract(), detector=detector, flip_test=True)
    assert FrameContract.from_json(contract.to_json()) == contract


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema_version": 2}, "expected metadata of schema version 1, found 2; upgrade"),
        ({"schema_version": True}, "schema_version: expected 1, found True"),
        ({"frame_color_order": "gbr"}, "frame_color_order: expected 'rgb' or 'bgr'"),
        ({"frame_color_order": ["rgb"]}, "frame_color_order: expected 'rgb' or 'bgr'"),
        ({"box_form": "xywh"}, "box_form: expected 'ltrb'"),
        ({"score_rule": "mean"}, "score_rule: expected"),
        ({"flip_test": 1}, "flip_test: expected true or false"),
        ({"packed_sha256": "ABC"}, "packed_sha256: expected 64"),
        ({"detector": 3}, "detector: expected a detector or null"),
        ({"detector": {"sha256": "x"}}, "missing input_w"),
        ({"detector": {**vars(DETECTOR), "max_people": 0}}, "max_people: expected"),
        ({"detector": {**vars(DETECTOR), "score_threshold": 0.0}}, "score_threshold: expected"),
        ({"model": 3}, "model: expected a contract"),
        ({"model": {}}, "missing schema_version"),
        ({"more": 1}, "unknown key 'more'"),
        ({"name": ""}, "name: expected text"),
    ],
)
def test_metadata_that_do_not_hold_are_refused_by_name(change, message):
    document = {**json.loads(frame_contract(tiny_contract()).to_json()), **change}
    with pytest.raises(MetadataError) as refused:
        FrameContract.from_json(json.dumps(document))
    assert message in str(refused.value)
    assert len(str(refused.value).splitlines()) == 1


def test_metadata_and_graph_have_to_agree(files):
    data = (files / "model_frame.onnx").read_bytes()
    model = onnx.load_from_string(data)
    contract = frame_contract_of(parse_onnx(data))
    for other in (
        replace(contract, detector=DETECTOR),
        replace(contract, model=tiny_contract(num_keypoints=133)),
    ):
        helper.set_model_props(model, {FRAME_METADATA_KEY: other.to_json()})
        with pytest.raises(OnnxFileError, match="expected the inputs and outputs"):
            frame_contract_of(parse_onnx(model.SerializeToString()))
    del model.metadata_props[:]
    with pytest.raises(MetadataError, match="expected metadata under the key 'cigpose_frame'"):
        frame_contract_of(parse_onnx(model.SerializeToString()))


@pytest.fixture
def run(files, capsys, monkeypatch):
    """Runs cigpose-runtime in the folder; returns exit status, stdout and stderr."""
    monkeypatch.chdir(files)

    def call(*arguments):
        status = main([str(argument) for argument in arguments])
        output = capsys.readouterr()
        assert "Traceback" not in output.err
        return status, output.out, output.err

    return call


@pytest.mark.parametrize(
    ("packed", "plain"),
    [
        (["model_frame.onnx", "--whole-frame"], ["model.onnx", "--whole-frame"]),
        (["flip.onnx", "--whole-frame"], ["model.onnx", "--whole-frame", "--flip"]),
        (["fixed.onnx", "--whole-frame"], ["model.onnx", "--whole-frame"]),
        (["model_frame.onnx", "--detector", "yolox.onnx"], None),
        (["model_frame_det.onnx"], ["model.onnx", "--detector", "yolox.onnx"]),
    ],
)
def test_image_says_the_same_of_a_packed_file(run, packed, plain):
    plain = plain or ["model.onnx", *packed[1:]]
    status, out, _ = run("image", *packed, "picture.png")
    assert status == 0
    assert out == run("image", *plain, "picture.png")[1]
    assert len(json.loads(out)["people"]) == (2 if "yolox.onnx" in plain else 1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["model_frame.onnx"], "expected one of --detector, --boxes and --whole-frame, found none"),
        (["model.onnx"], "expected one of --detector, --boxes and --whole-frame, found none"),
        (
            ["model_frame_det.onnx", "--whole-frame"],
            "--whole-frame, found one; a detector is packed",
        ),
        (["model_frame.onnx", "--whole-frame", "--flip"], "--flip: expected a model that is not"),
        (["model_frame.onnx", "--whole-frame", "--metadata", "x.json"], "--metadata: expected"),
    ],
)
def test_options_that_a_packed_file_leaves_no_room_for_are_one_line(run, arguments, message):
    status, out, err = run("image", *arguments, "picture.png")
    assert (status, out) == (2, "")
    (line,) = [line for line in err.splitlines() if "error" in line]
    assert message in line


@pytest.mark.parametrize(
    ("packed", "plain"),
    [
        (["model_frame.onnx", "--whole-frame"], ["model.onnx", "--whole-frame"]),
        (
            ["model_frame.onnx", "--detector", "yolox.onnx"],
            ["model.onnx", "--detector", "yolox.onnx"],
        ),
        (["model_frame_det.onnx"], ["model.onnx", "--detector", "yolox.onnx"]),
    ],
)
def test_label_writes_the_rows_of_image(run, tmp_path, packed, plain):
    pytest.importorskip("pyarrow")
    assert run("label", *packed, "picture.png", "--out", tmp_path / "out")[0] == 0
    assert run("label-export", tmp_path / "out", "--csv", tmp_path / "rows.csv")[0] == 0
    assert run("image", *plain, "picture.png", "--csv", tmp_path / "image.csv")[0] == 0
    found, expected = ((tmp_path / name).read_text() for name in ("rows.csv", "image.csv"))
    assert found == expected
    assert len(found.splitlines()) > 17


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["model_frame.onnx"], "expected one of --detector, --boxes and --whole-frame"),
        (["model_frame_det.onnx", "--whole-frame"], "found one; a detector is packed into it"),
        (["flip.onnx", "--whole-frame", "--flip"], "--flip: expected a model that is not packed"),
    ],
)
def test_label_refuses_what_a_packed_file_has_no_room_for(run, tmp_path, arguments, message):
    pytest.importorskip("pyarrow")
    status, _, err = run("label", *arguments, "picture.png", "--out", tmp_path / "out")
    (line,) = [line for line in err.splitlines() if "error" in line]
    assert (status, message in line) == (2, True)


def test_label_gives_a_picture_that_a_file_of_fixed_size_cannot_take_its_error(run, tmp_path):
    pytest.importorskip("pyarrow")
    Image.new("RGB", (50, 60)).save(tmp_path / "small.png")
    out = tmp_path / "out"
    status, _, err = run("label", "fixed.onnx", tmp_path, "--whole-frame", "--out", out)
    assert (status, "found 1 errors" in err) == (1, True)


def test_bench_times_a_packed_file_as_a_whole(run):
    status, out, _ = run("bench", "model_frame.onnx", "--rounds", "1", "--json")
    (timing, *_) = json.loads(out)["timings"]
    assert (status, timing["preprocess_ms"], timing["postprocess_ms"]) == (0, 0, 0)
    assert timing["model_ms"] > 0
    status, _, err = run("bench", "model_frame_det.onnx")
    assert (status, "expected a model that takes boxes" in err) == (2, True)


def test_inspect_shows_what_is_packed(run):
    status, out, _ = run("inspect", "model_frame_det.onnx", "--json")
    (report,) = json.loads(out)["files"]
    assert status == 0
    assert report["packed"]["detector"]["score_threshold"] == 0.35
    assert "model" not in report["packed"]
    assert report["contract"]["name"] == "tiny_coco"
    _, table, _ = run("inspect", "model_frame.onnx")
    assert "frame uint8 (height, width, channels), boxes float32 (people, 4)" in table
    status, out, _ = run("inspect", "model_frame.onnx", "flip.onnx")
    assert status == 0
    (row,) = [line for line in out.splitlines() if "packed.flip_test" in line]
    assert row.split()[1:] == ["no", "yes"]


@pytest.mark.parametrize("name", ["flip.onnx", "fixed.onnx"])
def test_a_pickled_packed_file_is_opened_again(files, name):
    model = FrameModel(files / name)
    there = pickle.loads(pickle.dumps(model))
    frame = np.random.default_rng(1).integers(0, 255, (60, 80, 3), np.uint8)
    boxes = [[5, 5, 40, 50]]
    assert (there(frame, boxes).keypoints == model(frame, boxes).keypoints).all()
