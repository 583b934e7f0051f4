"""A release says of a model of one's own that it is none of the published ones."""

import hashlib
import json
import shutil
from dataclasses import replace

import onnx
import pytest

from cigpose_export.errors import ReleaseError
from cigpose_export.jobs.own_results import golden_folder, remember, report_path
from cigpose_export.release.pages import index_page, model_card
from cigpose_export.release.verified_models import verified_models
from cigpose_runtime import METADATA_KEY, read_contract


@pytest.fixture
def project(release_project):
    """A project whose manifest records the checkpoint that its variant was exported from."""
    (variant,) = release_project.variants.values()
    contract = read_contract(release_project.artefact_path(variant.name, "synthetic"))
    recorded = replace(variant, sha256=contract.source_checkpoint.sha256)
    project = replace(release_project)
    project.__dict__["variants"] = {variant.name: recorded}  # instead of those of the file
    return project


@pytest.fixture
def folder(release_project, tmp_path):
    """A verified variant, and the same graph as somebody's own verified model, weights real."""
    models = tmp_path / "models"
    shutil.copytree(release_project.artefact_folder("synthetic"), models)
    (variant,) = release_project.variants
    for name in (variant, "my-model"):
        model = onnx.load(models / f"{variant}.onnx")
        contract = read_contract(models / f"{variant}.onnx")
        own = {"license": "not stated"} if name == "my-model" else {}
        stamped = replace(contract, name=name, weights="real", **own)
        onnx.helper.set_model_props(model, {METADATA_KEY: stamped.to_json()})
        data = model.SerializeToString()
        (models / f"new-{name}").write_bytes(data)
        report = json.loads((models / "parity" / f"{variant}.json").read_text())
        report |= {"sha256": hashlib.sha256(data).hexdigest(), "model": name}
        (models / "parity" / f"new-{name}").write_text(json.dumps(report))
    shutil.copytree(models / "golden" / variant, models / "golden" / "my-model")
    for name in (variant, "my-model"):
        (models / f"new-{name}").rename(models / f"{name}.onnx")
        (models / "parity" / f"new-{name}").rename(models / "parity" / f"{name}.json")
        remember(report_path(models / f"{name}.onnx"))
        remember(golden_folder(models / f"{name}.onnx"))
    return models


def test_a_model_of_ones_own_comes_after_the_published_ones_and_is_marked(project, folder):
    published, own = verified_models(project, folder, allow_synthetic=False)
    assert published.variant is not None
    assert (own.variant, own.released_name) == (None, "my-model")
    card = model_card(own, "x.whl")
    assert "Not one of the 14 published CIGPose models" in card
    assert "None is published for this model." in card
    assert "- licence: not stated" in card
    assert "Not one of the 14" not in model_card(published, "x.whl")


def test_the_index_names_models_of_ones_own_and_claims_no_licence_for_them(project, folder):
    models = verified_models(project, folder, allow_synthetic=False)
    page = index_page(models, "x.whl", rehearsal=False)
    assert "Not among the 14 published CIGPose models: `my-model`." in page
    assert "license: other" in page
    assert "Licences: each card names its model's." in page
    alone = index_page(models[:1], "x.whl", rehearsal=False)
    assert "Not among" not in alone
    assert "license: apache-2.0" in alone


def test_a_model_of_ones_own_that_is_not_verified_is_refused(project, folder):
    (folder / "parity" / "my-model.json").unlink()
    with pytest.raises(ReleaseError, match=r"my-model\.onnx: expected a parity report"):
        verified_models(project, folder, allow_synthetic=False)


def test_what_is_no_model_under_its_own_name_is_left_where_it_is(project, folder):
    (folder / "my-model.onnx").rename(folder / "copy.onnx")
    (folder / "notes.onnx").write_bytes(b"no model")
    (published,) = verified_models(project, folder, allow_synthetic=False)
    assert published.variant is not None
