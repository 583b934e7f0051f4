import hashlib
import os
import select
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from cigpose_runtime.files import appears_whole, file_sha256, locked


def has_unnamed_files(folder: Path) -> bool:
    try:
        os.close(os.open(folder, os.O_TMPFILE | os.O_RDWR))
    except (AttributeError, OSError):
        return False
    return True


@pytest.fixture(params=["unnamed", "named"])
def branch(request, tmp_path, monkeypatch):
    """Both ways of appears_whole: with unnamed files (O_TMPFILE), and where there are none."""
    if request.param == "named":
        monkeypatch.delattr(os, "O_TMPFILE", raising=False)
    elif not has_unnamed_files(tmp_path):
        pytest.skip("the file system has no unnamed files")
    return request.param


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_sha256_is_that_of_the_content(tmp_path):
    (tmp_path / "file").write_bytes(b"abc")
    assert file_sha256(tmp_path / "file") == hashlib.sha256(b"abc").hexdigest()


def test_the_branch_under_test_is_the_one_taken(branch, tmp_path):
    with appears_whole(tmp_path / "file"):
        assert len(names_in(tmp_path)) == (0 if branch == "unnamed" else 1)


def test_the_file_appears_when_the_block_ends(branch, tmp_path):
    target = tmp_path / "new" / "folder" / "file"
    with appears_whole(target) as file:
        file.write(b"content")
        assert not target.exists()
    assert target.read_bytes() == b"content"
    assert names_in(target.parent) == ["file"]


def test_what_was_written_can_be_read_back_in_the_block(branch, tmp_path):
    with appears_whole(tmp_path / "file") as file:
        file.write(b"content")
        file.seek(0)
        assert file.read() == b"content"


def test_an_old_file_is_there_until_the_new_one_is(branch, tmp_path):
    target = tmp_path / "file"
    target.write_bytes(b"old")
    with appears_whole(target) as file:
        file.write(b"new")
        file.flush()
        assert target.read_bytes() == b"old"
    assert target.read_bytes() == b"new"
    assert names_in(tmp_path) == ["file"]


@pytest.mark.parametrize("error", [ValueError, OSError, AttributeError, KeyboardInterrupt])
def test_after_an_error_in_the_block_the_old_file_is_all_there_is(branch, tmp_path, error):
    target = tmp_path / "file"
    target.write_bytes(b"old")
    with pytest.raises(error), appears_whole(target) as file:
        file.write(b"new")
        raise error
    assert target.read_bytes() == b"old"
    assert names_in(tmp_path) == ["file"]


def test_a_file_that_cannot_get_its_name_leaves_nothing(branch, tmp_path):
    target = tmp_path / "file"
    target.mkdir()
    with pytest.raises(IsADirectoryError), appears_whole(target) as file:
        file.write(b"new")
    assert names_in(tmp_path) == ["file"]


@pytest.mark.parametrize("mask", [0o022, 0o077, 0o000])
def test_permissions_follow_the_umask(branch, tmp_path, mask):
    before = os.umask(mask)
    try:
        with appears_whole(tmp_path / "file") as file:
            file.write(b"content")
        assert os.umask(mask) == mask
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o666 & ~mask


def test_open_files_are_closed(branch, tmp_path):
    before = names_in(Path("/proc/self/fd"))
    with appears_whole(tmp_path / "file") as file:
        file.write(b"content")
    assert names_in(Path("/proc/self/fd")) == before


KILLED_IN_THE_MIDDLE = """\
import os, sys
from pathlib import Path
from cigpose_runtime.files import appears_whole
if sys.argv[2] == "named":
    del os.O_TMPFILE
with appears_whole(Path(sys.argv[1])) as file:
    file.write(b"half")
    file.flush()
    print("ready", flush=True)
    sys.stdin.read()
"""


def test_a_killed_process_leaves_no_partial_file(branch, tmp_path):
    target = tmp_path / "file"
    target.write_bytes(b"old")
    with subprocess.Popen(
        [sys.executable, "-c", KILLED_IN_THE_MIDDLE, str(target), branch],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout.readline() == "ready\n"
        process.kill()
    assert process.returncode == -signal.SIGKILL
    assert target.read_bytes() == b"old"
    left = [name for name in names_in(tmp_path) if name != "file"]
    if branch == "unnamed":
        assert left == []
    else:
        assert [(name[:6], name[-8:]) for name in left] == [(".file.", ".partial")]


HOLDER = """
import sys
from pathlib import Path
from cigpose_runtime.files import locked
with locked(Path(sys.argv[1])):
    print("in", flush=True)
    sys.stdin.read()
"""


def hold(path):
    return subprocess.Popen(
        [sys.executable, "-c", HOLDER, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_a_lock_is_held_by_one_process_at_a_time(tmp_path, kind):
    fcntl = pytest.importorskip("fcntl")
    path = tmp_path / "held"
    path.mkdir() if kind == "folder" else path.touch()
    with hold(path) as first, hold(path) as second:
        ready, _, _ = select.select([first.stdout, second.stdout], [], [], 60)
        assert len(ready) == 1
        holder, waiting = (first, second) if ready == [first.stdout] else (second, first)
        assert holder.stdout.readline() == b"in\n"
        descriptor = os.open(path, os.O_RDONLY)
        with pytest.raises(BlockingIOError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.close(descriptor)
        holder.communicate()
        assert waiting.stdout.readline() == b"in\n"
        waiting.communicate()


def test_without_locks_the_block_runs_all_the_same(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "fcntl", None)
    with locked(tmp_path / "nothing"):
        reached = True
    assert reached
