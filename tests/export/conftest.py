"""Fixtures of the exporter's tests."""

import shutil
import subprocess

import pytest

from cigpose_export.jobs.verify import verify_files
from cigpose_export.release.build import build_release
from tiny_project import CLONE, export_tiny, make_tiny_project


@pytest.fixture
def tiny_project(tmp_path):
    """A project of one tiny variant, cigpose-m_coco_256x192, without checkpoints."""
    return make_tiny_project(tmp_path)


@pytest.fixture
def project(tiny_project):
    """The same with a real checkpoint, as far as a fake worker can tell."""
    (name,) = tiny_project.variants
    path = tiny_project.checkpoint_path(name, "real")
    path.parent.mkdir()
    path.write_bytes(b"weights")
    return tiny_project


@pytest.fixture(scope="session")
def tiny_path(tmp_path_factory):
    """A tiny model as exported, in float32; not to be changed."""
    return export_tiny(make_tiny_project(tmp_path_factory.mktemp("tiny")))


@pytest.fixture(scope="session")
def release_project(tmp_path_factory):
    """A clone with one tiny variant, exported and verified."""
    root = tmp_path_factory.mktemp("release") / "clone"
    root.mkdir()
    project = make_tiny_project(root)
    for name in ("LICENSE", "NOTICE", "CITATION.cff", ".gitignore"):
        shutil.copy(CLONE / name, root)
    for name in ("requirements", "runtime", "export/cigpose_export", "verify/cigpose_verify"):
        ignored = shutil.ignore_patterns("__pycache__", "dist", "*.egg-info", "node_modules")
        shutil.copytree(CLONE / name, root / name, ignore=ignored)
    git = ["git", "-C", str(root), "-c", "user.name=t", "-c", "user.email=t@example.org"]
    subprocess.run([*git, "init", "--quiet"], check=True)
    subprocess.run([*git, "add", "--all"], check=True)
    subprocess.run([*git, "commit", "--quiet", "-m", "x"], check=True)
    (verified,) = verify_files(project, [export_tiny(project)])
    assert verified.error is None
    return project


EPOCH = "1700000000"


@pytest.fixture(scope="session")
def built(release_project, tmp_path_factory):
    """A rehearsal of a release with the tiny variant; not to be changed."""
    out = tmp_path_factory.mktemp("built") / "release"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SOURCE_DATE_EPOCH", EPOCH)
        build_release(
            release_project, release_project.artefact_folder("synthetic"), out, allow_synthetic=True
        )
    return out
