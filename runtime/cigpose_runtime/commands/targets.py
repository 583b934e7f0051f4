"""Where results of several sources go, in one folder."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path, PurePath

from cigpose_runtime.errors import FileError


class DistinctNames:
    """Gives each name once: equal ones are numbered, and those that some file systems take for so.

    >>> name = DistinctNames()
    >>> [name("a", ".png"), name("A", ".png"), name("a", ".jpg")]
    ['a.png', 'A-2.png', 'a.jpg']
    """

    def __init__(self) -> None:
        self._taken: set[str] = set()

    def __call__(self, stem: str, ending: str) -> str:
        name, number = f"{stem}{ending}", 1
        while name.casefold() in self._taken:
            number += 1
            name = f"{stem}-{number}{ending}"
        self._taken.add(name.casefold())
        return name


def in_folder(folder: Path, names: Iterable[PurePath]) -> list[Path]:
    """A place for each of these names, relative to the folder.

    Raises FileError for a folder in such a place.
    """
    targets: list[Path] = []
    distinct = DistinctNames()
    for name in names:
        target = folder / distinct(str(name.with_suffix("")), name.suffix)
        if target.is_dir():
            raise FileError(
                f"{target}: expected a place for an annotated copy, found a folder; give another "
                "folder for --save"
            )
        targets.append(target)
    return targets
