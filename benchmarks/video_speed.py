"""`make bench`, videos: `cigpose-runtime video` beside the published client, from file to file.

One person on 100 frames of 960 x 640, with her box given; both write an annotated video. Ours is
H.264 that plays in a browser, with smooth lines for all keypoints, the client's MPEG-4 part 2. Each
run is a process of its own, measured whole, with its start and with loading the model; the sides
take turns. CPU time is that of all threads: on a machine with other work it says more than seconds.

`python -m benchmarks.video_speed MODEL.onnx...` prints this table alone.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
from rich.table import Table

from cigpose_export.cli.console import print_table
from cigpose_export.errors import ExportError
from cigpose_runtime.errors import last_line
from cigpose_runtime.media.images import read_image
from cigpose_runtime.media.video import Frame
from cigpose_runtime.media.video_writer import VideoWriter
from cigpose_verify.cases import PHOTOGRAPHS

FRAMES, RATE = 100, Fraction(25)
WIDTH, HEIGHT = 960, 640
BOX = (300.0, 40.0, 760.0, 630.0)
ROUNDS = 3


@dataclass(frozen=True)
class VideoSpeed:
    """Medians of ROUNDS runs."""

    seconds: float
    cpu_seconds: float


def measure_video(model: Path) -> dict[str, VideoSpeed]:
    """By side."""
    with tempfile.TemporaryDirectory(prefix="cigpose-bench-") as folder:
        clip, boxes, saved = (Path(folder) / name for name in ("clip.mp4", "boxes.json", "out.mp4"))
        _write_clip(clip)
        boxes.write_text(json.dumps([list(BOX)]), "utf-8")
        ours = ["-m", "cigpose_runtime.cli", "video", model, clip, "--boxes", boxes]
        sides: dict[str, list[object]] = {
            "ours": [*ours, "--save", saved],
            "ours, without --save": [*ours, "--json", Path(folder) / "out.jsonl"],
            "client": ["-m", "benchmarks.video_speed", "--client", model, clip, saved],
        }
        runs: dict[str, list[tuple[float, float]]] = {name: [] for name in sides}
        for _ in range(ROUNDS):
            for name, arguments in sides.items():
                runs[name].append(_run([sys.executable, "-P", *map(str, arguments)]))
    return {
        name: VideoSpeed(*(round(statistics.median(some), 2) for some in zip(*each, strict=True)))
        for name, each in runs.items()
    }


def print_video_speeds(measured: Mapping[str, Mapping[str, VideoSpeed]]) -> None:
    """One row a model."""
    title = f"Video: {FRAMES} frames of {WIDTH} x {HEIGHT}, seconds (CPU seconds)"
    table = Table("model", title=title, box=None, header_style="bold")
    table.title_justify = "left"
    for heading in ("ours", "ours, without --save", "client", "ratio", "ratio of CPU seconds"):
        table.add_column(heading, justify="right")
    for model, sides in measured.items():
        ours, client = sides["ours"], sides["client"]
        table.add_row(
            model,
            *(f"{side.seconds:.1f} ({side.cpu_seconds:.1f})" for side in sides.values()),
            f"{client.seconds / ours.seconds:.2f} x",
            f"{client.cpu_seconds / ours.cpu_seconds:.2f} x",
        )
    print_table(table)


def _run(command: Sequence[str]) -> tuple[float, float]:
    """Seconds and CPU seconds of a process. Raises ExportError if it fails."""
    started = time.perf_counter()
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=said)
        _, status, used = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode != 0:
            said.seek(0)
            raise ExportError(
                f"the video could not be made ({last_line(said.read().decode())}); run make doctor"
            )
    return seconds, used.ru_utime + used.ru_stime


def _write_clip(path: Path) -> None:
    """The astronaut, twice as large, drifting over the frame by a pixel a frame."""
    photograph = read_image(PHOTOGRAPHS / "astronaut.jpg")[: HEIGHT // 2, : WIDTH // 2]
    wide = photograph.repeat(2, axis=0).repeat(2, axis=1)
    with VideoWriter(path, rate=RATE) as writer:
        for index in range(FRAMES):
            drifted = np.ascontiguousarray(np.roll(wide, index, axis=1))
            writer.write(Frame(drifted, index, index, 1 / RATE))


def _client(model: str, clip: str, saved: str) -> None:
    import cv2
    from cigpose.inference import load_pose_model, run_on_video

    class OneBox:
        def detect(self, frame: object) -> list[list[float]]:
            return [list(BOX)]

    with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(cv2.error):
        # Its last step closes windows, which OpenCV without a display does not have.
        session, *settings = load_pose_model(model)
        run_on_video(session, clip, *settings, saved, 0.6, OneBox(), False)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--client"]:
        _client(*sys.argv[2:])
    else:
        print_video_speeds({Path(name).stem: measure_video(Path(name)) for name in sys.argv[1:]})
