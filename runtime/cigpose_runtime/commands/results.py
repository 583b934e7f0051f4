"""The result files that were asked for, each whole or not there."""

from __future__ import annotations

import argparse
import json
import os
import stat
import sys
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

from cigpose_runtime.commands.npz import NpzFile
from cigpose_runtime.commands.openpose import OpenposeFolder
from cigpose_runtime.errors import FileError
from cigpose_runtime.files import Named, output_file, place_to_write
from cigpose_runtime.poses import Poses
from cigpose_runtime.writers import CSV_HEADER, to_coco, to_coco_wholebody, to_csv, to_json_line

STDOUT = Path("-")

_FORMS = ("json", "coco", "csv")

_FRAMES = {"csv": {"header": CSV_HEADER}, "coco": {"header": "[", "closing": "\n]\n"}}
"""What stands before and behind the records."""


def add_options(parser: argparse.ArgumentParser) -> None:
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


def outputs(args: argparse.Namespace) -> list[Named]:
    """The files that these options name. Raises FileError if two forms would go to stdout."""
    named = [(f"--{form}", path) for form in _FORMS if (path := getattr(args, form)) is not None]
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
    return [(what, path) for what, path in named if path != STDOUT]


class Records:
    """A file of records that are each there whole or not at all, however the work ends.

    A full disk, Ctrl-C or an error may come in the middle of one. What closes the file, as the last
    bracket of a JSON list, is behind the records at any time: there may be no room for it later.
    file: what is written to, unbuffered where it is a regular file. Raises FileError.
    """

    def __init__(self, path: Path, file: BinaryIO, *, header: str = "", closing: str = "") -> None:
        self._path = path
        self._file = file
        self._closing = closing.encode()
        self._is_regular = path != STDOUT and stat.S_ISREG(os.fstat(file.fileno()).st_mode)
        self._end = 0
        self.add(header)

    def add(self, record: str) -> None:
        """Adds a record; one that does not fit leaves those before it as they are."""
        data = record.encode()
        with place_to_write(self._path):
            if not self._is_regular:
                self._file.write(data)
                return
            try:
                self._put(data + self._closing)
                self._end += len(data)
            except BaseException:
                os.ftruncate(self._file.fileno(), self._end + len(self._closing))
                self._put(self._closing)
                raise

    def _put(self, data: bytes) -> None:
        """Writes behind the last record, past the file's buffer, which would try again later."""
        descriptor, left = self._file.fileno(), memoryview(data)
        os.lseek(descriptor, self._end, os.SEEK_SET)
        while left:
            left = left[os.write(descriptor, left) :]

    def close(self) -> None:
        """Ends what is no regular file, and has no closing yet."""
        if not self._is_regular:
            with place_to_write(self._path):
                self._file.write(self._closing)


class Results:
    """Writes poses to the files that the options name; JSON lines to stdout if they name none.

    Used as a context: however it is left, the files have the pictures that were added; an error
    before the first discards them. whole: any error discards them, for what is soon done again.
    """

    def __init__(self, args: argparse.Namespace, *, saves: bool, whole: bool = False) -> None:
        self._paths: dict[str, Path] = {
            form: path for form in _FORMS if (path := getattr(args, form))
        }
        self._npz = None if args.npz is None else NpzFile(args.npz)
        self._openpose = None if args.openpose is None else OpenposeFolder(args.openpose)
        if not self.has_files and not saves:
            self._paths = {"json": STDOUT}
        self._files: dict[str, Records] = {}
        self._people = self._pictures = 0
        self._whole = whole

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
        about = {"source": source, "frame": index}
        if seconds is not None:
            about["seconds"] = round(seconds, 6)
        if "json" in self._files:
            self._files["json"].add(to_json_line(poses, **about))
        if "csv" in self._files:
            self._files["csv"].add(to_csv(poses, source, index))
        if "coco" in self._files:
            write = to_coco_wholebody if poses.keypoint_set.parts else to_coco
            people = write(poses, index if image_id is None else image_id)
            texts = [f",\n{json.dumps(person)}" for person in people]
            if texts and not self._people:
                texts[0] = texts[0].removeprefix(",")
            self._files["coco"].add("".join(texts))
            self._people += len(texts)
        if self._npz is not None:
            self._npz.add(poses, source, index, seconds)
        if self._openpose is not None:
            self._openpose.add(poses, source, None if seconds is None else index, canvas_wh)
        self._pictures += 1

    def __enter__(self) -> Results:
        with ExitStack() as stack:
            for form, path in self._paths.items():
                file = (
                    sys.stdout.buffer if path == STDOUT else stack.enter_context(output_file(path))
                )
                self._files[form] = Records(path, file, **_FRAMES.get(form, {}))
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is not None and (self._whole or not self._pictures):
            self._stack.__exit__(kind, error, trace)
            return
        with self._stack:
            for file in self._files.values():
                file.close()
            if self._npz is not None:
                self._npz.close()
