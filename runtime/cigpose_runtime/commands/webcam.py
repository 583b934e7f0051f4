"""`cigpose-runtime webcam`: poses as the camera sees them."""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING

from cigpose_runtime.commands import options
from cigpose_runtime.errors import CigposeError
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
        "machine for those who know its address. Ctrl-C or closing the window ends it.",
    )
    options.add_options(parser)
    parser.add_argument(
        "--source",
        default="0",
        metavar="CAMERA",
        help="number or name of it, a video file, or a URL (http, rtsp)",
    )
    parser.add_argument("--list", action=_ListCameras, help="list the cameras and exit")
    parser.add_argument("--detect-every", type=int, default=1, metavar="N")
    options.add_smooth(parser)
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
    from cigpose_runtime.draw import draw_poses
    from cigpose_runtime.estimation.pose_pipeline import PosePipeline
    from cigpose_runtime.media.camera import Camera
    from cigpose_runtime.media.live import Page, Window
    from cigpose_runtime.media.threads import prefetched
    from cigpose_runtime.media.video import VideoReader
    from cigpose_runtime.sources.streams import LiveStream, is_url, open_url
    from cigpose_runtime.tracking.smoothing import Smoother
    from cigpose_runtime.tracking.tracker import Tracker

    model = options.open_model(args, alone=False)
    detector_for = options.open_detector_for(args, model, alone=False)
    detector = detector_for(Path(args.source))
    pipeline = PosePipeline(detector, model, Tracker(), detect_every=args.detect_every)
    smooth = Smoother() if args.smooth else None
    with ExitStack() as stack:
        frames: Iterable[Frame]
        patience: float | None = PATIENCE_S
        if is_url(args.source):
            reader = open_url(args.source)
            stack.callback(reader.close)
            frames = reader if isinstance(reader, LiveStream) else _as_they_happen(reader)
            patience = None  # streams wait for their servers themselves, and for each try
        elif Path(args.source).is_file():
            frames = _as_they_happen(stack.enter_context(VideoReader(args.source)))
        else:
            frames = Camera(args.source)
        view: Page | Window
        if args.serve is None:
            view = stack.enter_context(Window())
        else:
            view = stack.enter_context(Page(args.serve))
            echo(f"open {view.url}", err=True)
        for frame in stack.enter_context(closing(prefetched(frames, patience=patience))):
            poses = pipeline(frame.pixels)
            if smooth is not None:
                poses = smooth(poses, frame.seconds)
            if not view.show(draw_poses(frame.pixels, poses, threshold=args.threshold)):
                break
    return []


def _as_they_happen(frames: Iterable[Frame]) -> Iterator[Frame]:
    """A file's frames no earlier than their time, as from a camera; no gap lasts for ever."""
    started: float | None = None
    for frame in frames:
        if started is None:
            started = time.monotonic() - frame.seconds
        ahead = frame.seconds - (time.monotonic() - started)
        time.sleep(min(max(0.0, ahead), PATIENCE_S / 2))
        yield frame
