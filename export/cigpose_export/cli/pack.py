"""`cigpose-tools pack`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal

import click

from cigpose_export.errors import UsageError

LARGEST_SIDE = 16_384
"""Pixels of a fixed frame: its values are indexed with int32."""

MOST_PEOPLE = 256
"""At once: 3 GB for the smallest models."""

_SHARE = click.FloatRange(min=0, max=1, min_open=True)


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--flip", is_flag=True, help="Average with the mirror image of each crop.")
@click.option(
    "--frame-order",
    type=click.Choice(["rgb", "bgr"]),
    default="rgb",
    show_default=True,
    help="Colour order of the frames that the file takes.",
)
@click.option("--static", metavar="H,W,PEOPLE", help="Fixed sizes, for engines that need them.")
@click.option("--detector", type=click.Path(path_type=Path), help="A YOLOX to find the people.")
@click.option("--score", type=_SHARE, help="Least score of a person  [default: 0.35]")
@click.option("--nms", type=_SHARE, help="Largest overlap of two people  [default: 0.45]")
@click.option(
    "--max-people",
    type=click.IntRange(1, MOST_PEOPLE),
    help="Of more people, the surest  [default: 32]",
)
@click.option("--out", type=click.Path(path_type=Path), help="[default: FILE's name + _frame]")
def pack(
    file: Path,
    flip: bool,
    frame_order: Literal["rgb", "bgr"],
    static: str | None,
    detector: Path | None,
    score: float | None,
    nms: float | None,
    max_people: int | None,
    out: Path | None,
) -> None:
    """Pack a model into one graph from frames and boxes to keypoints.

    With a detector inside it takes frames alone. docs/one-file.md shows how to run such files.
    """
    from cigpose_export.graph.frame.assemble import FixedSize
    from cigpose_export.graph.frame.pack import DetectorOptions, pack_file

    options = None
    if detector is not None:
        options = DetectorOptions(
            detector,
            score=score or DetectorOptions.score,
            nms=nms or DetectorOptions.nms,
            max_people=max_people or DetectorOptions.max_people,
        )
    elif score or nms or max_people:
        raise UsageError(
            "--score, --nms, --max-people: expected --detector FILE beside them, found none; add it"
        )
    fixed = None if static is None else FixedSize(*_sizes(static))
    target = pack_file(file, out, flip=flip, color_order=frame_order, fixed=fixed, detector=options)
    click.echo(target)


def _sizes(text: str) -> tuple[int, int, int]:
    matched = re.fullmatch(r"(\d{1,9}),(\d{1,9}),(\d{1,9})", text)
    height, width, people = map(int, matched.groups()) if matched else (0, 0, 0)
    largest = max(height, width)
    if not (min(height, width, people) >= 1 and largest <= LARGEST_SIDE and people <= MOST_PEOPLE):
        raise UsageError(
            f"--static {text}: expected height, width and people, as 1080,1920,4, at most "
            f"{LARGEST_SIDE} px and {MOST_PEOPLE} people; correct it"
        )
    return height, width, people
