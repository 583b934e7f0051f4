"""What `make setup` installs is pinned, by version and by hash."""

import re
import runpy
from pathlib import Path

import pytest

REQUIREMENTS = Path(__file__).parents[2] / "requirements"
INSTALLED = ("lock", "build", "openmmlab", "peers", "torch-cpu", "xtcocotools")
PIN = re.compile(r"([A-Za-z0-9._-]+)(?:\[[\w,]+\])?==([^\s;]+)")


def locked():
    """Versions by name in lock.txt; a package may have several, for several Pythons."""
    found = {}
    for name, version in PIN.findall((REQUIREMENTS / "lock.txt").read_text("utf-8")):
        found.setdefault(name.lower(), set()).add(version)
    return found


@pytest.mark.parametrize("name", INSTALLED)
def test_every_requirement_has_hashes(name):
    text = (REQUIREMENTS / f"{name}.txt").read_text("utf-8").replace("\\\n", " ")
    lines = [
        line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")
    ]
    assert lines
    assert [line for line in lines if not re.search(r"==.* --hash=sha256:[0-9a-f]{64}", line)] == []


def test_the_lock_has_every_pin_of_the_project():
    direct = runpy.run_path(str(REQUIREMENTS / "direct.py"))["pins"]()
    assert len(direct) > 40
    pins, lock = [PIN.fullmatch(pin).groups() for pin in direct], locked()
    assert [pin for pin in pins if pin[1] not in lock.get(pin[0].lower(), set())] == []


def test_the_cpu_build_of_torch_is_of_the_pinned_version():
    text = (REQUIREMENTS / "torch-cpu.txt").read_text("utf-8")
    ((_, version),) = [pin for pin in PIN.findall(text) if pin[0] == "torch"]
    assert {version.removesuffix("+cpu")} == locked()["torch"]
