"""Where annotated pictures and videos of several sources go, in one folder."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path, PurePath

from cigpose_runtime.errors import FileError


def in_folder(folder: Path, names: Iterable[PurePath]) -> list[Path]:
    """A place for each of these names, relative to the folder; equal ones are numbered.

    Raises FileError for a folder in such a place.
    """
    targets: list[Path] = []
    taken: set[str] = set()
    for name in names:
        target, number = folder / name, 1
        while str(target).casefold() in taken:  # one name to some file systems
            number += 1
            target = folder / name.with_name(f"{name.stem}-{number}{name.suffix}")
        if target.is_dir():
            raise FileError(
                f"{target}: expected a place for an annotated copy, found a folder; give another "
                "folder for --save"
            )
        taken.add(str(target).casefold())
        targets.append(target)
    return targets
