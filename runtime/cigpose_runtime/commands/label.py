"""`cigpose-runtime label`: poses in many pictures and videos, as Parquet files."""

from __future__ import annotations

import argparse
import hashlib
import math
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cigpose_runtime import __version__
from cigpose_runtime.commands import options, people
from cigpose_runtime.errors import CheckError, CigposeError
from cigpose_runtime.estimation.pose_model import MAX_BATCH
from cigpose_runtime.files import file_sha256
from cigpose_runtime.model_file.reader import read_contract
from cigpose_runtime.terminal import echo

if TYPE_CHECKING:
    from cigpose_runtime.labelling.folder import Folder
    from cigpose_runtime.labelling.local import MakeWorker
    from cigpose_runtime.labelling.shards import Shard
    from cigpose_runtime.labelling.worker import ShardWorker

SHARD_SIZE = 1000

MOST_RECORDED = 32
"""Sources that are recorded by name."""


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds the subcommand to those of `cigpose-runtime`."""
    parser = commands.add_parser(
        "label",
        help="estimate poses in many pictures and videos, as Parquet files",
        description="Estimates poses in many pictures and videos and writes Parquet files. After "
        "a stop, the same command goes on where it was. What cannot be read becomes a row with its "
        "error, and the exit status 1.",
    )
    options.add_options(parser)
    people.add_options(parser)
    parser.add_argument(
        "sources",
        nargs="+",
        metavar="SOURCE",
        help="pictures, videos, folders, patterns, ZIP and tar archives, Parquet files, lists "
        "(.txt), or URLs of these",
    )
    parser.add_argument("--out", required=True, metavar="DIR", help="folder or URL for the results")
    parser.add_argument(
        "--shard-size",
        type=options.whole_number(1, 1_000_000),
        default=SHARD_SIZE,
        metavar="N",
        help=f"pictures a Parquet file  [default: {SHARD_SIZE}]",
    )
    parser.add_argument(
        "--every",
        type=options.whole_number(1, 1_000_000),
        default=1,
        metavar="N",
        help="every n-th frame of videos",
    )
    parser.add_argument(
        "--workers",
        type=options.whole_number(1, 1024),
        metavar="N",
        help="processes that each run the model  [default: 1; with --ray, as many as fit]",
    )
    parser.add_argument(
        "--ray",
        nargs="?",
        const="auto",
        metavar="ADDRESS",
        help="work on a Ray cluster, at HOST:PORT or the one that this machine belongs to",
    )
    parser.add_argument(
        "--time-limit",
        type=_seconds,
        metavar="SECONDS",
        help="for decoding one picture  [default: 60]",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> list[CigposeError]:
    """Labels what is not labelled yet; returns one error if some pictures cannot be read."""
    if args.ray is None:
        options.require_extra("label", options.LABEL_EXTRA)
    else:
        options.require_extra("ray", options.RAY_EXTRA)
    from cigpose_runtime.labelling.folder import open_folder
    from cigpose_runtime.labelling.job import finish
    from cigpose_runtime.labelling.shards import plan
    from cigpose_runtime.labelling.sources import find_items

    about = _about(args)
    packed = options.packed_contract(args)
    if packed is not None and packed.detector is not None:
        people.require_no_detector(args)
    contract = packed.model if packed else options.read_override(args) or read_contract(args.model)
    shards = plan(find_items(args.sources, out=args.out, say=_say), args.shard_size)
    folder = open_folder(args.out)
    label_shards = partial(_label, args, partial(open_worker, args, folder, about))
    done = finish(folder, about, contract, shards, label_shards, say=_say)
    errors = sum(counts.errors for counts in done.values())
    if not errors:
        return []
    return [
        CheckError(
            f"{args.out}: expected pictures and videos that can be read, found {errors} errors; "
            "the rows with a text in the column error name them"
        )
    ]


def _label(args: argparse.Namespace, make_worker: MakeWorker, shards: Sequence[Shard]) -> None:
    from cigpose_runtime.commands.progress import progress
    from cigpose_runtime.labelling.cluster import Cluster
    from cigpose_runtime.labelling.job import run_by

    gpu = args.device in ("cuda", "tensorrt")
    cluster = None if args.ray is None else Cluster(args.ray, args.threads, gpu)
    videos = any(item.kind == "video" for shard in shards for item in shard.items)
    total = None if videos else sum(len(shard.items) for shard in shards)
    with progress("label", total, "pictures") as advance:
        run_by(cluster, args.workers, shards, make_worker, advance)


def open_worker(
    args: argparse.Namespace, folder: Folder, about: dict[str, Any], cores_each: int
) -> ShardWorker:
    """The worker that the options ask for, in whatever process this is called.

    Raises FileError where the options' files are not those that the run was started with.
    """
    from cigpose_runtime.labelling import worker

    brought = "model, detector, boxes, metadata"
    worker.require_as_started(_about(args), about, args.model, brought)
    at_once, batch = 1, MAX_BATCH
    if args.device == "cpu":
        at_once, batch = args.threads or cores_each, worker.CPU_BATCH
        if options.packed_contract(args) is not None:
            at_once = min(at_once, worker.MOST_PACKED)
    threads = args.threads or worker.threads_of(cores_each)
    args = argparse.Namespace(**{**vars(args), "threads": threads})
    model = options.open_model(args, alone=False, at_once=at_once, max_batch=batch)
    return worker.ShardWorker(
        model,
        people.open_detector_for(args, model, alone=False, strict=True),
        folder,
        about,
        every=args.every,
        at_once=at_once,
        decoders=worker.decoders_of(cores_each),
        time_limit=args.time_limit or worker.TIME_LIMIT_S,
    )


def _about(args: argparse.Namespace) -> dict[str, Any]:
    """All that decides what the rows hold; files by their content."""

    def sha256(path: Path | None) -> str | None:
        return None if path is None else file_sha256(path)

    return {
        "runtime_version": __version__,
        "model": {"name": args.model.stem, "sha256": sha256(args.model)},
        "options": {
            "sources": args.sources
            if len(args.sources) <= MOST_RECORDED
            else _digest(args.sources),
            "whole_frame": args.whole_frame,
            "detector_sha256": sha256(people.detector_file(args)),
            "detector_function": people.detector_function(args),
            "detector_options": people.detector_options(args),
            "boxes_sha256": sha256(args.boxes),
            "metadata_sha256": sha256(args.metadata),
            "flip": args.flip,
            "device": args.device,
            "every": args.every,
            "shard_size": args.shard_size,
        },
    }


def _digest(sources: list[str]) -> str:
    """In place of a list that would be as long as what it stands beside."""
    return f"{len(sources)} sources, sha256 {hashlib.sha256(repr(sources).encode()).hexdigest()}"


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0 < seconds < math.inf:
        raise argparse.ArgumentTypeError(f"expected more than 0 seconds, found {text}")
    return seconds


def _say(line: str) -> None:
    echo(f"label: {line}", err=True)
