"""`cigpose-runtime video`: poses in videos, tracked from frame to frame."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from itertools import dropwhile, islice
from pathlib import Path
from typing import TYPE_CHECKING

from cigpose_runtime.commands import drawing, options, people, results
from cigpose_runtime.commands.boxes import GivenBoxes
from cigpose_runtime.commands.records import NoRoomError
from cigpose_runtime.commands.targets import in_folder
from cigpose_runtime.errors import CigposeError, FileError, InputError, error_context
from cigpose_runtime.files import require_apart, require_folder
from cigpose_runtime.terminal import echo

if TYPE_CHECKING:
    from cigpose_runtime.estimation.detector import Detections, Detector
    from cigpose_runtime.estimation.frame_model import FrameModel
    from cigpose_runtime.estimation.pose_model import PoseModel
    from cigpose_runtime.estimation.pose_pipeline import PosePipeline
    from cigpose_runtime.media.video import Frame
    from cigpose_runtime.poses import Poses
    from cigpose_runtime.sources.clips import Clip

MOST_DETECTED_AT_ONCE = 64
"""Frames that are in memory for it; at 4K, 25 MB each."""

MOST_NAMED = 10
"""Frames of a video without poses that have an error each; further ones are counted."""


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
    from cigpose_runtime.sources.clips import find_clips

    errors: list[CigposeError] = []
    say = partial(echo, err=True)
    clips = find_clips(args.videos, args.rate, errors, say, but=args.save and str(args.save))
    targets = _targets(args, clips)
    require_apart(
        [*results.outputs(args), *(("--save", target) for target in targets if target)],
        [*options.inputs(args), *(("the video", path) for one in clips for path in one.inputs)],
    )
    model = options.open_model(args, alone=False)
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
                    for error in _Job(args, clip, target, model, detector, written).run():
                        errors.append(error)
                except NoRoomError:
                    raise
                except CigposeError as error:
                    errors.append(error)
    except CigposeError as error:
        errors.append(error)
    return errors


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


@dataclass(frozen=True)
class _Job:
    """One video, and what becomes of it."""

    args: argparse.Namespace
    clip: Clip
    target: Path | None
    model: PoseModel | FrameModel
    detector: Detector | None
    written: results.Results

    def run(self) -> Iterator[CigposeError]:
        """Goes through it; yields the errors that cost less than all of it."""
        from cigpose_runtime.commands.annotated import AnnotatedVideo
        from cigpose_runtime.commands.progress import progress
        from cigpose_runtime.estimation.pose_pipeline import PosePipeline
        from cigpose_runtime.media.threads import DEPTH, prefetched
        from cigpose_runtime.poses import Poses
        from cigpose_runtime.tracking.smoothing import Smoother
        from cigpose_runtime.tracking.tracker import Tracker

        args, clip, written = self.args, self.clip, self.written
        pipeline = PosePipeline(
            self.detector, self.model, Tracker(), detect_every=args.detect_every
        )
        smooth = Smoother() if args.smooth else None
        resumed_at = self._followed(pipeline)
        first_id = written.next_image_id
        failed = 0
        with closing(clip.open()) as reader:
            depth = 1 if reader.is_large else DEPTH  # a frame of 8K takes 100 MB
            with (
                progress("video", reader.announced or None, "frames") as advance,
                AnnotatedVideo(
                    self.target,
                    rate=reader.rate,
                    audio_from=clip.file,
                    draw=drawing.drawer(args),
                    depth=depth,
                ) as annotated,
                closing(prefetched(reader, depth=depth)) as frames,
            ):
                to_do = dropwhile(lambda frame: frame.index < resumed_at, frames)
                for frame, found in self._detected(to_do):
                    name = f"{clip.name}, frame {frame.index}"
                    poses, wrong = self._poses(pipeline, frame, found, name)
                    yield from wrong[: max(0, MOST_NAMED - failed)]
                    failed += len(wrong)
                    if poses is None:
                        annotated.add(frame, Poses.none(self.model.keypoint_set))
                        continue
                    if smooth is not None:
                        poses = smooth(poses, frame.seconds)
                    written.add(
                        poses,
                        clip.name,
                        index=frame.index,
                        seconds=frame.seconds,
                        image_id=first_id + frame.index,
                        canvas_wh=frame.pixels.shape[1::-1],
                    )
                    annotated.add(frame, poses)
                    advance(len(poses))
                    if annotated.error is not None and not written.has_files:
                        break
            if annotated.error is not None:
                yield annotated.error
            left_out = annotated.sound_left_out
            if not clip.inputs:
                left_out = "only that of a file is taken"
            self._say(left_out if self.target else "", reader.is_pale)
            if failed > MOST_NAMED:
                yield InputError(
                    f"{clip.name}: expected frames and boxes that poses can be estimated for, "
                    f"found {failed - MOST_NAMED} more that are not; the results have the others"
                )
            yield from reader.errors

    def _detected(self, frames: Iterator[Frame]) -> Iterator[tuple[Frame, Detections | None]]:
        """The frames, and what was found in them where the detector takes several at once."""
        from cigpose_runtime.estimation.onnx_detector import OnnxDetector

        while batch := list(islice(frames, self.args.detector_batch)):
            found: Sequence[Detections | None] = [None] * len(batch)
            if len(batch) > 1 and isinstance(self.detector, OnnxDetector):
                # What fails together is tried one by one, so that each frame has its own error.
                with suppress(CigposeError):
                    found = self.detector.detect([frame.pixels for frame in batch])
            yield from zip(batch, found, strict=True)

    def _poses(
        self, pipeline: PosePipeline, frame: Frame, found: Detections | None, name: str
    ) -> tuple[Poses | None, list[CigposeError]]:
        """The poses of a frame, None where there are none, and what is wrong with it or boxes."""
        errors: list[CigposeError] = []
        poses = None
        if isinstance(self.detector, GivenBoxes):
            self.detector.frame = frame.index
        try:
            with error_context(name):
                poses = pipeline(frame.pixels, found)
        except CigposeError as error:
            errors.append(error)
        if isinstance(self.detector, GivenBoxes):
            errors += self.detector.take_errors(name)
        return poses, errors

    def _followed(self, pipeline: PosePipeline) -> int:
        """Leads it through what an earlier run did; returns the first frame that is to do."""
        to_do = 0
        if self.clip.name == self.written.last_source:
            for document, poses in self.written.earlier_frames(self.model.keypoint_set):
                pipeline.follow(poses)
                to_do = document["frame"] + 1
        return to_do

    def _say(self, sound_left_out: str, is_pale: bool) -> None:
        name = self.clip.name
        if sound_left_out:
            echo(f"{self.target}: without all the sound of {name}: {sound_left_out}", err=True)
        if is_pale:
            echo(
                f"{name}: expected HDR that FFmpeg can tone-map, found another; it is pale",
                err=True,
            )
