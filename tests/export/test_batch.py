"""What is exported again and what is not, and what happens when things go wrong on the way."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import onnx
import pytest

import cigpose_export
from cigpose_export import batch as batch_module
from cigpose_export.batch import RUNTIME_PART, WITHOUT_PART_IN_THE_BYTES, Batch, Record
from cigpose_export.errors import CheckpointError, ExportError, MissingCheckpointError
from tiny_project import make_tiny_project, tiny_name

NAME = tiny_name()


class FakeWorkers(Batch):
    """A batch whose workers write the checkpoint as the artefact, and are counted."""

    def __init__(self, project, **options):
        super().__init__(project, out=project.root / "out", **{"weights": "real", **options})
        self.ran = []

    def _run_worker(self, variant, target):
        self.ran.append(variant.name)
        checkpoint = self.checkpoint or self.project.checkpoint_path(variant.name, self.weights)
        content = checkpoint.read_bytes()
        if content == b"bad":
            raise CheckpointError("seeded")
        target.parent.mkdir(exist_ok=True)
        target.write_bytes(content)
        digest = hashlib.sha256(content).hexdigest()
        done = dict(checkpoint_sha256=digest, sha256=digest, nodes=1, size=len(content))
        return {"done": done, "peak_memory": 1}


@pytest.fixture
def project(tiny_project):
    """A tiny project with a real checkpoint, as far as a fake worker can tell."""
    path = tiny_project.checkpoint_path(NAME, "real")
    path.parent.mkdir()
    path.write_bytes(b"weights")
    return tiny_project


def run(project, **options):
    """Runs a fresh batch over all variants; returns outcomes and what the workers did."""
    batch = FakeWorkers(project, **options)
    return batch.run(list(project.variants.values())), batch.ran


def test_a_second_run_does_no_work(project):
    first, ran = run(project)
    assert [o.state for o in first] == ["exported"]
    assert ran == [NAME]
    second, ran = run(project)
    assert [o.state for o in second] == ["up to date"]
    assert ran == []
    assert second[0].figures == first[0].figures


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


def damage_the_record(project):
    (project.root / "out" / ".export" / f"{NAME}.json").write_text("{")


@pytest.mark.parametrize(
    "change",
    [
        flip_a_bit_of_the_artefact,
        remove_the_artefact,
        change_the_checkpoint,
        change_the_config,
        change_a_base_config,
        damage_the_record,
    ],
)
def test_a_change_of_content_is_exported_anew(project, change):
    run(project)
    change(project)
    outcomes, ran = run(project)
    assert ([o.state for o in outcomes], ran) == (["exported"], [NAME])


def test_a_new_file_time_alone_exports_nothing(project):
    run(project)
    for path in project.root.rglob("*"):
        os.utime(path, (1, 1))
    _, ran = run(project)
    assert ran == []


@pytest.mark.parametrize("what", ["tool_versions", "_hash_of_code"])
def test_other_tools_or_code_export_anew(project, monkeypatch, what):
    run(project)
    monkeypatch.setattr(batch_module, what, lambda: "another")
    _, ran = run(project)
    assert ran == [NAME]


def test_every_module_left_out_of_the_code_hash_exists():
    root = Path(cigpose_export.__path__[0])
    assert all((root / name).is_file() for name in WITHOUT_PART_IN_THE_BYTES)
    assert RUNTIME_PART


def test_a_missing_real_checkpoint_is_an_error_and_writes_nothing(tiny_project):
    (outcome,), ran = run(tiny_project)
    assert (outcome.state, ran) == ("failed", [])
    assert isinstance(outcome.error, MissingCheckpointError)
    assert f"cigpose-tools checkpoints fetch {NAME}" in str(outcome.error)
    assert not (tiny_project.root / "out").exists()


def test_a_missing_synthetic_checkpoint_is_made_by_the_worker(tiny_project, monkeypatch):
    monkeypatch.setattr(
        FakeWorkers, "_run_worker", lambda self, variant, target: pytest.fail("reached")
    )
    with pytest.raises(pytest.fail.Exception, match="reached"):
        run(tiny_project, weights="synthetic")


def test_a_batch_goes_on_past_a_failing_variant(project):
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


def test_stages_end_with_the_state(project):
    stages = []
    run(project, on_stage=lambda name, stage: stages.append((name, stage)))
    assert stages[-1] == (NAME, "exported")


def test_record_reads_back_what_it_wrote(tmp_path):
    record = Record("inputs", "sha", batch_module.Figures(1, 2, 3.5, 4))
    record.write(tmp_path / "record.json")
    assert Record.read(tmp_path / "record.json") == record


# From here on with real workers, on a tiny variant.

EXPORT = """
import sys
from pathlib import Path
from cigpose_export import cli
from cigpose_export.variants import Project
Project.of_this_clone = classmethod(lambda cls: cls(Path(sys.argv[1])))
cli.main(["export", "--all", "--weights", "synthetic", "--out", sys.argv[2], "--jobs", "1"])
"""


def start_export(project, out, **environment):
    return subprocess.Popen(
        [sys.executable, "-c", EXPORT, str(project.root), str(out)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **environment},
    )


def finish_export(project, out, **environment):
    with start_export(project, out, **environment) as process:
        stdout, stderr = process.communicate(timeout=120)
    return process.returncode, stdout, stderr


def visible_and_hidden(folder):
    """All files below a folder, but not the records of exports."""
    return sorted(p for p in folder.rglob("*") if p.is_file() and p.parent.name != ".export")


def test_same_bytes_from_another_folder_and_hash_seed(tmp_path):
    digests = set()
    for name, seed in (("here", "1"), ("there/deeper", "2")):
        root = tmp_path / name
        root.mkdir(parents=True)
        project = make_tiny_project(root)
        status, _, stderr = finish_export(project, root / "out", PYTHONHASHSEED=seed)
        assert status == 0, stderr
        digests.add(hashlib.sha256((root / "out" / f"{NAME}.onnx").read_bytes()).hexdigest())
    assert len(digests) == 1


def test_ctrl_c_ends_an_export_cleanly_and_the_next_run_completes(tiny_project, tmp_path):
    out = tmp_path / "out"
    # stop where the artefact is being checked: written, but not yet named
    with start_export(tiny_project, out) as process:
        wait_for_worker_of(process)
        process.send_signal(signal.SIGINT)
        stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "interrupted" in stdout
    assert "Traceback" not in stderr
    assert visible_and_hidden(out) == []
    status, _, stderr = finish_export(tiny_project, out)
    assert status == 0, stderr
    onnx.checker.check_model(out / f"{NAME}.onnx", full_check=True)


def children_of(pid):
    path = Path(f"/proc/{pid}/task/{pid}/children")
    threads = path.parent.parent.glob("*/children")
    return [int(child) for thread in threads for child in thread.read_text().split()]


def wait_for_worker_of(process):
    """Blocks until an export has started its worker, and returns the worker's pid."""
    deadline = threading.Event()
    timer = threading.Timer(60, deadline.set)
    timer.start()
    try:
        while not deadline.is_set():
            children = children_of(process.pid)
            if children:
                return children[0]
    finally:
        timer.cancel()
    pytest.fail("no worker was started within 60 s")


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_killed_worker_is_one_failure_with_its_status(tiny_project, tmp_path):
    with start_export(tiny_project, tmp_path / "out") as process:
        os.kill(wait_for_worker_of(process), signal.SIGKILL)
        stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "failed" in stdout
    assert "status -9" in stderr
    assert visible_and_hidden(tmp_path / "out") == []


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_worker_does_not_outlive_a_killed_export(tiny_project, tmp_path):
    with start_export(tiny_project, tmp_path / "out") as process:
        worker = wait_for_worker_of(process)
        handle = os.pidfd_open(worker)
        process.kill()
        process.communicate(timeout=60)
    import select

    ended, _, _ = select.select([handle], [], [], 30)
    os.close(handle)
    assert ended, "the worker is still running 30 s after its parent was killed"
    assert visible_and_hidden(tmp_path / "out") == []


def test_an_error_of_the_worker_keeps_its_type(tiny_project, tmp_path):
    checkpoint = tmp_path / "empty.pth"
    checkpoint.touch()
    batch = Batch(tiny_project, weights="real", out=tmp_path / "out", checkpoint=checkpoint)
    (outcome,) = batch.run(list(tiny_project.variants.values()))
    assert type(outcome.error) is CheckpointError
    assert "found an empty file" in str(outcome.error)
    assert not (tmp_path / "out").exists()


def test_unknown_error_types_of_a_worker_become_export_errors(tiny_project, monkeypatch, tmp_path):
    script = tmp_path / "python"
    message = json.dumps({"error": "seeded", "type": "NoSuchError"})
    script.write_text(f"#!/bin/sh\necho '{message}'\n")
    script.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(script))
    batch = Batch(tiny_project, weights="synthetic", out=tmp_path / "out")
    (outcome,) = batch.run(list(tiny_project.variants.values()))
    assert type(outcome.error) is ExportError
