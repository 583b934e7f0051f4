"""A release names the commit that it is really made from, or is refused."""

import shutil
import subprocess

import pytest

from cigpose_export.errors import ReleaseError
from cigpose_export.project import Project
from cigpose_export.release import source
from cigpose_export.release.source import commit_of, require_code_of, require_pinned_tools
from tiny_project import CLONE

PINS = "requirements/lock.txt"


def git(folder, *arguments):
    identity = ("-c", "user.name=t", "-c", "user.email=t@example.org")
    return subprocess.run(
        ["git", "-C", folder, *identity, *arguments], capture_output=True, text=True, check=True
    ).stdout.strip()


def start_repository(folder):
    folder.mkdir(exist_ok=True)
    git(folder, "init", "--quiet")
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--allow-empty", "-m", "x")


@pytest.fixture
def project(tmp_path):
    """A committed project with a manifest of checkpoints and pins."""
    root = tmp_path / "clone"
    for name in ("checkpoints/manifest.toml", *source.PINS):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("# nothing\n")
    start_repository(root)
    return Project(root)


def test_the_commit_of_a_clean_clone_is_its_head(project):
    assert commit_of(project) == git(project.root, "rev-parse", "HEAD")


def edit_unseen(root, flag):
    git(root, "update-index", flag, PINS)
    (root / PINS).write_text("torch==1.0")


def add_what_this_user_ignores(root):
    (root.parent / "ignored").write_text("*.py\n")
    git(root, "config", "core.excludesFile", str(root.parent / "ignored"))
    (root / "new.py").touch()


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (lambda root: (root / PINS).write_text("torch==1.0"), "'requirements/lock.txt' changed"),
        (lambda root: (root / PINS).unlink(), "'requirements/lock.txt' changed"),
        (lambda root: (root / "new.py").touch(), "'new.py' changed or not in git"),
        (
            lambda root: ((root / PINS).write_text("x"), git(root, "add", PINS)),
            "'requirements/lock.txt' changed",
        ),
        (lambda root: edit_unseen(root, "--assume-unchanged"), "'requirements/lock.txt' changed"),
        (lambda root: edit_unseen(root, "--skip-worktree"), "'requirements/lock.txt' changed"),
        (add_what_this_user_ignores, "'new.py' changed or not in git"),
    ],
    ids=["edited", "removed", "added", "staged", "assumed unchanged", "skipped", "ignored"],
)
def test_a_changed_tree_is_refused(project, change, found):
    change(project.root)
    with pytest.raises(ReleaseError, match=found):
        commit_of(project)


def test_a_copy_inside_somebody_elses_repository_is_refused(project, tmp_path):
    theirs = tmp_path / "theirs"
    start_repository(theirs)
    copy = shutil.copytree(project.root, theirs / "copy", ignore=shutil.ignore_patterns(".git"))
    with pytest.raises(ReleaseError, match="found it inside another one"):
        commit_of(Project(copy))


def test_a_copy_that_somebody_elses_repository_ignores_is_refused(project):
    shutil.rmtree(project.root / ".git")
    hidden = project.root.with_name("hidden")
    project.root.rename(hidden)
    project.root.mkdir()
    (project.root / ".gitignore").write_text("*\n")
    git(project.root, "init", "--quiet")
    git(project.root, "add", "--force", ".gitignore")
    git(project.root, "commit", "--quiet", "-m", "x")
    shutil.copytree(hidden, project.root, dirs_exist_ok=True)
    with pytest.raises(ReleaseError, match=r"lock\.txt not in git"):
        commit_of(project)


def test_a_copy_in_no_repository_is_refused(project):
    shutil.rmtree(project.root / ".git")
    with pytest.raises(ReleaseError, match="release from a clone"):
        commit_of(project)


def test_without_git_it_is_one_line(project, monkeypatch):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(ReleaseError, match="No such file or directory: 'git'"):
        commit_of(project)


def test_variables_that_name_another_repository_do_not_count(project, tmp_path, monkeypatch):
    """As git sets them for its hooks."""
    start_repository(tmp_path / "theirs")
    head = git(project.root, "rev-parse", "HEAD")
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "theirs" / ".git"))
    monkeypatch.setenv("GIT_WORK_TREE", str(project.root))
    assert commit_of(project) == head


def test_the_code_that_runs_here_is_this_clones():
    require_code_of(Project.of_this_clone())


def test_code_of_another_clone_than_the_project_is_refused(project):
    shutil.copytree(CLONE / "export" / "cigpose_export", project.root / "export" / "cigpose_export")
    shutil.copytree(CLONE / "verify" / "cigpose_verify", project.root / "verify" / "cigpose_verify")
    judge = project.root / "verify" / "cigpose_verify" / "judge.py"
    judge.write_text(judge.read_text("utf-8") + "# edited\n", "utf-8")
    with pytest.raises(ReleaseError, match=r"judge\.py: expected the code of .* make setup there"):
        require_code_of(project)


def test_other_packages_than_the_pinned_ones_are_refused(project, monkeypatch):
    monkeypatch.setattr(source, "tool_versions", lambda: {"torch": "2.14.0", "onnx": "1.23.2"})
    (project.root / PINS).write_text("onnx==1.23.2 \\\n    --hash=sha256:00\ntorch==2.13.0 ; x\n")
    with pytest.raises(ReleaseError, match=r"torch: expected 2\.13\.0, .* found 2\.14\.0"):
        require_pinned_tools(project)


def test_the_packages_installed_here_are_the_pinned_ones():
    require_pinned_tools(Project.of_this_clone())
