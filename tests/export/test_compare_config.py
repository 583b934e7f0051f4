"""A checkpoint's own config against ours: contradictions are found, other forms are none."""

import itertools
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from cigpose_export.checkpoints.carried_config import read_config_text
from cigpose_export.checkpoints.compare_config import compare_configs, require_same_model
from cigpose_export.checkpoints.load import SYNTHETIC_MARK, load_checkpoint
from cigpose_export.checkpoints.synthesize import synthesize
from cigpose_export.errors import ConfigMismatchError
from cigpose_export.modeling.build import load_config
from cigpose_export.openmmlab import Config
from cigpose_export.pipeline import export_model
from cigpose_export.project import Project
from cigpose_export.reference.load import load_reference
from tiny_project import make_tiny_project
from upstream_config import PUBLISHED, SPEC, upstream_config_text, write_upstream_config

COCO = "cigpose-m_coco_256x192"


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    """What the 14 checkpoints carry, by name."""
    folder = tmp_path_factory.mktemp("upstream")
    return {name: upstream_config_text(folder, name) for name in PUBLISHED}


@pytest.fixture(scope="module")
def ours():
    """Our 14 configs by name."""
    project = Project.of_this_clone()
    return {name: load_config(project.config_path(name)).to_dict() for name in PUBLISHED}


# The 14 among themselves


def decisive(name: str) -> dict[str, object]:
    """What the published numbers say of a variant, by the field that a config says it in."""
    entry = PUBLISHED[name]
    head, backbone, keypoints = entry["head"], entry["backbone"], str(entry["num_keypoints"])
    return {
        "dataset_type": entry["dataset_type"],
        "model.backbone.deepen_factor": backbone["deepen_factor"],
        "model.backbone.widen_factor": backbone["widen_factor"],
        "model.head.in_channels": head["in_channels"],
        "model.head.out_channels": entry["num_keypoints"],
        "model.head.input_size": entry["input_size_wh"],
        "model.head.in_featuremap_size": head["in_featuremap_size_wh"],
        "model.head.gau_cfg.hidden_dims": head["gau"]["hidden_dims"],
        "model.head.gau_cfg.s": head["gau"]["s"],
        "model.head.gcn_cfg.num_layers": head["gcn"]["num_layers"],
        "model.head.gcn_cfg.input_dim": head["gcn"]["input_dim"],
        "model.head.gcn_cfg.hidden_dim": head["gcn"]["hidden_dim"],
        "model.head.keypoint_connections": SPEC["skeleton_edges"][keypoints],
        "model.head.keypoint_groups": SPEC["keypoint_groups"][keypoints],
        "model.head.decoder.input_size": entry["input_size_wh"],
    }


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_published_config_passes_on_its_own_variant(texts, ours, name):
    assert compare_configs(read_config_text(texts[name]), ours[name]) == ([], [])


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_published_config_fails_on_the_other_13_where_they_differ(texts, ours, name):
    carried, said = read_config_text(texts[name]), decisive(name)
    for other in PUBLISHED.keys() - {name}:
        expected = {key for key, value in decisive(other).items() if value != said[key]}
        differences, unread = compare_configs(carried, ours[other])
        assert {line.partition(":")[0] for line in differences} == expected, other
        assert expected
        assert not unread


# These compute the same function of their weights; the data set alone tells them apart, and so
# the name, the published figures and the `dataset` in the metadata.
ALIKE = [
    ("cigpose-l_coco-wholebody_256x192", "cigpose-l_coco-ubody_256x192"),
    ("cigpose-l_coco-wholebody_384x288", "cigpose-l_coco-ubody_384x288"),
    ("cigpose-x_coco-wholebody_384x288", "cigpose-x_coco-ubody_384x288"),
]


def test_only_whole_body_and_ubody_share_a_function(texts, ours):
    alike = [
        (one, other)
        for one, other in itertools.permutations(PUBLISHED, 2)
        if [*map(field_of, compare_configs(read_config_text(texts[one]), ours[other])[0])]
        == ["dataset_type"]
    ]
    assert sorted(alike) == sorted([*ALIKE, *((b, a) for a, b in ALIKE)])


def field_of(difference: str) -> str:
    return difference.partition(":")[0]


# One change at a time

HEAD, BACKBONE, PREPROCESSOR = "model.head", "model.backbone", "model.data_preprocessor"
EDGES, GROUPS = SPEC["skeleton_edges"]["17"], SPEC["keypoint_groups"]["17"]

