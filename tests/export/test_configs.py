import json
import resource
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from cigpose_export.errors import ConfigError
from cigpose_export.modeling.build import build_reference, load_config, require_runs
from cigpose_export.own_model import config_path
from cigpose_export.project import Project
from cigpose_export.variants import DEMO
from own_models import RTMW

DATA = Path(__file__).parents[1] / "data"
SPEC = json.loads((DATA / "variants.json").read_text("utf-8"))
PUBLISHED = {entry["name"]: entry for entry in SPEC["variants"]}


def published_state_dict(name: str) -> dict[str, list[int]]:
    """Keys and shapes of a published checkpoint; backbones of one size are the same."""
    folder, short = DATA / "state_dict", name.removeprefix("cigpose-")
    parts = (f"backbone-{short[0]}.json", f"head-{short}.json")
    return {k: v for part in parts for k, v in json.loads((folder / part).read_text()).items()}


# The 14 configs

LOAD_WITH_MMENGINE_ALONE = """\
import json, sys
for package in ("mmpose", "mmcv", "mmdet"):
    sys.modules[package] = None
from mmengine.config import Config
print(json.dumps([Config.fromfile(path).to_dict() for path in sys.argv[1:]]))
"""


@pytest.fixture(scope="module")
def configs():
    """The 14 configs by name, as MMEngine reads them where nothing else of OpenMMLab is there."""
    project = Project.of_this_clone()
    paths = [str(project.config_path(name)) for name in PUBLISHED]
    read = subprocess.run(
        [sys.executable, "-c", LOAD_WITH_MMENGINE_ALONE, *paths],
        check=True,
        capture_output=True,
        text=True,
    )
    return dict(zip(PUBLISHED, json.loads(read.stdout), strict=True))


def test_there_is_one_config_per_variant():
    folder = Project.of_this_clone().root / "configs"
    assert {path.stem for path in folder.glob("*.py")} == {*PUBLISHED, DEMO.name}


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_config_holds_the_published_numbers(configs, name):
    config, entry = configs[name], PUBLISHED[name]
    model, codec = config["model"], config["codec"]
    head, backbone, published = model["head"], model["backbone"], entry["backbone"]
    keypoints = str(entry["num_keypoints"])

    assert config["dataset_type"] == entry["dataset_type"]
    assert config["box_padding"] == 1.25
    assert model["test_cfg"]["flip_test"] == entry["flip_test"]
    preprocessor = {key: model["data_preprocessor"][key] for key in entry["data_preprocessor"]}
    assert preprocessor == entry["data_preprocessor"]

    assert list(codec["input_size"]) == list(head["input_size"]) == entry["input_size_wh"]
    assert list(codec["sigma"]) == pytest.approx(entry["simcc_sigma"], abs=5e-3)
    for owner in (codec, head, head["decoder"]):
        assert owner["simcc_split_ratio"] == entry["simcc_split_ratio"]
    assert codec["normalize"] == entry["simcc_normalize"]
    assert codec["use_dark"] == entry["simcc_use_dark"]

    assert backbone["norm_cfg"] == {"type": "BN"}
    assert backbone["act_cfg"]["type"] == published["act"]
    for key in set(published) - {"norm", "act"}:
        assert _listed(backbone[key]) == published[key], key

    expected = entry["head"]
    assert head["out_channels"] == entry["num_keypoints"]
    assert list(head["in_featuremap_size"]) == expected["in_featuremap_size_wh"]
    for key in ("in_channels", "in_featuremap_num", "final_layer_kernel_size"):
        assert head[key] == expected[key]
    for part in ("gau", "gcn", "cim"):
        assert head[f"{part}_cfg"] == expected[part]
    assert head["keypoint_connections"] == SPEC["skeleton_edges"][keypoints]
    assert head["keypoint_groups"] == SPEC["keypoint_groups"][keypoints]


def _listed(value):
    return list(value) if isinstance(value, tuple | list) else value


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_built_model_has_the_published_keys_shapes_and_size(name):
    config = load_config(Project.of_this_clone().config_path(name))
    with torch.device("meta"):  # shapes without values
        model = build_reference(config)
    shapes = {key: list(value.shape) for key, value in model.state_dict().items()}
    assert shapes == published_state_dict(name)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    assert parameters == PUBLISHED[name]["num_parameters"]


