"""The config that a checkpoint carries, held against that of a model of one's own."""

import pytest

from cigpose_export.checkpoints.compare_config import compare_configs
from cigpose_export.modeling.build import load_config
from own_models import HALPE, RTMW, write_hand, write_tiny

MAKE = {
    "RTMPose": lambda folder: write_tiny(folder, HALPE),
    "RTMW": lambda folder: write_tiny(folder, RTMW),
    "CIGPose": lambda folder: write_hand(folder, tiny=True),
}


@pytest.fixture(params=MAKE)
def said(request, tmp_path):
    """What a config says, as it would be carried."""
    return load_config(MAKE[request.param](tmp_path)).to_dict()


def test_a_model_of_ones_own_agrees_with_the_config_that_it_was_trained_by(said):
    assert compare_configs(said, said) == ([], [])


def changed(said, *path, value):
    """A copy with one value replaced."""
    key, *deeper = path
    inner = changed(said[key], *deeper, value=value) if deeper else value
    return {**said, key: inner}


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("model", "data_preprocessor", "mean"), [0.0, 0.0, 0.0]),
        (("model", "head", "simcc_split_ratio"), 3.0),
        (("model", "head", "gau_cfg"), {"hidden_dims": 64}),
        (("model", "backbone", "channel_attention"), False),
        (("box_padding",), 1.5),
    ],
)
def test_what_decides_and_differs_is_a_contradiction(said, path, value):
    differences, _ = compare_configs(changed(said, *path, value=value), said)
    assert any(line.startswith(".".join(path)) for line in differences), differences


def test_a_neck_of_another_kind_is_a_contradiction(tmp_path):
    said = load_config(write_tiny(tmp_path, RTMW)).to_dict()
    other = changed(said, "model", "neck", "num_csp_blocks", value=3)
    (difference,) = compare_configs(other, said)[0]
    assert difference.startswith("model.neck.num_csp_blocks: ")


def test_a_distillers_config_is_not_held_against_its_students(said):
    distiller = {
        "type": "DWPoseDistiller",
        "student_cfg": "student.py",
        "data_preprocessor": said["model"]["data_preprocessor"],
    }
    differences, uncompared = compare_configs({**said, "model": distiller}, said)
    assert differences == []
    assert any("distiller" in line for line in uncompared)
