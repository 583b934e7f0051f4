"""Releases hold reduced precisions and packed files where they are asked for, as float32 files."""

import json
import re
import shutil
import zipfile
from dataclasses import replace

import onnx
import pytest

from cigpose_export.errors import ReleaseError
from cigpose_export.graph.derived_file import derive_file
from cigpose_export.graph.frame.pack import DetectorOptions, pack_file
from cigpose_export.jobs.export import DeriveJob, ExportFigures, ExportJob, Receipt
from cigpose_export.jobs.own_results import golden_folder, remember, report_path
from cigpose_export.release.build import ARCHIVE, build_release
from cigpose_export.release.pages import model_card
from cigpose_export.release.verified_models import left_out, verified_models
from cigpose_runtime import Calibration, DerivedFrom
from cigpose_runtime.files import file_sha256
from cigpose_runtime.releases.check import check_release
from cigpose_verify.golden import write_golden
from cigpose_verify.matrix import Matrix
from cigpose_verify.packed.golden import write_packed_golden
from cigpose_verify.packed.judge import Campaign, judge_packed
from cigpose_verify.reduced.judge import judge_reduced
from cigpose_verify.reference_record import ReferenceRecord
from tiny_yolox import yolox

INT8 = DerivedFrom("ab" * 32, "cigpose-tools", "0.1.0", (), Calibration("drawn", 200, "cd" * 32))
BRIEF = Matrix(levels=("all",), threads=(1,), batches=(1, 3))


def add_reduced(project, folder):
    """Leaves NAME_w16.onnx beside the float32 file, as exported and as verified."""
    (variant,) = project.variants.values()
    job = DeriveJob(ExportJob(project, variant, "real", folder, None, None), "w16")
    reduced = derive_file(job.parent.path, "w16", job.path, on_stage=lambda _: None)
    figures = ExportFigures("", nodes=0, size=0, seconds=0, peak_memory=0)
    Receipt(job.inputs(None), reduced.sha256, figures).write(job.receipt_path)
    remember(job.receipt_path)
    (record,) = folder.glob(".verify/*.npz")
    answers = ReferenceRecord.read(record)
    report = judge_reduced(
        job.path.name, job.path.read_bytes(), answers, file_sha256(job.parent.path), BRIEF
    )
    assert report.passed
    write_golden(answers, report.sha256, golden_folder(job.path), "w16")
    keep_verdict(job.path, report)
    return job.path


def add_packed(model, detector=None):
    """Leaves the packed file beside its model, as verified on little."""
    path = pack_file(model, detector=DetectorOptions(detector) if detector else None)
    trial = path.read_bytes(), model, detector, Campaign.brief()
    report = judge_packed(path.name, *trial)
    assert report.passed
    write_packed_golden(*trial, golden_folder(path))
    keep_verdict(path, report)


def keep_verdict(path, report):
    report.write(report_path(path))
    remember(report_path(path))
    remember(golden_folder(path))


@pytest.fixture(scope="module")
def forms(release_project, tmp_path_factory):
    """A folder with the tiny variant in float32 and w16, and packed, with a detector too."""
    folder = tmp_path_factory.mktemp("forms") / "models"
    shutil.copytree(release_project.artefact_folder("synthetic"), folder)
    reduced = add_reduced(release_project, folder)
    (model,) = (folder / f"{name}.onnx" for name in release_project.variants)
    detector = tmp_path_factory.mktemp("detector") / "yolox.onnx"
    onnx.save(yolox([(40, 30, 30, 50, 0.9, 0)], decoded=True), detector)
    add_packed(model)
    add_packed(model, detector)
    add_packed(reduced)
    return folder


@pytest.fixture
def folder(forms, tmp_path):
    """A copy, free to be spoilt."""
    return shutil.copytree(forms, tmp_path / "models")


@pytest.fixture(scope="module")
def release(release_project, forms, tmp_path_factory):
    out = tmp_path_factory.mktemp("released") / "release"
    build_release(release_project, forms, out, allow_synthetic=True, also=("w16", "packed"))
    return out


def names(release_project):
    (name,) = release_project.variants
    return [f"{name}{ending}" for ending in ("", "_frame", "_frame_det", "_w16", "_w16_frame")]


def test_every_form_is_there_with_card_and_vectors_and_passes_the_check(release_project, release):
    manifest, errors = check_release(release)
    assert errors == []
    expected = [f"rehearsal-{name}" for name in names(release_project)]
    assert sorted(manifest.models) == sorted(expected)
    index = (release / "README.md").read_text()
    rows = [line for line in index.splitlines() if line.startswith("| [`rehearsal-")]
    assert [row.split("`")[1] for row in rows] == [f"{name}.onnx" for name in expected]
    cells = [[cell.strip() for cell in row.split("|")[3:5]] for row in rows]
    assert cells == [
        ["192 x 256", "fp32"],
        ["RGB frames and boxes of people", "fp32"],
        ["RGB frames", "fp32"],
        ["192 x 256", "w16"],
        ["RGB frames and boxes of people", "w16"],
    ]


