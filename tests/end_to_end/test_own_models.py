"""Models that are no published variants, from their config to keypoints on a picture."""

import json
from dataclasses import dataclass

import pytest

from cigpose_export.cli import main as cli
from cigpose_export.pipeline import export_model
from cigpose_export.reference.record import record_model
from cigpose_runtime import Contract, read_contract
from cigpose_runtime import cli as runtime
from cigpose_verify.judge import judge
from cigpose_verify.matrix import Matrix
from cigpose_verify.measures.stage_texts import OF_INTERVENTION
from cigpose_verify.reference_record import ReferenceRecord
from faults import FAULTS as FAULT_TABLE
from faults import apply_fault
from own_models import HALPE, RTMW, WHOLE_BODY, empty_project, write_hand, write_tiny
from tiny_project import CLONE

PHOTOGRAPH = CLONE / "verify/cigpose_verify/cases/photographs/astronaut.jpg"
SMALL = Matrix(levels=("disabled", "all"), threads=(1,), batches=(1, 3))
FAULTS = {
    "mean and std swapped": "contract",
    "two keypoint names swapped": "contract",
    "a NonZero in the graph": "structure",
    "BGR for RGB in the first convolution": "parity",
    "attention's square left out": "parity",
    "keypoints one bin to the right": "parity",
    "two keypoints swapped": "parity",
}
"""Of the fault table, those that are none of the CIGPose head's own."""


@dataclass(frozen=True)
class Made:
    """An exported model and what PyTorch answers."""

    data: bytes
    contract: Contract
    record: ReferenceRecord

    def verdict(self, data):
        return judge(f"{self.contract.name}.onnx", data, self.record, SMALL)


TINY = {
    "RTMPose": lambda folder: write_tiny(folder, HALPE),
    "RTMW": lambda folder: write_tiny(folder, RTMW),
}


@pytest.fixture(scope="module", params=["RTMPose", pytest.param("RTMW", marks=pytest.mark.long)])
def made(request, tmp_path_factory):
    root = tmp_path_factory.mktemp("own")
    project = empty_project(root)
    model = project.own_model(str(TINY[request.param](root)), None, None)
    path = root / "own.onnx"
    export_model(
        project,
        model,
        weights="synthetic",
        checkpoint_path=None,
        target=path,
        on_stage=lambda _: None,
    )
    record = root / "record.npz"
    record_model(
        project,
        model,
        checkpoint_path=project.checkpoint_path(model.name, "synthetic"),
        images=None,
        fork=False,
        target=record,
    )
    return Made(path.read_bytes(), read_contract(path), ReferenceRecord.read(record))


def test_a_head_without_intervention_passes_and_its_report_says_what_was_not_asked(made):
    report = made.verdict(made.data)
    assert report.failures == ()
    assert report.not_applicable == OF_INTERVENTION
    assert report.intervention is None
    assert report.keypoints.confident > 0
    assert report.precision.ratio <= 4


@pytest.mark.parametrize("name", FAULTS)
def test_a_seeded_fault_is_rejected(made, name):
    report = made.verdict(apply_fault(name, made.data, made.contract))
    assert (report.verdict, report.stage) == ("failed", FAULTS[name])


def run(capsys, project, *arguments):
    """`cigpose-tools` with these arguments: exit status, stdout and stderr."""
    with pytest.raises(SystemExit) as ended:
        cli.main(["--project", str(project.root), *map(str, arguments)])
    output = capsys.readouterr()
    assert "Traceback" not in output.err
    return ended.value.code, output.out, output.err


def assert_runs_end_to_end(capsys, project, config, keypoints):
    """Export, the same again, verify, inspect, image and selftest; returns the verdict."""
    out = project.root / "out"
    options = ["--config", config, "--weights", "synthetic", "--name", "mine", "--out", out]
    status, stdout, stderr = run(capsys, project, "export", *options)
    assert (status, "exported" in stdout) == (0, True), stderr
    status, stdout, _ = run(capsys, project, "export", *options)
    assert (status, "up to date" in stdout) == (0, True)

    path, report = out / "mine.onnx", project.root / "report.json"
    status, stdout, stderr = run(
        capsys, project, "verify", path, "--config", config, "--json", report
    )
    assert (status, "passed" in stdout) == (0, True), stderr
    (verdict,) = json.loads(report.read_text())["reports"]

    assert runtime.main(["inspect", "--json", str(path)]) == 0
    (described,) = json.loads(capsys.readouterr().out)["files"]
    assert described["contract"]["name"] == "mine"
    assert described["contract"]["num_keypoints"] == keypoints
    saved, results = project.root / "drawn", project.root / "results.jsonl"
    command = ["image", str(path), str(PHOTOGRAPH), "--whole-frame", "--save", str(saved)]
    assert runtime.main([*command, "--json", str(results)]) == 0
    (person,) = json.loads(results.read_text())["people"]
    assert len(person["keypoints"]) == keypoints
    assert [file.name for file in saved.iterdir()] == [PHOTOGRAPH.name]
    assert runtime.main(["selftest", str(path)]) == 0
    return verdict


