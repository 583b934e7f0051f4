"""The workflows of GitHub Actions: actions are pinned, and what runs is there."""

import re
from pathlib import Path

import pytest
import yaml

WORKFLOWS = sorted((Path(__file__).parents[2] / ".github" / "workflows").glob("*.yml"))


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
