"""What a release says of itself is read by the tools that it is for."""

import hashlib
import json
import tomllib
from dataclasses import replace

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from google.protobuf.json_format import ParseDict
from in_toto_attestation.predicates.provenance.v1.provenance_pb2 import Provenance
from in_toto_attestation.v1.statement import Statement
from in_toto_attestation.v1.statement_pb2 import Statement as StatementMessage

from cigpose_export.project import Project
from cigpose_export.release.evidence.bill_of_materials import write_bill_of_materials
from cigpose_export.release.evidence.clients import caliscope_card, rtmlib_snippet
from cigpose_export.release.evidence.provenance import write_provenance
from cigpose_export.release.verified_models import VerifiedModel, verified_models
from cigpose_runtime.keypoints import KEYPOINT_SETS
from cigpose_runtime.releases.manifest import MANIFEST, SUMS
from tiny_project import CLONE

PUBLISHED = tomllib.loads((CLONE / "checkpoints" / "manifest.toml").read_text("utf-8"))
COMMIT = "1" * 40


@pytest.fixture(scope="module")
def one(release_project):
    """A verified model with synthetic weights."""
    folder = release_project.artefact_folder("synthetic")
    (model,) = verified_models(release_project, folder, allow_synthetic=True)
    return model


@pytest.fixture(scope="module")
def the_14(one):
    """That model, as if it were each of the published ones."""
    contract = replace(one.contract, weights="real")
    return [
        VerifiedModel(
            variant=replace(variant, sha256=contract.source_checkpoint.sha256),
            path=one.path.with_name(f"{name}.onnx"),
            contract=contract,
            report=one.report,
        )
        for name, variant in Project.of_this_clone().variants.items()
    ]


def faults_of(text):
    """What CycloneDX's own schema finds wrong."""
    found = JsonStrictValidator(SchemaVersion.V1_7).validate_str(text, all_errors=True)
    return [str(error) for error in found or ()]


def cards_of(models, folder):
    """Name -> component of a bill of materials, which is valid."""
    write_bill_of_materials(Project.of_this_clone(), models, folder / "sbom.json", 0)
    text = (folder / "sbom.json").read_text("utf-8")
    assert faults_of(text) == []
    parts = json.loads(text)["components"]
    return {part["name"]: part for part in parts if part["type"] == "machine-learning-model"}


def test_the_bill_of_materials_of_a_release_is_valid_and_knows_its_model(built):
    text = (built / "sbom.cdx.json").read_text("utf-8")
    assert faults_of(text) == []
    (model,) = built.glob("*.onnx")
    (part,) = (part for part in json.loads(text)["components"] if "modelCard" in part)
    assert part["name"] == model.stem
    digest = hashlib.sha256(model.read_bytes()).hexdigest()
    assert part["hashes"] == [{"alg": "SHA-256", "content": digest}]


def test_the_schema_finds_a_model_card_that_is_none(built):
    document = json.loads((built / "sbom.cdx.json").read_text("utf-8"))
    (part,) = (part for part in document["components"] if "modelCard" in part)
    part["modelCard"]["accuracy"] = "high"
    assert "accuracy" in faults_of(json.dumps(document))[0]


def test_the_cards_of_the_14_have_the_published_figures_of_each_part(the_14, tmp_path):
    cards = cards_of(the_14, tmp_path)
    assert set(cards) == set(PUBLISHED)
    words = {"whole_ap": "whole-body AP", "ap": "AP", "ar": "AR", "ap_easy": "AP easy"}
    for name, part in cards.items():
        metrics = part["modelCard"]["quantitativeAnalysis"]["performanceMetrics"]
        published = {m["type"]: float(m["value"]) for m in metrics if "as published" in m["slice"]}
        expected = {
            words.get(key, key.replace("_ap", " AP").replace("ap_", "AP ")): value
            for key, value in PUBLISHED[name]["published"].items()
        }
        assert published == expected
        assert [m["type"] for m in metrics if "parity" in m["slice"]] == [
            "largest error",
            "error against float64",
            "intervention",
            "keypoints misread outside near ties",
        ]


def test_the_cards_of_the_14_name_licence_checkpoint_and_training_data(the_14, tmp_path):
    cards = cards_of(the_14, tmp_path)
    for name, part in cards.items():
        assert part["licenses"] == [{"license": {"id": "Apache-2.0"}}]
        (checkpoint,) = part["pedigree"]["ancestors"]
        source = the_14[0].contract.source_checkpoint
        assert checkpoint["hashes"] == [{"alg": "SHA-256", "content": source.sha256}]
        data = {one["name"] for one in part["modelCard"]["modelParameters"]["datasets"]}
        assert ("UBody" in data) == ("ubody" in name)
        assert ("CrowdPose" in data) == ("crowdpose" in name)


@pytest.mark.parametrize("kind", ["synthetic", "own weights", "own model"])
def test_other_weights_have_neither_published_figures_nor_training_data(one, tmp_path, kind):
    model = one
    if kind == "own weights":
        contract = replace(one.contract, weights="real")
        model = replace(one, contract=contract)
    elif kind == "own model":
        contract = replace(one.contract, weights="real", license="not stated")
        model = replace(one, contract=contract, variant=None)
    (part,) = cards_of([model], tmp_path).values()
    card = part["modelCard"]
    assert "datasets" not in card["modelParameters"]
    assert not any(
        "published" in m["slice"] for m in card["quantitativeAnalysis"]["performanceMetrics"]
    )
    assert card["considerations"]["technicalLimitations"]
    if kind == "own model":
        assert part["licenses"] == [{"license": {"name": "not stated"}}]


