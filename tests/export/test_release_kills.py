"""SIGKILL at 50 points of building and publishing: nothing half-written passes for a release."""

import os
import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest

from cigpose_runtime.errors import CigposeError
from cigpose_runtime.releases.check import check_release
from cigpose_runtime.releases.manifest import asset_name
from github_server import REPOSITORY, TOKEN, serve_github
from small_release import contents, make_release

KILLS = {"build": 18, "folder": 16, "github": 16}
"""How many points of each; 50 in all."""

# Counts calls in the code at work and, at the one that is asked for, ends as by kill -9.
COUNTED = """\
import os, signal, sys
from pathlib import Path
import cigpose_export.release.github, cigpose_export.release.store
from cigpose_export.cli.main import tools
from cigpose_export.release.build import build_release
from cigpose_export.project import Project
point, count = int(sys.argv[1]), 0
parts = ("cigpose_", "shutil.py", "fsspec", "requests", "urllib3", "zipfile.py", "http/client")
def hook(frame, event, argument):
    global count
    if event == "call" and any(part in frame.f_code.co_filename for part in parts):
        count += 1
        if count == point:
            os.kill(os.getpid(), signal.SIGKILL)
sys.setprofile(hook)
exec(sys.argv[2])
sys.setprofile(None)
print("calls:", count)
"""


def run(point, code, **environment):
    """Runs code to the call of this number, or, for 0, to its end; returns how many there were."""
    ended = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", COUNTED, str(point), code],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    if point:
        assert ended.returncode == -signal.SIGKILL, ended.stderr
        return point
    assert ended.returncode == 0, ended.stderr
    return int(ended.stdout.rpartition("calls:")[2])


def points(calls, count):
    """Evenly spread over a run, which may be a few calls shorter the next time."""
    return np.unique(np.linspace(1, calls - 100, count).astype(int)).tolist()


def passes(folder):
    try:
        return check_release(folder)[1] == []
    except CigposeError:
        return False


def publishing(folder, to, *options):
    arguments = ["release", "publish", str(folder), "--to", to, *options]
    return f"tools.main({arguments!r}, standalone_mode=False)"


@pytest.mark.long
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("replacing", [False, True], ids=["none before", "replacing"])
def test_killed_builds(release_project, tmp_path, replacing):
    models = release_project.artefact_folder("synthetic")

    def build(out):
        places = ", ".join(f"Path({str(p)!r})" for p in (models, out))
        root = f"Project(Path({str(release_project.root)!r}))"
        return f"build_release({root}, {places}, allow_synthetic=True)"

    epoch = {"SOURCE_DATE_EPOCH": "1700000000"}
    calls = run(0, build(tmp_path / "whole"), **epoch)
    out = tmp_path / "out" / "release"
    if replacing:
        make_release(out)
    for point in points(calls, KILLS["build"] // 2):
        run(point, build(out), **epoch)
        assert not out.exists() or passes(out)
    run(0, build(out), **epoch)
    assert contents(out) == contents(tmp_path / "whole")
    assert [path.name for path in out.parent.iterdir()] == ["release"]


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_killed_publishing_in_a_folder(tmp_path):
    old, new = make_release(tmp_path / "old", seed=1), make_release(tmp_path / "new")
    there = tmp_path / "there"
    publish = publishing(tmp_path / "new", there.as_uri(), "--update")

    def start_over():
        shutil.rmtree(there, ignore_errors=True)
        shutil.copytree(tmp_path / "old", there)

    start_over()
    calls = run(0, publish)
    for point in points(calls, KILLS["folder"]):
        start_over()
        run(point, publish)
        assert not passes(there) or contents(there) in (old, new)
        run(0, publish)
        assert contents(there) == new


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_killed_publishing_on_github(tmp_path):
    new = make_release(tmp_path / "new")
    publish = publishing(tmp_path / "new", f"github:{REPOSITORY}@v1")
    with serve_github() as server:
        settings = {"GITHUB_API_URL": server.url, "GITHUB_TOKEN": TOKEN}
        calls = run(0, publish, **settings)
        for point in points(calls, KILLS["github"]):
            server.releases.clear()
            server.published = 0
            run(point, publish, **settings)
            if server.published:
                assert server.assets() == {asset_name(k): v for k, v in new.items()}
            run(0, publish, **settings)
            assert server.assets() == {asset_name(k): v for k, v in new.items()}
            assert server.published == 1