CONTRADICTIONS = [
    (f"{HEAD}.cim_cfg.intervention_k_val", 3, "3 in the checkpoint, 1 in the config"),
    (f"{HEAD}.cim_cfg.intervention_strategy", "threshold", "'threshold' in the checkpoint"),
    (f"{HEAD}.keypoint_connections", EDGES[1:], "none only in the checkpoint, (0, 1) only in"),
    (f"{HEAD}.keypoint_connections", [*EDGES, (0, 16)], "(0, 16) only in the checkpoint, none"),
    (f"{HEAD}.keypoint_connections", [*EDGES, EDGES[0]], "(0, 1) only in the checkpoint, none"),
    (f"{HEAD}.keypoint_groups", GROUPS[1:], "none only in the checkpoint, (0, 1, 2, 3, 4) only"),
    (f"{HEAD}.keypoint_groups", [[0, 1, 2, 3], *GROUPS[1:]], "(0, 1, 2, 3) only in the check"),
    (f"{HEAD}.gcn_cfg.num_layers", 2, "2 in the checkpoint, 1 in the config"),
    (f"{HEAD}.gcn_cfg.hidden_dim", 128, "128 in the checkpoint, 256 in the config"),
    (f"{HEAD}.gau_cfg.act_fn", "ReLU", "'ReLU' in the checkpoint, 'SiLU' in the config"),
    (f"{HEAD}.gau_cfg.use_rel_bias", True, "True in the checkpoint, False in the config"),
    (f"{HEAD}.gau_cfg.pos_enc", True, "True in the checkpoint, False in the config"),
    (f"{HEAD}.final_layer_kernel_size", 1, "1 in the checkpoint, 7 in the config"),
    (f"{HEAD}.input_size", (288, 384), "(288, 384) in the checkpoint, (192, 256) in the config"),
    (f"{HEAD}.in_featuremap_size", (9, 12), "(9, 12) in the checkpoint, (6, 8) in the config"),
    (f"{HEAD}.simcc_split_ratio", 3.0, "3.0 in the checkpoint, 2.0 in the config"),
    (f"{HEAD}.decoder.simcc_split_ratio", 3.0, "3.0 in the checkpoint, 2.0 in the config"),
    (f"{HEAD}.decoder.input_size", [288, 384], "(288, 384) in the checkpoint, (192, 256) in"),
    (f"{HEAD}.decoder.use_dark", True, "True in the checkpoint, False in the config"),
    (f"{HEAD}.type", "RTMCCHead", "'RTMCCHead' in the checkpoint, 'CIGHead' in the config"),
    (f"{PREPROCESSOR}.mean", [0, 0, 0], "(0, 0, 0) in the checkpoint, (123.675, 116.28, 103.53)"),
    (f"{PREPROCESSOR}.std", [1, 1, 1], "(1, 1, 1) in the checkpoint, (58.395, 57.12, 57.375) in"),
    (f"{PREPROCESSOR}.bgr_to_rgb", False, "False in the checkpoint, True in the config"),
    (f"{BACKBONE}.arch", "P6", "'P6' in the checkpoint, 'P5' in the config"),
    (f"{BACKBONE}.out_indices", (3,), "(3,) in the checkpoint, (4,) in the config"),
    (f"{BACKBONE}.channel_attention", False, "False in the checkpoint, True in the config"),
    (f"{BACKBONE}.expand_ratio", 1, "1 in the checkpoint, 0.5 in the config"),
    (f"{BACKBONE}.act_cfg.type", "ReLU", "'ReLU' in the checkpoint, 'SiLU' in the config"),
    (f"{BACKBONE}.act_cfg", None, "None in the checkpoint, 'a dict' in the config"),
    (f"{BACKBONE}.conv_cfg.type", "Conv3d", "'Conv3d' in the checkpoint, 'Conv' in the config"),
    (f"{BACKBONE}.arch_ovewrite", {"a": 1}, "'a dict' in the checkpoint, None in the config"),
    (f"{BACKBONE}.norm_cfg.eps", 1e-3, "0.001 in the checkpoint, 1e-05 in the config"),
    (f"{BACKBONE}.use_depthwise", True, "True in the checkpoint, False in the config"),
    (f"{BACKBONE}.spp_kernel_sizes", (5, 9), "(5, 9) in the checkpoint, (5, 9, 13) in the"),
    ("model.neck", {"type": "FPN"}, "'FPN' in the checkpoint, None in the config"),
    ("model.data_preprocessor", None, "None in the checkpoint, 'PoseDataPreprocessor' in"),
    ("dataset_type", "UBody2dDataset", "'UBody2dDataset' in the checkpoint, 'CocoDataset' in"),
    ("box_padding", 1.0, "1.0 in the checkpoint, 1.25 in the config"),
    ("use_udp", True, "True in the checkpoint, False in the config"),
]


