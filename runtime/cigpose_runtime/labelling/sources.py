"""From the SOURCEs of a command line to the pictures and videos that they name, in order."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import PurePosixPath

from cigpose_runtime.errors import FileError
from cigpose_runtime.labelling import storage
from cigpose_runtime.labelling.containers import parquet_items, tar_items, zip_items
from cigpose_runtime.labelling.items import Item
from cigpose_runtime.media.images import SUFFIXES

VIDEO_SUFFIXES = frozenset(
    {".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".ts", ".webm"}
)

LIST_SUFFIX = ".txt"

_CONTAINERS: dict[str, Callable[[str], Iterator[Item]]] = {
    ".zip": zip_items,
    ".tar": tar_items,
    ".parquet": parquet_items,
}
_IN_FOLDERS = SUFFIXES | VIDEO_SUFFIXES | {".zip", ".tar"}


def find_items(sources: Iterable[str], *, out: str) -> list[Item]:
    """All that the sources name, in their order; what two of them name is there once.

    A source is a picture, a video, a folder (with its folders), a pattern, a ZIP or tar archive, a
    Parquet file, or a list: a text file with a source a line. Files are told apart by their
    endings. out: where the results go; nothing below it is a source.
    Raises FileError for a source that is not there, and for one without any picture or video.
    """
    found: dict[str, Item] = {}
    for source in sources:
        before = len(found)
        for item in _expanded(source, out):
            found.setdefault(item.source, item)
        if len(found) == before and not any(True for _ in _expanded(source, out)):
            raise FileError(
                f"{source}: expected pictures or videos, found none in it; correct the source"
            )
    return list(found.values())


def _expanded(source: str, out: str) -> Iterator[Item]:
    kind = storage.kind_of(source)
    if kind is None:
        names = storage.matching(source) if any(sign in source for sign in "*?[") else []
        if not names:
            raise FileError(f"{source}: expected pictures or videos, found nothing; correct it")
        for name in names:
            yield from _expanded(name, out)
    elif kind == "directory":
        for name, stamp in storage.files_below(source, but=out):
            if _suffix(name) in _IN_FOLDERS:
                yield from _file(name, stamp)
    elif _suffix(source) == LIST_SUFFIX:
        yield from _listed(source)
    else:
        yield from _file(source, storage.stamp_of(source))


def _listed(name: str) -> Iterator[Item]:
    """What the lines of a list name; a file that is not there is found out when it is its turn."""
    try:
        lines = storage.read(name, "a list of pictures").decode("utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise FileError(
            f"{name}: expected a list of pictures in UTF-8, found other bytes ({error}); save it "
            "again"
        ) from error
    for line in filter(None, map(str.strip, lines)):
        yield from _file(line, storage.stamp_of(line))


def _file(name: str, stamp: str) -> Iterator[Item]:
    suffix = _suffix(name)
    if suffix in _CONTAINERS:
        yield from _CONTAINERS[suffix](name)
    else:
        is_video = suffix in VIDEO_SUFFIXES
        yield Item(name, name, stamp=stamp, kind="video" if is_video else "picture")


def _suffix(name: str) -> str:
    return PurePosixPath(name).suffix.lower()