# Bad configs


def write(root: Path, **files: str) -> Path:
    """Writes configs by stem; returns the path of the one named `config`."""
    for stem, text in files.items():
        (root / f"{stem}.py").write_text(text)
    return root / "config.py"


LOOPS = {
    "itself": {"config": "_base_ = ['./config.py']"},
    "one that includes it": {"config": "_base_ = ['./a.py']", "a": "_base_ = ['./config.py']"},
    "a loop further on": {
        "config": "_base_ = ['./a.py']",
        "a": "_base_ = ['./b.py']",
        "b": "_base_ = ['./a.py']",
    },
}


@pytest.mark.timeout(60)
@pytest.mark.parametrize("files", LOOPS.values(), ids=LOOPS)
def test_a_config_that_includes_itself_is_a_config_error(tmp_path, files):
    with pytest.raises(ConfigError, match="include each other in a loop") as caught:
        load_config(write(tmp_path, **files))
    assert_is_one_line(caught.value, "config.py")


def test_a_loop_is_named_where_few_files_may_be_open(tmp_path):
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    used = len(list(Path("/proc/self/fd").iterdir()))
    resource.setrlimit(resource.RLIMIT_NOFILE, (used + 20, before[1]))
    try:
        with pytest.raises(ConfigError, match="include each other in a loop"):
            load_config(write(tmp_path, **LOOPS["itself"]))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


TOPDOWN = "model = dict(type='TopdownPoseEstimator', "

UNREADABLE = {
    "a missing _base_": ("_base_ = ['./none.py']", "none.py"),
    "no Python": ("model = dict(", "not a loadable MMEngine config"),
    "binary": ("\x00\x01", "not a loadable MMEngine config"),
    "code that fails": ("model = 1 / 0", "division by zero"),
    "code that ends the process": ("raise SystemExit(3)", "not a loadable MMEngine config (3)"),
    "empty": ("", "expected a top-level model, found none"),
    "no codec": (f"{TOPDOWN}head=dict(type='CIGHead'))", "expected a codec"),
    "no head": (f"{TOPDOWN})", "a part is missing"),
    "a head that is none": (f"{TOPDOWN}head=1)", "wrong type"),
    "a model that is none": ("model = 1", "wrong type"),
}


@pytest.mark.parametrize(("text", "message"), UNREADABLE.values(), ids=UNREADABLE)
def test_an_unusable_config_is_a_config_error(tmp_path, text, message):
    with pytest.raises(ConfigError) as caught:
        load_config(write(tmp_path, config=text))
    assert_is_one_line(caught.value, "config.py", message)


def test_a_missing_config_is_a_config_error(tmp_path):
    with pytest.raises(ConfigError) as caught:
        load_config(tmp_path / "none.py")
    assert_is_one_line(caught.value, "none.py", "run from a clone")


CONTRADICTIONS = {
    "split ratio 0": (
        "codec = dict(simcc_split_ratio=0)",
        "codec: expected simcc_split_ratio > 0, found 0",
    ),
    "split ratio below 0": (
        "codec = dict(simcc_split_ratio=-2.0)",
        "codec: expected simcc_split_ratio > 0, found -2.0",
    ),
    "split ratio NaN": (
        "codec = dict(simcc_split_ratio=float('nan'))",
        "codec: expected simcc_split_ratio > 0, found nan",
    ),
    "split ratio that is text": (
        "codec = dict(simcc_split_ratio='2')",
        "a part is missing or of the wrong type",
    ),
    "two split ratios": (
        "codec = dict(simcc_split_ratio=3.0)",
        "simcc_split_ratio is 2.0 in the head and 3.0 in the codec",
    ),
    "two input sizes": (
        "model['head']['input_size'] = (288, 384)",
        "input_size is (288, 384) in the head, (192, 256) in codec",
    ),
    "a graph of more keypoints": (
        "model['head']['out_channels'] = 14",
        "the graph names keypoints 0 to 16, but out_channels is 14",
    ),
}


