"""`cigpose-runtime video`: poses in a video, tracked from frame to frame."""

from __future__ import annotations

import argparse
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from cigpose_runtime.commands import options, results
from cigpose_runtime.errors import CheckError, CigposeError, FileError, error_context


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds the subcommand to those of `cigpose-runtime`."""
    parser = commands.add_parser(
        "video",
        help="estimate and track poses in a video",
        description="Estimates and tracks poses in a video. Frames that cannot be decoded are left "
        "out, counted, and make the exit status 1. Ctrl-C finishes the files with what is there.",
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
    from cigpose_runtime.draw import draw_poses
    from cigpose_runtime.estimation.pose_pipeline import PosePipeline
    from cigpose_runtime.estimation.tracking import Tracker
    from cigpose_runtime.media.threads import Behind, prefetched
    from cigpose_runtime.media.video import Frame, VideoReader, VideoWriter
    from cigpose_runtime.poses import Poses

    if args.save is not None and args.save.absolute() == args.video.absolute():
        raise FileError(f"{args.save}: expected another file than the video itself; rename it")
    model = options.open_model(args, alone=False)
    detector_for = options.open_detector(args, model, alone=False)
    detector = detector_for(args.video)
    pipeline = PosePipeline(detector, model, Tracker(), detect_every=args.detect_every)
    interrupted = False
    with VideoReader(args.video) as reader, ExitStack() as stack:
        written = stack.enter_context(results.Results(args, saves=args.save is not None))
        advance = stack.enter_context(progress("video", reader.announced or None, "frames"))
        annotated: Behind[tuple[Frame, Poses]] | None = None
        if args.save is not None:
            writer = stack.enter_context(
                VideoWriter(args.save, rate=reader.rate, audio_from=args.video)
            )

            def annotate(item: tuple[Frame, Poses]) -> None:
                frame, poses = item
                drawn = draw_poses(frame.pixels, poses, threshold=args.threshold)
                writer.write(replace(frame, pixels=drawn))

            annotated = stack.enter_context(Behind(annotate))
        try:
            for frame in prefetched(reader):
                with error_context(f"{args.video}, frame {frame.index}"):
                    poses = pipeline(frame.pixels)
                if annotated is not None:
                    annotated.put((frame, poses))
                written.add(poses, str(args.video), index=frame.index, seconds=frame.seconds)
                advance(len(poses))
        except KeyboardInterrupt:
            interrupted = True
    if interrupted:
        raise KeyboardInterrupt
    return _what_was_missing(args.video, reader.read, reader.skipped, reader.announced)


def _what_was_missing(path: Path, read: int, skipped: int, announced: int) -> list[CigposeError]:
    missing = max(skipped, announced - read)
    if not missing:
        return []
    return [
        CheckError(
            f"{path}: expected {read + missing} frames, found {missing} damaged or missing ones; "
            "the results have the others"
        )
    ]