@pytest.fixture(scope="module")
def coco(tmp_path_factory):
    """The config that the checkpoint of m with 17 keypoints carries."""
    folder = tmp_path_factory.mktemp("coco")
    return Config.fromfile(write_upstream_config(folder, COCO)).to_dict()


def changed(config: dict, key: str, value: object) -> Config:
    """A config with one value replaced, all that is shared with others copied first."""
    result = Config(config).to_dict()
    for part in ("train_dataloader", "val_dataloader", "test_dataloader"):
        steps = result[part]["dataset"]["pipeline"]
        if key == "box_padding" and part != "train_dataloader":
            steps[1] = {**steps[1], "padding": value}
        elif key == "use_udp" and part != "train_dataloader":
            steps[2] = {**steps[2], "use_udp": value}
    if key not in ("box_padding", "use_udp"):
        *owners, last = key.split(".")
        owner = result
        for name in owners:
            owner = owner.setdefault(name, {})
        owner[last] = value
    return Config(result, format_python_code=False)


@pytest.mark.parametrize(("key", "value", "said"), CONTRADICTIONS)
def test_a_contradiction_is_named_with_both_values(coco, ours, key, value, said):
    carried = read_config_text(changed(coco, key, value).pretty_text)
    differences, _ = compare_configs(carried, ours[COCO])
    (difference,) = (line for line in differences if line.startswith(key))
    assert said in difference
    if key not in ("model.neck", "model.data_preprocessor"):
        assert len(differences) == 1


def test_an_eps_that_the_backbone_s_own_norm_has_is_found(coco, ours):
    """Without a `norm_cfg`, CSPNeXt builds its norms with eps=0.001; ours is BN's own 1e-5."""
    config = Config(coco).to_dict()
    del config["model"]["backbone"]["norm_cfg"]
    (difference,) = compare_configs(config, ours[COCO])[0]
    assert difference.endswith("norm_cfg.eps: 0.001 in the checkpoint, 1e-05 in the config")


OTHER_FORMS = [
    (f"{HEAD}.type", "CausalGraphHead"),
    (f"{HEAD}.type", "mmpose.CIGHead"),
    (f"{HEAD}.cim_cfg.intervention_k", 13),
    (f"{HEAD}.cim_cfg", {"intervention_k": 5}),  # topk of one is the default
    (f"{HEAD}.cim_cfg.intervention_threshold", 0.9),  # topk reads none
    (f"{HEAD}.keypoint_connections", [list(edge) for edge in EDGES]),
    (f"{HEAD}.keypoint_connections", [(b, a) for a, b in reversed(EDGES)]),
    (f"{HEAD}.keypoint_groups", tuple(tuple(reversed(group)) for group in reversed(GROUPS))),
    (f"{HEAD}.input_size", [192, 256]),
    (f"{HEAD}.simcc_split_ratio", 2),
    (f"{HEAD}.in_featuremap_size", [6, 8]),
    (f"{HEAD}.gau_cfg.drop_path", 0.1),
    (f"{HEAD}.gau_cfg.dropout_rate", 0.1),
    (f"{HEAD}.gau_cfg._delete_", True),
    (f"{HEAD}.gau_cfg._scope_", "mmpose"),
    (f"{HEAD}.loss", {"type": "KLDiscretLoss", "beta": 1.0}),
    (f"{HEAD}.loss_cf", None),
    (f"{HEAD}.init_cfg", {"type": "Normal"}),
    (f"{HEAD}.decoder.sigma", (9.0, 9.0)),
    (f"{HEAD}.decoder.normalize", True),
    (f"{HEAD}.decoder.label_smooth_weight", 0.1),
    (f"{BACKBONE}.type", "mmdet.CSPNeXt"),
    (f"{BACKBONE}.type", "mmpose.models.backbones.CSPNeXt"),
    (f"{BACKBONE}.out_indices", [4]),
    (f"{BACKBONE}.deepen_factor", 0.67),
    (f"{BACKBONE}.norm_cfg", {"type": "BN", "eps": 1e-5, "momentum": 0.1, "requires_grad": True}),
    (f"{BACKBONE}.act_cfg", {"type": "Swish", "inplace": True}),
    (f"{BACKBONE}.conv_cfg", {"type": "Conv2d"}),
    (f"{BACKBONE}.init_cfg", None),
    (f"{BACKBONE}.frozen_stages", 2),
    (f"{BACKBONE}.spp_kernel_sizes", [5, 9, 13]),
    (PREPROCESSOR, {**PUBLISHED[COCO]["data_preprocessor"], "type": "mmpose.PoseDataPreprocessor"}),
    (f"{PREPROCESSOR}.mean", (123.675, 116.28, 103.53)),
    (f"{PREPROCESSOR}.batch_augments", []),
    (f"{PREPROCESSOR}.pad_size_divisor", 32),
    ("model.neck", None),
    ("model.train_cfg", {"a": 1}),
    ("model.test_cfg", {"flip_test": False}),
    ("train_cfg", {"max_epochs": 1}),
    ("box_padding", 1.25),
    ("use_udp", False),
]


