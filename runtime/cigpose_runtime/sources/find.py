"""From a SOURCE of a command line to the files that it names, in order."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePath, PurePosixPath

from cigpose_runtime.errors import FileError
from cigpose_runtime.media.images import PLUGINS
from cigpose_runtime.sources import storage

LIST_SUFFIX = ".txt"

_SIGNS = frozenset("*?[")
"""Of patterns."""


@dataclass(frozen=True)
class Found:
    """A file that a source gave.

    name: as the source spells it. root: the folder that was given, or the part of a pattern before
    its first sign; None for a file by its name. listed_stamp: what the folder's list says.
    """

    name: str
    root: str | None = None
    listed_stamp: str | None = None

    @property
    def stamp(self) -> str:
        """Changes when the file does."""
        return storage.stamp_of(self.name) if self.listed_stamp is None else self.listed_stamp

    @property
    def relative(self) -> PurePath:
        """Where it is, as seen from the root, and never outside."""
        path = Path(self.name)
        relative = Path(path.name) if self.root is None else path.relative_to(self.root)
        return Path(path.name) if ".." in relative.parts else relative


class Endings:
    """Which files of a folder are taken: those with one of these endings; the others are counted.

    skipped: how many there were, by ending.
    """

    def __init__(self, wanted: Collection[str]) -> None:
        self._wanted = wanted
        self.skipped: Counter[str] = Counter()

    def __call__(self, name: str) -> bool:
        is_wanted = suffix(name) in self._wanted
        if not is_wanted:
            self.skipped[suffix(name)] += 1
        return is_wanted

    def said(self, expected: str) -> str:
        """What was left out, and what would read it, as one line; "" if nothing was."""
        if not self.skipped:
            return ""
        counts = ", ".join(
            f"{ending or 'no ending'}: {n}" for ending, n in self.skipped.most_common()
        )
        packages = sorted({PLUGINS[ending][1] for ending in self.skipped if ending in PLUGINS})
        hint = f"; to read more: pip install {' '.join(packages)}" if packages else ""
        return f"left out what is no {expected} by its name ({counts}){hint}"


def find(
    source: str, endings: Endings, expected: str, *, but: str | None = None
) -> Iterator[Found]:
    """The files that a source names: itself, those of a folder and its folders, or of a pattern.

    A text file is a list, with a file a line, as seen from the working folder; one that is not
    there is found out when it is its turn. but: nothing below that folder is found.
    Raises FileError for a source that is not there. expected: what it should be: "pictures".
    """
    kind = storage.kind_of(source)
    if kind is None:
        names = storage.matching(source) if _SIGNS & set(source) else []
        if not names:
            raise FileError(f"{source}: expected {expected}, found nothing; correct it")
        for name in names:
            for one in find(name, endings, expected, but=but):
                yield Found(one.name, _before_signs(source), one.listed_stamp)
    elif kind == "directory":
        for name, stamp in storage.files_below(source, but=but):
            # A Mac leaves such files beside others on foreign disks.
            if not PurePosixPath(name).name.startswith("._") and endings(name):
                yield Found(name, source, stamp)
    elif suffix(source) == LIST_SUFFIX:
        for line in _lines(source, expected):
            yield Found(line)
    else:
        yield Found(source)


def _before_signs(pattern: str) -> str:
    parts = Path(pattern).parts
    first = next(place for place, part in enumerate(parts) if _SIGNS & set(part))
    return str(Path(*parts[:first]))


def _lines(name: str, expected: str) -> Iterable[str]:
    try:
        lines = storage.read(name, f"a list of {expected}").decode("utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise FileError(
            f"{name}: expected a list of {expected} in UTF-8, found other bytes ({error}); save it "
            "again"
        ) from error
    return filter(None, map(str.strip, lines))


def suffix(name: str) -> str:
    """The ending of a name, which says what a file is."""
    return PurePosixPath(name).suffix.lower()
