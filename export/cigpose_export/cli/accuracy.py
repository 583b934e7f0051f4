"""`cigpose-tools accuracy` and `draw`: AP on a data set, and a drawn one."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cigpose_export.cli.options import config_option, json_option, pass_project
from cigpose_export.errors import UsageError
from cigpose_export.project import Project
from cigpose_runtime.keypoints import KEYPOINT_SETS
from cigpose_runtime.terminal import echo

if TYPE_CHECKING:
    from cigpose_export.accuracy.annotations import Selection


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--annotations", required=True, type=click.Path(path_type=Path), help="JSON in COCO's form."
)
@click.option("--images", required=True, type=click.Path(path_type=Path), help="Folder.")
@click.option(
    "--boxes", type=click.Path(path_type=Path), help="Detected boxes  [default: the annotated ones]"
)
@click.option(
    "--detector-threshold", type=click.FloatRange(0, 1), help="Of --boxes: the least score."
)
@click.option(
    "--detector-nms", type=click.FloatRange(0, 1), help="Of --boxes: the largest overlap of two."
)
@click.option(
    "--max-people", type=click.IntRange(min=1), help="Of --boxes: the surest of each picture."
)
@click.option("--flip", is_flag=True, help="Average with the mirror image, as published AP does.")
@click.option("--pytorch", is_flag=True, help="Measure MMPose's model and pipeline beside it.")
@click.option(
    "--workers", type=click.IntRange(1, 1024), help="Processes that each run the runtime."
)
@click.option(
    "--ray",
    is_flag=False,
    flag_value="auto",
    metavar="[ADDRESS]",
    help="Run the runtime on a Ray cluster, at HOST:PORT or the one of this machine.",
)
@config_option
@click.option(
    "--checkpoint", type=click.Path(path_type=Path), help="With --pytorch: the weights' file."
)
@click.option(
    "--out", type=click.Path(path_type=Path), help="Folder  [default: accuracy/NAME by FILE]"
)
@json_option
@pass_project
def accuracy(
    project: Project,
    file: Path,
    annotations: Path,
    images: Path,
    boxes: Path | None,
    detector_threshold: float | None,
    detector_nms: float | None,
    max_people: int | None,
    flip: bool,
    pytorch: bool,
    workers: int | None,
    ray: str | None,
    config: str | None,
    checkpoint: Path | None,
    out: Path | None,
    as_json: bool,
) -> None:
    """Measure AP on COCO, COCO-WholeBody, CrowdPose or data in COCO's form, with the runtime.

    --pytorch needs the --config and --checkpoint of a model that is no published variant.

    Run it again after an interruption, and it continues where it stopped.
    """
    from cigpose_export.accuracy.stage import measure_accuracy
    from cigpose_export.cli.console import counted_progress, print_accuracy
    from cigpose_runtime.labelling.cluster import Cluster

    found = measure_accuracy(
        project,
        file,
        annotations=annotations,
        images=images,
        boxes=boxes,
        selection=_selection(boxes, detector_threshold, detector_nms, max_people),
        flip=flip,
        pytorch=pytorch,
        workers=workers,
        cluster=None if ray is None else Cluster(ray),
        config=config,
        checkpoint=checkpoint,
        out=out or file.parent / "accuracy" / file.stem,
        progress=counted_progress,
    )
    if as_json:
        click.echo(json.dumps({"schema_version": 1, **asdict(found)}, indent=1))
    else:
        print_accuracy(found)


def _selection(
    boxes: Path | None, score: float | None, nms: float | None, most: int | None
) -> Selection | None:
    from cigpose_export.accuracy.annotations import Selection

    given: dict[str, Any] = {"score_threshold": score, "nms_threshold": nms, "max_people": most}
    asked = {name: value for name, value in given.items() if value is not None}
    if not asked:
        return None
    if boxes is None:
        raise UsageError(
            "--detector-threshold, --detector-nms, --max-people: expected --boxes beside them, as "
            "annotated boxes are not detected, found none; add it"
        )
    return Selection(**asked)


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--pictures", type=click.IntRange(min=1), default=500, show_default=True)
@click.option("--keypoints", type=click.Choice([*KEYPOINT_SETS]), default="coco")
@click.option("--seed", type=click.IntRange(min=0), default=1, show_default=True)
def draw(folder: Path, pictures: int, keypoints: str, seed: int) -> None:
    """Draw a data set of people, in the form of COCO, COCO-WholeBody or CrowdPose."""
    from cigpose_export.cli.console import counted_progress
    from cigpose_export.drawn.dataset import write_dataset

    with counted_progress("drawing", pictures) as on_done:
        path = write_dataset(
            folder,
            pictures=pictures,
            keypoints=KEYPOINT_SETS[keypoints],
            seed=seed,
            on_done=on_done,
        )
    echo(str(path))