def test_a_cigpose_with_keypoints_of_its_own_goes_all_the_way(capsys, tmp_path):
    project = empty_project(tmp_path)
    config = write_hand(tmp_path, tiny=True)
    verdict = assert_runs_end_to_end(capsys, project, config, 21)
    assert verdict["not_applicable"] == []
    assert verdict["intervention"]["agreeing"] > 0


def test_pytorch_measures_keypoints_that_the_file_alone_names(capsys, tmp_path):
    project, out = empty_project(tmp_path), tmp_path / "out"
    config = write_hand(tmp_path, tiny=True)
    options = ["--config", config, "--weights", "synthetic", "--name", "mine", "--out", out]
    assert run(capsys, project, "export", *options)[0] == 0
    bare = tmp_path / "bare.py"
    bare.write_text(config.read_text().replace("dataset_info =", "another ="))
    person = {"id": 1, "image_id": 1, "category_id": 1, "iscrowd": 0, "area": 9e4}
    person |= {"bbox": [50, 20, 300, 480], "num_keypoints": 21, "keypoints": [200, 200, 2] * 21}
    annotations = tmp_path / "people.json"
    annotations.write_text(
        json.dumps(
            {
                "images": [{"id": 1, "file_name": PHOTOGRAPH.name, "width": 512, "height": 512}],
                "annotations": [person],
                "categories": [{"id": 1, "name": "person"}],
            }
        )
    )
    where = ["--annotations", annotations, "--images", PHOTOGRAPH.parent, "--json"]
    theirs = ["--config", bare, "--checkpoint", project.checkpoint_path("mine", "synthetic")]
    status, stdout, stderr = run(
        capsys, project, "accuracy", out / "mine.onnx", *where, "--pytorch", *theirs
    )
    assert status == 0, stderr
    assert json.loads(stdout)["keypoint_difference"] <= 0.001


FULL_SIZE = {"RTMPose Halpe-26": (HALPE, 26), "RTMPose": (WHOLE_BODY, 133), "RTMW": (RTMW, 133)}
FIVE = list(FAULTS)[-5:]
OF_CIGPOSE = [
    "two keypoint names swapped",
    "canonical features of two keypoints swapped",
    "a weight of the confound scores perturbed",
    "one graph edge removed",
    "one weight perturbed",
]


def assert_faults_are_rejected(project, names):
    """Each fault in the file that was just verified, by what PyTorch answered then.

    Its stage is among those that fail: a choice that changes is seen in the outputs, too.
    """
    path = project.root / "out" / "mine.onnx"
    (record,) = (project.root / "out" / ".verify").glob("*.npz")
    made = Made(path.read_bytes(), read_contract(path), ReferenceRecord.read(record))
    for name in names:
        report = made.verdict(apply_fault(name, made.data, made.contract))
        stage, _ = FAULT_TABLE[name]
        assert (name, stage) in [(name, failure.stage) for failure in report.failures]


@pytest.mark.long
@pytest.mark.timeout(3600)
@pytest.mark.parametrize(("config", "keypoints"), FULL_SIZE.values(), ids=FULL_SIZE)
def test_models_of_mmpose_go_all_the_way_at_full_size(capsys, tmp_path, config, keypoints):
    project = empty_project(tmp_path)
    verdict = assert_runs_end_to_end(capsys, project, config, keypoints)
    assert verdict["not_applicable"] == list(OF_INTERVENTION)
    assert_faults_are_rejected(project, FIVE)


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_a_cigpose_with_keypoints_of_its_own_goes_all_the_way_at_full_size(capsys, tmp_path):
    project = empty_project(tmp_path)
    config = write_hand(tmp_path, tiny=False)
    assert_runs_end_to_end(capsys, project, config, 21)
    assert_faults_are_rejected(project, OF_CIGPOSE)
