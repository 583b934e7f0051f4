"""`cigpose-runtime video`: poses in a video, tracked from frame to frame."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from cigpose_runtime.commands import options, results
from cigpose_runtime.errors import CheckError, CigposeError, InputError, error_context
from cigpose_runtime.files import require_apart
from cigpose_runtime.terminal import echo

if TYPE_CHECKING:
    from cigpose_runtime.estimation.detector import Detector
    from cigpose_runtime.estimation.frame_model import FrameModel
    from cigpose_runtime.estimation.pose_model import PoseModel

MOST_NAMED = 10
"""Frames of a video without poses that have an error each; further ones are counted."""


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds the subcommand to those of `cigpose-runtime`."""
    parser = commands.add_parser(
        "video",
        help="estimate and track poses in a video",
        description="Estimates and tracks poses in a video. Frames that cannot be decoded are left "
        "out, counted, and make the exit status 1. Ctrl-C, SIGTERM and SIGHUP finish the files "
        "with what is there.",
    )
    options.add_options(parser)
    parser.add_argument("video", type=Path, metavar="VIDEO", help="video file")
    parser.add_argument(
        "--detect-every", type=int, default=1, metavar="N", help="detect on every n-th frame"
    )
    options.add_smooth(parser)
    results.add_options(parser)
    parser.add_argument("--save", type=Path, metavar="FILE.mp4", help="annotated video")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> list[CigposeError]:
    """Goes through the video; decoding, estimating, and drawing with encoding overlap."""
    options.require_extra()

    saved = [] if args.save is None else [("--save", args.save)]
    require_apart(
        [*results.outputs(args), *saved], [*options.inputs(args), ("the video", args.video)]
    )
    model = options.open_model(args, alone=False)
    detector_for = options.open_detector_for(args, model, alone=False)
    errors: list[CigposeError] = []
    try:
        with results.Results(args, saves=args.save is not None) as written:
            for error in _estimate(args, model, detector_for(args.video), written):
                errors.append(error)
    except CigposeError as error:
        errors.append(error)
    return errors


def _estimate(
    args: argparse.Namespace,
    model: PoseModel | FrameModel,
    detector: Detector | None,
    written: results.Results,
) -> Iterator[CigposeError]:
    """Goes through one video; yields the errors that cost less than all of it."""
    from cigpose_runtime.commands.annotated import AnnotatedVideo
    from cigpose_runtime.commands.progress import progress
    from cigpose_runtime.estimation.pose_pipeline import PosePipeline
    from cigpose_runtime.media.threads import DEPTH, prefetched
    from cigpose_runtime.media.video import VideoReader
    from cigpose_runtime.poses import Poses
    from cigpose_runtime.tracking.smoothing import Smoother
    from cigpose_runtime.tracking.tracker import Tracker

    pipeline = PosePipeline(detector, model, Tracker(), detect_every=args.detect_every)
    smooth = Smoother() if args.smooth else None
    failed = 0
    with VideoReader(args.video) as reader:
        depth = 1 if reader.is_large else DEPTH  # a frame of 8K takes 100 MB
        with (
            progress("video", reader.announced or None, "frames") as advance,
            AnnotatedVideo(args.save, reader, threshold=args.threshold, depth=depth) as annotated,
        ):
            for frame in prefetched(reader, depth=depth):
                try:
                    with error_context(f"{args.video}, frame {frame.index}"):
                        poses = pipeline(frame.pixels)
                        if smooth is not None:
                            poses = smooth(poses, frame.seconds)
                except CigposeError as error:
                    failed += 1
                    if failed <= MOST_NAMED:
                        yield error
                    annotated.add(frame, Poses.none(model.keypoint_set))
                    continue
                written.add(
                    poses,
                    str(args.video),
                    index=frame.index,
                    seconds=frame.seconds,
                    canvas_wh=frame.pixels.shape[1::-1],
                )
                annotated.add(frame, poses)
                advance(len(poses))
                if annotated.error is not None and not written.has_files:
                    break
        if annotated.error is not None:
            yield annotated.error
        if annotated.sound_left_out:
            echo(
                f"{args.save}: without all the sound of {args.video}: {annotated.sound_left_out}",
                err=True,
            )
        if reader.is_pale:
            echo(
                f"{args.video}: expected HDR that FFmpeg can tone-map, found another; it is pale",
                err=True,
            )
        if failed > MOST_NAMED:
            yield InputError(
                f"{args.video}: expected frames and boxes that poses can be estimated for, found "
                f"{failed - MOST_NAMED} more without; the results have the others"
            )
        if reader.skipped:
            yield CheckError(
                f"{args.video}: expected {reader.read + reader.skipped} frames, found "
                f"{reader.skipped} damaged or missing ones; the results have the others"
            )
