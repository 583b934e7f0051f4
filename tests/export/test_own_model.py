"""Which config and which name a model of one's own has, and what the command says otherwise."""

from pathlib import Path

import pytest

from cigpose_export.cli import main as cli
from cigpose_export.errors import ConfigError, VariantError
from cigpose_export.jobs.staleness import model_hash
from cigpose_export.own_model import OwnModel, config_path, shipped_configs
from cigpose_export.project import Project, arguments_of
from own_models import HALPE, write_hand, write_tiny

HALPE_PATH = "body_2d_keypoint/rtmpose/body8/rtmpose-m_8xb512-700e_body8-halpe26-256x192"


@pytest.mark.parametrize(
    "named", [HALPE_PATH, f"{HALPE_PATH}.py", f"configs/{HALPE_PATH}.py", Path(HALPE_PATH).name]
)
def test_a_config_of_mmpose_is_named_by_its_path_or_its_file(named):
    assert config_path(f"mmpose:{named}") == shipped_configs() / f"{HALPE_PATH}.py"


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ("none.py", "name one of MMPose's own as mmpose:PATH"),
        ("mmpose:rtmpose-m_8xb512-700e_body8-halpe-256x192", f"did you mean mmpose:{HALPE_PATH}"),
        ("mmpose:zzz", "found none; correct it"),
        ("mmpose:..", "found none; correct it"),
    ],
)
def test_a_config_that_is_not_there_is_named_with_similar_ones(config, message):
    with pytest.raises(ConfigError) as caught:
        config_path(config)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_model_has_the_name_of_its_config_unless_it_is_given_one(tmp_path):
    config = str(write_tiny(tmp_path, HALPE))
    assert OwnModel.of(config, None, None, taken=()).name == "tiny"
    assert OwnModel.of(config, "mine", None, taken=()).name == "mine"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("cigpose-m_coco_256x192", "is the name of a published variant"),
        ("CIGPose-M_coco_256x192", "is the name of a published variant"),
        ("cigpose-demo_drawn_128x96", "is the name of a published variant"),
        ("a/b", "expected a name of letters"),
        ("..", "expected a name of letters"),
        (".hidden", "expected a name of letters"),
    ],
)
def test_a_name_that_is_taken_or_no_file_name_is_refused(tmp_path, name, message):
    config = str(write_tiny(tmp_path, HALPE))
    with pytest.raises(VariantError, match=message):
        Project.of_this_clone().own_model(config, name, None)


def test_a_published_config_needs_another_name():
    project = Project.of_this_clone()
    config = str(project.config_path("cigpose-m_coco_256x192"))
    with pytest.raises(VariantError, match="give another with --name"):
        project.own_model(config, None, None)
    assert project.own_model(config, "mine", None).name == "mine"


def test_a_process_of_its_own_gets_the_same_model(tmp_path):
    project = Project.of_this_clone()
    own = project.own_model(str(write_tiny(tmp_path, HALPE)), None, tmp_path / "keypoints.json")
    for model in (own, project.variants["cigpose-m_coco_256x192"]):
        assert project.model(**arguments_of(model)) == model


def base_of_another_size(folder):
    (folder / "base.py").write_text("size = (288, 384)\n")


def keypoints_file(folder):
    (folder / "keypoints.json").write_text('{"dataset": "other"}')


@pytest.mark.parametrize("change", [base_of_another_size, keypoints_file])
def test_what_a_config_computes_decides_what_is_out_of_date(tmp_path, change):
    (tmp_path / "base.py").write_text("size = (192, 256)\n")
    (tmp_path / "keypoints.json").write_text("{}")
    config = write_tiny(tmp_path, HALPE)
    # Not seen by who only reads the names in _base_.
    config.write_text(
        config.read_text()
        + f"exec(__import__('pathlib').Path({str(tmp_path / 'base.py')!r}).read_text())\n"
        "model['head']['gau_cfg'].update(s=size[0] // 12)\n"
    )
    model = OwnModel("tiny", config, tmp_path / "keypoints.json")
    project = Project(tmp_path)
    before = model_hash(project, model)
    config.write_text(config.read_text() + "# a comment computes nothing\n")
    assert model_hash(project, model) == before
    change(tmp_path)
    assert model_hash(project, model) != before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--config", "{config}"], "--config FILE needs --checkpoint FILE"),
        (["--config", "{config}", "--all"], "is a model by itself"),
        (["--config", "{config}", "cigpose-m_coco_256x192"], "is a model by itself"),
        (["--name", "mine", "cigpose-m_coco_256x192"], "--name NAME needs --config FILE"),
        (["--keypoints", "k.json", "cigpose-m_coco_256x192"], "needs --config FILE"),
        (["--config", "none.py", "--checkpoint", "c.pth"], "expected a config file, found none"),
    ],
)
def test_bad_usage_of_export_is_one_line_and_status_2(tmp_path, capsys, arguments, message):
    config = write_hand(tmp_path, tiny=True)
    with pytest.raises(SystemExit) as ended:
        cli.main(["export", *(argument.format(config=config) for argument in arguments)])
    (line,) = capsys.readouterr().err.splitlines()
    assert (ended.value.code, message in line) == (2, True), line


def test_the_help_says_that_a_config_is_run(capsys):
    for command in ("export", "verify"):
        with pytest.raises(SystemExit):
            cli.main([command, "--help"])
        assert "It is Python, and is run" in " ".join(capsys.readouterr().out.split())
