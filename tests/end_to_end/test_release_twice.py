"""A release has the same bytes again, also from another clone of another name, by another user."""

import os
import subprocess
import sys

import pytest

from cigpose_export.variants import DEMO
from cigpose_runtime.releases.manifest import SUMS
from tiny_project import CLONE

ANOTHER_USER = ("unshare", "--user", "--map-user=12345", "--map-group=12345")


def clone_and_release(root, *, home, times=1, user=(), umask=0o022):
    """The sums of each release of the demonstration model, made in a clone."""
    subprocess.run(["git", "clone", "--quiet", CLONE, root], check=True)
    home.mkdir()
    packages = os.pathsep.join(str(root / name) for name in ("export", "verify", "runtime"))
    environment = {
        **{key: value for key, value in os.environ.items() if not key.startswith("XDG_")},
        "PYTHONPATH": packages,
        "HOME": str(home),
        "USER": home.name,
        "LOGNAME": home.name,
    }
    tools = [*user, sys.executable, "-m", "cigpose_export.cli.main", "--project", root]
    file = root / "dist" / "demo" / f"{DEMO.name}.onnx"
    build = ["release", "build", "--weights", "demo", "--allow-synthetic", "--out"]
    outs = [root / "dist" / f"release-{number}" for number in range(times)]
    for command in (
        ["export", DEMO.name, "--weights", "demo"],
        ["verify", file],
        *([*build, out] for out in outs),
    ):
        ended = subprocess.run(
            [*tools, *command],
            env=environment,
            umask=umask,
            cwd=root,
            capture_output=True,
            text=True,
            check=False,
        )
        assert ended.returncode == 0, ended.stderr
    return [(out / SUMS).read_text() for out in outs]


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_a_release_is_the_same_bytes_again_and_from_anybodys_clone(tmp_path):
    first, again = clone_and_release(tmp_path / "one", home=tmp_path / "ada", times=2)
    assert again == first
    can_be_another = subprocess.run([*ANOTHER_USER, "true"], check=False).returncode == 0
    (theirs,) = clone_and_release(
        tmp_path / "somebody else's clone",
        home=tmp_path / "grace",
        user=ANOTHER_USER if can_be_another else (),
        umask=0o077,
    )
    assert theirs == first
