"""One timeline for all streams of a file: it starts with the earliest and only goes forward."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

_MICROSECOND = Fraction(1, 1_000_000)
"""The unit in which FFmpeg says when a file starts (AV_TIME_BASE)."""


class Clock:
    """Time stamps of one stream, counted from the start of its file.

    What has none, or one that goes back, follows after the duration of what came before: a bare
    stream of H.264 has no time stamps, and recordings that were joined start again.
    container: of PyAV. time_base: seconds of a unit of the stamps and durations.
    """

    def __init__(self, container: Any, time_base: Fraction) -> None:
        starts = (container.start_time or 0) * _MICROSECOND
        self._origin = round(starts / time_base)
        self._last: int | None = None
        self._next = 0

    def __call__(self, stamp: int | None, duration: int) -> int:
        """The time of what comes next in the stream, and takes so long."""
        time = self._next if stamp is None else stamp - self._origin
        if self._last is not None and time <= self._last:
            time = self._next
        self._last, self._next = time, time + max(duration, 1)
        return time
