"""A video with sound that is stopped at many points: what is kept plays, and is in sync."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from clips import FLASH, flash_and_click, when
from tiny_onnx import tiny_model

pytestmark = [
    pytest.mark.long,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(sys.platform != "linux", reason="sends signals, reads /proc"),
]

POINTS = 20


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("tiny.onnx").write_bytes(tiny_model(num_keypoints=133, seed=3).SerializeToString())
    return tmp_path


def start(clip, *options):
    arguments = ["video", "tiny.onnx", clip, "--whole-frame", *options]
    command = [sys.executable, "-m", "cigpose_runtime.cli", *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)


def test_what_sigterm_leaves_is_in_sync(here):
    clip = flash_and_click(Path("clip.mp4"), count=900)
    for point in range(POINTS):
        with start(clip, "--save", "out.mp4", "--json", "-") as process:
            for _ in range(FLASH + 5 + 20 * point):
                assert process.stdout.readline()
            process.send_signal(signal.SIGTERM)
            process.stdout.read()
        assert process.returncode == 128 + signal.SIGTERM
        flash, click, seen_until, heard_until = when(Path("out.mp4"))
        assert flash == pytest.approx(FLASH / 25, abs=1e-3)
        assert click == pytest.approx(FLASH / 25, abs=2e-3)
        assert abs(seen_until - heard_until) < 0.1  # an AAC frame of 64 ms, and a picture's 40


def test_the_video_that_sigkill_leaves_plays_in_sync(here):
    clip = flash_and_click(Path("clip.mp4"), count=900)
    for point in range(POINTS):
        frames = 100 + 30 * point
        with start(clip, "--save", "out.mp4", "--json", "-") as process:
            for _ in range(frames):
                assert process.stdout.readline()
            process.kill()
        (left,) = here.glob(".out.mp4.*.partial")
        flash, click, seen_until, heard_until = when(left)
        left.unlink()
        assert flash == pytest.approx(FLASH / 25, abs=1e-3)
        assert click == pytest.approx(FLASH / 25, abs=2e-3)
        assert abs(seen_until - heard_until) < 0.25  # AAC frames of 64 ms, pictures out of order
        print(f"{frames} frames, {frames / 25:.2f} s: {seen_until:.2f} s play")
        assert seen_until > frames / 25 - 3  # in the encoder, in queues, and of the last second


def test_what_sigkill_leaves_is_taken_up_to_the_same_end(here):
    clip = flash_and_click(Path("clip.mp4"), count=900)
    with start(clip, "--json", "whole.jsonl") as process:
        process.wait()
    size = Path("whole.jsonl").stat().st_size
    for point in range(1, POINTS + 1):
        with start(clip, "--json", "x.jsonl", "--resume") as process:
            reached = size * point // (POINTS + 1)
            while not Path("x.jsonl").exists() or Path("x.jsonl").stat().st_size < reached:
                assert process.poll() is None
            process.kill()
    with start(clip, "--json", "x.jsonl", "--resume") as process:
        process.wait()
    assert process.returncode == 0
    assert Path("x.jsonl").read_bytes() == Path("whole.jsonl").read_bytes()


def test_memory_is_flat_over_10_000_frames_with_sound(here):
    clip = flash_and_click(Path("clip.mp4"), count=10_000)
    resident = {}
    with start(clip, "--save", "out.mp4", "--json", "-") as process:
        for index in range(10_000):
            assert json.loads(process.stdout.readline())["frame"] == index
            if index in (2_000, 9_900):
                pages = Path(f"/proc/{process.pid}/statm").read_text().split()[1]
                resident[index] = int(pages) * os.sysconf("SC_PAGE_SIZE")
    assert process.returncode == 0
    # The index of an MP4, some 100 bytes for a picture and its sound, is in memory to the end.
    assert resident[9_900] < resident[2_000] * 1.05 + 8_000 * 200
