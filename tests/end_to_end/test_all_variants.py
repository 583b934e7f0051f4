"""The long campaigns: all 14 variants at full size, and SIGKILL at random moments."""

import hashlib
import os
import random
import signal
import subprocess
import sys

import onnx
import onnxruntime as ort
import pytest

from cigpose_export.checkpoints.load import load_checkpoint, load_weights
from cigpose_export.modeling.build import build_reference, load_config
from cigpose_export.pipeline import clear_cases
from cigpose_export.reference import run_reference
from cigpose_export.variants import Project
from cigpose_runtime import read_contract, read_onnx_file
from cigpose_verify.parity import compare
from cigpose_verify.structure import FORBIDDEN_OPS, MAX_NODES
from tiny_project import copy_of_clone, make_tiny_project, tiny_name

pytestmark = [pytest.mark.long, pytest.mark.timeout(3600)]

ALL = sorted(Project.of_this_clone().variants)

EXPORT = """
import sys
from pathlib import Path
from cigpose_export import cli
from cigpose_export.variants import Project
Project.of_this_clone = classmethod(lambda cls: cls(Path(sys.argv[1])))
cli.main(["export", "--all", "--weights", "synthetic", "--jobs", "2"])
"""


def start_export(project, **environment):
    return subprocess.Popen(
        [sys.executable, "-c", EXPORT, str(project.root)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, **environment},
    )


def digests(folder):
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in folder.glob("*.onnx")}


@pytest.fixture(scope="module")
def all_exported(project):
    """A project in which all 14 are exported, through the command line."""
    with start_export(project, PYTHONHASHSEED="1") as process:
        assert process.wait() == 0
    return project


def test_all_14_are_there(all_exported):
    folder = all_exported.artefact_folder("synthetic")
    assert sorted(p.stem for p in folder.glob("*.onnx")) == ALL


@pytest.mark.parametrize("name", ALL)
def test_each_graph_is_small_static_and_self_contained(all_exported, name):
    path = all_exported.artefact_path(name, "synthetic")
    onnx.checker.check_model(path, full_check=True)
    described = read_onnx_file(path)
    assert described.node_count <= MAX_NODES
    assert not FORBIDDEN_OPS & described.op_counts.keys()
    assert described.inputs[0].shape[0] == "batch"
    assert read_contract(path).name == name


@pytest.mark.parametrize("name", ALL)
def test_onnxruntime_agrees_with_the_reference_head_at_batch_1_3_and_8(all_exported, name):
    checkpoint = load_checkpoint(all_exported.checkpoint_path(name, "synthetic"))
    estimator = build_reference(load_config(all_exported.config_path(name)))
    load_weights(estimator, checkpoint)
    path = all_exported.artefact_path(name, "synthetic")
    images = clear_cases(read_contract(path), estimator, count=8)
    session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    for batch in (1, 3, 8):
        reference = run_reference(estimator, images[:batch])
        assert 0.1 < reference.simcc_x.std() < 10
        outputs = session.run(["simcc_x", "simcc_y"], {"input": images[:batch]})
        for output, expected in zip(outputs, (reference.simcc_x, reference.simcc_y), strict=True):
            agreement = compare(output, expected)
            assert agreement.holds, (batch, agreement)


def test_another_folder_and_hash_seed_give_the_same_14_files(all_exported, tmp_path):
    other = copy_of_clone(tmp_path / "other")
    with start_export(other, PYTHONHASHSEED="2") as process:
        assert process.wait() == 0
    expected = digests(all_exported.artefact_folder("synthetic"))
    assert len(expected) == 14
    assert digests(other.artefact_folder("synthetic")) == expected


def test_sigkill_at_20_random_moments_leaves_no_half_file(tmp_path):
    project = make_tiny_project(tmp_path)
    artefact = project.artefact_path(tiny_name(), "synthetic")
    with start_export(project) as process:
        whole = process.wait()
    assert whole == 0
    expected = digests(artefact.parent)
    moments = random.Random(0)
    survived = 0
    for _ in range(20):
        artefact.unlink(missing_ok=True)
        process = start_export(project)
        try:
            process.wait(moments.uniform(0.2, 9))
            survived += 1
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
        left = [p for p in artefact.parent.rglob("*") if p.is_file() and p.suffix != ".json"]
        assert left in ([], [artefact]), left
        assert not left or digests(artefact.parent) == expected
    assert survived < 20, "no export was killed: the moments are too late"
    with start_export(project) as process:
        assert process.wait() == 0
    assert digests(artefact.parent) == expected
