"""`cigpose-tools verify`: which verdicts stand, what is written, exit statuses."""

import hashlib
import importlib.util
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from onnx import numpy_helper
from PIL import Image

from cigpose_export.cli import main as cli
from cigpose_export.graph.derived_file import derive_file
from cigpose_export.jobs.verify import verify_files
from cigpose_export.project import Project
from cigpose_runtime import cli as runtime
from cigpose_runtime.releases.cache import default_cache
from cigpose_runtime.releases.selftest import selftest
from cigpose_verify.reference_record import ReferenceRecord
from cigpose_verify.report.folder import standing_reports
from faults import apply_fault
from tiny_project import assert_ended, wait_for_descendants

CLONE = Path(__file__).resolve().parents[2]


@pytest.fixture
def model(tiny, project):
    """The copy's exported file."""
    return project.root / tiny.path.relative_to(tiny.project.root)


def test_a_good_file_passes_and_its_verdict_stands_until_the_file_changes(
    tiny, project, model, run, tmp_path
):
    status, out, _ = run("--all", "--weights", "synthetic", "--json", tmp_path / "all.json")
    assert (status, "passed" in out) == (0, True)
    document = json.loads((tmp_path / "all.json").read_text())
    assert (document["schema_version"], len(document["reports"])) == (1, 1)
    written = {p.relative_to(model.parent).parts[0] for p in model.parent.rglob("*")}
    assert written >= {"parity", "golden", ".verify", model.name}
    assert {p.name for p in (model.parent / "parity").iterdir()} == {
        f"{model.stem}.json",
        "index.html",
        "summary.md",
    }

    status, out, _ = run(model)
    assert (status, "up to date" in out) == (0, True)

    replayed, is_released = selftest(model)
    assert is_released
    assert all(one.holds for one in replayed)
    assert [len(one.cases) for one in replayed] == [1, 1, 3]

    model.write_bytes(apply_fault("one graph edge removed", tiny.data, tiny.contract))
    assert list(standing_reports(model.parent)) == []
    replayed, is_released = selftest(model)
    assert not is_released
    assert not any(one.holds for one in replayed)

    status, out, err = run(model)
    assert (status, "failed (parity)" in out) == (1, True)
    (line,) = [line for line in err.splitlines() if "error" in line]
    assert f"{model.name}: parity: " in line
    assert "the first tensor beyond tolerance is" in line
    assert "head.gcn.layers.0" in line
    (report,) = standing_reports(model.parent)
    assert report.stage == "parity"


@pytest.mark.long
def test_a_file_that_fails_by_little_is_judged_by_a_thorough_record(tiny, model, run):
    changed = tiny.model
    (bias,) = (t for t in changed.graph.initializer if t.name == "head.cls_gx.bias")
    values = numpy_helper.to_array(bias).copy()
    values[100] += 7 * min(recorded.own.floor for recorded in tiny.record.cases)
    bias.CopyFrom(numpy_helper.from_array(values, bias.name))
    model.write_bytes(changed.SerializeToString())
    status, out, _ = run(model)
    assert (status, "failed (precision)" in out) == (1, True)
    (kept,) = (model.parent / ".verify").glob("*.npz")
    pairs = zip(ReferenceRecord.read(kept).cases, tiny.record.cases, strict=True)
    assert sum(thorough.own.floor > few.own.floor for thorough, few in pairs) > 8


@pytest.fixture(scope="module")
def verified(tiny, tmp_path_factory):
    """The project after its author exported and verified the model, and their cache."""
    root = tmp_path_factory.mktemp("verified")
    shutil.copytree(default_cache(), root / "cache" / default_cache().name)
    clone = Path(shutil.copytree(tiny.project.root, root / "clone"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(root / "cache"))
        (one,) = verify_files(Project(clone), [clone / tiny.path.relative_to(tiny.project.root)])
    assert one.state == "passed"
    return root


@pytest.fixture
def verified_model(verified, project, model, tmp_path, as_user):
    """The copy's exported file, which `author` verified."""
    shutil.copytree(verified / "clone", project.root, dirs_exist_ok=True)
    shutil.copytree(verified / "cache", tmp_path / "caches" / "author")
    as_user("author")
    return model


@pytest.fixture
def as_user(tmp_path, monkeypatch):
    """Goes on as another user, by name, with a cache of their own."""
    return lambda name: monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "caches" / name))


