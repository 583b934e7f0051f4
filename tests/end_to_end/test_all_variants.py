"""The long campaigns: all 14 variants at full size, and SIGKILL at random moments."""

import contextlib
import hashlib
import os
import random
import signal
import subprocess
import time

import onnx
import pytest

from cigpose_export.checkpoints.load import load_checkpoint, load_weights
from cigpose_export.graph.frame.pack import pack_file
from cigpose_export.modeling.build import build_reference, load_config
from cigpose_export.pipeline import clear_cases
from cigpose_export.project import Project
from cigpose_export.reference.run import run_reference
from cigpose_runtime import read_contract, read_onnx_file
from cigpose_runtime.estimation.ort import ort
from cigpose_runtime.model_file.frame_contract import frame_contract_of
from cigpose_verify.measures.tolerances import compare
from cigpose_verify.stages.structure import FORBIDDEN_OPS, MAX_NODES
from tiny_project import (
    assert_ended,
    copy_of_clone,
    descendants_now,
    finish_export,
    make_tiny_project,
    start_export,
    tiny_name,
    wait_for_descendants,
)

pytestmark = [pytest.mark.long, pytest.mark.timeout(3600)]

ALL = sorted(Project.of_this_clone().variants)


def digests(folder):
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in folder.glob("*.onnx")}


@pytest.fixture(scope="module")
def all_exported(project):
    """A project in which all 14 are exported, through the command line."""
    out = project.artefact_folder("synthetic")
    status, _, stderr = finish_export(project, out, PYTHONHASHSEED="1")
    assert status == 0, stderr
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
@pytest.mark.parametrize("flip", [False, True])
def test_each_packs_into_a_well_formed_graph(all_exported, tmp_path, name, flip):
    path = all_exported.artefact_path(name, "synthetic")
    packed = pack_file(path, tmp_path / "packed.onnx", flip=flip)
    onnx.checker.check_model(packed, full_check=True)
    described = read_onnx_file(packed)
    assert not FORBIDDEN_OPS & described.op_counts.keys()
    assert frame_contract_of(described).model == read_contract(path)
    packed.unlink()


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
        assert 0.1 < reference.simcc_y.std() < 10
        outputs = session.run(["simcc_x", "simcc_y"], {"input": images[:batch]})
        for output, expected in zip(outputs, (reference.simcc_x, reference.simcc_y), strict=True):
            agreement = compare(output, expected)
            assert agreement.holds, (batch, agreement)


def test_another_folder_and_hash_seed_give_the_same_14_files(all_exported, tmp_path):
    other = copy_of_clone(tmp_path / "other")
    out = other.artefact_folder("synthetic")
    status, _, stderr = finish_export(other, out, PYTHONHASHSEED="2")
    assert status == 0, stderr
    expected = digests(all_exported.artefact_folder("synthetic"))
    assert len(expected) == 14
    assert digests(out) == expected


def test_sigkill_at_20_random_moments_leaves_no_half_file(tmp_path):
    project = make_tiny_project(tmp_path)
    artefact = project.artefact_path(tiny_name(), "synthetic")
    started = time.monotonic()
    status, _, stderr = finish_export(project, artefact.parent)
    assert status == 0, stderr
    duration = time.monotonic() - started
    expected = digests(artefact.parent)
    moments = random.Random(0)
    reached = {"worker": 0, "onnxsim": 0, "end": 0}
    for victim in ["export", "worker"] * 10:
        artefact.unlink(missing_ok=True)
        with start_export(project, artefact.parent) as process:
            handles = wait_for_descendants(process.pid, 1)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.communicate(timeout=moments.uniform(0, duration))
            if process.poll() is not None:
                reached["end"] += 1
            else:
                grandchildren = descendants_now(process.pid)[1:]
                reached["onnxsim" if grandchildren else "worker"] += 1
                handles += [os.pidfd_open(pid) for pid in grandchildren]
                if victim == "export":
                    process.kill()
                else:
                    with contextlib.suppress(ProcessLookupError):
                        signal.pidfd_send_signal(handles[0], signal.SIGKILL)
        assert_ended(handles)
        left = [p for p in artefact.parent.rglob("*") if p.is_file() and p.suffix != ".json"]
        assert left in ([], [artefact]), left
        assert not left or digests(artefact.parent) == expected
    assert reached["worker"] and reached["onnxsim"], reached
    status, _, stderr = finish_export(project, artefact.parent)
    assert status == 0, stderr
    assert digests(artefact.parent) == expected