@pytest.mark.parametrize(("key", "value"), OTHER_FORMS)
def test_another_form_of_the_same_function_is_no_contradiction(coco, ours, key, value):
    carried = read_config_text(changed(coco, key, value).pretty_text)
    assert compare_configs(carried, ours[COCO]) == ([], [])


DEFAULTS = [
    f"{HEAD}.in_featuremap_num",
    f"{HEAD}.simcc_split_ratio",
    f"{HEAD}.cim_cfg.intervention_k_val",
    f"{HEAD}.decoder.simcc_split_ratio",
    f"{HEAD}.decoder.use_dark",
    f"{BACKBONE}.arch",
    f"{BACKBONE}.expand_ratio",
    f"{BACKBONE}.channel_attention",
    f"{BACKBONE}.act_cfg",
]


@pytest.mark.parametrize("key", DEFAULTS)
def test_a_default_may_be_left_out(coco, ours, key):
    config = Config(coco).to_dict()
    *owners, last = key.split(".")
    owner = config
    for name in owners:
        owner = owner[name]
    del owner[last]
    assert compare_configs(config, ours[COCO]) == ([], [])


def test_either_flag_swaps_the_colours(coco, ours):
    config = Config(coco).to_dict()
    config["model"]["data_preprocessor"] |= {"bgr_to_rgb": False, "rgb_to_bgr": True}
    assert compare_configs(config, ours[COCO]) == ([], [])


def test_a_config_that_names_no_data_set_is_for_the_one_that_it_trains_on(texts, ours):
    for name in PUBLISHED:
        carried = {k: v for k, v in read_config_text(texts[name]).items() if k != "dataset_type"}
        assert compare_configs(carried, ours[name]) == ([], [])
    ubody = "cigpose-l_coco-ubody_256x192"
    carried = {k: v for k, v in read_config_text(texts[ubody]).items() if k != "dataset_type"}
    differences, _ = compare_configs(carried, ours["cigpose-l_coco-wholebody_256x192"])
    assert [*map(field_of, differences)] == ["dataset_type"]


# What cannot be read

UNREAD = {
    "the text": ("model = dict(", "was not compared (the text is no Python"),
    "the model": ("import os\nmodel = os.environ", "was not compared in model (line 2 is no lit"),
    "no model": ("a = 1", "was not compared in model (there is none)"),
    "no dict": ("model = 3", "was not compared in model (there is none)"),
}


@pytest.mark.parametrize(("text", "said"), UNREAD.values(), ids=UNREAD)
def test_a_text_that_cannot_be_read_is_said_in_one_line(text, said):
    note = note_on(text)
    assert said in note
    assert note.isprintable()


def test_a_field_that_cannot_be_read_is_said_and_the_others_count(texts):
    text = texts[COCO].replace("out_channels=17", "out_channels=len(keypoints)")
    line = next(i for i, t in enumerate(text.splitlines(), 1) if "len(keypoints)" in t)
    assert note_on(text).endswith(f"in model.head.out_channels (line {line} is no literal)")
    with pytest.raises(ConfigMismatchError, match="intervention_k_val: 2 in the checkpoint, 1 in"):
        note_on(text.replace("intervention_k_val=1", "intervention_k_val=2"))