def test_a_verdict_that_came_with_an_altered_model_is_not_believed(
    tiny, verified_model, run, as_user
):
    model = verified_model
    altered = apply_fault("one weight perturbed", tiny.data, tiny.contract)
    report = model.parent / "parity" / f"{model.stem}.json"
    edited = {**json.loads(report.read_text()), "sha256": hashlib.sha256(altered).hexdigest()}
    report.write_text(json.dumps(edited))
    model.write_bytes(altered)
    as_user("user")
    status, out, _ = run(model)
    assert (status, "failed" in out) == (1, True)


def test_answers_of_pytorch_that_came_with_a_model_are_not_believed(verified_model, run, as_user):
    model = verified_model
    (record,) = (model.parent / ".verify").glob("*.npz")
    own = record.read_bytes()
    with np.load(record) as arrays:
        others = {name: arrays[name] for name in arrays}
    others["simcc_x_single"] = others["simcc_x_single"] + 1
    np.savez(record, **others)
    as_user("user")
    assert run(model)[0] == 0
    assert record.read_bytes() == own


def test_a_verdict_stands_where_its_files_were_moved_and_for_its_user_alone(
    verified_model, run, as_user, tmp_path
):
    model = verified_model
    moved = model.parent.rename(tmp_path / "moved") / model.name
    assert "up to date" in run(moved)[1]
    shutil.rmtree(moved.parent / "golden")
    assert "up to date" not in run(moved)[1]
    as_user("another")
    assert "up to date" not in run(moved)[1]


@pytest.mark.parametrize(
    ("form", "precision", "options"),
    [
        ("fp16", "fp16", ["--precision", "fp16"]),
        ("int8", "int8", ["--precision", "int8", "--calibration", "drawn"]),
        ("portable_b2", "fp32", ["--target", "portable", "--batch", "2"]),
    ],
)
def test_a_model_in_another_form_is_exported_verified_and_replayed(
    project, verified_model, run, capsys, form, precision, options
):
    file = verified_model.with_stem(f"{verified_model.stem}_{form}")
    made = ["export", verified_model.stem, "--weights", "synthetic", *options]
    with pytest.raises(SystemExit, match="0"):
        cli.main(["--project", str(project.root), *made])
    status, _, err = run(file)
    assert status == 0, err
    downloaded = shutil.copy(file, file.with_name("downloaded twice.onnx"))
    assert runtime.main(["selftest", str(file), str(downloaded)]) == 0
    assert runtime.main(["inspect", str(file)]) == 0
    assert re.search(rf"^  precision +{precision}$", capsys.readouterr().out, re.MULTILINE)


def test_a_model_in_float16_is_not_verified_without_that_in_float32(verified_model, run):
    file = verified_model.with_stem(f"{verified_model.stem}_fp16")
    derive_file(verified_model, "fp16", file, on_stage=lambda _: None)
    verified_model.unlink()
    status, _, err = run(file)
    assert status == 2
    assert f"expected the file that it was made from, {verified_model.name}, beside it" in err


def test_the_page_of_a_folder_shows_no_verdict_that_came_with_a_model(verified_model, run, as_user):
    model = verified_model
    for path in (model, model.parent / "parity" / f"{model.stem}.json"):
        shutil.copy(path, path.with_stem("foreign"))
    as_user("user")
    assert run(model)[0] == 0
    page = (model.parent / "parity" / "summary.md").read_text()
    assert page.count(model.stem) == 1


def test_a_checkpoint_that_is_not_there_is_named(tiny, project, model, run, tmp_path):
    status, _, err = run(model, "--checkpoint", tmp_path / "missing.pth")
    assert (status, "found no file" in err) == (2, True)
    project.checkpoint_path(tiny.contract.name, "synthetic").unlink()
    status, _, err = run(model)
    assert (status, "no synthetic checkpoint" in err) == (1, True)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "expected ONNX files, or --all"),
        (["{model}", "--all"], "expected ONNX files, or --all"),
        (["{model}", "{model}x", "--checkpoint", "c.pth"], "needs exactly one ONNX file"),
        (["{model}", "--provider", "NoSuchProvider"], "expected an execution provider"),
        (["{model}", "--against", "{folder}"], "expected a folder with an mmpose package"),
        (["{model}", "--images", "{folder}/none"], "expected a folder of pictures"),
        (["{model}", "--images", "{folder}"], "expected pictures"),
        (["{model}", "--json", "{folder}/none/x.json"], "expected a folder that exists"),
        (["{folder}/none.onnx"], "expected an exported file, but there is none"),
        (["{folder}"], "found a directory"),
    ],
)
def test_bad_usage_is_one_line_and_status_2(model, run, tmp_path, arguments, message):
    (tmp_path / "empty").mkdir()
    places = {"model": model, "folder": tmp_path / "empty"}
    status, _, err = run(*(argument.format(**places) for argument in arguments))
    assert status == 2
    (line,) = [line for line in err.splitlines() if line.startswith("cigpose-tools: error")]
    assert message in line
    assert not (model.parent / "golden").exists()


