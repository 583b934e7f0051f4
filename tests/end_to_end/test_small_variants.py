"""Full-size variants, in the long run one of each keypoint set: what their users get."""

import json
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from cigpose.inference import infer_persons, load_pose_model

from cigpose_export.checkpoints.load import load_checkpoint, load_weights
from cigpose_export.modeling.build import build_reference, load_config
from cigpose_export.pipeline import clear_cases
from cigpose_export.reference.run import run_reference
from cigpose_runtime import read_contract
from cigpose_runtime.estimation.ort import ort
from cigpose_verify.measures.tolerances import compare
from tiny_project import ONE_OF_EACH_SET

PHOTOGRAPH = (
    Path(__file__).resolve().parents[2] / "verify/cigpose_verify/cases/photographs/astronaut.jpg"
)
every_set = pytest.mark.parametrize(
    "name",
    [
        ONE_OF_EACH_SET[0],
        *(pytest.param(name, marks=pytest.mark.long) for name in ONE_OF_EACH_SET[1:]),
    ],
)


@every_set
def test_published_client_reads_size_and_split_ratio_from_our_metadata(exported, name):
    session, width, height, split_ratio = load_pose_model(str(exported(name)))
    assert "cigpose_meta" in session.get_modelmeta().custom_metadata_map
    assert (width, height, split_ratio) == (192, 256, 2.0)


def test_published_client_takes_the_size_from_the_metadata_and_nowhere_else(exported, tmp_path):
    path = exported(ONE_OF_EACH_SET[0])
    other = tmp_path / "other.onnx"
    data = path.read_bytes()
    other.write_bytes(data.replace(b'"input_w":192', b'"input_w":288'))
    assert load_pose_model(str(other))[1] == 288


@every_set
def test_published_client_draws_on_a_photograph(exported, name):
    frame = cv2.imread(str(PHOTOGRAPH))
    before = frame.copy()
    model = load_pose_model(str(exported(name)))
    drawn = infer_persons(model[0], frame, [[80, 10, 420, 500]], *model[1:], threshold=0.0)
    assert drawn.shape == frame.shape
    changed = (drawn != before).any(axis=-1).mean()
    assert 0.001 < changed < 0.9, changed
    np.testing.assert_array_equal(frame, before)


@every_set
@pytest.mark.parametrize("batch", [1, 3, 8])
def test_onnxruntime_agrees_with_the_reference_head(project, exported, name, batch):
    checkpoint = load_checkpoint(project.checkpoint_path(name, "synthetic"))
    estimator = build_reference(load_config(project.config_path(name)))
    load_weights(estimator, checkpoint)
    images = clear_cases(read_contract(exported(name)), estimator, count=batch)
    session = ort.InferenceSession(exported(name), providers=["CPUExecutionProvider"])
    outputs = session.run(["simcc_x", "simcc_y"], {"input": images})
    reference = run_reference(estimator, images)
    for output, expected in zip(outputs, (reference.simcc_x, reference.simcc_y), strict=True):
        agreement = compare(output, expected)
        assert agreement.holds, agreement


@every_set
def test_inspect_describes_the_file(exported, name):
    command = [sys.executable, "-m", "cigpose_runtime.cli", "inspect", "--json", exported(name)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    (described,) = json.loads(done.stdout)["files"]
    assert described["contract"]["name"] == name
    assert described["contract"]["weights"] == "synthetic"
