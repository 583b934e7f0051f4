"""Without the extra [release] all but releasing works, and releasing says what to install."""

import subprocess
import sys
import tomllib

import pytest

from cigpose_export.project import Project
from cigpose_export.release.evidence.bill_of_materials import write_bill_of_materials
from cigpose_export.release.publish import open_target
from cigpose_export.release.sign import sign_release
from cigpose_runtime.errors import InstallError
from cigpose_runtime.releases.manifest import MANIFEST, Manifest
from tiny_project import CLONE

ADVICE = "found no {}; run in the clone: make -B setup"
PYPROJECT = tomllib.loads((CLONE / "pyproject.toml").read_text("utf-8"))
MODULES = {
    "cyclonedx-python-lib": "cyclonedx",
    "model-signing": "model_signing",
    "pyopenssl": "OpenSSL",
    "huggingface-hub": "huggingface_hub",
    "fsspec": "fsspec",
    "s3fs": "s3fs",
}


@pytest.fixture
def without(monkeypatch):
    """Makes importing a package fail, and forgets our modules that have imported it already."""

    def forget(package):
        for name in list(sys.modules):
            if name.split(".")[0] == package or name.startswith("cigpose_export.release."):
                monkeypatch.delitem(sys.modules, name)
        monkeypatch.setitem(sys.modules, package, None)

    return forget


@pytest.fixture
def release(tmp_path):
    """As much of a release as finding out where to publish it takes."""
    manifest = Manifest(
        rehearsal=True, version="1.0.0", files=(), models={}, sources={}, tools={},
        lock_sha256="0" * 64, commit="0" * 40,
    )  # fmt: skip
    (tmp_path / MANIFEST).write_text(manifest.to_json())
    (tmp_path / "README.md").write_text("")
    return tmp_path


@pytest.mark.parametrize(
    ("package", "to"), [("huggingface_hub", "hf:org/repo"), ("fsspec", "file:///folder")]
)
def test_publishing_without_its_package_says_what_to_install(without, release, package, to):
    without(package)
    with pytest.raises(InstallError, match=ADVICE.format(package)):
        open_target(to, release)


def test_signing_without_its_package_says_what_to_install(without, tmp_path):
    without("model_signing")
    with pytest.raises(InstallError, match=ADVICE.format("model_signing")):
        sign_release(tmp_path, tmp_path / "key.pem", password=None)


def test_the_bill_of_materials_without_its_package_says_what_to_install(without, tmp_path):
    without("cyclonedx")
    with pytest.raises(InstallError, match=ADVICE.format("cyclonedx")):
        write_bill_of_materials(Project.of_this_clone(), [], tmp_path / "sbom.json", 0)


def test_the_extra_is_what_the_advice_and_these_tests_take_it_for():
    names = {
        line.partition("==")[0] for line in PYPROJECT["project"]["optional-dependencies"]["release"]
    }
    assert names == set(MODULES)


def test_exporting_and_verifying_import_nothing_of_the_extra():
    """In a process of its own, where these packages cannot be imported at all."""
    code = f"""
import sys
for name in {sorted(MODULES.values())}:
    sys.modules[name] = None
import cigpose_export.cli.main, cigpose_export.pipeline, cigpose_export.jobs.export
import cigpose_export.jobs.verify, cigpose_export.jobs.worker, cigpose_export.checkpoints.fetch
import cigpose_verify.judge, cigpose_export.accuracy.stage, cigpose_export.drawn.demo
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
