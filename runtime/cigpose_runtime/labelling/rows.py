"""What is written of each person: the columns, their types, and one Parquet file a shard."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from cigpose_runtime.arrays import Floats
from cigpose_runtime.errors import FileError, InputError, first_line
from cigpose_runtime.keypoints import KeypointSet
from cigpose_runtime.labelling.batches import Labelled
from cigpose_runtime.poses import Poses
from cigpose_runtime.sources import storage

METADATA_KEY = b"cigpose_label"
"""Of the JSON in a file's schema metadata: what it was made from and how."""

COUNTS_KEY = b"cigpose_label_counts"

_ROWS_AT_ONCE = 4096


def schema(keypoints: int, about: Mapping[str, Any]) -> pa.Schema:
    """The columns for K keypoints; `about` goes into the metadata.

    A picture has a row for each person, with person from 0 on; one without people a row without
    person; one that cannot be read a row with its error. Boxes and keypoints are in pixels of the
    picture: left, top, right, bottom; x and y of each keypoint in a row. Scores are as in Poses.
    """
    floats = pa.float32()
    return pa.schema(
        [
            pa.field("source", pa.string(), nullable=False),
            ("frame", pa.int64()),
            ("seconds", pa.float64()),
            ("person", pa.int32()),
            ("width", pa.int32()),
            ("height", pa.int32()),
            ("box_xyxy", pa.list_(floats, 4)),
            ("box_score", floats),
            ("keypoints", pa.list_(floats, 2 * keypoints)),
            ("scores", pa.list_(floats, keypoints)),
            ("person_score", floats),
            ("error", pa.string()),
        ],
        {METADATA_KEY: json.dumps(about, sort_keys=True).encode()},
    )


@dataclass(frozen=True)
class Counts:
    """What a shard's file has: pictures (or frames), people, and errors."""

    pictures: int
    people: int
    errors: int


@dataclass
class RowWriter:
    """Writes the rows of one shard; used as a context, whose end makes the file complete."""

    file: BinaryIO
    schema: pa.Schema
    _rows: list[tuple[Labelled, int | None]] = field(default_factory=list)
    _pictures: int = 0
    _people: int = 0
    _errors: int = 0

    def __post_init__(self) -> None:
        self._writer = pq.ParquetWriter(self.file, self.schema, compression="zstd")

    def add(self, picture: Labelled) -> None:
        """Adds a picture's rows."""
        people = range(len(picture.poses)) if picture.poses else ()
        self._rows += [(picture, person) for person in people] or [(picture, None)]
        self._pictures += picture.frame is not None
        self._people += len(people)
        self._errors += picture.error is not None
        if len(self._rows) >= _ROWS_AT_ONCE:
            self._write()

    def __enter__(self) -> RowWriter:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if error is not None:  # the file is going to be discarded
            with suppress(pa.ArrowException, OSError):
                self._writer.close()
            return
        self._write()
        counts = vars(Counts(self._pictures, self._people, self._errors))
        self._writer.add_key_value_metadata({COUNTS_KEY: json.dumps(counts).encode()})
        self._writer.close()

    def _write(self) -> None:
        rows, self._rows = self._rows, []
        if not rows:
            return
        sizes = [picture.size_wh or (None, None) for picture, _ in rows]
        people = [picture.poses if person is not None else None for picture, person in rows]
        indices = [person or 0 for _, person in rows]
        is_there = np.array([poses is not None for poses in people])

        def of_people(get: Any) -> Any:
            return [
                None if poses is None else get(poses)[index]
                for poses, index in zip(people, indices, strict=True)
            ]

        columns = {
            "source": [_text(picture.source) for picture, _ in rows],
            "frame": [picture.frame for picture, _ in rows],
            "seconds": [picture.seconds for picture, _ in rows],
            "person": [person for _, person in rows],
            "width": [width for width, _ in sizes],
            "height": [height for _, height in sizes],
            "box_xyxy": of_people(lambda poses: poses.boxes_xyxy),
            "box_score": of_people(lambda poses: poses.box_scores),
            "keypoints": of_people(lambda poses: poses.keypoints.reshape(len(poses), -1)),
            "scores": of_people(lambda poses: poses.scores),
            "person_score": of_people(lambda poses: poses.person_scores),
            "error": [picture.error and _text(picture.error) for picture, _ in rows],
        }
        arrays = [
            _lists(columns[one.name], is_there, one.type)
            if pa.types.is_fixed_size_list(one.type)
            else pa.array(columns[one.name], one.type)
            for one in self.schema
        ]
        self._writer.write_batch(pa.record_batch(arrays, schema=self.schema))