@pytest.mark.parametrize("size", [0, 5000])
def test_a_truncated_file_is_status_2_and_leaves_no_verdict(tiny, model, run, size):
    model.write_bytes(tiny.data[:size])
    status, _, err = run(model)
    assert status == 2
    assert model.name in err
    assert not (model.parent / "parity").exists()


def test_pictures_of_ones_own_add_crops(model, run, tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    pixels = np.random.default_rng(0).integers(0, 255, (90, 120, 3), np.uint8)
    Image.fromarray(pixels).save(folder / "mine.png")
    status, _, _ = run(model, "--images", folder, "--json", tmp_path / "out.json")
    (report,) = json.loads((tmp_path / "out.json").read_text())["reports"]
    names = [case["name"] for case in report["cases"]]
    assert status == 0
    assert names[-2:] == ["mine.png", "mine.png off-frame"]


def make_fork(root, *, wrong):
    """A checkout of MMPose that has a CIGHead of its own; `wrong` ones compute something else."""
    installed = Path(importlib.util.find_spec("mmpose").submodule_search_locations[0])
    shutil.copytree(installed, root / "mmpose", ignore=shutil.ignore_patterns(".mim"))
    source = (CLONE / "export/cigpose_export/modeling/cig_head.py").read_text()
    source = source.replace(
        "from cigpose_export.openmmlab import RTMCCHead, ScaleNorm",
        "from mmpose.models.heads.coord_cls_heads.rtmcc_head import RTMCCHead\n"
        "from mmpose.models.utils.rtmcc_block import ScaleNorm\n"
        "from mmpose.registry import MODELS",
    ).replace("class CIGHead(", "@MODELS.register_module()\nclass CIGHead(")
    if wrong:
        source = source.replace(
            "pairs = torch.cat([x_i, x_j - x_i]", "pairs = torch.cat([x_i, x_j]"
        )
    heads = root / "mmpose" / "models" / "heads"
    (heads / "cig_head.py").write_text(source)
    with (heads / "__init__.py").open("a") as file:
        file.write("\nfrom .cig_head import CIGHead\n")


@pytest.mark.parametrize(
    "wrong",
    [
        pytest.param(False, id="the same", marks=pytest.mark.long),
        pytest.param(True, id="another"),
    ],
)
def test_a_forks_own_head_is_the_pytorch_side(model, run, tmp_path, wrong):
    make_fork(tmp_path / "fork", wrong=wrong)
    status, _, err = run(model, "--against", tmp_path / "fork", "--json", tmp_path / "out.json")
    (report,) = json.loads((tmp_path / "out.json").read_text())["reports"]
    assert report["origin"]["reference_head"] == "mmpose.models.heads.cig_head.CIGHead"
    assert (status, report["verdict"]) == ((1, "failed") if wrong else (0, "passed"))
    assert ("parity" in err) is wrong


def test_a_folder_without_a_fork_is_refused(model, run, tmp_path):
    installed = Path(importlib.util.find_spec("mmpose").submodule_search_locations[0])
    shutil.copytree(installed, tmp_path / "plain" / "mmpose", ignore=shutil.ignore_patterns(".mim"))
    status, _, err = run(model, "--against", tmp_path / "plain")
    assert (status, "registers no CIGHead" in err) == (2, True)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize(
    "how", [signal.SIGINT, pytest.param(signal.SIGKILL, marks=pytest.mark.long)]
)
def test_an_interrupted_verification_leaves_no_verdict_and_the_next_one_completes(
    project, model, how
):
    tools = [sys.executable, "-m", "cigpose_export.cli.main", "--project", str(project.root)]
    command = [*tools, "verify", "--all", "--weights", "synthetic"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ
    ) as process:
        children = wait_for_descendants(process.pid, 1)
        process.send_signal(how)
        _, complaint = process.communicate(timeout=60)
    assert process.returncode == (130 if how == signal.SIGINT else -signal.SIGKILL), complaint
    assert_ended(children)
    assert not (model.parent / "parity" / f"{model.stem}.json").exists()
    (verified,) = verify_files(project, [model])
    assert verified.state == "passed"
