"""`cigpose-runtime image`: poses in pictures."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

from cigpose_runtime.commands import options, results
from cigpose_runtime.errors import CigposeError, FileError, error_context
from cigpose_runtime.files import require_apart, require_folder


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds the subcommand to those of `cigpose-runtime`."""
    parser = commands.add_parser(
        "image",
        help="estimate poses in pictures",
        description="Estimates poses in pictures. Without an option that writes results, they go "
        "to stdout as JSON lines.",
    )
    options.add_options(parser)
    parser.add_argument(
        "pictures", nargs="+", type=Path, metavar="PICTURE", help="files, folders or patterns"
    )
    results.add_options(parser)
    parser.add_argument("--save", type=Path, metavar="DIR", help="folder for annotated pictures")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> list[CigposeError]:
    """Goes through all pictures and returns the errors of those that cannot be read."""
    options.require_extra()
    from cigpose_runtime.commands.progress import progress
    from cigpose_runtime.draw import draw_poses
    from cigpose_runtime.estimation.pose_pipeline import PosePipeline
    from cigpose_runtime.media.images import read_image, write_image

    pictures = list(_pictures(args.pictures))
    targets = _targets(pictures, args.save)
    require_apart(
        [*results.outputs(args), *(("--save", target) for target in targets if target)],
        [*options.inputs(args), *(("a picture", path) for path in pictures)],
    )
    model = options.open_model(args, alone=True)
    detector_for = options.open_detector_for(args, model, alone=True)
    errors: list[CigposeError] = []
    try:
        with (
            results.Results(args, saves=args.save is not None) as written,
            progress("image", len(pictures), "pictures") as advance,
        ):
            for index, (path, target) in enumerate(zip(pictures, targets, strict=True)):
                try:
                    frame = read_image(path)
                    with error_context(path):
                        poses = PosePipeline(detector_for(path), model)(frame)
                except CigposeError as error:
                    errors.append(error)
                    continue
                written.add(poses, str(path), index=index, canvas_wh=frame.shape[1::-1])
                advance(len(poses))
                if target is not None:
                    try:
                        write_image(draw_poses(frame, poses, threshold=args.threshold), target)
                    except CigposeError as error:
                        errors.append(error)
    except CigposeError as error:  # there is no place for results
        errors.append(error)
    return errors


def _pictures(given: list[Path]) -> Iterator[Path]:
    """The files that were named, by themselves, by their folder or by a pattern."""
    from cigpose_runtime.media.images import SUFFIXES

    for path in given:
        if path.is_dir():
            found = sorted(p for p in path.iterdir() if p.suffix.lower() in SUFFIXES)
            if not found:
                raise FileError(
                    f"{path}: expected pictures ({', '.join(sorted(SUFFIXES))}), found a folder "
                    "without one; correct the path"
                )
            yield from found
        elif not path.exists() and any(sign in path.name for sign in "*?["):
            found = sorted(path.parent.glob(path.name))
            if not found:
                raise FileError(f"{path}: expected pictures, found none; correct the pattern")
            yield from found
        else:
            yield path


def _targets(pictures: list[Path], folder: Path | None) -> list[Path | None]:
    """Where each annotated picture goes; pictures of one name in two folders are numbered.

    Not where the pictures are: there, a second run would take the annotated ones for pictures.
    """
    if folder is None:
        return [None] * len(pictures)
    require_folder(folder, "--save")
    for parent in {path.parent for path in pictures}:
        if folder.is_dir() and parent.is_dir() and folder.samefile(parent):
            raise FileError(
                f"{folder}: expected another folder for --save than the pictures', found the same "
                "one; give another"
            )
    targets: list[Path | None] = []
    taken: set[str] = set()
    for path in pictures:
        target, number = folder / path.name, 1
        while target.name.casefold() in taken:  # one name to some file systems
            number += 1
            target = folder / f"{path.stem}-{number}{path.suffix}"
        if target.is_dir():
            raise FileError(
                f"{target}: expected a place for an annotated picture, found a folder; give "
                "another folder for --save"
            )
        taken.add(target.name.casefold())
        targets.append(target)
    return targets