@pytest.mark.parametrize(
    ("after", "field"),
    [("in_channels=768", "model.head.shortcut"), ("s=128", "model.head.gau_cfg.shortcut")],
)
def test_an_argument_that_no_head_here_has_is_said(texts, after, field):
    text = texts[COCO].replace(after, f"{after}, shortcut=True")
    assert note_on(text).endswith(f"was not compared in {field} (unknown here)")


ODD = [
    "model = dict(type=[1], head=dict(type={}), backbone=3, neck=[], data_preprocessor='a')",
    "model = dict(head=dict(keypoint_connections=3, keypoint_groups=[1, 'a', None], cim_cfg=[]))",
    "model = dict(head=dict(decoder=3, type='CIGHead', cim_cfg=dict(intervention_strategy=[])))",
    "model = {1: 2, None: 3}\ntrain_dataloader = 3\ntest_dataloader = [1]",
    "model = dict(type='antigravity', head=dict(type='this'))",
    "model = dict()\ndataset_type = [1]\ntrain_dataloader = dict(dataset=[dict(type=[])])",
    "model = dict()\ntest_dataloader = dict(dataset=dict(pipeline=[1, dict(), dict(type=3)]))",
    "model = dict(data_preprocessor=dict(bgr_to_rgb=f(), mean=dict(a=[{}])))",
]


@pytest.mark.parametrize("text", ODD)
def test_values_of_odd_types_are_contradictions_or_notes(text):
    try:
        assert note_on(text)
    except ConfigMismatchError as error:
        assert str(error).isprintable()


def note_on(text: str | None) -> str | None:
    """What is said of a checkpoint with this text, against our config of m with 17 keypoints."""
    config = load_config(Project.of_this_clone().config_path(COCO))
    return require_same_model(SimpleNamespace(path=Path("a.pth"), config_text=text), config)


def test_a_checkpoint_without_a_text_is_not_compared():
    assert note_on(None) is None


# In an export and in what a verdict compares with


class Carrying:
    """A tiny project, and a way to export a checkpoint of it that carries a given text."""

    def __init__(self, root):
        self.root = root
        self.project = make_tiny_project(root)
        (self.variant,) = self.project.variants.values()
        self.text = load_config(self.project.config_path(self.variant.name)).pretty_text
        self.state_dict = None

    def checkpoint(self, text):
        if self.state_dict is None:
            synthesize(self.project, self.variant)
            path = self.project.checkpoint_path(self.variant.name, "synthetic")
            self.state_dict = dict(load_checkpoint(path).state_dict)
        path = self.root / "carrying.pth"
        meta = {"cfg": text, SYNTHETIC_MARK: {}}
        torch.save({"state_dict": self.state_dict, "meta": meta}, path)
        return path

    def export(self, text):
        return export_model(
            self.project,
            self.variant,
            weights="synthetic",
            checkpoint_path=self.checkpoint(text),
            target=self.root / "out" / "model.onnx",
            on_stage=lambda _: None,
        )


@pytest.fixture(scope="module")
def carrying(tmp_path_factory):
    return Carrying(tmp_path_factory.mktemp("carrying"))


def test_an_export_refuses_a_checkpoint_of_another_model(carrying):
    assert "intervention_k_val=1" in carrying.text
    with pytest.raises(ConfigMismatchError) as caught:
        carrying.export(carrying.text.replace("intervention_k_val=1", "intervention_k_val=3"))
    error = str(caught.value)
    assert error.isprintable()
    for part in (
        "carrying.pth: the config that it carries contradicts cigpose-m_coco_256x192.py",
        "model.head.cim_cfg.intervention_k_val: 3 in the checkpoint, 1 in the config",
        "--config FILE",
    ):
        assert part in error
    assert caught.value.exit_status == 2
    assert not (carrying.root / "out").exists()


def test_verify_refuses_a_checkpoint_of_another_model(carrying):
    path = carrying.checkpoint(carrying.text.replace("123.675", "0.0"))
    with pytest.raises(ConfigMismatchError, match=r"data_preprocessor\.mean: \(0\.0, 116\.28"):
        load_reference(carrying.project, carrying.variant, path)


def test_an_export_says_what_it_could_not_compare_and_runs_nothing(carrying):
    marker = carrying.root / "ran"
    planted = f"__import__('pathlib').Path({str(marker)!r}).touch()"
    exported = carrying.export(f"{carrying.text}\n{planted}\nmodel['head'] = {planted}\n")
    assert "the config that it carries was not compared in model (line " in exported.note
    assert not marker.exists()
    assert (carrying.root / "out" / "model.onnx").is_file()
