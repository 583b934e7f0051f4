"""What the options say about annotated pictures."""

from __future__ import annotations

import argparse
from collections.abc import Callable

from cigpose_runtime.arrays import Pixels
from cigpose_runtime.draw import THRESHOLD, draw_poses
from cigpose_runtime.poses import Poses

Draw = Callable[[Pixels, Poses], Pixels]
"""What makes an annotated picture of a frame, (H, W, 3) uint8 BGR, and its poses."""


def add_options(parser: argparse.ArgumentParser, *, tracks: bool) -> None:
    """Adds the options. tracks: whether people have track ids."""
    parser.add_argument(
        "--threshold",
        type=float,
        default=THRESHOLD,
        metavar="SCORE",
        help=f"least keypoint score that is drawn  [default: {THRESHOLD}]",
    )
    if tracks:
        parser.add_argument("--draw-ids", action="store_true", help="write each person's number")
    else:
        parser.set_defaults(draw_ids=False)
    parser.add_argument("--draw-names", action="store_true", help="write each keypoint's name")


def drawer(args: argparse.Namespace) -> Draw:
    """Draws as the options say."""

    def draw(frame: Pixels, poses: Poses) -> Pixels:
        canvas = draw_poses(frame, poses, threshold=args.threshold)
        if args.draw_ids or args.draw_names:
            from cigpose_runtime.commands.captions import draw_captions

            draw_captions(
                canvas, poses, ids=args.draw_ids, names=args.draw_names, threshold=args.threshold
            )
        return canvas

    return draw
