"""What `video` does with one video: find the people, estimate, track, write and draw."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from itertools import dropwhile
from pathlib import Path

from cigpose_runtime.commands import drawing
from cigpose_runtime.commands.annotated import AnnotatedVideo
from cigpose_runtime.commands.boxes import GivenBoxes
from cigpose_runtime.commands.progress import progress
from cigpose_runtime.commands.results import Results
from cigpose_runtime.errors import CigposeError, InputError, error_context
from cigpose_runtime.estimation.detector import Detections, Detector
from cigpose_runtime.estimation.frame_model import FrameModel
from cigpose_runtime.estimation.onnx_detector import OnnxDetector
from cigpose_runtime.estimation.pose_model import PoseModel
from cigpose_runtime.estimation.pose_pipeline import PosePipeline
from cigpose_runtime.media.kept import batched
from cigpose_runtime.media.threads import DEPTH, in_order, prefetched
from cigpose_runtime.media.video import Frame
from cigpose_runtime.poses import Poses
from cigpose_runtime.sources.clips import Clip
from cigpose_runtime.terminal import echo
from cigpose_runtime.tracking.smoothing import Smoother
from cigpose_runtime.tracking.tracker import Tracker

LARGE_AT_ONCE = 2
"""Frames whose poses are estimated at once, of those that take 100 MB each."""

MOST_NAMED = 10
"""Frames of a video without poses that have an error each; further ones are counted."""


@dataclass(eq=False)
class _Seen:
    """A frame on its way: where its people are, then their poses, and what is wrong with it.

    is_lost: it cannot have poses.
    """

    frame: Frame
    name: str
    found: Detections | None = None
    poses: Poses | None = None
    errors: list[CigposeError] = field(default_factory=list)
    is_lost: bool = False

    @contextmanager
    def step(self) -> Iterator[None]:
        """A part of the way, whose error ends it."""
        try:
            with error_context(self.name):
                yield
        except CigposeError as error:
            self.errors.append(error)
            self.is_lost = True


@dataclass(frozen=True)
class VideoJob:
    """One video, and what becomes of it. at_once: frames whose poses are estimated at once."""

    args: argparse.Namespace
    clip: Clip
    target: Path | None
    model: PoseModel | FrameModel
    detector: Detector | None
    written: Results
    at_once: int

    def run(self) -> Iterator[CigposeError]:
        """Goes through it; yields the errors that cost less than all of it."""
        args, clip, written = self.args, self.clip, self.written
        pipeline = PosePipeline(
            self.detector, self.model, Tracker(), detect_every=args.detect_every
        )
        smooth = Smoother() if args.smooth else None
        resumed_at = self._followed(pipeline)

        def is_done(frame: Frame) -> bool:
            return frame.index < resumed_at

        first_id = written.next_image_id
        failed = 0
        with closing(clip.open()) as reader:
            depth = 1 if reader.is_large else DEPTH
            at_once = min(self.at_once, LARGE_AT_ONCE) if reader.is_large else self.at_once
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
                closing(
                    in_order(
                        partial(_estimated, pipeline),
                        self._found(pipeline, dropwhile(is_done, frames)),
                        at_once=at_once,
                    )
                ) as estimated,
            ):
                for seen in estimated:
                    frame = seen.frame
                    yield from seen.errors[: max(0, MOST_NAMED - failed)]
                    failed += len(seen.errors)
                    if seen.poses is None:
                        annotated.add(frame, Poses.none(self.model.keypoint_set))
                        continue
                    poses = pipeline.track(seen.poses)
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

    def _found(self, pipeline: PosePipeline, frames: Iterator[Frame]) -> Iterator[_Seen]:
        """The frames, and where the people are in them."""
        for frame, found in self._detected(frames):
            seen = _Seen(frame, f"{self.clip.name}, frame {frame.index}", found)
            if isinstance(self.detector, GivenBoxes):
                self.detector.frame = frame.index
            if found is None:
                with seen.step():
                    seen.found = pipeline.find(frame.pixels)
            if isinstance(self.detector, GivenBoxes):
                seen.errors += self.detector.take_errors(seen.name)
            yield seen

    def _detected(self, frames: Iterator[Frame]) -> Iterator[tuple[Frame, Detections | None]]:
        """The frames, and what was found in them where the detector takes several at once."""
        for batch in batched(frames, self.args.detector_batch):
            found: Sequence[Detections | None] = [None] * len(batch)
            if len(batch) > 1 and isinstance(self.detector, OnnxDetector):
                # What fails together is tried one by one, so that each frame has its own error.
                with suppress(CigposeError):
                    found = self.detector.detect([frame.pixels for frame in batch])
            yield from zip(batch, found, strict=True)

    def _followed(self, pipeline: PosePipeline) -> int:
        """Leads it through what an earlier run did; returns the first frame that is to do."""
        to_do = 0
        if self.clip.name == self.written.last_source:
            for document, poses in self.written.earlier_frames(self.model.keypoint_set):
                pipeline.track(poses)
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


def _estimated(pipeline: PosePipeline, seen: _Seen) -> _Seen:
    """The same frame with its poses."""
    if not seen.is_lost:
        with seen.step():
            seen.poses = pipeline.estimate(seen.frame.pixels, seen.found)
    return seen
