"""Cameras: what FFmpeg is asked for on each platform, and what becomes of those that fail.

There are none where tests run: PyAV's two calls are stubs that answer as FFmpeg's manual and
PyAV's list say (https://ffmpeg.org/ffmpeg-devices.html: avfoundation, dshow, video4linux2).
"""

import itertools
from fractions import Fraction
from types import SimpleNamespace

import av
import numpy as np
import pytest

from cigpose_runtime import cli
from cigpose_runtime.errors import FileError
from cigpose_runtime.media import camera
from cigpose_runtime.media.camera import Camera, list_cameras

DEVICES = {
    "v4l2": [("/dev/video2", "USB Camera"), ("/dev/video4", "Other")],
    "avfoundation": [("0", "FaceTime HD Camera"), ("1", "Capture screen 0")],
    "dshow": [("@device_pnp_x", "Integrated Camera"), ("@device_pnp_y", "USB: Camera")],
}


def listed(form):
    sound = SimpleNamespace(name="mic", description="Microphone", media_types=["audio"])
    return [sound] + [
        SimpleNamespace(name=name, description=shown, media_types=["video"])
        for name, shown in DEVICES[form]
    ]


class StubContainer:
    """A camera whose packets are these: frames, or errors that reading or decoding gives."""

    start_time = None

    def __init__(self, packets):
        self._packets = iter(packets)
        stream = SimpleNamespace(average_rate=Fraction(30), time_base=Fraction(1, 1000))
        self.streams = SimpleNamespace(video=[stream])

    def demux(self, _stream):
        for packet in self._packets:
            if isinstance(packet, Exception):
                raise packet
            yield SimpleNamespace(decode=lambda packet=packet: [packet])


def frame(level):
    return av.VideoFrame.from_ndarray(np.full((48, 64, 3), level, np.uint8), "bgr24")


@pytest.fixture
def opened(monkeypatch):
    """What PyAV is asked to open: (address, format, options)."""
    calls = []

    def open_stub(address, format=None, options=None, **_others):
        calls.append((address, format, options))
        return StubContainer([frame(9)])

    monkeypatch.setattr(av, "open", open_stub)
    monkeypatch.setattr(av, "enumerate_input_devices", listed)
    return calls


@pytest.mark.parametrize(
    ("platform", "source", "address"),
    [
        ("linux", "0", "/dev/video0"),
        ("linux", "/dev/video3", "/dev/video3"),
        ("linux", "USB Camera", "/dev/video2"),
        ("darwin", "1", "1"),
        ("darwin", "FaceTime HD Camera", "FaceTime HD Camera"),
        ("win32", "1", "video=@device_pnp_y"),
        ("win32", "Integrated Camera", "video=Integrated Camera"),
    ],
)
def test_a_camera_is_called_as_its_platform_calls_it(opened, platform, source, address):
    Camera(source, platform)
    form = {"linux": "v4l2", "darwin": "avfoundation", "win32": "dshow"}[platform]
    assert [call[:2] for call in opened] == [(address, form)]


def test_the_rate_is_left_to_the_camera_where_that_works(opened):
    for platform in ("linux", "win32"):
        Camera("0", platform)
    assert [options for _, _, options in opened] == [{}, {}]


def test_a_mac_s_camera_is_asked_for_the_rates_that_cameras_have(monkeypatch):
    """FFmpeg asks for 29.97, which most refuse."""
    asked = []

    def open_stub(_address, format=None, options=None, **_others):
        asked.append(options["framerate"])
        if options["framerate"] != "25":
            raise av.error.OSError(5, "Input/output error")
        return StubContainer([])

    monkeypatch.setattr(av, "open", open_stub)
    Camera("0", "darwin")
    assert asked == ["30", "60", "25"]


def test_cameras_are_listed_with_the_numbers_that_source_takes(opened):
    numbers = {
        platform: [one.number for one in list_cameras(platform)] for platform in camera.FORMATS
    }
    assert numbers == {"linux": [2, 4], "darwin": [0, 1], "win32": [0, 1]}
    assert [one.name for one in list_cameras("win32")] == ["Integrated Camera", "USB: Camera"]


def test_list_needs_no_model(opened, monkeypatch, capsys):
    monkeypatch.setattr(list_cameras, "__defaults__", ("win32",))
    with pytest.raises(SystemExit) as ended:
        cli.main(["webcam", "--list"])
    assert ended.value.code == 0
    assert capsys.readouterr().out.splitlines() == [
        "0  Integrated Camera  (@device_pnp_x)",
        "1  USB: Camera  (@device_pnp_y)",
    ]


def test_a_number_without_a_camera_names_those_that_are_there(opened):
    with pytest.raises(FileError, match=r"found 0 .'Integrated Camera'., 1 .'USB: Camera'."):
        Camera("2", "win32")


def test_a_platform_without_cameras_is_one_line():
    with pytest.raises(FileError, match="found a platform without one"):
        Camera("0", "emscripten")


def levels(packets, monkeypatch):
    monkeypatch.setattr(av, "open", lambda *_args, **_named: StubContainer(packets))
    monkeypatch.setattr(camera, "_POLL_S", 0.0)
    seen = []
    with pytest.raises(FileError) as raised:
        seen.extend(int(one.pixels[0, 0, 0]) for one in Camera("0", "linux"))
    return seen, str(raised.value)


AGAIN = av.error.BlockingIOError(11, "Resource temporarily unavailable")


def test_a_frame_that_is_not_there_yet_is_waited_for(monkeypatch):
    seen, _ = levels([AGAIN, frame(10), AGAIN, AGAIN, frame(20)], monkeypatch)
    assert seen == [10, 20]


def test_a_frame_that_cannot_be_decoded_is_left_out(monkeypatch):
    """Some cameras begin in the middle of a JPEG."""
    damaged = av.error.InvalidDataError(1094995529, "Invalid data found")
    seen, _ = levels([damaged, frame(10), damaged, frame(20)], monkeypatch)
    assert seen == [10, 20]


def test_a_camera_that_is_unplugged_is_one_line(monkeypatch):
    gone = av.error.OSError(19, "No such device")
    seen, said = levels([frame(10), gone, frame(20)], monkeypatch)
    assert seen == [10]
    assert "0: expected frames of a camera, found: No such device" in said


def test_a_camera_without_a_frame_for_long_is_one_line(monkeypatch):
    monkeypatch.setattr(camera, "PATIENCE_S", 0.0)
    _, said = levels(itertools.repeat(AGAIN), monkeypatch)
    assert "found: none for 0 s" in said