def test_the_archive_of_the_published_client_holds_what_it_can_run(release_project, release):
    with zipfile.ZipFile(release / ARCHIVE) as archive:
        held = [name for name in archive.namelist() if name.endswith(".onnx")]
    assert held == [f"rehearsal-{names(release_project)[0]}.onnx"]


def test_a_card_says_what_a_packed_file_was_made_from_and_how_to_run_it(release_project, release):
    plain, framed, detecting, reduced, _ = names(release_project)
    sha256 = file_sha256(release / f"rehearsal-{plain}.onnx")
    for name in (framed, detecting, reduced):
        card = (release / f"rehearsal-{name}.md").read_text()
        assert f"made from the file of sha256 `{sha256}`" in card
    card = (release / f"rehearsal-{framed}.md").read_text()
    assert "bit for bit the runtime's" in card
    assert "--whole-frame" in card
    card = (release / f"rehearsal-{detecting}.md").read_text()
    assert "--whole-frame" not in card
    assert "- detector inside: sha256 `" in card


def test_a_card_of_int8_claims_what_was_verified_and_no_parity_with_pytorch(release_project, forms):
    (one,) = verified_models(release_project, forms, allow_synthetic=True)
    contract = replace(one.contract, schema_version=2, precision="int8", derived_from=INT8)
    note = "int8 of synthetic weights: nothing can be said about its accuracy"
    report = replace(one.report, precision=None, keypoints=None, intervention=None, notes=(note,))
    card = model_card(replace(one, contract=contract, report=report), "runtime.whl")
    (said,) = re.findall(r"## Parity with (.*?)\n\n(.*?)\n\n", card, re.S)
    assert said == (
        "the float32 file",
        "- graph: the float32 file's but for 8 bits, each weight to half a step\n"
        f"- accuracy: {note}",
    )


def test_bill_of_materials_and_provenance_know_every_form(release_project, release):
    document = json.loads((release / "sbom.cdx.json").read_text())
    cards = {
        part["name"]: part["modelCard"] for part in document["components"] if "modelCard" in part
    }
    assert sorted(cards) == sorted(f"rehearsal-{name}" for name in names(release_project))
    inputs = cards[f"rehearsal-{names(release_project)[1]}"]["modelParameters"]["inputs"]
    assert inputs[0] == {"format": "frame uint8 (height, width, channels)"}
    provenance = json.loads((release / "provenance.intoto.json").read_text())
    found = provenance["predicate"]["buildDefinition"]["resolvedDependencies"]
    assert [one["name"].partition(" ")[0] for one in found][2:] == [
        f"{names(release_project)[0]}.pth",
        "detector",
    ]


def test_other_forms_than_float32_are_left_out_by_name_unless_asked_for(release_project, forms):
    (one,) = verified_models(release_project, forms, allow_synthetic=True)
    plain, *others = names(release_project)
    assert (one.name, one.form) == (plain, "fp32")
    assert left_out(release_project, forms, ()) == [f"{name}.onnx" for name in others]
    assert left_out(release_project, forms, ("packed",)) == [f"{plain}_w16.onnx"]


def test_portable_files_are_left_out(release_project, folder):
    (plain, *_) = names(release_project)
    portable = folder / f"{plain}_portable_b2.onnx"
    derive_file(folder / f"{plain}.onnx", "fp32", portable, batch=2, on_stage=lambda _: None)
    assert portable.name in left_out(release_project, folder, ("packed", "w16"))
    (one,) = verified_models(release_project, folder, allow_synthetic=True)
    assert one.form == "fp32"


def unverified(folder, name):
    (folder / "parity" / f"{name}_frame.json").unlink()


def changed(folder, name):
    model = onnx.load(folder / f"{name}_frame.onnx")
    model.graph.initializer[0].name += "_"
    onnx.save(model, folder / f"{name}_frame.onnx")


def without_receipt(folder, name):
    (folder / ".export" / f"{name}_w16.json").unlink()


@pytest.mark.parametrize(
    ("spoil", "also", "message"),
    [
        (None, ("packed",), "_w16_frame.onnx: expected the file that it was made from in the"),
        (unverified, ("w16", "packed"), "_frame.onnx: expected a parity report, found none"),
        (changed, ("w16", "packed"), "_frame.onnx: expected the bytes that were verified"),
        (without_receipt, ("w16",), "_w16.onnx: expected the export of this code"),
    ],
)
def test_what_has_no_evidence_is_refused(release_project, folder, tmp_path, spoil, also, message):
    if spoil:
        spoil(folder, names(release_project)[0])
    with pytest.raises(ReleaseError, match=message):
        build_release(release_project, folder, tmp_path / "out", allow_synthetic=True, also=also)
    assert not (tmp_path / "out").exists()
