"""What is exported again and what is not, and what happens when things go wrong on the way."""

import hashlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import onnx
import pytest

from cigpose_export.errors import CheckpointError, MissingCheckpointError, WorkError
from cigpose_export.jobs import export as export_module
from cigpose_export.jobs.batch import Work
from cigpose_export.jobs.export import ExportFigures, Receipt, export_models
from cigpose_export.jobs.reference_options import ReferenceOptions
from cigpose_export.project import Project
from tiny_onnx import tiny_contract, tiny_model
from tiny_project import (
    assert_ended,
    finish_export,
    make_tiny_project,
    start_export,
    tiny_name,
    wait_for_descendants,
)

NAME = tiny_name()

on_linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


def fake_export(kind, arguments):
    """What a worker does, as far as a batch can tell: the checkpoint is the artefact."""
    assert kind == "export"
    project = Project(Path(arguments["project"]))
    checkpoint = Path(arguments["checkpoint"] or project.checkpoint_path(arguments["name"], "real"))
    content = checkpoint.read_bytes()
    if content == b"bad":
        raise CheckpointError("seeded")
    target = Path(arguments["target"])
    target.parent.mkdir(exist_ok=True)
    target.write_bytes(content)
    digest = hashlib.sha256(content).hexdigest()
    done = dict(
        reference_head="CIGHead",
        checkpoint_sha256=digest,
        sha256=digest,
        nodes=1,
        size=len(content),
        note=None,
    )
    return {"done": done, "peak_memory": 1}


@pytest.fixture
def run(monkeypatch):
    """Exports all variants of a project with fake workers; returns outcomes and what they did."""

    def call(project, *, work=fake_export, **options):
        ran = []

        def fake(self, kind, arguments, environment=None):
            ran.append(self.name)
            return work(kind, {"name": self.name, **arguments})

        monkeypatch.setattr(Work, "run", fake)
        variants = list(project.variants.values())
        options = {"weights": "real", "out": project.root / "out", **options}
        return export_models(project, variants, **options), ran

    return call


def test_a_second_run_does_no_work(project, run):
    first, ran = run(project)
    assert [o.state for o in first] == ["exported"]
    assert ran == [NAME]
    second, ran = run(project)
    assert [o.state for o in second] == ["up to date"]
    assert ran == []
    assert second[0].result == first[0].result


def flip_a_bit_of_the_artefact(project):
    path = project.root / "out" / f"{NAME}.onnx"
    data = bytearray(path.read_bytes())
    data[0] ^= 1
    path.write_bytes(data)


def remove_the_artefact(project):
    (project.root / "out" / f"{NAME}.onnx").unlink()


def change_the_checkpoint(project):
    project.checkpoint_path(NAME, "real").write_bytes(b"other weights")


def change_the_config(project):
    with project.config_path(NAME).open("a") as file:
        file.write("# changed\n")


def change_a_base_config(project):
    with (project.root / "configs" / "_base_" / "coco.py").open("a") as file:
        file.write("# changed\n")


def damage_the_receipt(project):
    (project.root / "out" / ".export" / f"{NAME}.json").write_text("{")


def edit_the_artefact_and_its_receipt(project):
    flip_a_bit_of_the_artefact(project)
    path = project.root / "out" / ".export" / f"{NAME}.json"
    artefact = (project.root / "out" / f"{NAME}.onnx").read_bytes()
    edited = {**json.loads(path.read_text()), "sha256": hashlib.sha256(artefact).hexdigest()}
    path.write_text(json.dumps(edited, indent=1))


@pytest.mark.parametrize(
    "change",
    [
        flip_a_bit_of_the_artefact,
        remove_the_artefact,
        change_the_checkpoint,
        change_the_config,
        change_a_base_config,
        damage_the_receipt,
        edit_the_artefact_and_its_receipt,
    ],
)
def test_a_change_of_content_is_exported_anew(project, change, run):
    run(project)
    change(project)
    outcomes, ran = run(project)
    assert ([o.state for o in outcomes], ran) == (["exported"], [NAME])


def test_an_export_of_another_user_is_made_anew(project, run, tmp_path, monkeypatch):
    run(project)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    _, ran = run(project)
    assert ran == [NAME]


def test_a_config_edited_during_an_export_is_exported_anew(project, run):
    def edit_meanwhile(kind, arguments):
        done = fake_export(kind, arguments)
        change_the_config(project)
        return done

    # The receipt is of what the job found when it began.
    run(project, work=edit_meanwhile)
    _, ran = run(project)
    assert ran == [NAME]


