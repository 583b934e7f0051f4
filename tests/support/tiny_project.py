"""Projects for tests: one of a tiny variant, one like the clone; and exports in them."""

import contextlib
import os
import select
import shutil
import subprocess
import sys
import time
from pathlib import Path

from cigpose_export.jobs.export import ExportFigures, ExportJob, Receipt
from cigpose_export.jobs.own_results import remember
from cigpose_export.pipeline import export_model
from cigpose_export.project import Project
from cigpose_runtime.files import file_sha256

CLONE = Path(__file__).resolve().parents[2]

ONE_OF_EACH_SET = (
    "cigpose-m_coco-wholebody_256x192",
    "cigpose-m_coco_256x192",
    "cigpose-m_crowdpose_256x192",
)
"""The smallest full-size variants."""

# A small backbone, and a head with a small attention unit and graph network.
TINY = """\
_base_ = './_base_/{}.py'

model = dict(
    backbone=dict(deepen_factor=0.17, widen_factor=0.0625),
    head=dict(
        in_channels=64,
        gau_cfg=dict(hidden_dims=32, s=16),
        gcn_cfg=dict(input_dim=32, hidden_dim=32)))
"""


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
    shutil.copy(CLONE / "configs" / "_base_" / "cigpose.py", base)
    project = Project(root)
    project.config_path(name).write_text(TINY.format(dataset))
    project.manifest_path.parent.mkdir()
    project.manifest_path.write_text(
        f'# One tiny variant.\n[{name}]\nsource = "gdrive:none"\npublished = {{ ap = 50.0 }}\n'
    )
    return project


def export_tiny(project: Project) -> Path:
    """Exports the one variant of a project, with synthetic weights; returns the file."""
    (variant,) = project.variants.values()
    path = project.artefact_path(variant.name, "synthetic")
    exported = export_model(
        project,
        variant,
        weights="synthetic",
        checkpoint_path=None,
        target=path,
        on_stage=lambda _: None,
    )
    keep_receipt(project, path, exported.checkpoint_sha256)
    return path


def keep_receipt(project: Project, path: Path, checkpoint_sha256: str) -> None:
    """Leaves the receipt of an export beside a file, as one in a process of its own does."""
    (variant,) = project.variants.values()
    job = ExportJob(project, variant, "synthetic", path.parent, None, None)
    figures = ExportFigures("", nodes=0, size=0, seconds=0, peak_memory=0)
    Receipt(job.inputs(checkpoint_sha256), file_sha256(path), figures).write(job.receipt_path)
    remember(job.receipt_path)


def copy_of_clone(root):
    """A project with the clone's configs and manifest, and checkpoints of its own."""
    shutil.copytree(CLONE / "configs", root / "configs")
    (root / "checkpoints").mkdir()
    shutil.copy(CLONE / "checkpoints" / "manifest.toml", root / "checkpoints")
    return Project(root)


RUN = """
import sys
from cigpose_export.cli.main import main
main(sys.argv[1:])
"""


def start_export(project, out, *, before="", **environment):
    """Starts `cigpose-tools export --all --weights synthetic --out OUT` in a project."""
    options = ["--all", "--weights", "synthetic", "--out", str(out)]
    command = ["--project", str(project.root), "export", *options]
    return subprocess.Popen(
        [sys.executable, "-c", before + RUN, *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **environment},
    )


def finish_export(project, out, **environment):
    """As start_export, to its end: exit status, stdout, stderr."""
    with start_export(project, out, **environment) as process:
        stdout, stderr = process.communicate()
    return process.returncode, stdout, stderr


def descendants_now(pid):
    """The pids of a process's first child, that one's first child, and so on."""
    children = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # the thread has ended
            children += [int(child) for child in task.read_text().split()]
    return [children[0], *descendants_now(children[0])] if children else []


def wait_for_descendants(pid, generations):
    """Waits until a process has a child, which may have a child; returns their pidfds."""
    deadline = time.monotonic() + 180
    while len(pids := descendants_now(pid)) < generations:
        if time.monotonic() > deadline:
            raise TimeoutError(f"{pid} has no {generations} generations of children after 180 s")
    return [os.pidfd_open(pid) for pid in pids[:generations]]


def assert_ended(handles):
    """Asserts that the processes of these pidfds end within 30 s, and closes them."""
    for handle in handles:
        watch = select.poll()  # unlike select, for descriptors of any number
        watch.register(handle, select.POLLIN)
        ended = watch.poll(30_000)
        os.close(handle)
        assert ended, "a process outlives the export that started it"
