"""What is in the wheel, and that it runs where nothing else is installed."""

import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

import cigpose_runtime

CLONE = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The runtime's wheel, built from the clone."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*command, "-w", str(folder), str(CLONE / "runtime")], check=True)
    (path,) = folder.iterdir()
    return path


def modules_here():
    return {
        path.relative_to(CLONE / "runtime").as_posix()
        for path in (CLONE / "runtime" / "cigpose_runtime").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


def test_the_wheel_has_the_package_its_type_marker_and_the_licences(wheel):
    modules = modules_here()
    info = "cigpose_runtime-0.1.0.dist-info"
    metadata = {f"{info}/{name}" for name in ("METADATA", "WHEEL", "RECORD", "entry_points.txt")}
    licences = {f"{info}/licenses/{name}" for name in ("LICENSE", "NOTICE")}
    assert "cigpose_runtime/py.typed" in modules
    with zipfile.ZipFile(wheel) as archive:
        assert set(archive.namelist()) == modules | metadata | licences


def test_the_sdist_has_what_building_the_wheel_takes(tmp_path):
    command = [sys.executable, "-m", "hatchling", "build", "-t", "sdist", "-d", str(tmp_path)]
    subprocess.run(command, check=True, cwd=CLONE / "runtime", capture_output=True)
    (path,) = tmp_path.iterdir()
    with tarfile.open(path) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    beside = {"pyproject.toml", "README.md", "LICENSE", "NOTICE", "PKG-INFO", ".gitignore"}
    assert names == modules_here() | beside


@pytest.mark.long
def test_selftest_passes_where_only_numpy_onnxruntime_and_the_runtime_are(
    wheel, verified_model, tmp_path
):
    subprocess.run([sys.executable, "-m", "venv", str(tmp_path / "venv")], check=True)
    python = tmp_path / "venv" / "bin" / "python"
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, str(wheel)], check=True, env=environment)
    listed = subprocess.run(
        [str(python), "-m", "pip", "list", "--format=freeze", "--disable-pip-version-check"],
        check=True,
        env=environment,
        capture_output=True,
        text=True,
    ).stdout
    names = {line.partition("==")[0] for line in listed.splitlines()}
    assert names >= {"numpy", "onnxruntime", "cigpose-runtime"}
    assert not names & {"onnx", "torch", "pillow", "mmengine"}
    done = subprocess.run(
        [str(python.with_name("cigpose-runtime")), "selftest", str(verified_model)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("ok  ") == 3


@pytest.fixture
def verified_model(tmp_path):
    """A tiny variant, exported and verified."""
    from cigpose_export.jobs.export import export_models
    from cigpose_export.jobs.verify import verify_files
    from tiny_project import make_tiny_project

    project = make_tiny_project(tmp_path / "clone")
    out = project.artefact_folder("synthetic")
    (made,) = export_models(project, list(project.variants.values()), weights="synthetic", out=out)
    (verified,) = verify_files(project, [made.path])
    assert verified.state == "passed"
    return made.path


def test_every_public_name_is_there():
    assert [name for name in cigpose_runtime.__all__ if not hasattr(cigpose_runtime, name)] == []
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = cigpose_runtime.no_such_name
