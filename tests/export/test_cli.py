"""Exit statuses, messages and tables of cigpose-tools."""

import json

import pytest

from cigpose_export.cli import console
from cigpose_export.cli import export as export_command
from cigpose_export.cli import main as cli
from cigpose_export.cli.console import byte_size
from cigpose_export.errors import CheckpointError
from cigpose_export.jobs import export as export_jobs
from cigpose_export.jobs.batch import Outcome, State
from cigpose_export.jobs.export import ExportFigures
from cigpose_export.project import Project
from tiny_project import copy_of_clone, tiny_name

NAME = tiny_name()


@pytest.fixture
def run(capsys):
    """Runs a command line; returns exit status, stdout and stderr."""

    def call(*arguments):
        with pytest.raises(SystemExit) as ended:
            cli.main(list(arguments))
        output = capsys.readouterr()
        assert "Traceback" not in output.err
        return ended.value.code, output.out, output.err

    return call


@pytest.fixture
def here(tiny_project):
    """Options that make a tiny project the clone that commands work in."""
    return ["--project", str(tiny_project.root)]


def test_list_shows_all_variants(run):
    status, out, _ = run("list")
    names = list(Project.of_this_clone().variants)
    assert status == 0
    assert [line.split()[0] for line in out.splitlines()[1:]] == names


def test_list_as_json_is_versioned(run):
    status, out, _ = run("list", "--json")
    document = json.loads(out)
    assert (status, document["schema_version"]) == (0, 1)
    assert len(document["variants"]) == 14
    assert document["variants"][0].keys() == {
        "name",
        "keypoints",
        "input",
        "published",
        "checkpoints",
        "artefacts",
    }


def test_missing_real_checkpoints_are_each_named_and_nothing_is_written(run, tmp_path):
    project = copy_of_clone(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    status, out, err = run("--project", str(tmp_path), "export", "--all")
    assert status == 1
    for name in project.variants:
        assert f"`make checkpoints MODELS={name}`" in err
        assert f"{name}: no real checkpoint" in err
    assert "WEIGHTS=synthetic" in err
    assert out.count("failed") == 14
    assert sorted(tmp_path.rglob("*")) == before


def test_a_project_that_is_no_clone_is_one_line(run, tmp_path):
    status, _, err = run("--project", str(tmp_path), "list")
    assert status == 2
    assert f"expected a clone at {tmp_path}, found no checkpoints/manifest.toml" in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["export"], "expected names of variants, or --all"),
        (["export", NAME, "--all"], "expected names of variants, or --all"),
        (["export", "cigpose-m_coco_256x129"], "did you mean cigpose-m_coco_256x192"),
        (["export", "zzz"], "`.venv/bin/cigpose-tools list` shows all"),
        (["export", NAME, "--weights", "fake"], "'fake' is not one of 'real', 'synthetic'"),
        (["export", NAME, "--jobs", "0"], "0 is not in the range x>=1"),
        (["no-such-command"], "No such command"),
        (["checkpoints", "fetch"], "expected names of variants, or --all"),
        (["checkpoints", "synthesize", "zzz"], "no variant 'zzz'"),
    ],
)
def test_bad_usage_exits_2_with_one_line_of_error(run, here, arguments, message):
    status, _, err = run(*here, *arguments)
    assert status == 2
    assert message in err
    assert len([line for line in err.splitlines() if "rror:" in line]) == 1


def test_one_checkpoint_goes_with_one_variant(run):
    status, _, err = run("export", "--all", "--checkpoint", "x.pth")
    assert status == 2
    assert "exactly one variant" in err


def test_a_bad_checkpoint_for_one_variant_exits_2(run, here, tmp_path):
    (tmp_path / "page.pth").write_text("<html>quota exceeded</html>")
    status, _, err = run(
        *here,
        "export",
        NAME,
        "--checkpoint",
        str(tmp_path / "page.pth"),
        "--out",
        str(tmp_path / "out"),
    )
    assert status == 2
    assert "found an HTML or XML page" in err
    assert not (tmp_path / "out").exists()


def test_a_checkpoint_path_that_is_wrong_exits_2(run, here, tmp_path):
    status, _, err = run(*here, "export", NAME, "--checkpoint", str(tmp_path / "nowhere.pth"))
    assert status == 2
    assert "nowhere.pth" in err


