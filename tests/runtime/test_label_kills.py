"""SIGKILL of the run, of its workers and of its decoders: the data are the same in the end."""

import contextlib
import os
import select
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("pyarrow")
pytest.importorskip("fsspec")

from cigpose_runtime.errors import CheckError
from cigpose_runtime.labelling import local
from cigpose_runtime.labelling.shards import plan
from cigpose_runtime.labelling.sources import find_items
from labels import label, make_pictures, make_sources, rows
from suicidal_worker import suicidal

# Counts calls in the code at work, in all threads, and at the one that is asked for ends as by
# kill -9.
COUNTED = """\
import os, signal, sys, threading
from cigpose_runtime import cli
point, count = int(sys.argv[1]), 0
def hook(frame, event, argument):
    global count
    name = frame.f_code.co_filename
    if event == "call" and ("labelling" in name or "files.py" in name):
        count += 1
        if count == point:
            os.kill(os.getpid(), signal.SIGKILL)
threading.setprofile(hook)
sys.setprofile(hook)
status = cli.main(sys.argv[2:])
sys.setprofile(None)
print("calls:", count)
sys.exit(status)
"""


@pytest.fixture(scope="module")
def given(tmp_path_factory):
    """Model and sources: 10 pictures, of which one is none, and a clip; 5 shards."""
    return make_sources(tmp_path_factory.mktemp("given"), 9)


@pytest.fixture(scope="module")
def whole(given, tmp_path_factory):
    """The rows of a run that nothing disturbs."""
    out = tmp_path_factory.mktemp("whole") / "out"
    assert label(*given, "--out", out) == 1
    found = rows(out)
    assert len(found) == 15
    return found


def run_counted(point, *arguments):
    command = [sys.executable, "-W", "ignore", "-c", COUNTED, str(point), "label"]
    return subprocess.run(
        [*command, *map(str, arguments)], capture_output=True, text=True, check=False
    )


def kill_everywhere(given, whole, tmp_path, kills, workers):
    counted = run_counted(0, *given, "--out", tmp_path / "counted", "--workers", workers)
    calls = int(counted.stdout.rpartition("calls:")[2])
    killed = 0
    for point in np.linspace(1, calls, kills).astype(int).tolist():
        out = tmp_path / str(point)
        ended = run_counted(point, *given, "--out", out, "--workers", workers)
        killed += ended.returncode == -signal.SIGKILL
        for path in out.glob("shard-*.parquet"):
            assert path.stat().st_size > 0
        assert label(*given, "--out", out) == 1
        assert rows(out) == whole, point
        assert sorted(path.name for path in out.iterdir()) == [
            "manifest.json",
            *(f"shard-00000{number}.parquet" for number in range(5)),
        ]
    return killed


def test_a_run_that_is_killed_anywhere_goes_on_to_the_same_data(given, whole, tmp_path):
    assert kill_everywhere(given, whole, tmp_path, 3, 1) >= 2


@pytest.mark.long
@pytest.mark.parametrize("workers", [1, 2])
def test_a_run_that_is_killed_at_20_points_goes_on_to_the_same_data(
    given, whole, tmp_path, workers
):
    assert kill_everywhere(given, whole, tmp_path, 20, workers) >= 15


# Workers


@pytest.fixture
def shards(given):
    return plan(find_items([str(given[1])], out=""), 3)


def test_the_shard_of_a_killed_worker_is_made_by_another(given, whole, shards, tmp_path):
    (tmp_path / "token").touch()
    seen = []
    make_worker = partial(suicidal, given[0], tmp_path / "out")
    local.run(shards, make_worker, 2, seen.append)
    assert not list(tmp_path.glob("token*"))
    assert rows(tmp_path / "out") == whole
    assert len(seen) == 15  # each picture counts once


def test_a_shard_that_always_kills_its_worker_ends_the_run_with_one_line(given, shards, tmp_path):
    for number in range(99):
        (tmp_path / f"token{number}").touch()
    make_worker = partial(suicidal, given[0], tmp_path / "out")
    with pytest.raises(CheckError, match=r"died \(signal 9\) in each of 3 tries"):
        local.run(shards[:1], make_worker, 2, lambda _people: None)


def test_rows_are_the_same_whatever_the_workers(given, whole, tmp_path):
    assert label(*given, "--out", tmp_path / "out", "--workers", 3, "--threads", 1) == 1
    assert rows(tmp_path / "out") == whole


def children_of(pid):
    threads = Path(f"/proc/{pid}/task").glob("*/children")
    found = [int(child) for path in threads for child in path.read_text().split()]
    return found + [one for child in found for one in children_of(child)]


def started(tmp_path, given, *options):
    """A run over 60 pictures in as many shards, of which the first one is done."""
    make_pictures(tmp_path / "more", 60)
    command = [sys.executable, "-m", "cigpose_runtime.cli", "label", given[0], tmp_path / "more"]
    shared = ["--out", tmp_path / "out", "--whole-frame", "--shard-size", 1]
    process = subprocess.Popen(
        [str(part) for part in [*command, *shared, *options]], stderr=subprocess.PIPE, text=True
    )
    while not list((tmp_path / "out").glob("shard*")):
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(0.05)
    return process


@pytest.mark.parametrize("workers", [1, 2])
def test_ctrl_c_ends_the_run_quietly_and_keeps_what_is_done(given, tmp_path, workers):
    with started(tmp_path, given, "--workers", workers) as process:
        process.send_signal(signal.SIGINT)
        _, said = process.communicate()
    assert process.returncode == 130
    assert "Traceback" not in said
    done = list((tmp_path / "out").glob("shard-*.parquet"))  # in any order, with two workers
    assert 1 <= len(done) < 60
    assert len(rows(tmp_path / "out")) == len(done)


@pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="needs Linux")
def test_no_process_outlives_a_run_that_is_killed(given, tmp_path):
    with started(tmp_path, given, "--workers", 2) as process:
        children = children_of(process.pid)
        ends = [os.pidfd_open(child) for child in children]
        process.kill()
    assert len(children) >= 4  # two workers and a decoder of each
    for end in ends:
        assert select.select([end], [], [], 60)[0]
        os.close(end)
