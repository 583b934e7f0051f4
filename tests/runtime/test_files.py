import hashlib
import os
import selectors
import signal
import stat
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

from cigpose_runtime.errors import FileError
from cigpose_runtime.files import (
    appears_whole,
    file_sha256,
    locked,
    output_file,
    partial_name,
    require_apart,
)


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
from contextlib import ExitStack
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
    with hold(path) as first, hold(path) as second, ExitStack() as stack:
        stack.callback(first.kill)  # else a failure here would wait for them for ever
        stack.callback(second.kill)
        with selectors.DefaultSelector() as selector:
            for process in (first, second):
                selector.register(process.stdout, selectors.EVENT_READ, process)
            ((key, _),) = selector.select(60)
        holder, waiting = (first, second) if key.data is first else (second, first)
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


# Names that somebody else was quicker to take.


def test_partial_names_are_hidden_fit_any_name_and_cannot_be_guessed(tmp_path):
    target = tmp_path / ("é" * 127)  # 254 bytes, of 255 that a name may have
    names = {partial_name(target).name for _ in range(100)}
    assert len(names) == 100
    assert all(name.startswith(".") and len(name.encode()) <= 255 for name in names)


def test_a_link_of_the_targets_name_is_replaced_and_not_followed(branch, tmp_path):
    (tmp_path / "theirs").write_bytes(b"precious")
    (tmp_path / "file").symlink_to(tmp_path / "theirs")
    with appears_whole(tmp_path / "file") as file:
        file.write(b"new")
    assert (tmp_path / "theirs").read_bytes() == b"precious"
    assert (tmp_path / "file").read_bytes() == b"new"


# Outputs that a user named.


def test_an_output_is_there_whole_or_not_at_all(tmp_path):
    target = tmp_path / "new" / "results"
    with pytest.raises(KeyError), output_file(target) as file:
        file.write(b"half")
        raise KeyError
    assert names_in(target.parent) == []
    with output_file(target) as file:
        file.write(b"whole")
    assert target.read_bytes() == b"whole"


def test_a_pipe_is_written_into_and_stays_one(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    with output_file(pipe) as file:
        file.write(b"content")
    assert os.read(reader, 100) == b"content"
    os.close(reader)
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    assert names_in(tmp_path) == ["pipe"]


def test_a_device_is_written_into_and_stays_one(tmp_path):
    """By a link in a folder of our own: replaced would be the link."""
    link = tmp_path / "null"
    link.symlink_to(os.devnull)
    with output_file(link) as file:
        file.write(b"content")
    assert link.is_symlink()
    assert stat.S_ISCHR(link.stat().st_mode)


def test_an_output_that_is_a_link_is_written_where_it_points(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "link").symlink_to(Path("elsewhere") / "results")
    for content in (b"first", b"second"):
        with output_file(tmp_path / "link") as file:
            file.write(content)
        assert (tmp_path / "link").is_symlink()
        assert (tmp_path / "elsewhere" / "results").read_bytes() == content


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no device that is full")
def test_a_full_disk_is_one_line(tmp_path):
    (tmp_path / "full").symlink_to("/dev/full")
    with (
        pytest.raises(FileError, match="full: expected a place to write to, found: No space"),
        output_file(tmp_path / "full") as file,
    ):
        file.write(b"content")


@pytest.mark.parametrize("name", ["folder", "file/below", "n" * 300])
def test_no_place_for_an_output_is_one_line(tmp_path, name):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_bytes(b"")
    with (
        pytest.raises(FileError, match="expected a place to write to"),
        output_file(tmp_path / name),
    ):
        pass
    assert names_in(tmp_path) == ["file", "folder"]


@pytest.fixture
def spellings(tmp_path, monkeypatch):
    """Other names for the files `in` and, which is not there yet, `new`."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in").write_bytes(b"precious")
    (tmp_path / "sub").mkdir()
    (tmp_path / "link").symlink_to("in")
    (tmp_path / "link-to-new").symlink_to("new")
    (tmp_path / "folder").symlink_to(tmp_path)
    os.link(tmp_path / "in", tmp_path / "hard")
    return tmp_path


@pytest.mark.parametrize(
    ("output", "other"),
    [
        *[(name, "in") for name in ("in", "./in", "sub/../in", "link", "folder/in", "hard")],
        *[(name, "new") for name in ("new", "sub/../new", "folder/new", "link-to-new", "NEW")],
        ("none/../new", "new"),
        ("none/x", "folder/none/X"),
        ("e\u0301", "\u00e9"),  # which one file system has and another takes for the same
    ],
)
def test_one_file_under_two_names_is_seen(spellings, output, other):
    with pytest.raises(FileError, match="for --json than the other, found one and the same"):
        require_apart([("--json", Path(output))], [("the other", Path(other))])
    with pytest.raises(FileError, match="for --json than the other, found one and the same"):
        require_apart([("the other", Path(other)), ("--json", spellings / output)], [])


def test_other_files_are_apart_and_inputs_may_be_named_twice(spellings):
    inputs = [("a picture", Path("in")), ("a picture", Path("link"))]
    require_apart([("--json", Path("new")), ("--csv", Path("sub/new"))], inputs)


def test_a_device_may_be_named_twice():
    require_apart([("--json", Path(os.devnull)), ("--csv", Path(os.devnull))], [])
