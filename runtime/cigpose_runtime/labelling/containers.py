"""Pictures inside ZIP and tar archives and Parquet files: listed, and read one at a time."""

from __future__ import annotations

import tarfile
import threading
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import PurePosixPath
from typing import Any

from cigpose_runtime.errors import FileError, first_line
from cigpose_runtime.labelling.items import Boxes, Item, Row, Span, WholeFile, ZipMember
from cigpose_runtime.media.images import SUFFIXES
from cigpose_runtime.sources import storage

LARGEST_PICTURE = 1 << 29
"""Bytes as stored; more than any picture of 90 million pixels takes."""

PICTURE_COLUMNS = ("image", "bytes", "path")
"""Of a Parquet file: pictures as bytes, or as Hugging Face's {bytes, path}; or their paths."""

BOXES_COLUMN = "boxes"

_ONE_AT_A_TIME = threading.Lock()


def zip_items(name: str) -> Iterator[Item]:
    """The pictures of a ZIP archive, in its order."""
    stamp = storage.stamp_of(name)
    with _readable(name, "a ZIP archive"), storage.opened(name, "a ZIP archive") as file:
        members = [one for one in zipfile.ZipFile(file).infolist() if _is_picture(one.filename)]
    for member in members:
        yield Item(f"{name}/{member.filename}", name, ZipMember(member.filename), stamp)


def tar_items(name: str) -> Iterator[Item]:
    """The pictures of a tar archive, in its order."""
    stamp = storage.stamp_of(name)
    expected = "a tar archive without compression"
    with (
        _readable(name, expected),
        storage.opened(name, expected) as file,
        tarfile.open(fileobj=file, mode="r:") as archive,
    ):
        for member in archive:
            if member.isreg() and _is_picture(member.name):
                span = Span(member.offset_data, member.size)
                yield Item(f"{name}/{member.name}", name, span, stamp)


def parquet_items(name: str) -> Iterator[Item]:
    """The pictures of a Parquet file's rows, by the first of PICTURE_COLUMNS that it has."""
    import pyarrow.parquet as pq

    stamp = storage.stamp_of(name)
    expected = "a Parquet file"
    with _readable(name, expected), storage.opened(name, expected) as source:
        file = pq.ParquetFile(source)
        columns = file.schema_arrow.names
        picked = next((column for column in PICTURE_COLUMNS if column in columns), None)
        if picked is None:
            raise FileError(
                f"{name}: expected a column named {', '.join(PICTURE_COLUMNS)}, found "
                f"{', '.join(columns)}; rename the one with the pictures"
            )
        small = [one for one in (BOXES_COLUMN, "path") if one in columns and one != picked]
        number = 0
        for group in range(file.num_row_groups):
            wanted = [*small, picked] if picked == "path" else small
            rows = file.read_row_group(group, columns=wanted).to_pylist()
            for index, row in enumerate(rows or [{}] * file.metadata.row_group(group).num_rows):
                boxes = _boxes(row.get(BOXES_COLUMN), f"{name}, row {number}")
                if picked == "path":
                    path = str(row["path"])
                    yield Item(path, path, WholeFile(), storage.stamp_of(path), boxes)
                else:
                    part = Row(picked, group, index)
                    yield Item(f"{name}/{number}", name, part, stamp, boxes)
                number += 1


def read_content(item: Item) -> bytes:
    """The encoded picture of an item. Raises FileError for whatever is in the way."""
    content = _content(item)
    if not content:
        raise FileError(f"{item.source}: expected a picture, found nothing in it; replace it")
    return content


def _content(item: Item) -> bytes:
    match item.part:
        case WholeFile():
            return storage.read(item.file, "a picture")
        case Span(start, size):
            with (
                _readable(item.source, "a picture"),
                storage.opened(item.file, "a tar archive") as file,
            ):
                file.seek(start)
                return file.read(min(size, LARGEST_PICTURE))
        case ZipMember(name):
            with (
                _readable(item.source, "a picture"),
                _ONE_AT_A_TIME,
                _zip(item.file, item.stamp).open(name) as member,
            ):
                return member.read(LARGEST_PICTURE)
        case Row(column, group, index):
            with _readable(item.source, "a picture"), _ONE_AT_A_TIME:
                value = _group(item.file, item.stamp, column, group)[index].as_py()
            return (value["bytes"] if isinstance(value, dict) else value) or b""


@lru_cache(maxsize=2)
def _zip(name: str, _stamp: str) -> zipfile.ZipFile:
    fs, path = storage.file_system(name)
    return zipfile.ZipFile(fs.open(path, "rb"))


@lru_cache(maxsize=2)
def _group(name: str, _stamp: str, column: str, group: int) -> Any:
    """One column of one row group, which pyarrow reads as a whole."""
    import pyarrow.parquet as pq

    with storage.opened(name, "a Parquet file") as file:
        return pq.ParquetFile(file).read_row_group(group, columns=[column])[column]


def _is_picture(name: str) -> bool:
    return PurePosixPath(name).suffix.lower() in SUFFIXES


def _boxes(value: Any, row: str) -> Boxes | None:
    if value is None:
        return None
    try:
        return tuple((float(x), float(y), float(x2), float(y2)) for x, y, x2, y2 in value)
    except (TypeError, ValueError) as error:
        raise FileError(
            f"{row}: expected {BOXES_COLUMN} as a list of [left, top, right, bottom], found "
            f"something else ({first_line(error)}); correct it"
        ) from error


@contextmanager
def _readable(name: str, expected: str) -> Iterator[None]:
    """Errors of the archive's format become FileErrors that name the file."""
    from pyarrow import ArrowException

    try:
        yield
    except (
        *(zipfile.BadZipFile, zlib.error, tarfile.TarError, ArrowException),
        # an unknown compression; an encrypted member; a member that is not there any more
        *(NotImplementedError, RuntimeError, KeyError, EOFError, ValueError, OSError),
    ) as error:
        raise FileError(
            f"{name}: expected {expected}, found one that cannot be read "
            f"({type(error).__name__}: {first_line(error)}); replace the file"
        ) from error
