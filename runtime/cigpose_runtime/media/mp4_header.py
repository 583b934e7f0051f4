"""What the header of an MP4 says that it describes, looked at before FFmpeg makes room for it.

FFmpeg sets up an entry for each sample (frame) at once, and the header may say in four bytes that
there are a hundred million of them (ISO 14496-12: stsz of a whole file, trun of a fragment).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Protocol

from cigpose_runtime.errors import FileError

MOST_SAMPLES = 4_000_000
"""18 hours of 60 frames a second. FFmpeg takes some 36 bytes for each."""

_SEARCHED = frozenset(
    b"moov moof trak traf mdia minf stbl stsd stsz trun mvex udta meta edts dinf tref wave wide "
    b"sinf ipro ilst free skip hoov".split()
)
"""Boxes of a file in which FFmpeg looks for others, and so for the two that count."""


class Seekable(Protocol):
    """A file that is open for reading."""

    def read(self, size: int, /) -> bytes: ...
    def seek(self, place: int, /) -> int: ...


def check_sample_counts(file: Seekable, size: int) -> None:
    """Raises FileError if a file of `size` bytes says that it has more samples than bytes.

    Up to MOST_SAMPLES it may, as a file does whose end is cut off. A file that is no MP4 has no
    boxes of these names and passes.
    """
    samples = 0
    for box in _searched_boxes(file, size):
        if b"cmvd" in box:
            raise FileError("expected a plain MP4 header, found a compressed one; convert the file")
        for place in _places(box, b"stsz"):
            samples += _number(box, place + 12)
        for place in _places(box, b"trun"):
            samples += _number(box, place + 8)
    if samples > max(size, MOST_SAMPLES):
        raise FileError(
            f"expected at most as many samples as the file has bytes, {size:,}, found a header "
            f"that says {samples:,}; the file is damaged"
        )


def _searched_boxes(file: Seekable, size: int) -> Iterator[bytes]:
    place = 0
    while place + 8 <= size:
        file.seek(place)
        header = file.read(16).ljust(16, b"\0")
        length, kind, long_length = struct.unpack(">I4sQ", header)
        if length == 1:
            length = long_length
        elif length == 0:
            length = size - place
        if length < 8:
            return
        if kind in _SEARCHED:
            file.seek(place)
            yield file.read(min(length, size - place))
        place += length


def _places(box: bytes, name: bytes) -> Iterator[int]:
    place = box.find(name)
    while place >= 0:
        yield place
        place = box.find(name, place + 1)


def _number(box: bytes, place: int) -> int:
    return int.from_bytes(box[place : place + 4], "big")
