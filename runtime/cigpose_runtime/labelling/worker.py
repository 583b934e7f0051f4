"""The one class that turns a shard into a file of rows, in whatever process it is called."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cigpose_runtime.errors import FileError
from cigpose_runtime.estimation.detector import Detector
from cigpose_runtime.estimation.frame_model import FrameModel
from cigpose_runtime.estimation.pose_model import PoseModel
from cigpose_runtime.labelling.batches import label
from cigpose_runtime.labelling.children import Answer
from cigpose_runtime.labelling.decoding import Decoded, Decoders, decoder
from cigpose_runtime.labelling.folder import Folder
from cigpose_runtime.labelling.items import Item
from cigpose_runtime.labelling.rows import RowWriter, schema
from cigpose_runtime.labelling.shards import Shard
from cigpose_runtime.machine import cores
from cigpose_runtime.sources import storage

TIME_LIMIT_S = 60.0

CPU_BATCH = 4
"""Crops that run at once on one core, whatever cores there are: more run no faster there, and leave
cores idle at the end of a shard."""

MOST_PACKED = 4
"""Pictures that a packed file sees at once, whatever cores there are: the crops of 32 people, the
most that one with a detector has, take some 400 MB."""

MOST_DECODERS = 8
"""Of one worker, whatever cores it has: as many keep a GPU at work."""


def threads_of(cores_each: int) -> int | None:
    """Of a worker's detector, and of its model where that has them all: as many as it has cores,
    onnxruntime's choice if that is all of them."""
    return cores_each if cores_each < cores() else None


def decoders_of(cores_each: int) -> int:
    """How many processes decode for a worker that has so many cores."""
    return min(cores_each, MOST_DECODERS)


def require_as_started(
    found: Mapping[str, Any], about: Mapping[str, Any], path: Path, what: str
) -> None:
    """Raises FileError where a worker would make shards in another way than the run says.

    path: of the model. what: all that a worker brings, for the message.
    """
    if found != about:
        raise FileError(
            f"{path}: expected the {what} and cigpose-runtime that the run was started with, found "
            "others; give all workers the same"
        )


@dataclass
class ShardWorker:
    """Labels shards with one model.

    model: packed or not. detector_for: the detector for a picture or video, by its path; None for a
    model that finds the people itself. about: how the shards are made, for their metadata; the
    shard's inputs are added. every: which frames of a video. at_once: runs of the model; on CPUs,
    one for each core, of one thread, are faster than one with all threads. decoders: how many
    processes decode pictures. time_limit: seconds for decoding one of them. make_decoder: what they
    run. Used as a context, which ends them, or as long as its process lives.
    """

    model: PoseModel | FrameModel
    detector_for: Callable[[Path], Detector | None]
    folder: Folder
    about: Mapping[str, Any]
    every: int = 1
    at_once: int = 1
    decoders: int = 2
    time_limit: float = TIME_LIMIT_S
    make_decoder: Callable[[], Answer] = decoder

    def __post_init__(self) -> None:
        self._decoders = Decoders(self.decoders, self.time_limit, self.make_decoder)

    def label(self, shard: Shard) -> Iterator[int]:
        """Writes the shard's file; yields how many people are in the next picture, as it goes on.

        Raises FileError where the file cannot be written.
        """
        about = {**self.about, "inputs_sha256": shard.inputs_sha256}
        columns = schema(len(self.model.keypoint_set.names), about)
        with self.folder.writing(shard.name) as file, RowWriter(file, columns) as rows:
            for picture in label(
                self.model, self.detector_for, self._decoded(shard), at_once=self.at_once
            ):
                rows.add(picture)
                yield 0 if picture.poses is None else len(picture.poses)

    def _decoded(self, shard: Shard) -> Iterator[Decoded]:
        if shard.items[0].kind == "picture":
            yield from self._decoders.pictures(shard.items)
            return
        for video in shard.items:
            try:
                with _here(video) as path:
                    yield from self._decoders.frames(video, path, self.every)
            except FileError as error:
                yield Decoded(video, None, None, None, str(error))

    def __enter__(self) -> ShardWorker:
        return self

    def __exit__(self, *_: object) -> None:
        self._decoders.close()


@contextmanager
def _here(video: Item) -> Iterator[str]:
    """The path of a video; from behind a URL it is copied here for as long as the block lasts."""
    if not storage.is_url(video.file):
        yield video.file
        return
    with tempfile.TemporaryDirectory(prefix="cigpose-label-") as folder:
        path = str(Path(folder, Path(video.file).name))
        with storage.access(video.file):
            fs, remote = storage.file_system(video.file)
            fs.get_file(remote, path)
        yield path
