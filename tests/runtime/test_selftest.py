"""Replaying golden vectors with numpy and onnxruntime alone."""

import json

import numpy as np
import pytest
from onnx import numpy_helper

from cigpose_runtime.cli import main
from cigpose_runtime.errors import FileError
from cigpose_runtime.model_file.tensors import read_tensor
from cigpose_runtime.releases.golden import selftest
from tiny_onnx import tiny_model


@pytest.fixture
def released(tmp_path):
    """A tiny model with golden vectors of its own outputs beside it."""
    from cigpose_runtime.estimation.ort import ort

    model = tiny_model()
    path = tmp_path / "tiny.onnx"
    path.write_bytes(model.SerializeToString())
    image = np.random.default_rng(0).standard_normal((2, 3, 8, 6), dtype=np.float32)
    x, y = ort.InferenceSession(path).run(["simcc_x", "simcc_y"], {"input": image})
    folder = tmp_path / "golden" / "tiny" / "test_data_set_0"
    folder.mkdir(parents=True)
    for name, array in (("input_0", image), ("output_0", x), ("output_1", y)):
        tensor = numpy_helper.from_array(array, name)
        (folder / f"{name}.pb").write_bytes(tensor.SerializeToString())
    bins = np.stack([x.argmax(-1), y.argmax(-1)], -1).astype(float)
    bins[np.minimum(x.max(-1), y.max(-1)) <= 0] = -1
    one = {
        "folder": folder.name,
        "cases": ["first", "second"],
        "tolerances": {"simcc_x": 1e-5, "simcc_y": 1e-5},
        "keypoints": (bins / 2).tolist(),
        "scores": [],
        "near_ties": np.zeros(x.shape[:2], bool).tolist(),
    }
    document = {"schema_version": 1, "model": "tiny", "sha256": "0" * 64, "sets": [one]}
    (folder.parent / "golden.json").write_text(json.dumps(document))
    return path


def change(released, **changes):
    path = released.parent / "golden" / "tiny" / "golden.json"
    document = json.loads(path.read_text())
    document["sets"][0].update(changes)
    path.write_text(json.dumps(document))


def test_own_outputs_are_replayed_without_difference(released, capsys):
    assert main(["selftest", str(released)]) == 0
    out = capsys.readouterr().out
    assert "ok  first, second" in out
    assert "another sha256" in out


def test_json_is_versioned(released, capsys):
    assert main(["selftest", "--json", str(released)]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["schema_version"] == 1
    assert document["files"][0]["sets"][0]["holds"]


def test_outputs_out_of_tolerance_are_status_1(released, capsys):
    path = released.parent / "golden/tiny/test_data_set_0/output_1.pb"
    there = read_tensor(path).copy()
    there[1, 3, 5] += 2e-5
    path.write_bytes(numpy_helper.from_array(there, "simcc_y").SerializeToString())
    assert main(["selftest", str(released)]) == 1
    assert "off by 2.0e-05" in capsys.readouterr().err


@pytest.mark.parametrize(("near", "status"), [(False, 1), (True, 0)])
def test_a_keypoint_elsewhere_is_status_1_unless_it_is_a_near_tie(released, near, status):
    document = json.loads((released.parent / "golden/tiny/golden.json").read_text())
    keypoints = document["sets"][0]["keypoints"]
    keypoints[0][4] = [1.5, 1.5]
    ties = np.zeros((2, 17), bool)
    ties[0, 4] = near
    change(released, keypoints=keypoints, near_ties=ties.tolist())
    assert main(["selftest", str(released)]) == status


@pytest.mark.parametrize(
    "spoil",
    [
        lambda folder: (folder / "golden.json").unlink(),
        lambda folder: (folder / "golden.json").write_text("{"),
        lambda folder: (folder / "golden.json").write_text('{"schema_version": 2}'),
        lambda folder: (folder / "golden.json").write_text('{"schema_version": 1}'),
        lambda folder: (folder / "test_data_set_0/input_0.pb").unlink(),
        lambda folder: (folder / "test_data_set_0/input_0.pb").write_bytes(b"\xff\xff"),
        lambda folder: (folder / "test_data_set_0/output_0.pb").write_bytes(b""),
    ],
)
def test_missing_or_damaged_vectors_are_one_line_and_status_2(released, capsys, spoil):
    spoil(released.parent / "golden" / "tiny")
    assert main(["selftest", str(released)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "golden" in line


def test_a_provider_that_is_not_there_is_refused(released, capsys):
    assert main(["selftest", "--provider", "NoSuchProvider", str(released)]) == 2
    assert "expected an execution provider" in capsys.readouterr().err


def test_a_given_folder_is_used(released, tmp_path):
    moved = tmp_path / "elsewhere"
    (released.parent / "golden" / "tiny").rename(moved)
    with pytest.raises(FileError, match="golden vectors"):
        selftest(released)
    (replayed,), _ = selftest(released, golden=moved)
    assert replayed.holds
