"""`cigpose-runtime image`: poses in pictures."""

from __future__ import annotations

import argparse
import io
import sys
from collections.abc import Sequence
from pathlib import Path, PurePath
from typing import TYPE_CHECKING

from cigpose_runtime.commands import drawing, options, people, results
from cigpose_runtime.commands.boxes import ByPath, GivenBoxes, read_image_ids
from cigpose_runtime.commands.targets import in_folder
from cigpose_runtime.errors import CigposeError, FileError, InputError, error_context
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
    people.add_options(parser)
    drawing.add_options(parser, tracks=False)
    parser.add_argument(
        "pictures",
        nargs="+",
        metavar="PICTURE",
        help="files, folders with their folders, patterns as 'a/**/*.jpg', lists (.txt), or - for "
        "stdin",
    )
    results.add_options(parser)
    parser.add_argument(
        "--coco-ids", type=Path, metavar="FILE", help="COCO annotations with the ids of the images"
    )
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
        [
            *options.inputs(args),
            *([] if args.coco_ids is None else [("--coco-ids", args.coco_ids)]),
            *(("a picture", Path(one.name)) for one in pictures),
        ],
    )
    model = options.open_model(args, alone=True)
    detector_for = people.open_detector_for(args, model, alone=True)
    draw = drawing.drawer(args)
    image_ids = None if args.coco_ids is None else read_image_ids(args.coco_ids)
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
                        image_id = _image_id(args, image_ids, Path(picture.name), index)
                        detector = detector_for(Path(picture.name))
                        if isinstance(detector, GivenBoxes):
                            detector.frame = image_id
                        poses = PosePipeline(detector, model)(frame)
                except CigposeError as error:
                    errors.append(error)
                    continue
                if isinstance(detector, GivenBoxes):
                    errors += detector.take_errors(picture.name)
                if picture.name not in done:
                    written.add(
                        poses,
                        picture.name,
                        index=index,
                        image_id=image_id,
                        canvas_wh=frame.shape[1::-1],
                    )
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
            found = list(find(source, endings, "pictures", but=args.save and str(args.save)))
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


def _image_id(
    args: argparse.Namespace, image_ids: ByPath[int] | None, picture: Path, index: int
) -> int:
    """COCO's, which is the number of the picture unless a file says otherwise."""
    if image_ids is None:
        return index
    image_id = image_ids.get(picture)
    if image_id is None:
        raise InputError(
            f"expected a picture in {args.coco_ids}, found none of that name; give the annotations "
            "of these pictures, or leave --coco-ids out"
        )
    return image_id


def _read(name: str) -> Pixels:
    from cigpose_runtime.media.images import decode_image, read_image

    if name != STDIN:
        return read_image(name)
    return decode_image(io.BytesIO(sys.stdin.buffer.read(MOST_BYTES)), "stdin")


def _targets(pictures: Sequence[Found], folder: Path | None) -> list[Path | None]:
    """Where each annotated picture goes.

    Not where the pictures are: there, a second run would take the annotated ones for pictures.
    """
    if folder is None:
        return [None] * len(pictures)
    for parent in {Path(one.root or Path(one.name).parent) for one in pictures}:
        if folder.is_dir() and parent.is_dir() and folder.samefile(parent):
            raise FileError(
                f"{folder}: expected another folder for --save than the pictures', found the same "
                "one; give another"
            )
    return list(in_folder(folder, map(_annotated_name, pictures)))


def _annotated_name(picture: Found) -> PurePath:
    """As the picture's; JPEG for a form that is read and not written."""
    from cigpose_runtime.media.images import WRITTEN_FORMATS

    name = Path("stdin") if picture.name == STDIN else picture.relative
    return name if name.suffix.lower() in WRITTEN_FORMATS else name.with_suffix(".jpg")