def test_an_error_of_the_system_is_one_failure_and_no_traceback(project, run):
    receipt = project.root / "out" / ".export" / f"{NAME}.json"
    receipt.mkdir(parents=True)
    (outcome,), _ = run(project)
    assert outcome.state == "failed"
    assert str(receipt) in str(outcome.error)
    assert "run it again" in str(outcome.error)


@pytest.mark.parametrize("make", [Path.touch, lambda path: path.mkdir(mode=0o500)])
def test_a_folder_that_cannot_be_written_to_is_named_before_any_work(project, tmp_path, run, make):
    make(tmp_path / "blocked")
    if os.access(tmp_path / "blocked", os.W_OK) and (tmp_path / "blocked").is_dir():
        pytest.skip("this user may write everywhere")
    (outcome,), ran = run(project, out=tmp_path / "blocked" / "out")
    assert ran == []
    assert outcome.error.exit_status == 2
    assert "pass another --out" in str(outcome.error)


def test_artefacts_of_other_weights_are_not_replaced(project, run):
    out = project.root / "out"
    out.mkdir()
    contract = tiny_contract(weights="synthetic")
    model = tiny_model(metadata=contract.to_json()).SerializeToString()
    (out / f"{NAME}.onnx").write_bytes(model)
    (outcome,), ran = run(project)
    assert ran == []
    assert "expected to replace real weights, found synthetic ones" in str(outcome.error)
    assert (out / f"{NAME}.onnx").read_bytes() == model


def test_another_weights_key_is_exported_anew(project, run):
    run(project)
    for weights_key in ("ema_state_dict", None):
        outcomes, ran = run(project, weights_key=weights_key)
        assert ([o.state for o in outcomes], ran) == (["exported"], [NAME])
        assert run(project, weights_key=weights_key)[1] == []


def test_another_weights_key_is_compared_with_anew():
    assert ReferenceOptions(weights_key="ema").content != ReferenceOptions().content


def test_a_new_file_time_alone_exports_nothing(project, run):
    run(project)
    for path in project.root.rglob("*"):
        os.utime(path, (1, 1))
    _, ran = run(project)
    assert ran == []


def test_other_code_exports_anew(project, run, monkeypatch):
    run(project)
    monkeypatch.setattr(export_module, "code_hash", lambda function: "another")
    _, ran = run(project)
    assert ran == [NAME]


def test_a_missing_real_checkpoint_is_an_error_and_writes_nothing(tiny_project, run):
    (outcome,), ran = run(tiny_project)
    assert (outcome.state, ran) == ("failed", [])
    assert isinstance(outcome.error, MissingCheckpointError)
    assert f"make checkpoints MODELS={NAME}" in str(outcome.error)
    assert not (tiny_project.root / "out").exists()


def test_a_missing_synthetic_checkpoint_is_made_by_the_worker(tiny_project, run):
    def fail(kind, arguments):
        raise CheckpointError("the worker was reached")

    (outcome,), ran = run(tiny_project, weights="synthetic", work=fail)
    assert (str(outcome.error), ran) == ("the worker was reached", [NAME])


def test_a_batch_goes_on_past_a_failing_variant(project, run):
    other = tiny_name("crowdpose")
    manifest = project.manifest_path
    manifest.write_text(f'[{other}]\nsource = "gdrive:none"\n' + manifest.read_text())
    (project.root / "configs" / f"{other}.py").write_text("")
    project.checkpoint_path(other, "real").write_bytes(b"bad")
    project.__dict__.pop("variants", None)
    outcomes, ran = run(project, jobs=1)
    assert [(o.name, o.state) for o in outcomes] == [(other, "failed"), (NAME, "exported")]
    assert str(outcomes[0].error) == "seeded"
    assert sorted(ran) == sorted([other, NAME])


def test_stages_end_with_the_state(project, run):
    stages = []
    run(project, on_stage=lambda name, stage: stages.append((name, stage)))
    assert stages[-1] == (NAME, "exported")


def test_a_receipt_reads_back_what_it_wrote(tmp_path):
    receipt = Receipt("inputs", "sha", ExportFigures("CIGHead", 1, 2, 3.5, 4))
    receipt.write(tmp_path / "receipt.json")
    assert Receipt.read(tmp_path / "receipt.json") == receipt


# From here on with real workers, on a tiny variant.


