"""`cigpose-runtime label-export`: what `label` wrote, in the forms that other programs read."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from cigpose_runtime.commands import options, results
from cigpose_runtime.errors import CigposeError, FileError
from cigpose_runtime.model_file.contract import Contract
from cigpose_runtime.writers import to_openpose

if TYPE_CHECKING:
    from cigpose_runtime.labelling.batches import Labelled


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds the subcommand to those of `cigpose-runtime`."""
    parser = commands.add_parser(
        "label-export",
        help="write what label found as COCO, CSV, JSON lines or OpenPose files",
        description="Writes what label found in other forms. Without an option that writes "
        "results, they go to stdout as JSON lines.",
    )
    parser.add_argument("labels", metavar="DIR", help="folder or URL that label wrote to")
    results.add_options(parser)
    parser.add_argument(
        "--openpose", metavar="DIR", help="folder for OpenPose's JSON, a file a picture"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> list[CigposeError]:
    """Goes through all shards in order."""
    options.require_extra("label", options.LABEL_EXTRA)
    from cigpose_runtime.labelling.folder import open_folder
    from cigpose_runtime.labelling.manifest import read_manifest

    manifest = read_manifest(args.labels)
    if not manifest["complete"]:
        raise FileError(
            f"{args.labels}: expected what a finished run wrote, found an unfinished one; run "
            "label again with the same options"
        )
    contract = Contract.from_document(manifest["contract"])
    openpose = None if args.openpose is None else open_folder(args.openpose)
    names = _Names()
    with results.Results(args, saves=args.openpose is not None, whole=True) as written:
        for number, picture in enumerate(_pictures(args.labels, manifest["shards"], contract)):
            if picture.poses is None:
                continue
            is_frame = picture.seconds is not None
            index = picture.frame if is_frame and picture.frame is not None else number
            written.add(
                picture.poses,
                picture.source,
                index=index,
                seconds=picture.seconds,
                image_id=number,
            )
            if openpose is not None:
                name = names.name(picture.source, index if is_frame else None)
                with openpose.writing(name) as file:
                    file.write(json.dumps(to_openpose(picture.poses)).encode())
    return []


def _pictures(folder: str, shards: dict[str, object], contract: Contract) -> Iterator[Labelled]:
    from cigpose_runtime.labelling import storage
    from cigpose_runtime.labelling.rows import read_pictures

    for name in sorted(shards, key=lambda name: (len(name), name)):
        file_name = f"{folder.rstrip('/')}/{name}"
        with storage.opened(file_name, "a Parquet file") as file:
            yield from read_pictures(file, file_name, contract.keypoints)


class _Names:
    """OpenPose's names: NAME_keypoints.json, and NAME_000000000012_keypoints.json of frame 12."""

    def __init__(self) -> None:
        self._taken: set[str] = set()

    def name(self, source: str, frame: int | None) -> str:
        """Pictures of one name in two folders are numbered."""
        stem = PurePosixPath(source).stem + ("" if frame is None else f"_{frame:012d}")
        name, number = stem, 1
        while name in self._taken:
            number += 1
            name = f"{stem}-{number}"
        self._taken.add(name)
        return f"{name}_keypoints.json"
