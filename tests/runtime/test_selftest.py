"""Replaying golden vectors with numpy and onnxruntime alone."""

import json
import os

import numpy as np
import pytest
from onnx import numpy_helper

from cigpose_runtime.cli import main
from cigpose_runtime.errors import FileError, OnnxFileError
from cigpose_runtime.estimation import session
from cigpose_runtime.model_file.tensors import read_tensor
from cigpose_runtime.releases.selftest import selftest
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


@pytest.mark.parametrize(
    "changes",
    [
        {"tolerances": {"simcc_x": float("inf"), "simcc_y": 1e-5}},
        {"tolerances": {"simcc_x": float("nan"), "simcc_y": 1e-5}},
        {"tolerances": {"simcc_x": -1e-5, "simcc_y": 1e-5}},
        {"tolerances": {"simcc_x": 10**400, "simcc_y": 1e-5}},
        {"tolerances": {"simcc_x": 1e-5}},
        {"tolerances": {"simcc_x": True, "simcc_y": 1e-5}},
        {"near_ties": [[True] * 17] * 2},
        {"near_ties": [[0] * 17] * 2},
        {"near_ties": [[False] * 17]},
        {"keypoints": [[["x" * 1000, 0]] * 17] * 2},
        {"keypoints": [[[1, 2, 3]] * 17] * 2},
        {"keypoints": [[[float("nan"), 0]] * 17] * 2},
        {"cases": []},
        {"cases": ["one", 2]},
        {"cases": ["case"] * 17},
        {"folder": "/tmp"},
        {"folder": "../../elsewhere"},
        {"folder": "."},
        {"folder": None},
    ],
)
def test_vectors_by_which_nothing_would_be_checked_are_refused(released, changes):
    change(released, **changes)
    with pytest.raises(FileError, match="expected golden vectors, found damaged ones"):
        selftest(released)


@pytest.mark.parametrize("sets", [[], {}, None, "sets", [[]], [None] * 17])
def test_there_is_a_set_of_vectors_at_least(released, sets):
    path = released.parent / "golden/tiny/golden.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "sets": sets}))
    with pytest.raises(FileError, match="expected golden vectors, found damaged ones"):
        selftest(released)


@pytest.mark.parametrize(
    "text", ["[" * 100_000, '{"sets":' * 100_000, "1" * 10_000, " " * 2_000_000]
)
def test_json_of_any_depth_and_length_is_refused(released, text):
    (released.parent / "golden/tiny/golden.json").write_text(text)
    with pytest.raises(FileError, match=r"golden\.json: expected"):
        selftest(released)


def test_a_tolerance_beyond_that_of_verification_is_refused(released):
    reference = read_tensor(released.parent / "golden/tiny/test_data_set_0/output_0.pb")
    allowed = 1e-4 * max(1.0, float(np.quantile(np.abs(reference), 0.999)))
    change(released, tolerances={"simcc_x": 0.99 * allowed, "simcc_y": 1e-5})
    selftest(released)
    change(released, tolerances={"simcc_x": 1.01 * allowed, "simcc_y": 1e-5})
    with pytest.raises(FileError, match="expected a tolerance of at most"):
        selftest(released)


@pytest.mark.parametrize("name", ["input_0", "output_0", "output_1"])
@pytest.mark.parametrize("spoil", [lambda a: a[:1], lambda a: a * np.nan, lambda a: a[..., :-1]])
def test_tensors_of_another_shape_or_without_numbers_are_refused(released, name, spoil):
    path = released.parent / f"golden/tiny/test_data_set_0/{name}.pb"
    spoilt = np.ascontiguousarray(spoil(read_tensor(path)))
    path.write_bytes(numpy_helper.from_array(spoilt, "any").SerializeToString())
    with pytest.raises(FileError, match=rf"{name}\.pb: expected"):
        selftest(released)


def test_a_tensor_of_any_length_is_not_read(released):
    os.truncate(released.parent / "golden/tiny/test_data_set_0/output_0.pb", 1 << 42)
    with pytest.raises(FileError, match=r"output_0\.pb: expected float32 .*, found 4398046511104"):
        selftest(released)


class _Answering:
    """In the place of a session."""

    def __init__(self, outputs):
        self.outputs = outputs

    def run(self, _names, _feed):
        return self.outputs()


@pytest.mark.parametrize("index", [0, 1])
@pytest.mark.parametrize("by", [np.nan, np.inf, 1.0])
def test_either_output_fails_the_test_by_itself(released, monkeypatch, index, by):
    folder = released.parent / "golden/tiny/test_data_set_0"
    outputs = [read_tensor(folder / f"output_{n}.pb").copy() for n in (0, 1)]
    outputs[index][0, 0, 0] += by
    monkeypatch.setattr(session, "open_session", lambda *_, **__: _Answering(lambda: outputs))
    (replayed,), _ = selftest(released)
    assert not replayed.holds


def test_a_small_error_beyond_its_tolerance_counts_before_a_large_one_within(released, monkeypatch):
    folder = released.parent / "golden/tiny/test_data_set_0"
    outputs = [read_tensor(folder / f"output_{n}.pb").copy() for n in (0, 1)]
    outputs[0][0, 0, 0] += 5e-5
    outputs[1][0, 0, 0] += 2e-5
    change(released, tolerances={"simcc_x": 9e-5, "simcc_y": 1e-5})
    monkeypatch.setattr(session, "open_session", lambda *_, **__: _Answering(lambda: outputs))
    (replayed,), _ = selftest(released)
    assert not replayed.holds
    assert replayed.tolerance == 1e-5


def test_a_model_that_fails_to_run_is_one_line(released, monkeypatch):
    def fail():
        raise RuntimeError("[ONNXRuntimeError] : 2 : INVALID_ARGUMENT\nand more")

    monkeypatch.setattr(session, "open_session", lambda *_, **__: _Answering(fail))
    with pytest.raises(OnnxFileError, match=r"\[ONNXRuntimeError\] : 2 : INVALID_ARGUMENT\)"):
        selftest(released)


def test_what_golden_vectors_say_is_printed_as_text(released, capsys):
    change(released, cases=["first\x1b[2J", "\ud800"])
    assert main(["selftest", str(released)]) == 0
    assert "first\\x1b[2J, \\ud800" in capsys.readouterr().out


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
