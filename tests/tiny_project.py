"""A project of one tiny variant with a published one's name and interface, for fast tests."""

import shutil
from pathlib import Path

from cigpose_export.variants import Project

CLONE = Path(__file__).resolve().parents[1]

BACKBONE = """\
_base_ = ['./cigpose-m.full.py']

model = dict(
    backbone=dict(deepen_factor=0.17, widen_factor=0.0625),
    head=dict(in_channels=64))
"""

# The published configs with a small attention unit and graph network.
SMALLER = {"hidden_dims=256, s=128": "hidden_dims=32, s=16", "_dim=256": "_dim=32"}


def tiny_name(dataset: str = "coco") -> str:
    """The name of the variant that make_tiny_project gives for a dataset."""
    return f"cigpose-m_{dataset}_256x192"


def make_tiny_project(root: Path, dataset: str = "coco") -> Project:
    """Writes a manifest and the config of one variant into `root`.

    dataset: coco, crowdpose or coco-wholebody. The input is 192x256 and the keypoints are those of
    the published variant; the backbone and the head's hidden layers are tiny.
    """
    name = tiny_name(dataset)
    base = root / "configs" / "_base_"
    base.mkdir(parents=True)
    shutil.copy(CLONE / "configs" / "_base_" / f"{dataset}.py", base)
    shutil.copy(CLONE / "configs" / "_base_" / "cigpose-m.py", base / "cigpose-m.full.py")
    (base / "cigpose-m.py").write_text(BACKBONE)
    config = (CLONE / "configs" / f"{name}.py").read_text("utf-8")
    for full, small in SMALLER.items():
        assert full in config
        config = config.replace(full, small)
    project = Project(root)
    project.config_path(name).write_text(config)
    project.manifest_path.parent.mkdir()
    project.manifest_path.write_text(
        f'# One tiny variant.\n[{name}]\nsource = "gdrive:none"\npublished = {{ ap = 50.0 }}\n'
    )
    return project


def copy_of_clone(root):
    """A project with the clone's configs and manifest, and checkpoints of its own."""
    shutil.copytree(CLONE / "configs", root / "configs")
    (root / "checkpoints").mkdir()
    shutil.copy(CLONE / "checkpoints" / "manifest.toml", root / "checkpoints")
    return Project(root)