@pytest.mark.parametrize(
    ("states", "expected"),
    [
        (["exported", "up to date"], 0),
        (["exported", "failed"], 1),
        (["failed", "failed"], 1),
        (["exported", "interrupted"], 130),
    ],
)
def test_exit_status_of_a_batch(run, here, monkeypatch, tmp_path, states, expected):
    figures = ExportFigures(
        "fork.CIGHead", nodes=290, size=56_258_633, seconds=12.34, peak_memory=1_088_696_000
    )
    outcomes = [
        Outcome(
            name=f"variant-{index}",
            state=State(state),
            path=tmp_path,
            result=figures if state in ("exported", "up to date") else None,
            error=CheckpointError("seeded") if state == "failed" else None,
        )
        for index, state in enumerate(states)
    ]
    monkeypatch.setattr(export_jobs, "export_models", lambda *_, **__: outcomes)
    monkeypatch.setattr(export_command, "selected", lambda *_: [None, None])
    status, out, err = run(*here, "export", "--all")
    assert status == expected
    assert all(state in out for state in states)
    assert err.count("seeded") == len([o for o in outcomes if o.error])
    assert ("the installed CIGPose fork's own head, fork.CIGHead" in out) == ("exported" in states)
    if "exported" in states:
        row = next(line for line in out.splitlines() if "exported" in line)
        assert row.split()[2:] == ["290", "56.3", "MB", "12.3", "1.09", "GB"]


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (999, "999 B"), (56_258_633, "56.3 MB"), (2_340_000_000, "2.34 GB")],
)
def test_sizes_are_for_people(count, text):
    assert byte_size(count) == text


HOSTILE = "a\x1b[31m[/]\u202e\udcff.onnx"
HARMLESS = r"a\x1b[31m[/]\u202e\udcff.onnx"


def test_names_of_files_neither_drive_the_terminal_nor_are_markup(capsys, tmp_path):
    outcomes = [Outcome(HOSTILE, State.PASSED, tmp_path), Outcome("b.onnx", State.FAILED, tmp_path)]
    console.print_verified(outcomes)
    with console.progress(1) as on_stage:
        on_stage(HOSTILE, State.PASSED)
    output = capsys.readouterr()
    assert [line.split()[:2] for line in output.out.splitlines()[1:]] == [
        [HARMLESS, "passed"],
        ["b.onnx", "failed"],
    ]
    assert output.err == f"{HARMLESS}: passed\n"


@pytest.mark.parametrize(
    "arguments", [["verify", HOSTILE], ["list", f"--{HOSTILE}"], [HOSTILE]], ids=lambda a: a[0][:6]
)
def test_errors_show_arguments_harmless(run, arguments):
    status, _, err = run(*arguments)
    assert status != 0
    assert HARMLESS in err
    assert all(character.isprintable() or character == "\n" for character in err)


def test_outputs_do_not_destroy_inputs(run, here, tmp_path):
    model, checkpoint = tmp_path / "a.onnx", tmp_path / f"{NAME}.onnx"
    for path in (model, checkpoint):
        path.write_bytes(b"precious")
    (tmp_path / "link").symlink_to(model)
    for arguments in (
        ["verify", str(model), "--json", f"{tmp_path}/../{tmp_path.name}/a.onnx"],
        ["verify", str(model), "--json", str(tmp_path / "link")],
        ["verify", str(model), "--checkpoint", str(checkpoint), "--json", str(checkpoint)],
        ["export", NAME, "--checkpoint", str(checkpoint), "--out", str(tmp_path)],
    ):
        status, _, err = run(*here, *arguments)
        assert (status, "expected another file for" in err) == (2, True)
    accuracy = tmp_path / "accuracy.json"
    accuracy.write_bytes(b"precious")
    status, _, err = run(
        *(*here, "accuracy", str(model), "--images", str(tmp_path), "--out", str(tmp_path)),
        *("--annotations", str(accuracy)),
    )
    assert (status, "for results than --annotations" in err) == (2, True)
    assert {path.read_bytes() for path in (model, checkpoint, accuracy)} == {b"precious"}


def test_annotated_boxes_are_not_selected_by_options_of_detectors(run, tmp_path):
    places = ("--annotations", str(tmp_path), "--images", str(tmp_path))
    status, _, err = run("accuracy", str(tmp_path / "a.onnx"), *places, "--max-people", "3")
    assert (status, "--max-people: expected --boxes beside them" in err) == (2, True)
