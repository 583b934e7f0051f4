"""Execution providers other than the CPU: OpenVINO's precision, and the comparison at the start."""

import json
from types import SimpleNamespace
from unittest.mock import MagicMock

import numpy as np
import onnx
import pytest

from cigpose_export.graph.frame.assemble import FixedSize
from cigpose_export.graph.frame.pack import DetectorOptions, pack_file
from cigpose_runtime import FrameModel, PoseModel, Poses, ProviderError
from cigpose_runtime.cli import main
from cigpose_runtime.commands import options
from cigpose_runtime.commands.device_check import compare_with_cpu
from cigpose_runtime.estimation import session
from cigpose_runtime.estimation.ort import ort
from cigpose_runtime.estimation.session import open_session
from packing import save as save_pixel_model
from tiny_onnx import tiny_model
from tiny_yolox import yolox

OPENVINO, CPU = "OpenVINOExecutionProvider", "CPUExecutionProvider"


def clock(device_s, cpu_s):
    """A clock by which each run takes so many seconds, three times each."""
    return iter([0, device_s] * 3 + [0, cpu_s] * 3).__next__


# The comparison


def test_nothing_is_said_of_a_device_that_is_right_and_fast(model):
    opened = PoseModel(model)
    assert compare_with_cpu(opened, opened, "cuda", clock=clock(1, 1)) == []


def test_other_scores_are_told(model, tmp_path):
    other = tmp_path / "other.onnx"
    other.write_bytes(tiny_model(num_keypoints=133, seed=4).SerializeToString())
    (line,) = compare_with_cpu(PoseModel(other), PoseModel(model), "cuda", clock=clock(1, 1))
    assert line.startswith("--device cuda: expected the CPU's answer, found scores that differ by")


def test_scores_that_are_no_numbers_are_told(model):
    right = PoseModel(model)

    def broken(frame, boxes):
        poses = right(frame, boxes)
        scores = np.full_like(poses.scores, np.nan)
        return Poses(**{**vars(poses), "scores": scores})

    device = MagicMock(side_effect=broken, contract=right.contract)
    (line,) = compare_with_cpu(device, right, "cuda", clock=clock(1, 1))
    assert "differ by nan" in line


@pytest.mark.parametrize(("device_s", "told"), [(1.0, 0), (1.2, 0), (1.3, 1)])
def test_a_device_is_called_slower_where_that_is_no_chance(model, device_s, told):
    opened = PoseModel(model)
    lines = compare_with_cpu(opened, opened, "coreml", clock=clock(device_s, 1))
    assert len(lines) == told
    assert all("--device cpu is faster" in line for line in lines)


@pytest.mark.parametrize("how", ["boxes", "fixed size", "detector"])
def test_packed_files_are_compared_too(tmp_path, how):
    path, detector = save_pixel_model(tmp_path), tmp_path / "yolox.onnx"
    onnx.save(yolox([(40, 30, 30, 50, 0.9, 0)], decoded=True), detector)
    forms = {
        "boxes": {},
        "fixed size": {"fixed": FixedSize(60, 80, 3)},
        "detector": {"detector": DetectorOptions(detector)},
    }
    packed = tmp_path / "packed.onnx"
    pack_file(path, packed, **forms[how])
    opened = FrameModel(packed)
    assert compare_with_cpu(opened, opened, "cuda", clock=clock(1, 1)) == []


def test_another_number_of_people_is_told(model):
    right = PoseModel(model)
    nobody = MagicMock(return_value=Poses.none(right.keypoint_set), contract=right.contract)
    (line,) = compare_with_cpu(nobody, right, "cuda", clock=clock(1, 1))
    assert "found 0 people in place of 1" in line


def test_the_commands_compare_a_device_and_not_the_cpu(model, monkeypatch, capsys):
    monkeypatch.setitem(options.DEVICES, "coreml", (CPU,))
    monkeypatch.setattr(options, "compare_with_cpu", lambda *_: ["the CPU is right"])
    assert main(["bench", str(model), "--rounds", "1", "--device", "coreml"]) == 0
    assert capsys.readouterr().err == "the CPU is right\n"
    assert main(["bench", str(model), "--rounds", "1"]) == 0
    assert capsys.readouterr().err == ""


# OpenVINO


@pytest.fixture
def opened_with(monkeypatch):
    """What onnxruntime was given when a session was opened: the options, and the providers."""
    seen = SimpleNamespace(options=MagicMock(), providers=None)

    def open_it(source, session_options, providers, enable_fallback):
        seen.providers = providers
        return SimpleNamespace(get_providers=lambda: [OPENVINO, CPU])

    monkeypatch.setattr(ort, "SessionOptions", lambda: seen.options)
    monkeypatch.setattr(ort, "InferenceSession", open_it)
    return seen


def test_openvino_as_a_plugin_computes_in_float32(model, monkeypatch, opened_with):
    monkeypatch.setattr(session, "plugin_device", lambda: "the CPU")
    open_session(model, providers=(OPENVINO, CPU), threads=2)
    devices, settings = opened_with.options.add_provider_for_devices.call_args.args
    assert devices == ["the CPU"]
    assert json.loads(settings["load_config"]) == {
        "CPU": {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": "2"}
    }
    assert opened_with.providers is None


def test_openvino_inside_onnxruntime_computes_in_float32(model, monkeypatch, opened_with):
    monkeypatch.setattr(session, "plugin_device", lambda: None)
    monkeypatch.setattr(ort, "get_available_providers", lambda: [OPENVINO, CPU])
    open_session(model, providers=(OPENVINO, CPU))
    (provider, settings), second = opened_with.providers
    assert (provider, second) == (OPENVINO, CPU)
    assert json.loads(settings["load_config"]) == {"CPU": {"INFERENCE_PRECISION_HINT": "f32"}}


def test_without_openvino_the_error_says_how_to_install_it(model, monkeypatch):
    monkeypatch.setattr(session, "plugin_device", lambda: None)
    monkeypatch.setattr(ort, "get_available_providers", lambda: [CPU])
    with pytest.raises(ProviderError, match=r'pip install "cigpose-runtime\[openvino\]"'):
        open_session(model, providers=(OPENVINO, CPU))


def test_the_real_openvino_gives_the_answer_of_the_cpu(model):
    pytest.importorskip("onnxruntime_ep_openvino", reason="pip install onnxruntime-ep-openvino")
    images = np.random.default_rng(0).random((3, 3, 8, 6), np.float32)
    on_cpu = open_session(model).run(None, {"input": images})
    device = open_session(model, providers=(OPENVINO, CPU))
    assert device.get_providers()[0] == OPENVINO
    for found, expected in zip(device.run(None, {"input": images}), on_cpu, strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-5)
