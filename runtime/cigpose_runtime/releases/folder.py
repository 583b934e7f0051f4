"""What lies in a folder that should be a release, whoever filled it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from cigpose_runtime.errors import CheckError
from cigpose_runtime.releases.manifest import UNLISTED, Manifest, asset_name


def files_in(folder: Path) -> tuple[set[str], list[CheckError]]:
    """The plain files of a folder by relative path, and what else there is that no release has.

    That is folders that are empty or cannot be read. Nothing is opened but folders.
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
            if entry.is_dir(follow_symlinks=False):
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
    is_flat = not inside & files and any(asset_name(path) in files for path in inside)
    return asset_name if is_flat else str


def not_of_release(files: set[str], manifest: Manifest) -> list[str]:
    """Those of the files that the release of this manifest does not have, sorted."""
    name_of = naming_of(files, manifest)
    return sorted(files - UNLISTED - {name_of(file.path) for file in manifest.files})
