"""Files made from the float32 one: what is made again, and what is not."""

import hashlib
from pathlib import Path

import pytest

from cigpose_export.errors import ExportError
from cigpose_export.jobs.batch import Work
from cigpose_export.jobs.export import export_models
from cigpose_export.project import Project
from tiny_project import tiny_name

NAME = tiny_name()


def fake_work(kind, arguments):
    """An export copies its checkpoint, a reduction halves its parent."""
    target = Path(arguments["target"])
    target.parent.mkdir(exist_ok=True)
    if kind == "export":
        project = Project(Path(arguments["project"]))
        content = project.checkpoint_path(arguments["model"]["name"], "real").read_bytes()
        more = {"reference_head": "CIGHead", "note": "a note"}
        more["checkpoint_sha256"] = hashlib.sha256(content).hexdigest()
    else:
        content = Path(arguments["parent"]).read_bytes()
        if content == b"unsafe":
            raise ExportError("expected values up to 32,752")
        content, more = content[::2], {}
    target.write_bytes(content)
    done = dict(sha256=hashlib.sha256(content).hexdigest(), nodes=1, size=len(content), **more)
    return {"done": done, "peak_memory": 1}


@pytest.fixture
def export(project, monkeypatch):
    """Exports in float16 with fake workers; returns the outcome and the kinds of work done."""

    def call(precision="fp16", batch=None):
        done = []

        def fake(self, kind, arguments, environment=None):
            done.append(kind)
            return fake_work(kind, arguments)

        monkeypatch.setattr(Work, "run", fake)
        models, out = list(project.variants.values()), project.root / "out"
        (outcome,) = export_models(
            project, models, weights="real", out=out, precision=precision, batch=batch
        )
        return outcome, done

    return call


def test_a_reduced_file_is_made_of_the_float32_one_and_a_second_run_does_no_work(project, export):
    first, done = export()
    assert (first.state, done) == ("exported", ["export", "derive"])
    assert first.path == project.root / "out" / f"{NAME}_fp16.onnx"
    assert first.path.read_bytes() == b"wihs"
    assert (first.result.size, first.result.note) == (4, "a note")
    second, done = export()
    assert (second.state, second.result, done) == ("up to date", first.result, [])


def test_another_precision_takes_the_float32_file_that_is_there(export):
    export()
    outcome, done = export("w16")
    assert (outcome.path.name, done) == (f"{NAME}_w16.onnx", ["derive"])


def test_each_batch_of_a_portable_file_is_a_file_of_its_own(export):
    made = [export("fp32", batch) for batch in (1, 8, 1)]
    assert [outcome.path.name for outcome, _ in made] == [
        f"{NAME}_portable.onnx",
        f"{NAME}_portable_b8.onnx",
        f"{NAME}_portable.onnx",
    ]
    assert [done for _, done in made] == [["export", "derive"], ["derive"], []]


def change_the_checkpoint(project):
    project.checkpoint_path(NAME, "real").write_bytes(b"other weights")


def damage_the_float32_file(project):
    (project.root / "out" / f"{NAME}.onnx").write_bytes(b"damaged")


def damage_the_reduced_file(project):
    (project.root / "out" / f"{NAME}_fp16.onnx").write_bytes(b"damaged")


def damage_the_receipt(project):
    (project.root / "out" / ".export" / f"{NAME}_fp16.json").write_text("{")


@pytest.mark.parametrize(
    ("change", "work"),
    [
        (change_the_checkpoint, ["export", "derive"]),
        (damage_the_float32_file, ["export", "derive"]),
        (damage_the_reduced_file, ["derive"]),
        (damage_the_receipt, ["derive"]),
    ],
)
def test_what_has_changed_is_made_again(project, export, change, work):
    export()
    change(project)
    outcome, done = export()
    assert (outcome.state, done) == ("exported", work)


def test_a_model_that_float16_cannot_hold_leaves_its_float32_file(project, export):
    project.checkpoint_path(NAME, "real").write_bytes(b"unsafe")
    outcome, _ = export()
    assert (outcome.state, str(outcome.error)) == ("failed", "expected values up to 32,752")
    assert [path.name for path in (project.root / "out").glob("*.onnx")] == [f"{NAME}.onnx"]
