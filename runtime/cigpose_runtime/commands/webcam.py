"""`cigpose-runtime webcam`: poses as the camera sees them."""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

from cigpose_runtime.commands import drawing, options, people, results
from cigpose_runtime.commands.boxes import GivenBoxes
from cigpose_runtime.errors import CigposeError
from cigpose_runtime.files import require_apart
from cigpose_runtime.terminal import echo

if TYPE_CHECKING:
    from cigpose_runtime.media.video import Frame

PATIENCE_S = 10.0
"""How long a camera may take for a frame."""

DEFAULT_PORT = 8000


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds the subcommand to those of `cigpose-runtime`."""
    parser = commands.add_parser(
        "webcam",
        help="show poses as the camera sees them",
        description="Shows the annotated camera in a window, or with --serve on a page of this "
        "machine for those who know its address. Ctrl-C or closing the window ends it; "
        "what was recorded until then stays.",
    )
    options.add_options(parser)
    people.add_options(parser)
    drawing.add_options(parser, tracks=True)
    parser.add_argument(
        "--source",
        default="0",
        metavar="CAMERA",
        help="number or name of it, a video file, or a URL (http, rtsp)",
    )
    parser.add_argument("--list", action=_ListCameras, help="list the cameras and exit")
    parser.add_argument("--detect-every", type=int, default=1, metavar="N")
    options.add_smooth(parser)
    results.add_options(parser, resumes=False)
    parser.add_argument(
        "--save", type=Path, metavar="FILE.mp4", help="record the annotated camera, without sound"
    )
    parser.add_argument(
        "--serve",
        type=options.whole_number(0, 65535),
        nargs="?",
        const=DEFAULT_PORT,
        metavar="PORT",
        help=f"show it on a page on localhost  [PORT: {DEFAULT_PORT}; 0 takes a free one]",
    )
    parser.set_defaults(run=run)


class _ListCameras(argparse.Action):
    """Takes the place of everything else, as --help does."""

    def __init__(self, option_strings: Sequence[str], dest: str, help: str | None = None) -> None:
        super().__init__(option_strings, argparse.SUPPRESS, nargs=0, help=help)

    def __call__(self, parser: argparse.ArgumentParser, *_arguments: object) -> None:
        try:
            options.require_extra()
            from cigpose_runtime.media.camera import list_cameras

            cameras = list_cameras()
        except CigposeError as error:
            parser.error(str(error))
        for camera in cameras:
            echo(f"{camera.number}  {camera.name}  ({camera.address})")
        if not cameras:
            echo("no camera found; connect one, or check its driver and your rights", err=True)
        parser.exit()


def run(args: argparse.Namespace) -> list[CigposeError]:
    """Shows frames until the source ends, the window is closed, or Ctrl-C."""
    options.require_extra()
    from cigpose_runtime.commands.annotated import AnnotatedVideo
    from cigpose_runtime.estimation.pose_pipeline import PosePipeline
    from cigpose_runtime.media.live import Page, Window
    from cigpose_runtime.media.threads import DEPTH, prefetched
    from cigpose_runtime.releases.http import masked
    from cigpose_runtime.sources.streams import is_url
    from cigpose_runtime.tracking.smoothing import Smoother
    from cigpose_runtime.tracking.tracker import Tracker

    saved = [] if args.save is None else [("--save", args.save)]
    source = [] if is_url(args.source) else [("the source", Path(args.source))]
    require_apart([*results.outputs(args), *saved], [*options.inputs(args), *source])
    model = options.open_model(args, alone=False)
    detector_for = people.open_detector_for(args, model, alone=False)
    detector = detector_for(Path(args.source))
    pipeline = PosePipeline(detector, model, Tracker(), detect_every=args.detect_every)
    smooth = Smoother() if args.smooth else None
    draw = drawing.drawer(args)
    name = masked(args.source) if is_url(args.source) else args.source
    with ExitStack() as stack:
        frames, rate, patience = _opened(args.source, stack)
        view: Page | Window
        if args.serve is None:
            view = stack.enter_context(Window())
        else:
            view = stack.enter_context(Page(args.serve))
            echo(f"open {view.url}", err=True)
        written = stack.enter_context(results.Results(args, saves=True))
        recorded = stack.enter_context(
            AnnotatedVideo(
                args.save,
                rate=rate,
                audio_from=None,
                draw=lambda drawn, _: drawn,
                depth=DEPTH,
            )
        )
        for frame in stack.enter_context(closing(prefetched(frames, patience=patience))):
            if isinstance(detector, GivenBoxes):
                detector.frame = frame.index
                detector.take_errors("")  # a box of the last frame that cannot be used is not drawn
            poses = pipeline(frame.pixels)
            if smooth is not None:
                poses = smooth(poses, frame.seconds)
            drawn = draw(frame.pixels, poses)
            written.add(
                poses,
                name,
                index=frame.index,
                seconds=frame.seconds,
                canvas_wh=frame.pixels.shape[1::-1],
            )
            recorded.add(replace(frame, pixels=drawn), poses)
            if not view.show(drawn):
                break
    return [] if recorded.error is None else [recorded.error]


def _opened(source: str, stack: ExitStack) -> tuple[Iterable[Frame], Fraction, float | None]:
    """Frames, how many there are a second, and for how many seconds to wait for one."""
    from cigpose_runtime.media.camera import Camera
    from cigpose_runtime.media.video import VideoReader
    from cigpose_runtime.sources.streams import LiveStream, is_url, open_url

    if is_url(source):
        reader = open_url(source)
        stack.callback(reader.close)
        frames = reader if isinstance(reader, LiveStream) else _as_they_happen(reader)
        return frames, reader.rate, None  # streams wait for their servers themselves
    if Path(source).is_file():
        video = stack.enter_context(VideoReader(source))
        return _as_they_happen(video), video.rate, PATIENCE_S
    camera = Camera(source)
    return camera, camera.rate, PATIENCE_S


def _as_they_happen(frames: Iterable[Frame]) -> Iterator[Frame]:
    """A file's frames no earlier than their time, as from a camera; no gap lasts for ever."""
    started: float | None = None
    for frame in frames:
        if started is None:
            started = time.monotonic() - frame.seconds
        ahead = frame.seconds - (time.monotonic() - started)
        time.sleep(min(max(0.0, ahead), PATIENCE_S / 2))
        yield frame
