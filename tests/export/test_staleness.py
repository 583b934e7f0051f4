"""What makes a result stale: exactly the code that its worker runs through."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import cigpose_export
from cigpose_export.jobs import worker
from cigpose_export.jobs.staleness import PACKAGES, closure_of, code_hash
from cigpose_export.project import arguments_of
from tiny_project import CLONE, make_tiny_project

RUN_AND_LIST_MODULES = """
import json, sys
from cigpose_export.jobs import worker
job = json.loads(sys.argv[1])
worker.KINDS[job.pop("kind")](lambda stage: None, **job)
ours = [m for n, m in sorted(sys.modules.items()) if n.partition(".")[0].startswith("cigpose_")]
print(json.dumps([m.__file__ for m in ours if getattr(m, "__file__", None)]))
"""


def modules_after(kind, **arguments):
    """The files of our modules that a worker has imported once it is done."""
    job = json.dumps({"kind": kind, **arguments})
    command = [sys.executable, "-c", RUN_AND_LIST_MODULES, job]
    ended = subprocess.run(command, capture_output=True, text=True, check=True)
    return {Path(file) for file in json.loads(ended.stdout.splitlines()[-1])}


@pytest.fixture(scope="module")
def imported(tmp_path_factory):
    """For each kind of job, what Python itself says that it imported."""
    root = tmp_path_factory.mktemp("clone")
    project = make_tiny_project(root)
    ((name, variant),) = project.variants.items()
    model, checkpoint = root / f"{name}.onnx", project.checkpoint_path(name, "synthetic")
    clone = {"project": str(root), "name": name, "weights_key": None, "threads": 1}
    clone |= {"model": arguments_of(variant)}
    subject = {**clone, "checkpoint": str(checkpoint), "images": None}
    files = {"file": str(model), "record": str(root / "record.npz")}
    verdict = {"report": str(root / "report.json"), "golden": str(root / "golden"), "key": ""}
    verdict |= {"foreign": False, "metadata": None, "parent": None}
    return {
        "export": modules_after(
            "export", **clone, weights="synthetic", checkpoint=None, target=str(model)
        ),
        "record": modules_after(
            "record", **subject, fork=False, thorough=False, target=files["record"]
        ),
        "judge": modules_after(
            "judge", name=name, **files, **verdict, providers=["CPUExecutionProvider"]
        ),
    }


@pytest.mark.parametrize("kind", ["export", "record", "judge"])
def test_every_module_that_a_job_runs_through_is_part_of_its_code(imported, kind):
    assert len(imported[kind]) > 20
    packages = {path for path in imported[kind] if path.parent.name == "jobs"}
    own = {Path(worker.__file__), Path(worker.__file__).with_name("__init__.py")}
    assert packages == own, "the worker imports what decides about jobs"
    own.add(Path(cigpose_export.__file__))  # a version, which is in the tools' versions
    assert imported[kind] - own <= set(closure_of(worker.KINDS[kind]))


@pytest.mark.parametrize(
    ("kind", "module"),
    [
        ("export", "verify/cigpose_verify/report/page/__init__.py"),
        ("export", "runtime/cigpose_runtime/draw.py"),
        ("export", "export/cigpose_export/jobs/verify.py"),
        ("export", "export/cigpose_export/release/publish.py"),
        ("judge", "export/cigpose_export/pipeline.py"),
        ("judge", "verify/cigpose_verify/report/page/page.css"),
        ("judge", "verify/cigpose_verify/report/markdown.py"),
        ("record", "verify/cigpose_verify/judge.py"),
        ("record", "export/cigpose_export/pipeline.py"),
    ],
)
def test_code_that_a_job_does_not_run_through_is_not(kind, module):
    assert (CLONE / module).is_file()
    assert CLONE / module not in closure_of(worker.KINDS[kind])


HASH = """
import sys
from cigpose_export.jobs import worker
from cigpose_export.jobs.staleness import code_hash
print(code_hash(worker.KINDS[sys.argv[1]]))
"""


@pytest.mark.parametrize(
    ("kind", "file", "stale"),
    [
        ("judge", "verify/cigpose_verify/measures/tolerances.py", True),
        ("judge", "runtime/cigpose_runtime/model_file/protobuf.py", True),
        ("judge", "verify/cigpose_verify/cases/photographs/astronaut.jpg", True),
        ("judge", "verify/cigpose_verify/report/page/page.css", False),
        ("export", "export/cigpose_export/graph/simplify.py", True),
        ("export", "runtime/cigpose_runtime/model_file/onnx_graph.py", True),
        ("export", "export/cigpose_export/cli/console.py", False),
    ],
)
def test_a_changed_file_changes_the_hash_where_it_has_a_part(tmp_path, kind, file, stale):
    for part in ("export", "verify", "runtime"):
        ignored = shutil.ignore_patterns("__pycache__", "node_modules")
        shutil.copytree(CLONE / part, tmp_path / part, ignore=ignored)
    path = ":".join(str(tmp_path / part) for part in ("export", "verify", "runtime"))

    def hash_now():
        command = [sys.executable, "-c", HASH, kind]
        environment = {"PYTHONPATH": path, "PATH": ""}
        ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        return ended.stdout

    before = hash_now()
    with (tmp_path / file).open("ab") as changed:
        changed.write(b"\n# changed\n")
    assert (hash_now() != before) is stale


def test_the_hash_is_of_the_content_alone():
    assert code_hash(worker.judge) == code_hash.__wrapped__(worker.judge)
    assert len({code_hash(function) for function in worker.KINDS.values()}) == len(worker.KINDS)


def test_names_that_are_imported_late_are_imported_from_their_module():
    """`from cigpose_runtime import PoseModel` hides from the closure where PoseModel is."""
    import cigpose_runtime

    late = set(cigpose_runtime._NEED_NUMPY)
    for kind in worker.KINDS.values():
        for path in closure_of(kind):
            if path.suffix == ".py" and path.parts[-2:] != ("cigpose_runtime", "__init__.py"):
                for line in path.read_text("utf-8").splitlines():
                    if line.startswith("from cigpose_runtime import"):
                        assert not late & set(line.replace(",", " ").split()), path
    assert PACKAGES == ("cigpose_export", "cigpose_verify", "cigpose_runtime")
