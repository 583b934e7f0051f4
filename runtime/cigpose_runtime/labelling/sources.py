"""From the SOURCEs of a command line to the pictures and videos that they name, in order."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from cigpose_runtime.errors import FileError
from cigpose_runtime.labelling.containers import parquet_items, tar_items, zip_items
from cigpose_runtime.labelling.items import Item
from cigpose_runtime.media.images import SUFFIXES
from cigpose_runtime.media.video import SUFFIXES as VIDEO_SUFFIXES
from cigpose_runtime.sources.find import Endings, Found, find, suffix

_CONTAINERS: dict[str, Callable[[str], Iterator[Item]]] = {
    ".zip": zip_items,
    ".tar": tar_items,
    ".parquet": parquet_items,
}
_IN_FOLDERS = SUFFIXES | VIDEO_SUFFIXES | {".zip", ".tar"}


def find_items(
    sources: Iterable[str], *, out: str, say: Callable[[str], None] = lambda _line: None
) -> list[Item]:
    """All that the sources name, in their order; what two of them name is there once.

    A source is a picture, a video, a folder (with its folders), a pattern, a ZIP or tar archive, a
    Parquet file, or a list: a text file with a source a line. Files are told apart by their
    endings. out: where the results go; nothing below it is a source. say: takes what was left out.
    Raises FileError for a source that is not there, and for one without any picture or video.
    """
    found: dict[str, Item] = {}
    endings = Endings(_IN_FOLDERS)
    for source in sources:
        is_empty = True
        for file in find(source, endings, "pictures or videos", but=out):
            for item in _items(file):
                is_empty = False
                found.setdefault(item.source, item)
        if is_empty:
            raise FileError(
                f"{source}: expected pictures or videos, found none in it; correct the source"
            )
    if left_out := endings.said("picture, video or archive"):
        say(left_out)
    return list(found.values())


def _items(found: Found) -> Iterator[Item]:
    ending = suffix(found.name)
    if ending in _CONTAINERS:
        yield from _CONTAINERS[ending](found.name)
    else:
        is_video = ending in VIDEO_SUFFIXES
        yield Item(
            found.name, found.name, stamp=found.stamp, kind="video" if is_video else "picture"
        )
