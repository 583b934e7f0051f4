"""Cameras: which there are, what FFmpeg calls them on each platform, and their frames."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from cigpose_runtime.errors import FileError, first_line, quoted
from cigpose_runtime.media.shown import Screen
from cigpose_runtime.media.timeline import Clock
from cigpose_runtime.media.video import Frame, open_container

FORMATS = {"linux": "v4l2", "darwin": "avfoundation", "win32": "dshow"}
"""FFmpeg's name of what reads cameras, by platform."""

RATES = ("30", "60", "25", "15")
"""Frames a second that a Mac's camera is asked for in turn: it refuses others than its own, the
29.97 among them that FFmpeg asks for."""

PATIENCE_S = 10.0
"""How long a camera may be without a frame."""

_POLL_S = 0.01


@dataclass(frozen=True)
class Device:
    """A camera of this machine. number: as --source takes it. name: as it is shown to people."""

    number: int
    name: str
    address: str


def list_cameras(platform: str = sys.platform) -> list[Device]:
    """The cameras of this machine, in the system's order. Raises FileError without such a list."""
    import av

    form = _format_of(platform)
    try:
        found = [one for one in av.enumerate_input_devices(form) if "video" in one.media_types]
    except (av.error.FFmpegError, ValueError) as error:
        raise FileError(
            f"expected a list of cameras, found: {first_line(error)}; give --source the name that "
            "the system shows"
        ) from error
    return [
        Device(_number(one.name, place, form), one.description or one.name, one.name)
        for place, one in enumerate(found)
    ]


def _number(name: str, place: int, form: str) -> int:
    """/dev/video2 is number 2 though it may be the first; elsewhere they are counted."""
    digits = name.removeprefix("/dev/video")
    return int(digits) if form == "v4l2" and digits.isdecimal() else place


def address_of(camera: str, platform: str = sys.platform) -> str:
    """What FFmpeg opens for a camera's number or name. Raises FileError for a number too many."""
    form = _format_of(platform)
    if form == "v4l2":
        if camera.isdecimal():
            return f"/dev/video{camera}"
        named = [] if camera.startswith("/") else list_cameras(platform)
        return next((one.address for one in named if one.name == camera), camera)
    if form == "avfoundation":
        return camera  # which takes numbers and names
    if camera.isdecimal():
        devices = list_cameras(platform)
        camera = next((one.address for one in devices if one.number == int(camera)), "")
        if not camera:
            raise FileError(_not_there(devices))
    return f"video={camera}"


def _not_there(devices: Sequence[Device]) -> str:
    known = ", ".join(f"{one.number} ({quoted(one.name)})" for one in devices) or "no camera"
    return f"expected the number of a camera, found {known}; give one of them, or connect it"


def _format_of(platform: str) -> str:
    form = FORMATS.get(platform)
    if form is None:
        raise FileError(f"expected a camera, found a platform without one ({platform})")
    return form


class Camera:
    """The frames of a camera, by its number or its name on this platform; endless.

    What cannot be decoded is left out, as the first frames of some cameras. Raises FileError for
    one that is not there, is unplugged, or is without a frame for PATIENCE_S.
    """

    def __init__(self, camera: str, platform: str = sys.platform) -> None:
        self.name = camera
        form = _format_of(platform)
        address = address_of(camera, platform)
        rates = RATES if form == "avfoundation" else (None,)
        self._container = _opened(address, camera, form, rates)
        self.rate = Fraction(self._container.streams.video[0].average_rate or 30)

    def __iter__(self) -> Iterator[Frame]:
        stream = self._container.streams.video[0]
        clock, screen = Clock(self._container, stream.time_base), Screen()
        duration = round(1 / (self.rate * stream.time_base))
        for index, picture in enumerate(self._pictures(stream)):
            yield Frame(screen(picture), index, clock(picture.pts, duration), stream.time_base)

    def _pictures(self, stream: Any) -> Iterator[Any]:
        import av

        seen = time.monotonic()
        packets = self._container.demux(stream)
        while True:
            try:
                for picture in next(packets).decode():
                    seen = time.monotonic()
                    yield picture
            except StopIteration:
                raise self._failed("it has ended") from None
            except (av.error.BlockingIOError, av.error.InvalidDataError):
                packets = self._container.demux(stream)
                time.sleep(_POLL_S)  # EAGAIN: there is no frame yet
            except av.error.FFmpegError as error:  # as when it is unplugged
                raise self._failed(error.strerror or first_line(error)) from error
            if time.monotonic() - seen > PATIENCE_S:
                raise self._failed(f"none for {PATIENCE_S:g} s")

    def _failed(self, found: str) -> FileError:
        return FileError(
            f"{self.name}: expected frames of a camera, found: {found}; check the camera, or close "
            "what else uses it"
        )


def _opened(address: str, camera: str, form: str, rates: Sequence[str | None]) -> Any:
    """The camera at the first of these rates that it has."""
    for rate in rates:
        options = {} if rate is None else {"framerate": rate}
        try:
            return open_container(address, camera, "a camera", form=form, options=options)
        except FileError:
            if rate == rates[-1]:
                raise
    raise AssertionError(rates)
