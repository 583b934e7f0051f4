"""Pictures that are the frames of one video."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from fractions import Fraction

from cigpose_runtime.errors import CigposeError
from cigpose_runtime.media.images import read_image
from cigpose_runtime.media.video import Frame

_NUMBER = re.compile(r"(\d+)")


class PictureSequence:
    """The frames of a video whose pictures are files, read as VideoReader's; none has sound.

    names: in the order of time. rate: frames a second. errors: of pictures that cannot be read; the
    time of each of these is left out.
    """

    is_large = is_pale = False

    def __init__(self, names: Sequence[str], rate: Fraction) -> None:
        self._names = names
        self.rate = rate
        self.announced = len(names)
        self.read = 0
        self.errors: list[CigposeError] = []

    def __iter__(self) -> Iterator[Frame]:
        for index, name in enumerate(self._names):
            try:
                pixels = read_image(name)
            except CigposeError as error:
                self.errors.append(error)
                continue
            yield Frame(pixels, index, index, 1 / self.rate)
            self.read += 1

    def close(self) -> None:
        """Does nothing: no picture stays open."""


def by_number(name: str) -> list[tuple[bool, int | str]]:
    """Sorts names as people do: frame_9 comes before frame_10."""
    parts = _NUMBER.split(name)
    return [(part.isdecimal(), int(part) if part.isdecimal() else part) for part in parts]
