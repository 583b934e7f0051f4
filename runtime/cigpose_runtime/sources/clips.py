"""From the SOURCEs of `video` to the videos that they name, of whatever kind."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from pathlib import Path, PurePath
from typing import Protocol

from cigpose_runtime.errors import CigposeError, FileError
from cigpose_runtime.media.images import SUFFIXES as PICTURE_SUFFIXES
from cigpose_runtime.media.video import SUFFIXES, Frame, VideoReader
from cigpose_runtime.releases.http import masked
from cigpose_runtime.sources.find import Endings, Found, find, suffix
from cigpose_runtime.sources.sequence import PictureSequence, by_number
from cigpose_runtime.sources.streams import is_url, open_stdin, open_url

STDIN = "-"


class Frames(Protocol):
    """What a video is read from; VideoReader says what the names mean."""

    @property
    def rate(self) -> Fraction: ...
    @property
    def announced(self) -> int: ...
    @property
    def is_large(self) -> bool: ...
    @property
    def is_pale(self) -> bool: ...
    @property
    def read(self) -> int: ...
    @property
    def errors(self) -> list[CigposeError]: ...
    def __iter__(self) -> Iterator[Frame]: ...
    def close(self) -> None: ...


@dataclass(frozen=True)
class Clip:
    """A video. name: in results. relative: what a saved one is called. file: where its sound is.

    inputs: the files that are read. open: starts to read it, and raises FileError.
    """

    name: str
    relative: PurePath
    open: Callable[[], Frames]
    inputs: tuple[Path, ...] = ()
    file: Path | None = None


def find_clips(
    sources: Iterable[str],
    rate: Fraction,
    errors: list[CigposeError],
    say: Callable[[str], None],
    *,
    but: str | None = None,
) -> list[Clip]:
    """What the sources name, once each; what is wrong with one of them is added to `errors`.

    A source is a file, a folder (with its folders), a pattern, a list (.txt), a URL, or - for
    stdin. Pictures that one source gives are the frames of one video, in the order of a list, or of
    the numbers in their names, `rate` a second; where it gives videos as well, they are left out.
    say: takes what was left out. but: as in `find`.
    """
    endings = Endings(SUFFIXES | PICTURE_SUFFIXES)
    clips: dict[str, Clip] = {}
    for source in sources:
        try:
            for clip in _clips(source, rate, endings, but):
                clips.setdefault(clip.name, clip)
        except CigposeError as error:
            errors.append(error)
    if left_out := endings.said("video"):
        say(left_out)
    return list(clips.values())


def _clips(source: str, rate: Fraction, endings: Endings, but: str | None) -> Iterator[Clip]:
    if source == STDIN:
        yield Clip(STDIN, Path("stdin"), open_stdin)
        return
    if is_url(source):
        name = masked(source)
        yield Clip(name, Path(PurePath(name).stem), partial(open_url, source))
        return
    found = list(find(source, endings, "videos", but=but))
    if not found:
        raise FileError(
            f"{source}: expected videos ({', '.join(sorted(SUFFIXES))}) or the pictures of one, "
            "found none in it; correct the path"
        )
    pictures = [one for one in found if suffix(one.name) in PICTURE_SUFFIXES]
    videos = [one for one in found if suffix(one.name) not in PICTURE_SUFFIXES]
    if not videos:
        yield _sequence(source, pictures, rate)
        return
    endings.skipped.update(suffix(one.name) for one in pictures)
    for one in videos:
        path = Path(one.name)
        yield Clip(one.name, one.relative, partial(VideoReader, path), (path,), path)


def _sequence(source: str, pictures: list[Found], rate: Fraction) -> Clip:
    names = [one.name for one in pictures]
    if pictures[0].root is not None:  # a list has an order
        names.sort(key=by_number)
    inputs = tuple(Path(name) for name in names)
    relative = PurePath(pictures[0].root or source).name or "pictures"
    return Clip(source, Path(relative), partial(PictureSequence, names, rate), inputs)
