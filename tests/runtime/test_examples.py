"""The examples in the docstrings of the names that users import run as they stand."""

import doctest
import importlib

import onnx
import pytest

from tiny_onnx import tiny_model
from tiny_yolox import yolox

NAMES = {
    "Contract": "model_file.contract",
    "FixedBoxesDetector": "estimation.detector",
    "PoseModel": "estimation.pose_model",
    "PosePipeline": "estimation.pose_pipeline",
    "Poses": "poses",
    "Smoother": "tracking.smoothing",
    "Tracker": "tracking.tracker",
    "WholeFrameDetector": "estimation.detector",
    "YoloxDetector": "estimation.yolox",
    "draw_poses": "draw",
    "read_contract": "model_file.reader",
}


@pytest.mark.parametrize("name", NAMES)
def test_the_example_gives_what_it_shows(name, tmp_path, monkeypatch):
    onnx.save(tiny_model(input_size_wh=(192, 256)), tmp_path / "model.onnx")
    people = [(20, 32, 30, 50, 0.9, 0), (60, 32, 30, 50, 0.8, 0)]
    onnx.save(yolox(people), tmp_path / "yolox.onnx")
    monkeypatch.chdir(tmp_path)
    module = importlib.import_module(f"cigpose_runtime.{NAMES[name]}")
    finder = doctest.DocTestFinder(recurse=False)
    (example,) = finder.find(getattr(module, name), name, globs=dict(vars(module)))
    assert example.examples
    said = []
    doctest.DocTestRunner().run(example, out=said.append)
    assert not said, "".join(said)
