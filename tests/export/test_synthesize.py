import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from cigpose_export.checkpoints.load import SYNTHETIC_MARK, load_checkpoint, load_weights
from cigpose_export.checkpoints.synthesize import synthesize
from cigpose_export.modeling.build import build_reference, load_config
from cigpose_export.openmmlab import HistoryBuffer
from cigpose_export.project import Project
from cigpose_export.reference.run import Reference
from cigpose_runtime.files import file_sha256
from tiny_project import make_tiny_project

TESTS = Path(__file__).parents[1]


def synthesized(project: Project, **options) -> Path:
    """Makes the checkpoint of a project's one variant; returns its path."""
    (variant,) = project.variants.values()
    synthesize(project, variant, **options)
    return project.checkpoint_path(variant.name, "synthetic")


def sha256_with(project: Project, **options) -> str:
    return file_sha256(synthesized(project, **options))


@pytest.fixture(scope="module")
def shared_project(tmp_path_factory):
    return make_tiny_project(tmp_path_factory.mktemp("project"))


@pytest.fixture(scope="module")
def checkpoint(shared_project):
    """The path of a synthetic checkpoint, not to be changed."""
    return synthesized(shared_project)


@pytest.fixture(scope="module")
def content(checkpoint):
    """All that the checkpoint holds, read trustingly."""
    return torch.load(checkpoint, weights_only=False)


# The same bytes


def test_another_folder_gives_the_same_bytes(checkpoint, tmp_path):
    project = make_tiny_project(tmp_path / "some" / "other folder")
    assert sha256_with(project) == file_sha256(checkpoint)


def test_another_hash_seed_gives_the_same_bytes(checkpoint, tmp_path):
    code = (
        f"import sys; sys.path.insert(0, {str(TESTS / 'support')!r})\n"
        "from pathlib import Path\n"
        "from cigpose_export.checkpoints.synthesize import synthesize\n"
        "from tiny_project import make_tiny_project\n"
        f"project = make_tiny_project(Path({str(tmp_path)!r}))\n"
        "synthesize(project, *project.variants.values())\n"
    )
    subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        check=True,
        env={**os.environ, "PYTHONHASHSEED": "4711", "USER": "someone", "TZ": "Asia/Tokyo"},
    )
    (path,) = (tmp_path / "checkpoints" / "synthetic").iterdir()
    assert file_sha256(path) == file_sha256(checkpoint)


@pytest.mark.parametrize("threads", [1, 3])
def test_another_thread_count_gives_the_same_bytes(checkpoint, tiny_project, threads):
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        found = sha256_with(tiny_project)
    finally:
        torch.set_num_threads(before)
    assert found == file_sha256(checkpoint)


def test_the_state_of_torchs_generator_has_no_part(checkpoint, tiny_project):
    torch.manual_seed(4711)
    assert sha256_with(tiny_project) == file_sha256(checkpoint)


def test_another_seed_gives_other_weights(content, tiny_project):
    other = load_checkpoint(synthesized(tiny_project, seed=1)).state_dict
    key = "head.gcn.conv_input.weight"
    assert not torch.equal(other[key], content["state_dict"][key])


def test_values_depend_on_the_name_and_key_alone(checkpoint, tmp_path):
    """So that a further layer changes no other weight."""
    crowdpose = load_checkpoint(synthesized(make_tiny_project(tmp_path, "crowdpose"))).state_dict
    coco = load_checkpoint(checkpoint).state_dict
    key = "head.gcn.conv_input.weight"
    assert coco[key].shape == crowdpose[key].shape
    assert not torch.equal(coco[key], crowdpose[key])


def test_measured_values_are_rounded_to_what_every_machine_agrees_on(content):
    """Processors sum in different orders; in 12 of the 53 bits that were computed none differs."""
    measured = {k: v for k, v in content["state_dict"].items() if ".running_" in k}
    assert measured
    for key, value in measured.items():
        mantissa, _ = torch.frexp(value)
        assert torch.equal(mantissa * 2**12, (mantissa * 2**12).round()), key


