"""What lies in a folder that should be a release, whoever filled it."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path

from cigpose_runtime.errors import CheckError, quoted
from cigpose_runtime.releases.manifest import UNLISTED, Manifest, asset_name

_CARRIED_FOLDERS = frozenset({".git", ".cache/huggingface", "__MACOSX"})
_CARRIED = re.compile(
    r"(?!/|(?:.*/)?\.\.(?:/|\Z))(?:(?:\.git|\.cache/huggingface|__MACOSX)(?:/.*)?|\.cache/"
    r"|(?:.*/)?(?:\.gitattributes|\.DS_Store|\._[^/]*|Thumbs\.db|desktop\.ini)"
    r"|.*\.(?:jpe?g|png|webp|bmp|tiff?|mp4|mov|m4v))",
    re.DOTALL | re.IGNORECASE,
)
"""Git's, Hugging Face's, macOS's and Windows' own files, and the pictures and videos of --save.
Nothing whose name leads elsewhere."""

_MOST_NAMED = 8


def files_in(folder: Path) -> tuple[set[str], list[CheckError]]:
    """The plain files of a folder by relative path, and what else there is that no release has.

    That is folders that are empty or cannot be read. Nothing is opened but folders. One that only a
    transport fills is not looked into; its name stands among the files, with a slash.
    Raises CheckError for a link, pipe or device: whoever opens one may leave the folder, or hang.
    """
    files: set[str] = set()
    errors = []
    pending = [""]
    while pending:
        inside = pending.pop()
        try:
            with os.scandir(folder / inside) as found:
                entries = sorted(found, key=lambda entry: entry.name)
        except OSError as error:
            reason = error.strerror or type(error).__name__
            errors.append(
                CheckError(f"{inside}: expected a folder to look into, found: {reason}; remove it")
            )
            continue
        if inside and not entries:
            errors.append(CheckError(f"{inside}: expected no empty folder; remove it"))
        for entry in entries:
            name = f"{inside}/{entry.name}" if inside else entry.name
            if entry.is_dir(follow_symlinks=False) and name in _CARRIED_FOLDERS:
                files.add(f"{name}/")
            elif entry.is_dir(follow_symlinks=False):
                pending.append(name)
            elif entry.is_file(follow_symlinks=False):
                files.add(name)
            else:
                raise CheckError(
                    f"{name}: expected a plain file, found a link or device; remove it"
                )
    return files, errors


def naming_of(files: set[str], manifest: Manifest) -> Callable[[str], str]:
    """How these files of a release are named by path: as they are, or as assets of GitHub."""
    inside = {file.path for file in manifest.files if "/" in file.path}
    is_flat = len(inside & files) < len({asset_name(path) for path in inside} & files)
    return asset_name if is_flat else str


def not_of_release(files: set[str], manifest: Manifest) -> list[str]:
    """Those of the files that the release of this manifest does not have, sorted."""
    name_of = naming_of(files, manifest)
    return sorted(files - UNLISTED - {name_of(file.path) for file in manifest.files})


def is_carried(path: str) -> bool:
    """Whether a file that no release has is of a kind that comes on the way, and nothing here runs.

    That is what transports and file managers add, and pictures and videos that were made with it.
    """
    return _CARRIED.fullmatch(path) is not None


def said_of_carried(paths: Sequence[str]) -> str:
    """One line that names what `is_carried`."""
    more = len(paths) - _MOST_NAMED
    names = ", ".join(quoted(path) for path in sorted(paths)[:_MOST_NAMED])
    return f"not of the release, and not looked at: {names}" + (f", {more} more" * (more > 0))
