"""Pictures and video frames, decoded in processes of their own, in order and ahead of their use.

A file that makes a decoder crash, or keeps it busy for ever, costs itself and nothing else.
"""

from __future__ import annotations

import contextlib
import io
import queue
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from cigpose_runtime.arrays import Pixels
from cigpose_runtime.errors import CheckError, CigposeError, FileError
from cigpose_runtime.labelling.children import Answer, Child, ChildError
from cigpose_runtime.labelling.containers import read_content
from cigpose_runtime.labelling.items import Item
from cigpose_runtime.media.images import decode_image
from cigpose_runtime.media.video import VideoReader

AHEAD_BYTES = 1 << 28
"""Of decoded pictures that wait; beyond that only those that are being decoded are added."""


@dataclass(frozen=True, eq=False)
class Decoded:
    """A picture or frame, (H, W, 3) uint8 BGR, or the error in its place.

    frame: the number in the video, 0 for a picture, None for an error of the video as a whole.
    seconds: from the start of the video's clock, None for a picture.
    """

    item: Item
    frame: int | None
    seconds: float | None
    pixels: Pixels | None
    error: str | None = None


@dataclass(frozen=True)
class Still:
    """Asks for the picture in these bytes. name: for errors."""

    name: str
    content: bytes


@dataclass(frozen=True)
class Clip:
    """Asks for every n-th frame of the video in this file."""

    path: str
    every: int


def decoder() -> Answer:
    """What a decoding process runs."""
    return decode


def decode(request: Still | Clip) -> Iterator[tuple[int, float | None, Pixels]]:
    """Frame number, seconds and pixels of a picture, or of every n-th frame of a video.

    Raises FileError for what cannot be decoded, CheckError after the frames of a damaged video.
    """
    if isinstance(request, Still):
        yield 0, None, decode_image(io.BytesIO(request.content), request.name)
        return
    with VideoReader(request.path) as reader:
        for frame in reader:
            if frame.index % request.every == 0:
                yield frame.index, frame.seconds, frame.pixels
        if reader.skipped:
            raise CheckError(
                f"{request.path}: expected {reader.read + reader.skipped} frames, found "
                f"{reader.skipped} damaged or missing ones"
            )


class Decoders:
    """Some decoding processes. time_limit: seconds for a picture, or from frame to frame."""

    def __init__(self, count: int, time_limit: float, make: Callable[[], Answer] = decoder) -> None:
        self._count = count
        self._time_limit = time_limit
        self._children = [Child(make) for _ in range(count)]
        self._idle: queue.SimpleQueue[Child] = queue.SimpleQueue()
        for child in self._children:
            self._idle.put(child)

    def pictures(self, items: Sequence[Item]) -> Iterator[Decoded]:
        """The pictures, in order; decoded ahead by all processes, as far as AHEAD_BYTES go."""
        turn = _Turn()
        waiting: deque[Future[Decoded]] = deque()

        def work(number: int, item: Item) -> Decoded:
            turn.wait_for_room(number)
            decoded = self._picture(item)
            turn.holds(decoded)
            return decoded

        with ThreadPoolExecutor(self._count) as pool:
            try:
                for number, item in enumerate(items):
                    waiting.append(pool.submit(work, number, item))
                    if len(waiting) > 2 * self._count:
                        yield turn.given(waiting.popleft().result())
                while waiting:
                    yield turn.given(waiting.popleft().result())
            finally:
                pool.shutdown(wait=False, cancel_futures=True)
                turn.end()

    def frames(self, video: Item, path: str, every: int) -> Iterator[Decoded]:
        """Every n-th frame of a video in a local file, and what is wrong with it at the end."""
        child = self._idle.get()
        try:
            for frame, seconds, pixels in child.replies(
                Clip(path, every), patience=self._time_limit
            ):
                yield Decoded(video, frame, seconds, pixels)
        except (FileError, CheckError, ChildError) as error:
            yield _failed(video, None, error)
        finally:
            self._idle.put(child)

    def _picture(self, item: Item) -> Decoded:
        child = self._idle.get()
        try:
            request = Still(item.source, read_content(item))
            ((_, _, pixels),) = child.replies(request, patience=self._time_limit)
            return Decoded(item, 0, None, pixels)
        except (FileError, ChildError) as error:
            return _failed(item, 0, error)
        finally:
            self._idle.put(child)

    def close(self) -> None:
        """Ends the processes; those at work, too."""
        for child in self._children:
            child.kill()
        idle = []
        with contextlib.suppress(queue.Empty):
            while True:
                idle.append(self._idle.get_nowait())
        for child in idle:
            child.close()
            self._idle.put(child)  # a thread that is still at work finds out from it


def _failed(item: Item, frame: int | None, error: CigposeError) -> Decoded:
    said = str(error)
    if isinstance(error, ChildError):
        said = (
            f"{item.source}: expected a {item.kind} that can be decoded, {said}; replace the file"
        )
    return Decoded(item, frame, None, None, said)


class _Turn:
    """Lets threads decode while there is room, and whoever is next in any case."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._bytes = self._next = 0
        self._ended = False

    def wait_for_room(self, number: int) -> None:
        with self._changed:
            self._changed.wait_for(
                lambda: self._ended or number == self._next or self._bytes < AHEAD_BYTES
            )

    def holds(self, decoded: Decoded) -> None:
        with self._changed:
            self._bytes += _size(decoded)

    def given(self, decoded: Decoded) -> Decoded:
        with self._changed:
            self._bytes -= _size(decoded)
            self._next += 1
            self._changed.notify_all()
        return decoded

    def end(self) -> None:
        with self._changed:
            self._ended = True
            self._changed.notify_all()


def _size(decoded: Decoded) -> int:
    return 0 if decoded.pixels is None else decoded.pixels.nbytes
