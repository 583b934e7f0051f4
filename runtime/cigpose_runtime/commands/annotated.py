"""The annotated video that --save asks for, drawn and encoded in other threads."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from types import TracebackType

from cigpose_runtime.commands.drawing import Draw
from cigpose_runtime.errors import CigposeError
from cigpose_runtime.media.threads import Behind
from cigpose_runtime.media.video import Frame
from cigpose_runtime.media.video_writer import VideoWriter
from cigpose_runtime.poses import Poses


class AnnotatedVideo:
    """Used as a context; without a path it does nothing.

    error: why it does not go on, which costs no other result. rate, audio_from, sound_left_out: as
    VideoWriter's. depth: frames that wait. Raises FileError for a path that cannot be written to.
    """

    def __init__(
        self,
        path: Path | None,
        *,
        rate: Fraction,
        audio_from: Path | None,
        draw: Draw,
        depth: int,
    ) -> None:
        self.error: CigposeError | None = None
        self._make = draw
        self._stack = ExitStack()
        if path is not None:
            self._writer: VideoWriter | None = VideoWriter(path, rate=rate, audio_from=audio_from)
            self._stack.enter_context(self._writer)
            # Each in a thread of its own: together they may take longer than the model.
            self._written = self._stack.enter_context(Behind(self._writer.write, depth=depth))
            self._drawn = self._stack.enter_context(Behind(self._draw, depth=depth))
        else:
            self._writer = None

    def add(self, frame: Frame, poses: Poses) -> None:
        """Hands over the next frame."""
        if self._writer is not None and self.error is None:
            try:
                self._drawn.put((frame, poses))
            except CigposeError as error:
                self.error = error

    def _draw(self, item: tuple[Frame, Poses]) -> None:
        frame, poses = item
        self._written.put(replace(frame, pixels=self._make(frame.pixels, poses)))

    @property
    def sound_left_out(self) -> str:
        return self._writer.sound_left_out if self._writer is not None else ""

    def __enter__(self) -> AnnotatedVideo:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            self._stack.__exit__(kind, error, trace)
        except CigposeError as failed:
            if failed is not error:
                self.error = failed
