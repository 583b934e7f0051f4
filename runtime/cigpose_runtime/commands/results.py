"""The result files that were asked for, each whole or not there."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

from cigpose_runtime.commands.forms import TEXT_FORMS, Entry
from cigpose_runtime.commands.journal import Document, read_lines
from cigpose_runtime.commands.npz import NpzFile
from cigpose_runtime.commands.openpose import OpenposeFolder
from cigpose_runtime.commands.records import Records
from cigpose_runtime.errors import FileError
from cigpose_runtime.files import Named, growing_file, open_file, output_file
from cigpose_runtime.keypoints import KeypointSet
from cigpose_runtime.poses import Poses

STDOUT = Path("-")


def add_options(parser: argparse.ArgumentParser, *, resumes: bool = True) -> None:
    """Adds the options that say which results are written."""
    group = parser.add_argument_group("results ('-' is stdout)")
    group.add_argument("--json", type=Path, metavar="FILE", help="JSON lines, one a picture")
    group.add_argument(
        "--coco", type=Path, metavar="FILE", help="COCO results; whole-body ones with all parts"
    )
    group.add_argument("--csv", type=Path, metavar="FILE", help="one line a keypoint")
    group.add_argument("--npz", type=Path, metavar="FILE", help="arrays, for numpy.load")
    group.add_argument(
        "--openpose", metavar="DIR", help="folder for OpenPose's JSON, a file a picture"
    )
    if resumes:
        group.add_argument(
            "--resume",
            action="store_true",
            help="go on after what the file of --json has already; lines are added to it as they "
            "come, so that it outlasts any end",
        )
    else:
        parser.set_defaults(resume=False)


def outputs(args: argparse.Namespace) -> list[Named]:
    """The files that these options name. Raises FileError if two forms would go to stdout."""
    named = [
        (f"--{form}", path) for form in TEXT_FORMS if (path := getattr(args, form)) is not None
    ]
    on_stdout = [what for what, path in named if path == STDOUT]
    if len(on_stdout) > 1:
        raise FileError(
            f"expected one form of results on stdout, found {' and '.join(on_stdout)}; give a file "
            "for all but one"
        )
    if args.npz == STDOUT:
        raise FileError("--npz: expected a file, found stdout; give a name")
    if args.npz is not None:
        named.append(("--npz", args.npz))
    if args.resume and (args.json in (None, STDOUT) or args.coco or args.npz or args.openpose):
        raise FileError(
            "--resume: expected results that can be taken up again, --json FILE alone or with "
            f"--csv, found {', '.join(what for what, _ in named) or 'none'}; change the options"
        )
    return [(what, path) for what, path in named if path != STDOUT]


class _DiscardedError(Exception):
    """Leaves the files as an error does, of which there may be none."""


class Results:
    """Writes poses to the files that the options name; JSON lines to stdout if they name none.

    Used as a context: however it is left, the files have the pictures that were added; without any
    there are none. whole: any error discards them, for what is soon done again.
    next_image_id: the first of COCO's that is free. last_source: the last one that --resume found,
    None without.
    """

    def __init__(self, args: argparse.Namespace, *, saves: bool, whole: bool = False) -> None:
        self._paths: dict[str, Path] = {
            form: path for form in TEXT_FORMS if (path := getattr(args, form))
        }
        self._npz = None if args.npz is None else NpzFile(args.npz)
        self._openpose = None if args.openpose is None else OpenposeFolder(args.openpose)
        if not self.has_files and not saves:
            self._paths = {"json": STDOUT}
        self._files: dict[str, Records] = {}
        self._pictures = self.next_image_id = 0
        self._whole = whole
        self._resumes = args.resume
        self._last = 0
        self.last_source: str | None = None

    @property
    def has_files(self) -> bool:
        """Whether there is anything to write."""
        return bool(self._paths or self._npz or self._openpose)

    def add(
        self,
        poses: Poses,
        source: str,
        *,
        index: int,
        seconds: float | None = None,
        image_id: int | None = None,
        canvas_wh: tuple[int, int] | None = None,
    ) -> None:
        """Adds the people of one picture, the index-th one.

        seconds: of a frame of a video. image_id: COCO's, `index` if None. canvas_wh: its size, if
        known.
        """
        image_id = index if image_id is None else image_id
        entry = Entry(poses, source, index, seconds, image_id, canvas_wh)
        for form, file in self._files.items():
            file.add(TEXT_FORMS[form].record(entry))
        if self._npz is not None:
            self._npz.add(entry)
        if self._openpose is not None:
            self._openpose.add(entry)
        self._pictures += 1
        self.next_image_id = max(self.next_image_id, image_id + 1)

    def earlier(self, keypoint_set: KeypointSet) -> Iterator[Document]:
        """What --resume finds in the file of --json; it counts as added, and is in all forms."""
        if not self._resumes:
            return
        path = self._paths["json"]
        pictures = size = 0
        with open_file(path, "JSON lines") as file:
            for end, document, poses in read_lines(file, path, keypoint_set):
                if "csv" in self._files:
                    entry = Entry(poses, document["source"], document["frame"])
                    self._files["csv"].add(TEXT_FORMS["csv"].record(entry))
                if document["source"] != self.last_source:
                    self.last_source, self._last = document["source"], size
                pictures, size = pictures + 1, end
                yield document
        self._files["json"].keep(size)
        self._pictures = pictures

    def earlier_frames(self, keypoint_set: KeypointSet) -> Iterator[tuple[Document, Poses]]:
        """Of these, those of the last source, once more and with their poses."""
        path = self._paths["json"]
        with open_file(path, "JSON lines") as file:
            file.seek(self._last)
            for _, document, poses in read_lines(file, path, keypoint_set):
                yield document, poses

    def __enter__(self) -> Results:
        with ExitStack() as stack:
            for form, path in self._paths.items():
                if path == STDOUT:
                    file: BinaryIO = sys.stdout.buffer
                else:
                    grows = self._resumes and form == "json"
                    file = stack.enter_context((growing_file if grows else output_file)(path))
                text = TEXT_FORMS[form]
                self._files[form] = Records(
                    path,
                    file,
                    is_file=path != STDOUT,
                    header=text.header,
                    separator=text.separator,
                    closing=text.closing,
                )
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with suppress(_DiscardedError), self._stack:
            for file in self._files.values():
                file.close()
            is_lost = error is not None if self._whole else self._pictures == 0
            if is_lost:
                raise _DiscardedError
            if self._npz is not None:
                self._npz.close()
