"""A tiny variant, exported and recorded: what verdicts are tried on."""

import shutil
from dataclasses import dataclass
from pathlib import Path

import onnx
import pytest

from cigpose_export.cli import main as cli
from cigpose_export.project import Project
from cigpose_export.reference.record import record_model
from cigpose_runtime import Contract, read_contract
from cigpose_verify.reference_record import ReferenceRecord
from tiny_project import export_tiny, make_tiny_project


@dataclass(frozen=True)
class Tiny:
    """An exported tiny model, its folder, and what PyTorch answers."""

    project: object
    path: Path
    record_path: Path
    record: ReferenceRecord
    contract: Contract

    @property
    def data(self):
        return self.path.read_bytes()

    @property
    def model(self):
        return onnx.load(self.path)


@pytest.fixture(scope="session")
def tiny(tmp_path_factory):
    """One model with 17 keypoints; files in it are not to be changed."""
    root = tmp_path_factory.mktemp("tiny")
    project = make_tiny_project(root)
    (variant,) = project.variants.values()
    path = export_tiny(project)
    record_path = root / "record.npz"
    record_model(
        project,
        variant,
        checkpoint_path=project.checkpoint_path(variant.name, "synthetic"),
        images=None,
        fork=False,
        target=record_path,
    )
    return Tiny(project, path, record_path, ReferenceRecord.read(record_path), read_contract(path))


@pytest.fixture
def project(tiny, tmp_path):
    """A copy of the tiny project, its model exported and not yet verified."""
    shutil.copytree(tiny.project.root, tmp_path / "clone")
    return Project(tmp_path / "clone")


@pytest.fixture
def run(project, capsys):
    """Runs `cigpose-tools verify`; returns exit status, stdout and stderr."""

    def call(*arguments):
        with pytest.raises(SystemExit) as ended:
            cli.main(["--project", str(project.root), "verify", *map(str, arguments)])
        output = capsys.readouterr()
        assert "Traceback" not in output.err
        return ended.value.code, output.out, output.err

    return call