def visible_and_hidden(folder):
    """All files below a folder, but not the receipts of exports."""
    return sorted(p for p in folder.rglob("*") if p.is_file() and p.parent.name != ".export")


def test_same_bytes_from_another_folder_and_hash_seed(tiny_path, tmp_path):
    root = tmp_path / "there" / "deeper"
    root.mkdir(parents=True)
    status, _, stderr = finish_export(make_tiny_project(root), root / "out", PYTHONHASHSEED="2")
    assert status == 0, stderr
    assert (root / "out" / tiny_path.name).read_bytes() == tiny_path.read_bytes()


in_any_process = pytest.mark.parametrize(
    "generations",
    [
        pytest.param(1, id="in the worker"),
        pytest.param(2, id="in onnxsim", marks=pytest.mark.long),
    ],
)


@on_linux
@in_any_process
def test_ctrl_c_ends_all_processes_and_the_next_run_completes(tiny_project, tmp_path, generations):
    out = tmp_path / "out"
    with start_export(tiny_project, out) as process:
        descendants = wait_for_descendants(process.pid, generations)
        process.send_signal(signal.SIGINT)
        stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "interrupted" in stdout
    assert "status -9" not in stderr
    assert "Traceback" not in stderr
    assert_ended(descendants)
    assert visible_and_hidden(out) == []
    status, _, stderr = finish_export(tiny_project, out)
    assert status == 0, stderr
    onnx.checker.check_model(out / f"{NAME}.onnx", full_check=True)


@on_linux
@in_any_process
def test_no_process_outlives_a_killed_export(tiny_project, tmp_path, generations):
    with start_export(tiny_project, tmp_path / "out") as process:
        descendants = wait_for_descendants(process.pid, generations)
        process.kill()
        process.communicate(timeout=60)
    assert_ended(descendants)
    assert visible_and_hidden(tmp_path / "out") == []


@on_linux
def test_a_killed_worker_is_one_failure_with_its_status(tiny_project, tmp_path):
    with start_export(tiny_project, tmp_path / "out") as process:
        signal.pidfd_send_signal(wait_for_descendants(process.pid, 1)[0], signal.SIGKILL)
        stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "failed" in stdout
    assert "status -9" in stderr
    assert visible_and_hidden(tmp_path / "out") == []


@pytest.mark.long
def test_a_worker_that_is_done_ends_without_complaint(tiny_project, tmp_path):
    (variant,) = tiny_project.variants.values()
    job = {
        "kind": "export",
        "project": str(tiny_project.root),
        "name": variant.name,
        "model": {"name": variant.name, "config": None, "keypoints": None},
        "weights": "synthetic",
        "checkpoint": None,
        "weights_key": None,
        "target": str(tmp_path / "out" / "artefact.onnx"),
        "threads": 1,
    }
    command = [sys.executable, "-m", "cigpose_export.jobs.worker", json.dumps(job)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as worker:
        # stdin stays open until the worker has ended, as in a batch
        reports = [json.loads(line) for line in worker.stdout]
        complaints = worker.stderr.read()
    assert worker.returncode == 0, complaints
    assert complaints == ""
    assert reports[-1]["peak_memory"] > 2**27


def test_a_full_disk_is_named_by_its_cause(tiny_project, tmp_path):
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"
    with start_export(tiny_project, tmp_path / "out", before=limit) as process:
        _, stderr = process.communicate(timeout=120)
    assert process.returncode == 1
    assert "File too large" in stderr
    assert "Traceback" not in stderr
    assert visible_and_hidden(tmp_path / "out") == []


def test_an_error_of_the_worker_keeps_its_type(tiny_project, tmp_path):
    checkpoint = tmp_path / "empty.pth"
    checkpoint.touch()
    (outcome,) = export_models(
        tiny_project,
        list(tiny_project.variants.values()),
        weights="real",
        out=tmp_path / "out",
        checkpoint=checkpoint,
    )
    assert type(outcome.error) is CheckpointError
    assert "found an empty file" in str(outcome.error)
    assert not (tmp_path / "out").exists()


def test_unknown_error_types_of_a_worker_become_work_errors(tiny_project, monkeypatch, tmp_path):
    script = tmp_path / "python"
    message = json.dumps({"error": "seeded", "type": "NoSuchError"})
    script.write_text(f"#!/bin/sh\necho '{message}'\n")
    script.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(script))
    variants = list(tiny_project.variants.values())
    (outcome,) = export_models(tiny_project, variants, weights="synthetic", out=tmp_path / "out")
    assert type(outcome.error) is WorkError
