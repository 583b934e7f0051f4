"""`cigpose-runtime video`: poses in videos, tracked from frame to frame."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from cigpose_runtime.commands import drawing, options, people, results
from cigpose_runtime.commands.records import NoRoomError
from cigpose_runtime.commands.targets import in_folder
from cigpose_runtime.errors import CigposeError, FileError, InputError, error_context
from cigpose_runtime.estimation.pose_model import MAX_BATCH
from cigpose_runtime.files import require_apart, require_folder
from cigpose_runtime.machine import cores
from cigpose_runtime.terminal import echo

if TYPE_CHECKING:
    from cigpose_runtime.estimation.detector import Detector
    from cigpose_runtime.sources.clips import Clip

MOST_DETECTED_AT_ONCE = 64
"""Frames that are in memory for it; at 4K, 25 MB each."""

MOST_AT_ONCE = 4
"""Frames whose poses are estimated at once. Each takes its own memory."""


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds the subcommand to those of `cigpose-runtime`."""
    parser = commands.add_parser(
        "video",
        help="estimate and track poses in videos",
        description="Estimates and tracks poses in videos. Frames that cannot be decoded are left "
        "out, counted, and make the exit status 1. Ctrl-C, SIGTERM and SIGHUP finish the files "
        "with what is there.",
    )
    options.add_options(parser)
    people.add_options(parser)
    drawing.add_options(parser, tracks=True)
    parser.add_argument(
        "videos",
        nargs="+",
        metavar="VIDEO",
        help="files, folders with their folders, patterns, lists (.txt), URLs (http, rtsp), or - "
        "for stdin; pictures of a folder or pattern are the frames of one video",
    )
    parser.add_argument(
        "--rate",
        type=_rate,
        default=Fraction(25),
        metavar="FPS",
        help="of a video whose frames are pictures  [default: 25]",
    )
    parser.add_argument(
        "--detect-every", type=int, default=1, metavar="N", help="detect on every n-th frame"
    )
    parser.add_argument(
        "--detector-batch",
        type=options.whole_number(1, MOST_DETECTED_AT_ONCE),
        default=1,
        metavar="N",
        help="detect on N frames at once, for a detector with a dynamic batch",
    )
    options.add_smooth(parser)
    results.add_options(parser)
    parser.add_argument(
        "--save", type=Path, metavar="FILE.mp4", help="annotated video; of several, a folder"
    )
    parser.set_defaults(run=run)


def _rate(text: str) -> Fraction:
    try:
        rate = Fraction(text)
    except (ValueError, ZeroDivisionError):
        rate = Fraction(0)
    if not 0 < rate <= 1000:
        raise argparse.ArgumentTypeError(f"expected frames a second up to 1000, found {text}")
    return rate


def run(args: argparse.Namespace) -> list[CigposeError]:
    """Goes through the videos; decoding, estimating, and drawing with encoding overlap."""
    options.require_extra()
    from cigpose_runtime.commands.video_job import VideoJob
    from cigpose_runtime.sources.clips import find_clips

    errors: list[CigposeError] = []
    say = partial(echo, err=True)
    clips = find_clips(args.videos, args.rate, errors, say, but=args.save and str(args.save))
    targets = _targets(args, clips)
    require_apart(
        [*results.outputs(args), *(("--save", target) for target in targets if target)],
        [*options.inputs(args), *(("the video", path) for one in clips for path in one.inputs)],
    )
    at_once = _at_once(args)
    model = options.open_model(args, alone=False, at_once=at_once, max_batch=MAX_BATCH // at_once)
    detector_for = people.open_detector_for(args, model, alone=False)
    _require_batches(args, detector_for)
    try:
        with results.Results(args, saves=args.save is not None) as written:
            for target in targets:
                if target is not None:
                    require_folder(target.parent, "--save")
            done = {document["source"] for document in written.earlier(model.keypoint_set)}
            for clip, target in zip(clips, targets, strict=True):
                if clip.name in done and clip.name != written.last_source:
                    continue
                try:
                    detector = detector_for(Path(clip.name))
                    for error in VideoJob(
                        args, clip, target, model, detector, written, at_once
                    ).run():
                        errors.append(error)
                except NoRoomError:
                    raise
                except CigposeError as error:
                    errors.append(error)
    except CigposeError as error:
        errors.append(error)
    return errors


def _at_once(args: argparse.Namespace) -> int:
    """Frames whose poses are estimated at once, each with fewer threads, which is faster."""
    if args.device != "cpu" or args.detect_every > 1:  # where a frame needs the poses of the last
        return 1
    return min(args.threads or cores(), MOST_AT_ONCE)


def _require_batches(
    args: argparse.Namespace, detector_for: Callable[[Path], Detector | None]
) -> None:
    from cigpose_runtime.estimation.onnx_detector import OnnxDetector

    if args.detector_batch == 1:
        return
    if args.detect_every > 1:
        raise InputError(
            "--detector-batch: expected detection on each frame, found --detect-every; leave one "
            "of them out"
        )
    detector = None if args.detector is None else detector_for(Path())
    if not isinstance(detector, OnnxDetector):
        raise InputError(
            "--detector-batch: expected --detector with an ONNX file, found none; leave it out"
        )
    with error_context("--detector-batch"):
        detector.require_batches()


def _targets(args: argparse.Namespace, clips: Sequence[Clip]) -> list[Path | None]:
    """Where each annotated video goes."""
    from cigpose_runtime.media.video_writer import SUFFIXES

    if args.resume and args.smooth:
        raise FileError(
            "--resume: expected results that can be taken up again, found --smooth, which needs "
            "the frames before; leave one of them out"
        )
    if args.save is None:
        return [None] * len(clips)
    folder: Path = args.save
    if args.resume:
        raise FileError(
            "--resume: expected results that can be taken up again, found --save; a video cannot"
        )
    if folder.suffix.lower() in SUFFIXES:
        if len(clips) > 1:
            raise FileError(
                f"{folder}: expected a folder for {len(clips)} annotated videos, found the name of "
                "one; give a folder"
            )
        return [folder]
    if folder.suffix and not folder.is_dir():
        raise FileError(f"{folder}: expected a name that ends in .mp4, or a folder; give another")
    return list(in_folder(folder, (clip.relative.with_suffix(".mp4") for clip in clips)))