def _text(text: str) -> str:
    """In UTF-8, whatever bytes a file's name has."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def _lists(rows: list[Any], is_there: Any, kind: pa.DataType) -> pa.Array:
    """Rows of numbers, or None, without a Python object for each number."""
    nothing = np.zeros(kind.list_size, np.float32)
    flat = np.concatenate([nothing if row is None else row for row in rows], dtype=np.float32)
    return pa.FixedSizeListArray.from_arrays(pa.array(flat), type=kind, mask=pa.array(~is_there))


def read_about(file: BinaryIO, name: str) -> tuple[dict[str, Any], Counts]:
    """What a shard's file says it was made from, and its counts.

    Raises FileError for a file that `label` has not written.
    """
    try:
        metadata = pq.read_metadata(file).metadata or {}
        return json.loads(metadata[METADATA_KEY]), Counts(**json.loads(metadata[COUNTS_KEY]))
    except (pa.ArrowException, KeyError, ValueError, TypeError, OSError) as error:
        raise FileError(
            f"{name}: expected a file that label wrote, found another; move it elsewhere"
        ) from error


def read_pictures(file: BinaryIO, name: str, keypoint_set: KeypointSet) -> Iterator[Labelled]:
    """The pictures of a shard's file, as they were written.

    Raises FileError for a file that `label` has not written for these keypoints.
    """
    try:
        for rows in _by_picture(file):
            yield _picture(rows, keypoint_set)
    except (pa.ArrowException, InputError, KeyError, ValueError, TypeError, OSError) as error:
        raise FileError(
            f"{name}: expected a file that label wrote, found another or a damaged one "
            f"({type(error).__name__}: {first_line(error)}); run label again"
        ) from error


def read_shards(folder: str, names: Iterable[str], keypoint_set: KeypointSet) -> Iterator[Labelled]:
    """As read_pictures, of some shards in a folder or behind a URL."""
    for name in names:
        file_name = f"{folder.rstrip('/')}/{name}"
        with storage.opened(file_name, "a Parquet file") as file:
            yield from read_pictures(file, file_name, keypoint_set)


def _by_picture(file: BinaryIO) -> Iterator[list[dict[str, Any]]]:
    """The rows of each picture; its first one has person 0, or none."""
    rows: list[dict[str, Any]] = []
    for batch in pq.ParquetFile(file).iter_batches(_ROWS_AT_ONCE):
        for row in batch.to_pylist():
            if rows and not row["person"]:
                yield rows
                rows = []
            rows.append(row)
    if rows:
        yield rows


def _picture(rows: list[dict[str, Any]], keypoint_set: KeypointSet) -> Labelled:
    first = rows[0]
    size_wh = None if first["width"] is None else (first["width"], first["height"])
    picture = Labelled(first["source"], first["frame"], first["seconds"], size_wh, first["error"])
    if first["person"] is not None:

        def of_all(column: str) -> Floats:
            return np.array([row[column] for row in rows], np.float32)

        picture.poses = Poses(
            keypoints=of_all("keypoints").reshape(len(rows), -1, 2),
            scores=of_all("scores"),
            boxes_xyxy=of_all("box_xyxy"),
            keypoint_set=keypoint_set,
            box_scores=of_all("box_score"),
        )
    elif picture.error is None:
        picture.poses = Poses.none(keypoint_set)
    return picture