NOT_EXPORTED = {
    "an unknown head": ("model['head']['type'] = 'NoHead'", "found NoHead"),
    "a heatmap": ("model['head'] = dict(_delete_=True, type='HeatmapHead')", "found HeatmapHead"),
    "regression": ("model['head'] = dict(_delete_=True, type='RLEHead')", "found RLEHead"),
    "bottom-up": ("model['type'] = 'BottomupPoseEstimator'", "a bottom-up model"),
    "a distiller": (
        "model = dict(_delete_=True, type='DWPoseDistiller', student_cfg='s.py')",
        "give the student's config, s.py",
    ),
    "another codec": ("codec = dict(type='UDPHeatmap')", "type SimCCLabel, found UDPHeatmap"),
    "DARK": ("codec = dict(use_dark=True)", "expected no use_dark"),
    "other outputs": (
        "model['test_cfg'] = dict(output_keypoint_indices=[0])",
        "expected no output_keypoint_indices",
    ),
    "UDP": (
        "val_pipeline = [dict(type='TopdownAffine', input_size=(192, 256), use_udp=True)]",
        "expected no use_udp",
    ),
    "grey pictures": (
        "model['data_preprocessor'] = dict(mean=[127.5])",
        "expected mean of 3 channels",
    ),
}


REFUSED = {**CONTRADICTIONS, **NOT_EXPORTED}


@pytest.mark.parametrize(("change", "message"), REFUSED.values(), ids=REFUSED)
def test_a_config_that_contradicts_itself_or_is_not_exported_is_refused(
    tiny_project, change, message
):
    path = changed_config(tiny_project, change)
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    assert_is_one_line(caught.value, path.name, message)


def test_what_a_config_leaves_to_its_parts_is_filled_in(tmp_path):
    text = (
        f"_base_ = {str(config_path(RTMW))!r}\n"
        "model = dict(head=dict(decoder=dict(sigma=(5.0, 5.0))))\n"
        "step = dict(type='GetBBoxCenterScale', padding=1.5)\n"
        "test_dataloader = dict(dataset=dict(pipeline=[step]))"
    )
    config = load_config(write(tmp_path, config=text))
    assert config.box_padding == 1.5
    assert tuple(config.codec.input_size) == (192, 256)
    assert load_config(config_path(RTMW)).box_padding == 1.25


def test_visibility_beside_the_keypoints_is_no_reason_to_refuse_rtmw_x():
    config = load_config(config_path("mmpose:rtmw-x_8xb320-270e_cocktail14-384x288"))
    assert config.codec.decode_visibility


def test_parts_that_do_not_fit_each_other_are_a_config_error(tiny_project):
    config = load_config(
        changed_config(tiny_project, "model['head']['in_featuremap_size'] = (9, 9)")
    )
    with pytest.raises(ConfigError) as caught:
        require_runs(build_reference(config), config)
    assert_is_one_line(caught.value, ".py: the model does not run on an input of 192 x 256")


UNBUILDABLE = {
    "an argument that the head does not take": ("model['head']['depth'] = 3"),
    "an unknown intervention": ("model['head']['cim_cfg'] = dict(intervention_strategy='random')"),
    "several feature maps": ("model['head']['in_featuremap_num'] = 3"),
}


@pytest.mark.parametrize("change", UNBUILDABLE.values(), ids=UNBUILDABLE)
def test_a_model_that_cannot_be_built_is_a_config_error(tiny_project, change):
    config = load_config(changed_config(tiny_project, change))
    with pytest.raises(ConfigError) as caught:
        build_reference(config)
    assert_is_one_line(caught.value, ".py: MMPose cannot build the model")


def changed_config(project: Project, change: str) -> Path:
    (name,) = project.variants
    path = project.config_path(name)
    with path.open("a") as file:
        file.write(change)
    return path


def assert_is_one_line(error: ConfigError, *parts: str) -> None:
    assert len(str(error).splitlines()) == 1
    for part in parts:
        assert part in str(error)
    assert error.exit_status == 2