def test_in_totos_own_package_reads_the_provenance(built):
    document = json.loads((built / "provenance.intoto.json").read_text("utf-8"))
    statement = Statement.copy_from_pb(ParseDict(document, StatementMessage()))
    statement.validate()
    assert statement.pb.predicate_type == "https://slsa.dev/provenance/v1"
    predicate = ParseDict(document["predicate"], Provenance())  # refuses fields of other names
    sources = predicate.build_definition.resolved_dependencies
    commit = json.loads((built / MANIFEST).read_text())["commit"]
    assert dict(sources[0].digest) == {"gitCommit": commit}
    lock = (CLONE / "requirements" / "lock.txt").read_bytes()
    assert sources[1].digest["sha256"] == hashlib.sha256(lock).hexdigest()


def test_the_provenance_is_of_all_that_the_sums_name(built):
    document = json.loads((built / "provenance.intoto.json").read_text("utf-8"))
    subjects = {one["name"]: one["digest"]["sha256"] for one in document["subject"]}
    lines = (built / SUMS).read_text().splitlines()
    sums = {name: digest for digest, name in (line.split("  ") for line in lines)}
    assert sums.pop("provenance.intoto.json")
    assert sums.pop(MANIFEST)
    assert subjects == sums


GITHUB = {
    "GITHUB_SERVER_URL": "https://github.com",
    "GITHUB_REPOSITORY": "somebody/models",
    "GITHUB_WORKFLOW_REF": "somebody/models/.github/workflows/release.yml@refs/tags/v1",
    "GITHUB_REF": "refs/tags/v1",
}


@pytest.mark.parametrize("where", ["workflow", "machine"])
def test_the_provenance_says_who_built(release_project, one, tmp_path, monkeypatch, where):
    for name, value in GITHUB.items():
        if where == "workflow":
            monkeypatch.setenv(name, value)
        else:
            monkeypatch.delenv(name, raising=False)
    write_provenance(release_project, [one], tmp_path, COMMIT)
    predicate = json.loads((tmp_path / "provenance.intoto.json").read_text("utf-8"))["predicate"]
    source = predicate["buildDefinition"]["resolvedDependencies"][0]
    builder = predicate["runDetails"]["builder"]["id"]
    if where == "workflow":
        assert builder == f"https://github.com/{GITHUB['GITHUB_WORKFLOW_REF']}"
        assert source["uri"] == "git+https://github.com/somebody/models@refs/tags/v1"
    else:
        assert builder.endswith("?run=local")
        assert "uri" not in source


def test_the_provenance_of_published_weights_says_where_they_are(the_14, tmp_path):
    write_provenance(Project.of_this_clone(), the_14, tmp_path, COMMIT)
    document = json.loads((tmp_path / "provenance.intoto.json").read_text("utf-8"))
    sources = document["predicate"]["buildDefinition"]["resolvedDependencies"][2:]
    assert [one["uri"] for one in sources] == [one["source"] for one in PUBLISHED.values()]


@pytest.mark.parametrize(
    ("change", "fits"),
    [
        ({}, (True, True)),
        ({"split_ratio": 3.0}, (False, False)),
        ({"box_padding": 1.5}, (True, False)),
        ({"mean": (0.0, 0.0, 0.0)}, (False, True)),
        ({"color_order": "bgr"}, (False, True)),
    ],
)
def test_for_a_client_that_a_model_does_not_fit_there_is_nothing(one, change, fits):
    contract = replace(one.contract, **change)
    found = caliscope_card(contract, "x"), rtmlib_snippet(contract, "x")
    assert tuple(each is not None for each in found) == fits


@pytest.mark.parametrize("keypoints", KEYPOINT_SETS.values(), ids=KEYPOINT_SETS)
def test_caliscope_reads_the_card_of_each_keypoint_set(one, tmp_path, keypoints):
    pytest.importorskip("caliscope", reason="caliscope 0.11.8 is for Python 3.10 to 3.13")
    from caliscope.gui.geometry.wireframe import wireframe_segments_from_view
    from caliscope.trackers.model_card import ModelCard

    contract = replace(
        one.contract,
        num_keypoints=len(keypoints.names),
        keypoint_names=keypoints.names,
        skeleton=keypoints.skeleton,
        flip_pairs=keypoints.flip_pairs,
        oks_sigmas=keypoints.oks_sigmas,
    )
    (tmp_path / "x.caliscope.toml").write_text(caliscope_card(contract, "x"), "utf-8")
    card = ModelCard.from_toml(tmp_path / "x.caliscope.toml", models_dir=tmp_path)
    assert card.model_path == tmp_path / "x.onnx"
    assert (card.input_width, card.input_height) == (contract.input_w, contract.input_h)
    assert card.keypoint_id_to_name == dict(enumerate(keypoints.names))
    drawn = wireframe_segments_from_view(card.wireframe)
    assert tuple((one.point_a_id, one.point_b_id) for one in drawn) == keypoints.skeleton