# The form of a runner file


def test_a_checkpoint_holds_what_a_runner_file_holds(content):
    assert list(content) == [
        "meta",
        "state_dict",
        "message_hub",
        "optimizer",
        "param_schedulers",
        "ema_state_dict",
    ]
    assert list(content["message_hub"]) == ["log_scalars", "runtime_info", "resumed_keys"]
    scalars = content["message_hub"]["log_scalars"].values()
    assert {type(scalar) for scalar in scalars} == {HistoryBuffer}
    assert content["param_schedulers"]
    assert content["meta"][SYNTHETIC_MARK]["seed"] == 0
    assert "CIGHead" in content["meta"]["cfg"]


def test_the_optimizer_has_moments_of_every_parameter(content, shared_project):
    (name,) = shared_project.variants
    model = build_reference(load_config(shared_project.config_path(name)))
    moments = content["optimizer"]["state"].values()
    shapes = [parameter.shape for parameter in model.parameters()]
    assert [moment["exp_avg"].shape for moment in moments] == shapes
    assert [moment["exp_avg_sq"].shape for moment in moments] == shapes


def test_the_copy_beside_the_weights_differs_from_them(content):
    weights, copy = content["state_dict"], dict(content["ema_state_dict"])
    assert copy.pop("steps") == 1000
    assert list(copy) == [f"module.{key}" for key in weights]
    assert not torch.equal(
        copy["module.head.gcn.conv_input.weight"], weights["head.gcn.conv_input.weight"]
    )


def test_torch_refuses_it_as_it_does_a_real_file(checkpoint):
    with pytest.raises(Exception, match="Weights only load failed"):
        torch.load(checkpoint, weights_only=True)


def test_it_is_loaded_and_known_as_synthetic(checkpoint):
    loaded = load_checkpoint(checkpoint)
    assert loaded.weights == "synthetic"
    assert loaded.sha256 == hashlib.sha256(checkpoint.read_bytes()).hexdigest()


def test_a_second_run_replaces_what_is_there(checkpoint, tiny_project):
    (name,) = tiny_project.variants
    target = tiny_project.checkpoint_path(name, "synthetic")
    target.parent.mkdir()
    target.write_bytes(b"damaged")
    assert sha256_with(tiny_project) == file_sha256(checkpoint)
    assert list(target.parent.iterdir()) == [target]


# What the models answer


def assert_outputs_are_sane(project: Project, name: str) -> None:
    """On normalised noise: finite, of a standard deviation in 0.1..10, not the same for all."""
    config = load_config(project.config_path(name))
    model = build_reference(config)
    load_weights(model, load_checkpoint(project.checkpoint_path(name, "synthetic")))
    width, height = config.codec.input_size
    noise = torch.randn(2, 3, height, width, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        outputs = Reference(model)(noise)
    for output, size in zip(outputs, (width, height), strict=True):
        assert output.shape == (2, config.num_keypoints, size * config.codec.simcc_split_ratio)
        assert output.isfinite().all()
        assert 0.1 <= output.std() <= 10
        assert not torch.allclose(output[0], output[1], atol=1e-3)


@pytest.mark.parametrize("dataset", ["coco", "crowdpose", "coco-wholebody"])
def test_outputs_of_a_tiny_model_are_sane(tmp_path, dataset):
    project = make_tiny_project(tmp_path, dataset)
    synthesized(project)
    assert_outputs_are_sane(project, *project.variants)


@pytest.mark.long
@pytest.mark.parametrize("name", Project.of_this_clone().variants)
def test_outputs_of_a_full_size_model_are_sane(tmp_path, name):
    clone = Project.of_this_clone()
    project = Project(tmp_path)
    for folder in ("configs", "checkpoints/manifest.toml"):
        (tmp_path / folder).parent.mkdir(exist_ok=True)
        (tmp_path / folder).symlink_to(clone.root / folder)
    synthesize(project, project.variants[name])
    assert_outputs_are_sane(project, name)
    project.checkpoint_path(name, "synthetic").unlink()  # pytest keeps the folders of three runs
