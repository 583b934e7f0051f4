"""A camera on loopback: RTSP (RFC 2326), with H.264 in RTP (RFC 6184) over the same TCP."""

import socketserver
import struct
from contextlib import contextmanager, suppress
from fractions import Fraction

import av
import numpy as np

from loopback import serving

CLOCK = 90_000
"""Units of RTP's time stamps in a second."""


def h264(levels):
    """The NAL units of a frame of each level of grey, every one a key frame."""
    codec = av.CodecContext.create("libx264", "w")
    codec.width, codec.height, codec.pix_fmt = 64, 48, "yuv420p"
    codec.time_base = Fraction(1, 25)
    codec.options = {"tune": "zerolatency", "g": "1", "x264-params": "annexb=1:repeat-headers=1"}
    frames = []
    for index, level in enumerate(levels):
        picture = av.VideoFrame.from_ndarray(np.full((48, 64, 3), level, np.uint8), "bgr24")
        picture.pts = index
        frames += [_units(bytes(packet)) for packet in codec.encode(picture)]
    return frames + [_units(bytes(packet)) for packet in codec.encode(None)]


def _units(stream):
    """What lies between start codes (H.264, annex B)."""
    parts = stream.replace(b"\0\0\0\1", b"\0\0\1").split(b"\0\0\1")
    return [part for part in parts if part]


def _sdp(duration):
    lines = ["v=0", "o=- 0 0 IN IP4 127.0.0.1", "s=camera", "c=IN IP4 0.0.0.0", "t=0 0"]
    if duration is not None:
        lines.append(f"a=range:npt=0-{duration}")
    lines += ["m=video 0 RTP/AVP 96", "a=rtpmap:96 H264/90000"]
    lines += ["a=fmtp:96 packetization-mode=1", "a=control:track1", ""]
    return "\r\n".join(lines).encode()


class _Handler(socketserver.StreamRequestHandler):
    def handle(self):
        with suppress(OSError):
            if self.server.connections:
                self._serve(*self.server.connections.pop(0))

    def _serve(self, frames, duration):
        while request := self.rfile.readline().split():
            headers = dict(
                line.decode().rstrip().split(": ", 1) for line in iter(self.rfile.readline, b"\r\n")
            )
            self.server.logins.append(headers.get("Authorization"))
            more, body = [], b""
            if request[0] == b"DESCRIBE":
                more, body = ["Content-Type: application/sdp"], _sdp(duration)
            elif request[0] == b"SETUP":
                more = ["Transport: RTP/AVP/TCP;unicast;interleaved=0-1"]
            more += ["Session: 1", f"CSeq: {headers['CSeq']}", f"Content-Length: {len(body)}"]
            self.wfile.write("\r\n".join(["RTSP/1.0 200 OK", *more, "", ""]).encode() + body)
            if request[0] == b"PLAY":
                self._play(frames)
                return

    def _play(self, frames):
        number = 0
        for index, units in enumerate(frames):
            for place, unit in enumerate(units):
                is_last = place == len(units) - 1
                stamp = index * CLOCK // 25
                head = struct.pack(">BBHII", 0x80, 96 | is_last << 7, number, stamp, 1)
                self.wfile.write(struct.pack(">cBH", b"$", 0, len(head + unit)) + head + unit)
                number += 1


@contextmanager
def serving_rtsp(*connections):
    """Serves, one after the other, connections of (levels of grey, duration or None for live)."""
    with serving(_Handler) as server:
        server.connections = [(h264(levels), duration) for levels, duration in connections]
        server.logins = []
        server.url = server.url.replace("http:", "rtsp:")
        yield server
