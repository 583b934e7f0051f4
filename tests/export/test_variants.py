import json
from pathlib import Path

import pytest

from cigpose_export.errors import ConfigError, MissingCheckpointError, VariantError
from cigpose_export.project import Project
from cigpose_export.variants import Variant
from cigpose_runtime.keypoints import COCO

SPEC = json.loads((Path(__file__).parents[1] / "data" / "variants.json").read_text("utf-8"))
PUBLISHED = {entry["name"]: entry for entry in SPEC["variants"]}
SHA256 = "0123456789abcdef" * 4


def project_with_manifest(root: Path, manifest: str | bytes) -> Project:
    project = Project(root)
    project.manifest_path.parent.mkdir()
    data = manifest if isinstance(manifest, bytes) else manifest.encode()
    project.manifest_path.write_bytes(data)
    return project


# The manifest of this clone


def test_the_manifest_holds_the_14_published_variants():
    assert list(Project.of_this_clone().variants) == list(PUBLISHED)
    assert len(PUBLISHED) == 14


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_variant_is_what_the_publisher_says_of_it(name):
    variant, entry = Project.of_this_clone().variants[name], PUBLISHED[name]
    assert variant.source == f"gdrive:{entry['google_drive_id']}"
    assert variant.dataset == entry["dataset"]
    assert len(variant.keypoints.names) == entry["num_keypoints"]
    assert [variant.input_w, variant.input_h] == entry["input_size_wh"]
    costs = {"gflops", "params_m"}
    accuracy = {key: value for key, value in entry["reported"].items() if key not in costs}
    assert dict(variant.published) == accuracy


def test_the_manifest_names_the_published_configs():
    manifest = Project.of_this_clone().manifest_path.read_text("utf-8")
    for entry in SPEC["variants"]:
        assert f'config = "{entry["upstream_config"]}"' in manifest


# Reading a manifest


def test_a_recorded_hash_is_read(tmp_path):
    project = project_with_manifest(
        tmp_path, f'[cigpose-m_coco_256x192]\nsource = "gdrive:x"\nsha256 = "{SHA256}"\n'
    )
    (variant,) = project.variants.values()
    assert variant == Variant(
        name="cigpose-m_coco_256x192",
        size="m",
        dataset="coco",
        keypoints=COCO,
        input_w=192,
        input_h=256,
        source="gdrive:x",
        published={},
        sha256=SHA256,
    )


BAD_MANIFESTS = {
    "no TOML": ("[", "not a readable TOML"),
    "no text": (b"\xff\xfe", "not a readable TOML"),
    "the same table twice": ("[a]\n[a]\n", "not a readable TOML"),
    "a name that is no variant's": ('[cigpose-s_coco_256x192]\nsource = "x"', "'cigpose-s_coco"),
    "a name with something after it": ('["cigpose-m_coco_256x192\\n"]\nsource = "x"', "names like"),
    "a value in place of a table": ("cigpose-m_coco_256x192 = 3", "expected a table, found 3"),
    "no source": ("[cigpose-m_coco_256x192]", "a source, as text, found None"),
    "a source that is no text": ("[cigpose-m_coco_256x192]\nsource = 3", "as text, found 3"),
    "an unknown key": ('[cigpose-m_coco_256x192]\nsource = "x"\nsha = "y"', "found sha; correct"),
    "published figures that are none": (
        '[cigpose-m_coco_256x192]\nsource = "x"\npublished = { ap = "high" }',
        "table of numbers",
    ),
    "published figures without names": (
        '[cigpose-m_coco_256x192]\nsource = "x"\npublished = [1]',
        "table of numbers",
    ),
    "half a hash": (
        '[cigpose-m_coco_256x192]\nsource = "x"\nsha256 = "0123"',
        "64 hex digits, found '0123'",
    ),
    "a hash that is no text": (
        '[cigpose-m_coco_256x192]\nsource = "x"\nsha256 = 7',
        "64 hex digits, found 7",
    ),
}


@pytest.mark.parametrize(("manifest", "message"), BAD_MANIFESTS.values(), ids=BAD_MANIFESTS)
def test_a_bad_manifest_is_a_config_error(tmp_path, manifest, message):
    with pytest.raises(ConfigError) as caught:
        _ = project_with_manifest(tmp_path, manifest).variants
    assert message in str(caught.value)
    assert "manifest.toml" in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1
    assert caught.value.exit_status == 2


def test_a_missing_manifest_is_a_config_error(tmp_path):
    with pytest.raises(ConfigError, match=r"found no checkpoints/manifest\.toml"):
        _ = Project(tmp_path).variants


# Names


@pytest.mark.parametrize(
    ("name", "suggestion"),
    [
        ("cigpose-m_coco_256x129", "did you mean cigpose-m_coco_256x192 or "),
        ("cigpose_m_coco_256x192", "did you mean cigpose-m_coco_256x192 or "),
        ("cigpose-m_coco_256x192.onnx", "did you mean cigpose-m_coco_256x192 or "),
        ("cigpose-x_coco_384x288", "cigpose-l_coco_384x288"),
        ("yolo", "none has a similar name"),
        ("", "none has a similar name"),
    ],
)
def test_an_unknown_name_gets_the_nearest_ones(name, suggestion):
    with pytest.raises(VariantError) as caught:
        Project.of_this_clone().select([name])
    assert suggestion in str(caught.value)
    assert "cigpose-tools list" in str(caught.value)
    assert caught.value.exit_status == 2


def test_an_unknown_name_cannot_break_the_line():
    with pytest.raises(VariantError) as caught:
        Project.of_this_clone().select(["cigpose\n\x1b[2J"])
    assert str(caught.value).isprintable()


def test_variants_come_in_the_order_asked_for_and_once():
    project = Project.of_this_clone()
    first, second, *_ = project.variants
    selected = project.select([second, first, second])
    assert [variant.name for variant in selected] == [second, first]


# Paths


@pytest.mark.parametrize(
    ("weights", "command"),
    [
        ("real", "make checkpoints MODELS={}"),
        ("real", "make export-all WEIGHTS=synthetic MODELS={}"),
        ("synthetic", ".venv/bin/cigpose-tools checkpoints synthesize {}"),
    ],
)
def test_a_missing_checkpoint_is_an_error_that_names_the_command(tiny_project, weights, command):
    (name,) = tiny_project.variants
    with pytest.raises(MissingCheckpointError) as caught:
        tiny_project.existing_checkpoint(name, weights)
    message = str(caught.value)
    assert f"{name}: no {weights} checkpoint at checkpoints/{weights}/{name}.pth; " in message
    assert f"`{command.format(name)}`" in message
    assert len(message.splitlines()) == 1
    assert caught.value.exit_status == 1


def test_real_and_synthetic_files_never_share_a_path(tiny_project):
    (name,) = tiny_project.variants
    for path_of in (tiny_project.checkpoint_path, tiny_project.artefact_path):
        assert path_of(name, "real") != path_of(name, "synthetic")
