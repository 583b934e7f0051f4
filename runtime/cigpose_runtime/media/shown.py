"""Pictures of a video as a player shows them: upright, with square pixels, in standard range."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np

from cigpose_runtime.arrays import Pixels

SQUARE = Fraction(1)
"""The aspect of most pixels."""

MOST_ASPECT = 4
"""That is believed; the widest in use is 2 (anamorphic film), and damage says thousands."""


class Screen:
    """Makes (H, W, 3) uint8 BGR of the frames of a video, as PyAV gives them.

    aspect: width over height of the video's pixels. The shorter side of them is stretched, so
    that nothing is lost. PQ and HLG, of high dynamic range, are tone-mapped to BT.709 by FFmpeg.
    is_pale: whether there were some that it cannot.
    """

    def __init__(self, aspect: Fraction = SQUARE) -> None:
        from av.video.reformatter import VideoReformatter

        self._aspect = aspect
        self._reformatter = VideoReformatter()  # makes its table of an HDR video's colours once
        self.is_pale = False

    def __call__(self, picture: Any) -> Pixels:
        """One of them. Raises what PyAV raises."""
        return _upright(self._bgr(picture), _display_matrix(picture))

    def _bgr(self, picture: Any) -> Pixels:
        import av
        from av.video.reformatter import ColorPrimaries, Colorspace, ColorTrc

        if picture.color_trc not in (ColorTrc.SMPTE2084, ColorTrc.ARIB_STD_B67):
            return self._converted(picture)
        if not self.is_pale:
            sdr = {"dst_color_trc": ColorTrc.BT709, "dst_color_primaries": ColorPrimaries.BT709}
            try:
                return self._converted(picture, **sdr)
            except av.error.OSError:  # "not supported", as a rare matrix or primaries
                self.is_pale = True
        return self._converted(picture, src_colorspace=Colorspace.BT2020)

    def _converted(self, picture: Any, **target: int) -> Pixels:
        width, height = size_shown(picture.width, picture.height, self._aspect)
        converted = self._reformatter.reformat(
            picture, width=width, height=height, format="bgr24", **target
        )
        return np.asarray(converted.to_ndarray(), np.uint8)


def pixel_aspect(stream: Any) -> Fraction:
    """Width over height of the pixels of a video stream of PyAV."""
    aspect = Fraction(stream.sample_aspect_ratio or SQUARE)
    return aspect if 1 <= aspect * MOST_ASPECT <= MOST_ASPECT**2 else SQUARE


def size_shown(width: int, height: int, aspect: Fraction) -> tuple[int, int]:
    """Width and height, before the picture is turned, with square pixels."""
    if aspect > 1:
        return round(width * aspect), height
    return width, round(height / aspect)


def _display_matrix(picture: Any) -> tuple[int, int, int, int]:
    """Its part that turns: a, b, c, d of libavutil/display.h.

    A pixel at (x, y) is shown at (a x + c y, b x + d y), but for a shift and a scale.
    """
    data = picture.side_data.get("DISPLAYMATRIX")
    if data is None:
        return 1, 0, 0, 1
    a, b, _, c, d, *_ = np.frombuffer(bytes(data), "=i4").tolist()
    return a, b, c, d


def _upright(pixels: Pixels, matrix: tuple[int, int, int, int]) -> Pixels:
    """Turned and mirrored as the nearest of the eight matrices without other angles says."""
    a, b, c, d = matrix
    if abs(a) + abs(d) < abs(b) + abs(c):
        pixels = pixels.transpose(1, 0, 2)
        a, d = c, b
    if a < 0:
        pixels = pixels[:, ::-1]
    if d < 0:
        pixels = pixels[::-1]
    return np.ascontiguousarray(pixels)
