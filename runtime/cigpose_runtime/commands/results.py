"""The result files that were asked for, each whole or not there."""

from __future__ import annotations

import argparse
import json
import sys
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import IO

from cigpose_runtime.errors import FileError
from cigpose_runtime.files import Named, output_file
from cigpose_runtime.poses import Poses
from cigpose_runtime.writers import CSV_HEADER, to_coco, to_coco_wholebody, to_csv, to_json_line

STDOUT = Path("-")

_FORMS = ("json", "coco", "csv")


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options that say which results are written."""
    group = parser.add_argument_group("results ('-' is stdout)")
    group.add_argument("--json", type=Path, metavar="FILE", help="JSON lines, one a picture")
    group.add_argument(
        "--coco", type=Path, metavar="FILE", help="COCO results; whole-body ones with all parts"
    )
    group.add_argument("--csv", type=Path, metavar="FILE", help="one line a keypoint")


def outputs(args: argparse.Namespace) -> list[Named]:
    """The files that these options name. Raises FileError if two forms would go to stdout."""
    named = [(f"--{form}", path) for form in _FORMS if (path := getattr(args, form)) is not None]
    on_stdout = [what for what, path in named if path == STDOUT]
    if len(on_stdout) > 1:
        raise FileError(
            f"expected one form of results on stdout, found {' and '.join(on_stdout)}; give a file "
            "for all but one"
        )
    return [(what, path) for what, path in named if path != STDOUT]


class Results:
    """Writes poses to the files that the options name; JSON lines to stdout if they name none.

    Used as a context: an error discards the files, Ctrl-C and the end finish them.
    pictures: how many were added.
    """

    def __init__(self, args: argparse.Namespace, *, saves: bool) -> None:
        self._paths: dict[str, Path] = {
            form: path for form in _FORMS if (path := getattr(args, form))
        }
        if not self._paths and not saves:
            self._paths = {"json": STDOUT}
        self._files: dict[str, IO[bytes]] = {}
        self._people = 0
        self.pictures = 0

    def add(
        self,
        poses: Poses,
        source: str,
        *,
        index: int,
        seconds: float | None = None,
        image_id: int | None = None,
    ) -> None:
        """Adds the people of one picture, the index-th one. image_id: COCO's, `index` if None."""
        about = {"source": source, "frame": index}
        if seconds is not None:
            about["seconds"] = round(seconds, 6)
        if "json" in self._files:
            self._write("json", to_json_line(poses, **about))
        if "csv" in self._files:
            self._write("csv", to_csv(poses, source, index))
        if "coco" in self._files:
            write = to_coco_wholebody if poses.keypoint_set.parts else to_coco
            for person in write(poses, index if image_id is None else image_id):
                self._write("coco", (",\n" if self._people else "\n") + json.dumps(person))
                self._people += 1
        self.pictures += 1

    def _write(self, form: str, text: str) -> None:
        self._files[form].write(text.encode())

    def __enter__(self) -> Results:
        with ExitStack() as stack:
            for form, path in self._paths.items():
                if path == STDOUT:
                    self._files[form] = sys.stdout.buffer
                else:
                    self._files[form] = stack.enter_context(output_file(path))
            self._stack = stack.pop_all()
        if "csv" in self._files:
            self._write("csv", CSV_HEADER)
        if "coco" in self._files:
            self._write("coco", "[")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is None and "coco" in self._files:
            self._write("coco", "\n]\n")
        self._stack.__exit__(kind, error, trace)
