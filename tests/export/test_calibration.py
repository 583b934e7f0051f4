"""What a model in int8 is calibrated on: which folders are taken, and what is said of them."""

import hashlib
import json
import os

import numpy as np
import onnx
import pytest
from PIL import Image

from cigpose_export.cli import main as cli
from cigpose_export.drawn.calibration import PEOPLE, write_calibration
from cigpose_export.errors import ExportError
from cigpose_export.graph.calibration import LEAST_CROPS, Batches, CalibrationSet
from cigpose_export.graph.int8 import to_int8
from cigpose_runtime import PoseModel
from tiny_onnx import tiny_contract, tiny_model


def draw_pictures(folder, count):
    folder.mkdir()
    for index in range(count):
        pixels = np.random.default_rng(index).integers(0, 256, (9, 7, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{index:03}.png")
    return folder


def read(folder):
    return CalibrationSet.read("pictures", folder)


def test_without_boxes_each_picture_is_one_crop(tmp_path):
    folder = draw_pictures(tmp_path / "in", LEAST_CROPS)
    (folder / "notes.txt").write_text("no picture")
    crops = read(folder).crops
    assert [crop.picture for crop in crops] == sorted(p.name for p in folder.glob("*.png"))
    assert {crop.box_xyxy for crop in crops} == {(0, 0, 7, 9)}
    assert crops[3].sha256 == hashlib.sha256((folder / "003.png").read_bytes()).hexdigest()


def test_boxes_say_who_is_in_the_pictures(tmp_path):
    folder = draw_pictures(tmp_path / "in", 2)
    one, many = [1, 2, 5, 6], [[0, 0, 4, 4]] * LEAST_CROPS
    (folder / "boxes.json").write_text(json.dumps({"000.png": [one], "001.png": many}))
    crops = read(folder).crops
    assert len(crops) == 1 + LEAST_CROPS
    assert crops[0].box_xyxy == (1, 2, 5, 6)


def test_inputs_are_what_the_runtime_gives_a_model(tmp_path):
    folder = draw_pictures(tmp_path / "in", LEAST_CROPS)
    path = tmp_path / "model.onnx"
    path.write_bytes(tiny_model().SerializeToString())
    contract = tiny_contract()
    batches = Batches(read(folder), contract)
    assert sum(len(batch) for batch in batches) == LEAST_CROPS
    frame = np.asarray(Image.open(folder / "005.png"))[..., ::-1]
    seen, model = [], PoseModel(path)
    model.simcc = lambda crops: seen.append(crops) or (np.zeros((1, 17, 12)), np.zeros((1, 17, 16)))
    model(np.ascontiguousarray(frame), [[0, 0, 7, 9]])
    np.testing.assert_array_equal(batches[1][1:2], seen[0])


def test_drawn_people_are_the_same_each_time(tmp_path):
    digests = set()
    for name in ("once", "twice"):
        (tmp_path / name).mkdir()
        write_calibration(tmp_path / name, LEAST_CROPS)
        said = CalibrationSet.read("drawn", tmp_path / name).named()
        digests.add(said.sha256)
        assert LEAST_CROPS <= said.crops < PEOPLE
    assert len(digests) == 1


def test_another_picture_is_another_calibration(tmp_path):
    folder = draw_pictures(tmp_path / "in", LEAST_CROPS)
    before = read(folder).named()
    Image.fromarray(np.zeros((9, 7, 3), np.uint8)).save(folder / "007.png")
    after = read(folder).named()
    assert (before.crops, before.source) == (after.crops, after.source)
    assert before.sha256 != after.sha256


def empty(folder):
    folder.mkdir()


def too_few(folder):
    draw_pictures(folder, 3)


def no_folder(folder):
    folder.write_text("a file")


def a_broken_picture(folder):
    (draw_pictures(folder, LEAST_CROPS) / "012.png").write_bytes(b"\x89PNG")


def boxes_without_area(folder):
    draw_pictures(folder, 1)
    (folder / "boxes.json").write_text(json.dumps({"000.png": [[4, 4, 4, 4]]}))


def boxes_of_another_picture(folder):
    draw_pictures(folder, 1)
    (folder / "boxes.json").write_text(json.dumps({"other.png": [[0, 0, 4, 4]]}))


def unreadable(folder):
    draw_pictures(folder, 1).chmod(0)
    if os.access(folder, os.R_OK):
        pytest.skip("this user may read anything")


BAD_FOLDERS = {
    empty: f"expected at least {LEAST_CROPS} people in pictures to calibrate on, found 0",
    too_few: f"expected at least {LEAST_CROPS} people in pictures to calibrate on, found 3",
    no_folder: "expected a folder of pictures, found none that can be read",
    (lambda _folder: None): "expected a folder of pictures, found none that can be read",
    unreadable: "expected a folder of pictures, found none that can be read",
    a_broken_picture: "012.png: expected a picture",
    boxes_without_area: "boxes.json: 000.png, box 0: ",
    boxes_of_another_picture: "boxes.json: expected boxes for 000.png, found none",
}


def run(tiny_project, capsys, *options):
    given = ["--project", str(tiny_project.root), "export", "--all", "--weights", "synthetic"]
    with pytest.raises(SystemExit) as ended:
        cli.main([*given, *options])
    return ended.value.code, capsys.readouterr().err


@pytest.mark.parametrize("spoil", BAD_FOLDERS)
def test_a_folder_that_does_not_do_is_refused_in_one_line_before_any_work(
    tiny_project, tmp_path, capsys, spoil
):
    folder = tmp_path / "pictures"
    spoil(folder)
    options = ["--precision", "int8", "--calibration", str(folder)]
    status, err = run(tiny_project, capsys, *options)
    assert (status, err.count("\n")) == (2, 1)
    assert BAD_FOLDERS[spoil] in err
    assert not (tiny_project.root / "dist").exists()


@pytest.mark.parametrize(
    "options",
    [
        ["--precision", "int8"],
        ["--calibration", "drawn"],
        ["--precision", "fp16", "--calibration", "drawn"],
    ],
)
def test_int8_needs_a_calibration_and_nothing_else_takes_one(tiny_project, capsys, options):
    status, err = run(tiny_project, capsys, *options)
    assert (status, err.count("\n")) == (2, 1)
    assert "--precision int8 needs --calibration DIR" in err


def test_a_graph_without_a_head_is_refused():
    conv = onnx.helper.make_node("Conv", ["input", "w"], ["y"], "conv")
    graph = onnx.helper.make_graph([conv], "g", [], [])
    with pytest.raises(ExportError, match="expected a Reshape where the head begins, found none"):
        to_int8(onnx.helper.make_model(graph), [])
