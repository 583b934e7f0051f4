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
from cigpose_runtime.files import appears_whole
from cigpose_runtime.poses import Poses
from cigpose_runtime.writers import CSV_HEADER, to_coco, to_coco_wholebody, to_csv, to_json_line

STDOUT = Path("-")


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options that say which results are written."""
    group = parser.add_argument_group("results ('-' is stdout)")
    group.add_argument("--json", type=Path, metavar="FILE", help="JSON lines, one a picture")
    group.add_argument(
        "--coco", type=Path, metavar="FILE", help="COCO results; whole-body ones with all parts"
    )
    group.add_argument("--csv", type=Path, metavar="FILE", help="one line a keypoint")


class Results:
    """Writes poses to the files that the options name; JSON lines to stdout if they name none.

    Used as a context: an error discards the files, Ctrl-C and the end finish them.
    """

    def __init__(self, args: argparse.Namespace, *, saves: bool) -> None:
        self._paths: dict[str, Path] = {
            form: path for form in ("json", "coco", "csv") if (path := getattr(args, form))
        }
        if not self._paths and not saves:
            self._paths = {"json": STDOUT}
        self._files: dict[str, IO[bytes]] = {}
        self._stack = ExitStack()
        self._count = 0

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
                self._write("coco", (",\n" if self._count else "\n") + json.dumps(person))
                self._count += 1

    def _write(self, form: str, text: str) -> None:
        self._files[form].write(text.encode())

    def __enter__(self) -> Results:
        for form, path in self._paths.items():
            if path == STDOUT:
                self._files[form] = sys.stdout.buffer
            else:
                try:
                    self._files[form] = self._stack.enter_context(appears_whole(path))
                except OSError as error:
                    self._stack.close()
                    raise FileError(
                        f"{path}: expected a place to write to, found: {error.strerror}; correct it"
                    ) from error
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
