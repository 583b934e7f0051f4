import importlib
import json
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version

import pytest

from cigpose_export.cli import doctor
from cigpose_export.cli.doctor import CLASHES, Finding, examine
from cigpose_export.cli.main import main
from cigpose_export.modeling import build
from cigpose_export.project import Project
from cigpose_runtime.errors import InstallError


def examine_here():
    """What the doctor finds in this clone."""
    return examine(Project.of_this_clone())


@pytest.fixture
def installed(monkeypatch):
    """Versions by distribution that the doctor shall find in place of those here; None: missing."""
    pretended: dict[str, str | None] = {}

    def pretended_version(name: str) -> str:
        found = pretended[name] if name in pretended else version(name)
        if found is None:
            raise PackageNotFoundError(name)
        return found

    monkeypatch.setattr(doctor, "version", pretended_version)
    return pretended


@pytest.fixture
def broken(monkeypatch):
    """Errors by module that importing it shall raise for the doctor."""
    errors: dict[str, Exception] = {}

    def import_module(name: str):
        if name in errors:
            raise errors[name]
        return importlib.import_module(name)

    fake = type(importlib)("importlib")
    fake.import_module = import_module
    fake.util = importlib.util
    monkeypatch.setattr(doctor, "importlib", fake)
    return errors


def conflicts() -> list[Finding]:
    return [finding for finding in examine_here() if finding.state == "conflict"]


def finding_on(subject: str) -> Finding:
    (finding,) = (finding for finding in examine_here() if finding.subject == subject)
    return finding


def test_this_installation_has_no_conflict():
    assert conflicts() == []


def test_every_pinned_package_is_looked_at():
    subjects = {finding.subject for finding in examine_here() if finding.state == "ok"}
    assert {"Python", "torch", "onnx", "onnxsim", "numpy", "mmengine", "mmcv-lite", "mmpose"} <= (
        subjects
    )


def test_what_only_development_needs_is_not_looked_at():
    assert not {"ruff", "pytest", "mypy"} & {finding.subject for finding in examine_here()}


def test_a_missing_package_is_a_conflict(installed):
    installed["onnxsim"] = None
    assert conflicts() == [
        Finding("onnxsim", "conflict", "not installed", "run `make setup` in the clone")
    ]


def test_a_wrong_version_is_a_conflict(installed):
    installed["torch"] = "2.1.0+cu118"
    (conflict,) = conflicts()
    assert conflict.subject == "torch"
    assert conflict.found == f"2.1.0+cu118, expected {version('torch').partition('+')[0]}"
    assert "make setup" in conflict.fix


def test_a_local_build_of_the_right_version_is_fine(installed):
    installed["torch"] = version("torch").partition("+")[0] + "+cu999"
    assert conflicts() == []


@pytest.mark.parametrize(("ours", "other", "fix"), CLASHES)
def test_two_packages_that_write_into_each_other_are_a_conflict(installed, ours, other, fix):
    installed[other] = "1.0"
    assert conflicts() == [
        Finding(
            f"{ours} and {other}",
            "conflict",
            "both are installed",
            fix.format(setup="run `make setup` in the clone"),
        )
    ]


@pytest.mark.parametrize("module", ["onnx", "onnxscript", "onnxsim", "onnxruntime", "torch"])
def test_a_package_that_cannot_be_imported_is_a_conflict(broken, module):
    broken[module] = ImportError("libfoo.so.1: cannot open shared object file")
    finding = finding_on(f"import {module}")
    assert finding.state == "conflict"
    assert "libfoo.so.1" in finding.found
    assert finding.fix


def test_an_xtcocotools_for_another_numpy_is_a_conflict(broken):
    broken["xtcocotools.coco"] = ValueError("numpy.dtype size changed")
    finding = finding_on("xtcocotools")
    assert finding.state == "conflict"
    assert "numpy.dtype size changed" in finding.found
    assert "pip uninstall xtcocotools" in finding.fix


def test_an_evaluator_that_cannot_be_imported_is_a_conflict_with_its_cause(broken):
    broken["faster_coco_eval"] = ImportError("libstdc++.so.6: version not found")
    finding = finding_on("AP")
    assert finding.state == "conflict"
    assert "libstdc++.so.6: version not found" in finding.found


def test_a_python_that_the_pinned_packages_have_no_wheels_for_is_a_conflict(monkeypatch):
    monkeypatch.setattr(doctor.sys, "version_info", (3, 15, 0))
    finding = finding_on("Python")
    assert (finding.state, "PYTHON=python3.14" in finding.fix) == ("conflict", True)


def test_an_mmpose_that_cannot_be_imported_is_a_conflict(monkeypatch):
    def fail() -> str:
        raise InstallError("MMPose cannot be imported (no mmengine)")

    monkeypatch.setattr(build, "register_head", fail)
    finding = finding_on("reference head")
    assert (finding.state, finding.found) == (
        "conflict",
        "MMPose cannot be imported (no mmengine)",
    )


def test_the_doctor_works_where_nothing_else_does():
    """Each package of the export fails to import; the doctor still ends with a list."""
    code = (
        "import sys\n"
        "for name in ('torch', 'numpy', 'mmengine', 'mmcv', 'mmpose', 'onnx', 'onnxruntime'):\n"
        "    sys.modules[name] = None\n"
        "from cigpose_export.cli.main import main\n"
        "main(['doctor', '--json'])\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code], text=True, capture_output=True, check=False
    )
    assert ended.returncode == 1, ended.stderr
    findings = json.loads(ended.stdout)["findings"]
    found = {finding["subject"] for finding in findings if finding["state"] == "conflict"}
    assert {"import torch", "reference head", "import onnx", "import onnxruntime"} <= found


# The command


def run(capsys, *arguments: str) -> tuple[int, str]:
    with pytest.raises(SystemExit) as ended:
        main(["doctor", *arguments])
    return ended.value.code, capsys.readouterr().out


def test_a_clean_installation_exits_0(capsys):
    status, output = run(capsys)
    assert status == 0
    assert "conflict" not in output


def test_a_conflict_exits_1_and_shows_its_fix(capsys, installed):
    installed["mmpose"] = None
    status, output = run(capsys)
    assert status == 1
    assert "not installed" in output
    assert "make setup" in output


def test_the_json_is_versioned(capsys, installed):
    installed["mmpose"] = "1.0.0"
    status, output = run(capsys, "--json")
    document = json.loads(output)
    assert status == 1
    assert list(document) == ["schema_version", "findings"]
    assert document["schema_version"] == 1
    assert {tuple(finding) for finding in document["findings"]} == {
        ("subject", "state", "found", "fix")
    }
    (conflict,) = (f for f in document["findings"] if f["state"] == "conflict")
    assert conflict["subject"] == "mmpose"
