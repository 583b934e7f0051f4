"""Who says the keypoints of a model of one's own, and what if two say different things."""

import json
from pathlib import Path

import numpy as np
import pytest

from cigpose_export.errors import ConfigError
from cigpose_export.modeling.build import load_config
from cigpose_export.modeling.keypoints_of_config import keypoints_of
from cigpose_export.openmmlab import Config, parse_pose_metainfo
from cigpose_export.own_model import OwnModel, config_path, shipped_configs
from cigpose_runtime.errors import MetadataError
from cigpose_runtime.keypoints import COCO_WHOLEBODY
from own_models import HALPE, RTMW, WHOLE_BODY, write_hand

SHIPPED_HALPE = Config.fromfile(shipped_configs() / "_base_/datasets/halpe26.py").dataset_info
FIELDS = ("keypoint_names", "skeleton", "flip_pairs", "oks_sigmas")


def keypoints(config, *, meta=None, file=None):
    model = OwnModel("mine", config_path(str(config)), file)
    return keypoints_of(model, load_config(model.config), meta)


def without_dataset(tmp_path, base=HALPE):
    """A config that trains on nothing."""
    path = tmp_path / "bare.py"
    path.write_text(
        f"_base_ = {str(config_path(base))!r}\ndataset_type = None\n"
        + "".join(f"{part}_dataloader = None\n" for part in ("train", "val", "test"))
    )
    return path


def write_json(tmp_path, **values):
    path = tmp_path / "keypoints.json"
    path.write_text(json.dumps(values))
    return path


@pytest.mark.parametrize("config", [RTMW, WHOLE_BODY])
def test_whole_body_models_of_mmpose_have_the_keypoints_of_coco_wholebody(config):
    found = keypoints(config)
    assert (found.dataset, found.names) == (COCO_WHOLEBODY.dataset, COCO_WHOLEBODY.names)
    assert found.oks_sigmas == COCO_WHOLEBODY.oks_sigmas
    assert found.flip_indices == COCO_WHOLEBODY.flip_indices


def test_halpe_26_is_what_mmpose_says_of_it():
    found = keypoints(HALPE)
    info = SHIPPED_HALPE["keypoint_info"]
    names = [info[i]["name"] for i in range(26)]
    swapped = [info[i]["swap"] or info[i]["name"] for i in range(26)]
    assert found.dataset == "halpe26"
    assert list(found.names) == names
    assert [names[i] for i in found.flip_indices] == swapped
    assert list(found.oks_sigmas) == list(SHIPPED_HALPE["sigmas"])
    links = [SHIPPED_HALPE["skeleton_info"][i]["link"] for i in range(27)]
    assert [tuple(names[i] for i in pair) for pair in found.skeleton] == [*map(tuple, links)]


def test_the_config_may_carry_the_description_itself(tmp_path):
    found = keypoints(write_hand(tmp_path, tiny=True))
    assert (found.dataset, len(found.names)) == ("workshop", 21)
    assert found.flip_pairs == tuple((i, i + 1) for i in range(1, 21, 2))
    assert found.oks_sigmas[20] == 0.05


def test_the_checkpoint_may_say_it_as_mmpose_records_it(tmp_path):
    recorded = parse_pose_metainfo(SHIPPED_HALPE)
    assert recorded["sigmas"].dtype == np.float32
    assert keypoints(without_dataset(tmp_path), meta=recorded) == keypoints(HALPE)


def test_a_file_may_say_it(tmp_path):
    expected = keypoints(HALPE)
    values = dict(zip(FIELDS, (getattr(expected, f) for f in ("names", *FIELDS[1:])), strict=True))
    file = write_json(tmp_path, dataset="halpe26", **values)
    assert keypoints(without_dataset(tmp_path), file=file) == expected


def test_a_file_adds_what_the_config_leaves_out(tmp_path):
    face = "mmpose:rtmpose-m_8xb64-60e_wflw-256x256"
    with pytest.raises(ConfigError, match=r"expected oks_sigmas of 98 keypoints .*--keypoints"):
        keypoints(face)
    file = write_json(tmp_path, oks_sigmas=[0.025] * 98)
    assert keypoints(face, file=file).oks_sigmas == (0.025,) * 98


def test_nobody_says_it(tmp_path):
    with pytest.raises(
        ConfigError, match=r"keypoint_names, skeleton, flip_pairs, oks_sigmas of 26"
    ):
        keypoints(without_dataset(tmp_path))


CONTRADICTIONS = {
    "names": ({"keypoint_id2name": {i: f"k{i}" for i in range(26)}}, "keypoint_names"),
    "sigmas": ({"sigmas": np.full(26, 0.5, np.float32)}, "oks_sigmas"),
    "flip pairs": ({"flip_indices": list(range(26))}, "flip_pairs"),
    "skeleton": ({"skeleton_links": [(0, 1)]}, "skeleton"),
}


