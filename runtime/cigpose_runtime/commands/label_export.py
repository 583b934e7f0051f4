"""`cigpose-runtime label-export`: what `label` wrote, in the forms that other programs read."""

from __future__ import annotations

import argparse

from cigpose_runtime.commands import options, results
from cigpose_runtime.errors import CigposeError, FileError
from cigpose_runtime.model_file.contract import Contract


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds the subcommand to those of `cigpose-runtime`."""
    parser = commands.add_parser(
        "label-export",
        help="write what label found as COCO, CSV, JSON lines or OpenPose files",
        description="Writes what label found in other forms. Without an option that writes "
        "results, they go to stdout as JSON lines.",
    )
    parser.add_argument("labels", metavar="DIR", help="folder or URL that label wrote to")
    results.add_options(parser, resumes=False)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> list[CigposeError]:
    """Goes through all shards in order."""
    options.require_extra("label", options.LABEL_EXTRA)
    from cigpose_runtime.labelling.manifest import read_manifest
    from cigpose_runtime.labelling.rows import read_shards

    manifest = read_manifest(args.labels)
    if not manifest["complete"]:
        raise FileError(
            f"{args.labels}: expected what a finished run wrote, found an unfinished one; run "
            "label again with the same options"
        )
    contract = Contract.from_document(manifest["contract"])
    with results.Results(args, saves=False, whole=True) as written:
        names = sorted(manifest["shards"], key=lambda name: (len(name), name))
        for number, picture in enumerate(read_shards(args.labels, names, contract.keypoints)):
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
    return []
