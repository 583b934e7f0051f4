"""The workflows of GitHub Actions: actions are pinned, what runs is there, secrets are apart."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

GITHUB = Path(__file__).parents[2] / ".github"
WORKFLOWS = sorted((GITHUB / "workflows").glob("*.yml"))
RELEASE = yaml.safe_load((GITHUB / "workflows" / "release.yml").read_text("utf-8"))["jobs"]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_actions_are_pinned_by_commit_and_permissions_named(path):
    workflow = yaml.safe_load(path.read_text("utf-8"))
    assert workflow["permissions"] == {"contents": "read"}
    used = [
        step["uses"] for job in workflow["jobs"].values() for step in job["steps"] if "uses" in step
    ]
    assert used
    assert [one for one in used if not re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40}", one)] == []


def test_what_workflows_run_is_there():
    """Each make target that a workflow calls, and each script."""
    root = Path(__file__).parents[2]
    targets = set(re.findall(r"^([a-z-]+):", (root / "Makefile").read_text("utf-8"), re.MULTILINE))
    for path in WORKFLOWS:
        text = path.read_text("utf-8")
        for line in re.findall(r"run: make (.+)", text):
            called = [word for word in line.split() if "=" not in word]
            assert called, line
            assert set(called) <= targets, line
        for script in re.findall(r"run: bash (\S+)", text):
            assert (root / script).is_file()


def test_zizmor_finds_nothing():
    command = [Path(sys.executable).parent / "zizmor", "--offline", "--persona", "auditor", GITHUB]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout


def test_zizmor_finds_a_tag_name_that_a_shell_expands(tmp_path):
    workflow = (GITHUB / "workflows" / "release.yml").read_text("utf-8")
    spoilt = workflow.replace("run: make publish", "run: make publish TO=${{ github.ref_name }}")
    (tmp_path / "release.yml").write_text(spoilt)
    command = [Path(sys.executable).parent / "zizmor", "--offline", tmp_path / "release.yml"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "template-injection" in ended.stdout
    assert ended.returncode != 0


@pytest.mark.parametrize(
    ("secret", "where"),
    [
        ("secrets.", {"sign"}),
        ("github.token", {"publish"}),
        ("'contents': 'write'", {"publish"}),
        ("'id-token': 'write'", {"attest"}),
        ("'environment': ", {"sign", "publish"}),
    ],
)
def test_each_secret_of_a_release_is_in_its_job_alone(secret, where):
    assert {name for name, job in RELEASE.items() if secret in str(job)} == where


def test_the_job_that_builds_comes_before_all_and_the_one_that_publishes_last():
    assert {name: job.get("needs") for name, job in RELEASE.items()} == {
        "build": None,
        "attest": "build",
        "sign": "build",
        "publish": ["attest", "sign"],
    }


def test_a_release_is_published_only_once_its_signature_is_verified():
    commands = [step.get("run", "") for step in RELEASE["publish"]["steps"]]
    (verifying,) = (at for at, command in enumerate(commands) if "--require-signature" in command)
    assert verifying < commands.index("make publish")


def test_a_release_from_a_workflow_takes_no_checkpoint_whose_hash_is_not_committed():
    commands = [step.get("run", "") for step in RELEASE["build"]["steps"]]
    (fetching,) = (command for command in commands if "checkpoints" in command)
    assert fetching == "make checkpoints RECORDED=1"


# Pins of actions


def git(*arguments):
    command = ["git", "-c", "user.name=t", "-c", "user.email=t@example.org", *arguments]
    return subprocess.run(command, capture_output=True, check=True, text=True).stdout.strip()


@pytest.fixture
def actions(tmp_path):
    """Where the repository of acts/one is, and its two commits; the second has two tags."""
    place = tmp_path / "acts" / "one"
    git("init", "--quiet", place)
    commits = []
    for _ in range(2):
        git("-C", place, "commit", "--quiet", "--allow-empty", "-m", "x")
        commits.append(git("-C", place, "rev-parse", "HEAD"))
    git("-C", place, "tag", "v1")
    git("-C", place, "tag", "--annotate", "v1.0.0", "-m", "an object of its own")
    return tmp_path, *commits


@pytest.mark.parametrize("tag", ["v1", "v1.0.0"])
def test_an_action_at_the_commit_of_its_tag_is_fine(actions, tag):
    place, _, commit = actions
    assert verify_actions(place, f"acts/one@{commit} # {tag}") == (0, "")


def test_an_action_at_another_commit_than_that_of_its_tag_is_named(actions):
    place, earlier, commit = actions
    status, said = verify_actions(place, f"acts/one@{earlier} # v1")
    assert (status, said) == (1, f"acts/one: expected {earlier} to be v1, found {commit}\n")


@pytest.mark.parametrize("comment", ["# v9", ""])
def test_an_action_without_a_tag_that_is_there_is_named(actions, comment):
    place, _, commit = actions
    status, said = verify_actions(place, f"acts/one@{commit} {comment}")
    assert (status, "found no such tag" in said) == (1, True)


def test_an_action_whose_repository_cannot_be_asked_is_no_success(actions):
    place, _, commit = actions
    status, said = verify_actions(place, f"acts/two@{commit} # v1")
    assert (status, "cannot be asked" in said) == (2, True)


def test_every_action_has_its_tag_beside_it():
    used = [line for path in WORKFLOWS for line in path.read_text("utf-8").splitlines()]
    used = [line for line in used if "uses:" in line]
    assert [line for line in used if not re.search(r"@[0-9a-f]{40} # v\d+\.\d+\.\d+$", line)] == []


def verify_actions(place, use):
    """Exit status and messages of the script, for one workflow with one action."""
    (place / "one.yml").write_text(f"steps:\n  - uses: {use}\n")
    options = ["--at", place.as_uri(), "--workflows", str(place)]
    ended = subprocess.run(
        [sys.executable, GITHUB / "verify_actions.py", *options],
        capture_output=True,
        text=True,
        check=False,
    )
    return ended.returncode, ended.stderr
