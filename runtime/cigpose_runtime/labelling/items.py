"""One picture or video that is labelled: what it is called, and where its bytes are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Boxes = tuple[tuple[float, float, float, float], ...]


@dataclass(frozen=True, slots=True)
class WholeFile:
    """All of a file is the picture, or the video."""


@dataclass(frozen=True, slots=True)
class ZipMember:
    """A file in a ZIP archive."""

    name: str


@dataclass(frozen=True, slots=True)
class Span:
    """Some bytes of a file: a file in a tar archive."""

    start: int
    size: int


@dataclass(frozen=True, slots=True)
class Row:
    """A row of a Parquet file, by its group and the place in it."""

    column: str
    group: int
    index: int


Part = WholeFile | ZipMember | Span | Row


@dataclass(frozen=True, slots=True)
class Item:
    """A picture or video.

    source: its name in the results: the path or URL as it was given, with the member's name or the
    row's number behind it. file: what is opened. part: where in it. stamp: changes when the file
    does. boxes: those that its row brought, instead of the ones that the options say.
    """

    source: str
    file: str
    part: Part = WholeFile()
    stamp: str = ""
    boxes: Boxes | None = None
    kind: Literal["picture", "video"] = "picture"
