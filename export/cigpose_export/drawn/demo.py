"""`make demo`: the whole toolchain on the demonstration model, offline, in a few minutes."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np

from cigpose_export.drawn.clip import draw_clip
from cigpose_export.drawn.scene import draw_scene
from cigpose_export.errors import ExportError
from cigpose_export.graph.frame.pack import pack_file
from cigpose_export.jobs.batch import OnStage, State
from cigpose_export.jobs.export import export_models
from cigpose_export.jobs.verify import verify_files
from cigpose_export.project import Project
from cigpose_export.variants import DEMO
from cigpose_runtime import cli
from cigpose_runtime.media.images import write_image
from cigpose_runtime.media.video import Frame
from cigpose_runtime.media.video_writer import VideoWriter

SCENE_SEED = 145
CLIP_SEED = 4
SIZE_WH = 960, 640
CLIP_FRAMES = 100
RATE = Fraction(25)

Boxes = list[list[float]]
"""Left, top, right, bottom of each person, in pixels."""


@dataclass(frozen=True)
class Demo:
    """What the demo leaves: the model, also packed, its parity page, a picture and a clip."""

    model: Path
    packed: Path
    page: Path
    picture: Path
    clip: Path


def run_demo(project: Project, out: Path, *, on_stage: OnStage, say: Callable[[str], None]) -> Demo:
    """Exports, verifies, draws people, and runs the runtime's own commands on them.

    Raises CigposeError when a step fails. say: told the commands that are run.
    """
    (exported,) = export_models(project, [DEMO], weights="demo", out=out, on_stage=on_stage)
    (verified,) = verify_files(project, [exported.path], on_stage=on_stage)
    for outcome in (exported, verified):
        if outcome.error is not None:
            raise outcome.error
        if outcome.state == State.INTERRUPTED:
            raise KeyboardInterrupt
    packed = pack_file(exported.path)
    scene, scene_boxes = _draw_picture(out)
    clip, clip_boxes = _draw_clip(out)
    boxes = out / "boxes.json"  # where `cigpose-runtime web` looks for them, too
    boxes.write_text(json.dumps({scene.name: scene_boxes, clip.name: clip_boxes}), "utf-8")
    annotated = out / "annotated"
    for arguments in (
        ["image", exported.path, scene, "--boxes", boxes, "--save", annotated, "--flip"],
        ["video", exported.path, clip, "--boxes", boxes, "--save", annotated / clip.name],
    ):
        command = [str(argument) for argument in arguments]
        if "--json" not in command:
            command += ["--json", str(annotated / f"{command[0]}.jsonl")]
        say(f"cigpose-runtime {shlex.join(command)}")
        if cli.main(command) != 0:
            raise ExportError("the runtime failed on drawn people; its message is above")
    return Demo(
        model=exported.path,
        packed=packed,
        page=out / "parity" / "index.html",
        picture=annotated / scene.name,
        clip=annotated / clip.name,
    )


def _draw_picture(out: Path) -> tuple[Path, Boxes]:
    """The picture, and the boxes of its people."""
    scene = draw_scene(SCENE_SEED, size_wh=SIZE_WH)
    path = out / "people.png"
    write_image(scene.picture, path)
    return path, [list(person.box_xyxy) for person in scene.people]


def _draw_clip(out: Path) -> tuple[Path, Boxes]:
    """The clip, and boxes that hold each person in all frames."""
    path = out / "clip.mp4"
    boxes = []
    with VideoWriter(path, rate=RATE) as writer:
        for index, scene in enumerate(draw_clip(CLIP_SEED, CLIP_FRAMES, SIZE_WH)):
            writer.write(Frame(scene.picture, index, index, 1 / RATE))
            boxes.append([person.box_xyxy for person in scene.people])
    low, high = np.split(np.array(boxes), 2, axis=-1)
    whole = np.concatenate([low.min(axis=0), high.max(axis=0)], axis=-1)
    return path, whole.round(1).tolist()
