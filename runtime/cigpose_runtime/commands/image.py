"""`cigpose-runtime image`: poses in pictures."""

from __future__ import annotations

import argparse
import io
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from cigpose_runtime.commands import drawing, options, results
from cigpose_runtime.errors import CigposeError, FileError, error_context
from cigpose_runtime.files import require_apart, require_folder
from cigpose_runtime.terminal import echo

if TYPE_CHECKING:
    from cigpose_runtime.arrays import Pixels
    from cigpose_runtime.sources.find import Found

STDIN = "-"

MOST_BYTES = 1 << 29
"""Of a picture on stdin; more than any of 90 million pixels takes."""


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds the subcommand to those of `cigpose-runtime`."""
    parser = commands.add_parser(
        "image",
        help="estimate poses in pictures",
        description="Estimates poses in pictures. Without an option that writes results, they go "
        "to stdout as JSON lines.",
    )
    options.add_options(parser)
    drawing.add_options(parser, tracks=False)
    parser.add_argument(
        "pictures",
        nargs="+",
        metavar="PICTURE",
        help="files, folders with their folders, patterns as 'a/**/*.jpg', lists (.txt), or - for "
        "stdin",
    )
    results.add_options(parser)
    parser.add_argument("--save", type=Path, metavar="DIR", help="folder for annotated pictures")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> list[CigposeError]:
    """Goes through all pictures and returns the errors of those that cannot be read."""
    options.require_extra()
    from cigpose_runtime.commands.progress import progress
    from cigpose_runtime.estimation.pose_pipeline import PosePipeline
    from cigpose_runtime.media.images import write_image

    errors: list[CigposeError] = []
    pictures = _pictures(args, errors)
    targets = _targets(pictures, args.save)
    require_apart(
        [*results.outputs(args), *(("--save", target) for target in targets if target)],
        [*options.inputs(args), *(("a picture", Path(one.name)) for one in pictures)],
    )
    model = options.open_model(args, alone=True)
    detector_for = options.open_detector_for(args, model, alone=True)
    draw = drawing.drawer(args)
    if args.save is not None:
        require_folder(args.save, "--save")
    try:
        with (
            results.Results(args, saves=args.save is not None) as written,
            progress("image", len(pictures), "pictures") as advance,
        ):
            done = {document["source"] for document in written.earlier(model.keypoint_set)}
            for index, (picture, target) in enumerate(zip(pictures, targets, strict=True)):
                if picture.name in done and (target is None or target.exists()):
                    continue
                try:
                    frame = _read(picture.name)
                    with error_context(picture.name):
                        poses = PosePipeline(detector_for(Path(picture.name)), model)(frame)
                except CigposeError as error:
                    errors.append(error)
                    continue
                if picture.name not in done:
                    written.add(poses, picture.name, index=index, canvas_wh=frame.shape[1::-1])
                advance(len(poses))
                if target is not None:
                    try:
                        write_image(draw(frame, poses), target)
                    except CigposeError as error:
                        errors.append(error)
    except CigposeError as error:  # there is no place for results
        errors.append(error)
    return errors


def _pictures(args: argparse.Namespace, errors: list[CigposeError]) -> list[Found]:
    """What the sources name, once each; what is wrong with one of them is added to `errors`."""
    from cigpose_runtime.media.images import SUFFIXES
    from cigpose_runtime.releases.http import masked
    from cigpose_runtime.sources.find import Endings, Found, find
    from cigpose_runtime.sources.storage import is_url

    endings = Endings(SUFFIXES)
    pictures: dict[str, Found] = {}
    for source in args.pictures:
        if source == STDIN:
            pictures.setdefault(source, Found(source))
            continue
        try:
            if is_url(source):
                raise FileError(
                    f"{masked(source)}: expected pictures here, found a URL; download it first"
                )
            found = list(find(source, endings, "pictures", but=str(args.save or "")))
            if not found:
                raise FileError(
                    f"{source}: expected pictures ({', '.join(sorted(SUFFIXES))}), found none in "
                    "it; correct the path"
                )
        except CigposeError as error:
            errors.append(error)
            continue
        for one in found:
            pictures.setdefault(one.name, one)
    if left_out := endings.said("picture"):
        echo(left_out, err=True)
    return list(pictures.values())


def _read(name: str) -> Pixels:
    from cigpose_runtime.media.images import decode_image, read_image

    if name != STDIN:
        return read_image(name)
    return decode_image(io.BytesIO(sys.stdin.buffer.read(MOST_BYTES)), "stdin")


def _targets(pictures: Sequence[Found], folder: Path | None) -> list[Path | None]:
    """Where each annotated picture goes; pictures of one name in two folders are numbered.

    Not where the pictures are: there, a second run would take the annotated ones for pictures.
    """
    from cigpose_runtime.media.images import WRITTEN_FORMATS

    if folder is None:
        return [None] * len(pictures)
    for parent in {Path(one.root or Path(one.name).parent) for one in pictures}:
        if folder.is_dir() and parent.is_dir() and folder.samefile(parent):
            raise FileError(
                f"{folder}: expected another folder for --save than the pictures', found the same "
                "one; give another"
            )
    targets: list[Path | None] = []
    taken: set[str] = set()
    for one in pictures:
        name = Path("stdin") if one.name == STDIN else Path(one.relative)
        ending = name.suffix if name.suffix.lower() in WRITTEN_FORMATS else ".jpg"
        target, number = folder / name.with_suffix(ending), 1
        while str(target).casefold() in taken:  # one name to some file systems
            number += 1
            target = folder / name.with_name(f"{name.stem}-{number}{ending}")
        if target.is_dir():
            raise FileError(
                f"{target}: expected a place for an annotated picture, found a folder; give "
                "another folder for --save"
            )
        taken.add(str(target).casefold())
        targets.append(target)
    return targets
