"""The runtime's poses on a data set, as `cigpose-runtime label` finds them: shards, anywhere."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from cigpose_export.accuracy.annotations import Picture
from cigpose_runtime import Contract, FixedBoxesDetector, FrameModel, PoseModel, __version__
from cigpose_runtime.arrays import Floats
from cigpose_runtime.errors import FileError
from cigpose_runtime.files import file_sha256
from cigpose_runtime.labelling.cluster import Cluster
from cigpose_runtime.labelling.folder import Folder, open_folder
from cigpose_runtime.labelling.items import Item
from cigpose_runtime.labelling.job import finish, run_by
from cigpose_runtime.labelling.rows import read_shards
from cigpose_runtime.labelling.shards import Shard, plan
from cigpose_runtime.labelling.worker import (
    CPU_BATCH,
    ShardWorker,
    decoders_of,
    require_as_started,
)
from cigpose_runtime.model_file.frame_contract import read_packed
from cigpose_runtime.sources import storage

SHARD_SIZE = 100
"""Pictures: 50 shards of COCO's val2017."""


def label_pictures(
    path: Path,
    pictures: Sequence[Picture],
    folder: Path,
    *,
    contract: Contract,
    flip: bool,
    workers: int | None,
    cluster: Cluster | None,
    on_done: Callable[[int], None],
) -> list[Floats]:
    """The poses (n, K, 3) of the people in each picture: x, y, score.

    path: of a model with this contract; flip: of one that is not packed. folder: of the shards;
    those that are there for the same model, options, pictures and boxes are not made again.
    workers, cluster: as of `run_by`. on_done: told how many more pictures are done.
    Raises FileError for a picture that cannot be read.
    """
    about = _about(path, flip)
    results = open_folder(str(folder))
    shards = plan([_item(picture) for picture in pictures], SHARD_SIZE)

    def run(some: Sequence[Shard]) -> None:
        on_done(len(pictures) - sum(len(shard.items) for shard in some))
        make_worker = partial(open_worker, path, flip, results, about)
        run_by(cluster, workers, some, make_worker, lambda _people: on_done(1))

    finish(results, about, contract, shards, run, anew=True)
    names = [shard.name for shard in shards]
    poses = []
    for picture in read_shards(results.name, names, contract.keypoints):
        if picture.poses is None:
            raise FileError(str(picture.error))
        found = picture.poses
        poses.append(np.concatenate([found.keypoints, found.scores[..., None]], axis=-1))
    return poses


def open_worker(
    path: Path, flip: bool, folder: Folder, about: dict[str, Any], cores_each: int
) -> ShardWorker:
    """The worker, in whatever process this is called. Raises FileError for another model there."""
    require_as_started(_about(path, flip), about, path, "model")
    model: PoseModel | FrameModel
    if read_packed(path) is not None:
        model = FrameModel(path, threads=1, spinning=False)
    else:
        model = PoseModel(path, flip=flip, threads=1, spinning=False, max_batch=CPU_BATCH)
    return ShardWorker(
        model, _no_boxes, folder, about, at_once=cores_each, decoders=decoders_of(cores_each)
    )


def _about(path: Path, flip: bool) -> dict[str, Any]:
    return {
        "runtime_version": __version__,
        "model": {"name": path.stem, "sha256": file_sha256(path)},
        "options": {"flip": flip},
    }


def _item(picture: Picture) -> Item:
    name = str(picture.path)
    boxes = tuple(person.box_xyxy for person in picture.people)
    return Item(name, name, stamp=storage.stamp_of(name), boxes=boxes)


def _no_boxes(_path: Path) -> FixedBoxesDetector:
    """Every picture brings its own."""
    return FixedBoxesDetector([])