@pytest.mark.parametrize(("change", "field"), CONTRADICTIONS.values(), ids=CONTRADICTIONS)
def test_config_and_checkpoint_that_differ_are_an_error_that_names_both(change, field):
    meta = {**parse_pose_metainfo(SHIPPED_HALPE), **change}
    with pytest.raises(ConfigError) as caught:
        keypoints(HALPE, meta=meta)
    text = str(caught.value)
    assert text.startswith(f"{field}: expected the same in the data set of rtmpose-m")
    assert "the checkpoint's dataset_meta" in text
    assert "\n" not in text


def test_a_file_and_a_config_that_differ_are_an_error_that_names_both(tmp_path):
    file = write_json(tmp_path, oks_sigmas=[0.1] * 26)
    with pytest.raises(ConfigError, match=r"keypoints\.json and in the data set of rtmpose-m"):
        keypoints(HALPE, file=file)


def test_pairs_in_another_order_say_the_same(tmp_path):
    found = keypoints(HALPE)
    turned = [pair[::-1] for pair in reversed(found.skeleton)]
    file = write_json(tmp_path, skeleton=turned)
    assert keypoints(HALPE, file=file).flip_pairs == found.flip_pairs


def test_another_number_than_the_heads_is_an_error(tmp_path):
    path = tmp_path / "more.py"
    path.write_text(
        f"_base_ = {str(config_path(HALPE))!r}\nmodel = dict(head=dict(out_channels=30))\n"
    )
    with pytest.raises(ConfigError, match="of 30 keypoints, as the head has, found 26"):
        keypoints(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[", "expected metadata in JSON"),
        ('{"names": []}', "expected only dataset, keypoint_names"),
        ('{"oks_sigmas": [0]}', "oks_sigmas: expected floats above 0"),
        ('{"flip_pairs": [[1, 1]]}', "flip_pairs: expected pairs of indices"),
    ],
)
def test_a_file_that_says_something_else_is_one_line(tmp_path, text, message):
    file = tmp_path / "keypoints.json"
    file.write_text(text)
    with pytest.raises(MetadataError) as caught:
        keypoints(HALPE, file=file)
    assert str(file) in str(caught.value)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"keypoint_info": 3}, "MMPose's description of keypoints"),
        ({"keypoint_id2name": {5: "a"}}, "MMPose's description of keypoints"),
        ({"flip_indices": [1, 2, 0]}, "expected keypoints that swap with one another"),
        ({"sigmas": ["wide"]}, "MMPose's description of keypoints"),
    ],
)
def test_a_description_that_is_none_is_named_with_its_source(change, message):
    with pytest.raises(ConfigError) as caught:
        keypoints(HALPE, meta=change)
    assert str(caught.value).startswith("the checkpoint's dataset_meta: ")
    assert message in str(caught.value)


def test_a_file_of_ones_own_counts_before_one_of_the_same_name_in_mmpose(tmp_path):
    (tmp_path / "data").mkdir()
    info = {**SHIPPED_HALPE, "dataset_name": "mine"}
    (tmp_path / "data" / "halpe26.py").write_text(f"dataset_info = {dict(info)!r}\n")
    path = tmp_path / "configs" / "deeper" / "model.py"
    path.parent.mkdir(parents=True)
    text = f"_base_ = {str(config_path(HALPE))!r}\n"
    text += "train_dataloader = dict(dataset=dict(metainfo=dict(from_file='data/halpe26.py')))\n"
    path.write_text(text)
    assert keypoints(path).dataset == "mine"
    path.write_text(text.replace("data/halpe26.py", "data/none.py"))
    with pytest.raises(ConfigError, match=r"the file that its data set names, data/none\.py"):
        keypoints(path)


def simcc_configs():
    configs = sorted(shipped_configs().rglob("*rtmpose*/**/*.py")) + sorted(
        shipped_configs().rglob("rtmw*.py")
    )
    return [path for path in configs if "RTMCCHead" in (text := path.read_text()) or "RTMW" in text]


@pytest.mark.long
def test_every_simcc_config_of_mmpose_says_its_keypoints_but_for_sigmas_of_faces():
    silent = set()
    for path in map(Path, simcc_configs()):
        config = load_config(path)
        try:
            found = keypoints_of(OwnModel("m", path), config, None)
        except ConfigError as error:
            assert "expected oks_sigmas of" in str(error)
            silent.add(path.parent.name)
        else:
            assert len(found.names) == config.model.head.out_channels
    assert silent == {"wflw", "lapa", "face6"}
