"""The Makefile: which Python .venv is of, and that targets do not run beside one another."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

MAKEFILE = Path(__file__).parents[2] / "Makefile"


@pytest.fixture
def clone(tmp_path):
    """A folder with the Makefile, what setup waits for, and a set-up .venv of `python-a`."""
    shutil.copy(MAKEFILE, tmp_path)
    for name in ("pyproject.toml", "runtime/pyproject.toml", "requirements/lock.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    pretend_python(tmp_path / "python-a", "3.11.7 /usr")
    pretend_python(tmp_path / "python-b", "3.12.1 /opt")
    pretend_python(tmp_path / ".venv" / "bin" / "python", "3.11.7 /usr")
    (tmp_path / ".venv" / ".set-up").touch()
    return tmp_path


def pretend_python(path, says):
    """A program that answers what the Makefile asks a Python."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\necho '{says}'\n")
    path.chmod(0o755)


def planned(clone, *arguments):
    """The commands that make would run."""
    return make(clone, "-n", *arguments)


def make(clone, *arguments):
    """What make prints. It takes nothing from a make that runs this test."""
    of_make = ("MAKEFLAGS", "MFLAGS", "MAKELEVEL", "PYTHON")
    environment = {k: v for k, v in os.environ.items() if k not in of_make}
    done = subprocess.run(
        ["make", *arguments],
        cwd=clone,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


def test_a_venv_of_another_python_is_made_anew(clone):
    assert "python-b -m venv --clear .venv" in planned(clone, "setup", "PYTHON=./python-b")


def test_a_venv_of_the_same_python_stays(clone):
    assert "-m venv" not in planned(clone, "setup", "PYTHON=./python-a")


def test_without_python_a_venv_stays_whatever_it_is_of(clone):
    assert "-m venv" not in planned(clone, "setup")


def test_a_new_pin_does_not_clear_the_venv(clone):
    (clone / ".venv" / ".set-up").unlink()
    assert "python-a -m venv  .venv" in planned(clone, "setup", "PYTHON=./python-a")


def test_a_first_setup_makes_the_venv(clone):
    shutil.rmtree(clone / ".venv")
    assert "python-b -m venv  .venv" in planned(clone, "setup", "PYTHON=./python-b")


def test_targets_run_one_after_another():
    """`make -j` must not export while setup installs."""
    assert re.search(r"^\.NOTPARALLEL:$", MAKEFILE.read_text("utf-8"), re.MULTILINE)


@pytest.mark.parametrize("where", ["argument", "environment"])
def test_the_place_to_publish_reaches_the_command_as_it_is(clone, where, monkeypatch):
    """Tags may hold what a shell would run."""
    tools = clone / ".venv" / "bin" / "cigpose-tools"
    tools.write_text("#!/bin/sh\nprintf '%s\\n' \"$@\" > arguments\n")
    tools.chmod(0o755)
    place = "github:o/r@v1`touch x`\"; touch x #'"
    if where == "environment":
        monkeypatch.setenv("TO", place)
    make(clone, "publish", *([f"TO={place}"] if where == "argument" else []))
    assert (clone / "arguments").read_text().splitlines() == ["release", "publish", "--to", place]
    assert not (clone / "x").exists()


def test_publishing_nowhere_says_what_to_give(clone):
    with pytest.raises(subprocess.CalledProcessError) as failed:
        make(clone, "publish")
    assert "make publish TO=github:OWNER/REPO@TAG" in failed.value.stderr


def test_help_lists_every_target(clone):
    text = MAKEFILE.read_text("utf-8")
    targets = set(re.findall(r"^([a-z-]+):", text, re.MULTILINE))
    (phony,) = re.findall(r"^\.PHONY: (.+)", text, re.MULTILINE)
    assert targets | {"FORCE"} == set(phony.split())
    assert {line.split()[0] for line in make(clone, "help").splitlines()} == targets
