"""`cigpose-runtime video`: poses in a video, tracked from frame to frame."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from cigpose_runtime.commands import options, results
from cigpose_runtime.errors import CheckError, CigposeError, error_context
from cigpose_runtime.files import require_apart
from cigpose_runtime.terminal import echo

if TYPE_CHECKING:
    from cigpose_runtime.media.video import Frame, VideoReader
    from cigpose_runtime.poses import Poses

    Annotate = Callable[[Frame, Poses], None]


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
    results.add_options(parser)
    parser.add_argument("--save", type=Path, metavar="FILE.mp4", help="annotated video")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> list[CigposeError]:
    """Goes through the video; decoding, estimating, and drawing with encoding overlap."""
    options.require_extra()
    from cigpose_runtime.commands.progress import progress
    from cigpose_runtime.estimation.pose_pipeline import PosePipeline
    from cigpose_runtime.media.threads import prefetched
    from cigpose_runtime.media.video import VideoReader
    from cigpose_runtime.tracking.tracker import Tracker

    saved = [] if args.save is None else [("--save", args.save)]
    require_apart(
        [*results.outputs(args), *saved], [*options.inputs(args), ("the video", args.video)]
    )
    model = options.open_model(args, alone=False)
    detector_for = options.open_detector_for(args, model, alone=False)
    detector = detector_for(args.video)
    pipeline = PosePipeline(detector, model, Tracker(), detect_every=args.detect_every)
    interrupted = False
    errors: list[CigposeError] = []
    with (
        VideoReader(args.video) as reader,
        results.Results(args, saves=args.save is not None) as written,
    ):
        try:
            with (
                progress("video", reader.announced or None, "frames") as advance,
                _annotated(args, reader) as annotate,
            ):
                for frame in prefetched(reader, depth=_depth(reader)):
                    with error_context(f"{args.video}, frame {frame.index}"):
                        poses = pipeline(frame.pixels)
                    annotate(frame, poses)
                    written.add(poses, str(args.video), index=frame.index, seconds=frame.seconds)
                    advance(len(poses))
        except KeyboardInterrupt:
            interrupted = True
        except CigposeError as error:
            if not written.pictures:
                raise
            errors.append(error)  # the results until then stay
    if reader.is_pale:
        echo(
            f"{args.video}: expected HDR that FFmpeg can tone-map, found another; it is pale",
            err=True,
        )
    if interrupted:
        raise KeyboardInterrupt
    return errors or _what_was_missing(args.video, reader.read, reader.skipped)


@contextmanager
def _annotated(args: argparse.Namespace, reader: VideoReader) -> Iterator[Annotate]:
    """Yields what takes each frame and its poses for the video that --save asks for."""
    if args.save is None:
        yield lambda frame, poses: None
        return
    from cigpose_runtime.draw import draw_poses
    from cigpose_runtime.media.threads import Behind
    from cigpose_runtime.media.video_writer import VideoWriter

    with VideoWriter(args.save, rate=reader.rate, audio_from=args.video) as writer:

        def draw(item: tuple[Frame, Poses]) -> None:
            frame, poses = item
            drawn = draw_poses(frame.pixels, poses, threshold=args.threshold)
            writer.write(replace(frame, pixels=drawn))

        with Behind(draw, depth=_depth(reader)) as behind:
            yield lambda frame, poses: behind.put((frame, poses))
    if writer.sound_left_out:
        echo(
            f"{args.save}: without all the sound of {args.video}: {writer.sound_left_out}", err=True
        )


def _depth(reader: VideoReader) -> int:
    """Frames that wait for the next thread; one of 8K takes 100 MB."""
    from cigpose_runtime.media.threads import DEPTH

    return 1 if reader.is_large else DEPTH


def _what_was_missing(path: Path, read: int, skipped: int) -> list[CigposeError]:
    if not skipped:
        return []
    return [
        CheckError(
            f"{path}: expected {read + skipped} frames, found {skipped} damaged or missing ones; "
            "the results have the others"
        )
    ]
