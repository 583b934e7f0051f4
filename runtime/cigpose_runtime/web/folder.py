"""A folder of models, pictures and clips as the page lists it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cigpose_runtime.errors import FileError
from cigpose_runtime.files import file_sha256
from cigpose_runtime.releases.manifest import MANIFEST, read_manifest

LISTING = "folder.json"

BOXES = "boxes.json"
"""Boxes by the names of pictures and clips, as `--boxes` takes them."""

MEDIA_TYPES = {
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".png": "image/png",
    ".webp": "image/webp",
    ".mp4": "video/mp4",
    ".webm": "video/webm",
}
"""Of pictures and clips that every browser shows."""

FILE_TYPES = {".onnx": "application/octet-stream", ".json": "application/json", **MEDIA_TYPES}


@dataclass(frozen=True)
class Folder:
    """What the page may ask for. files: by name. listing: the JSON document that names them.

    The document has `models`, each with `file`, `size` and `sha256`, `media`, names of pictures and
    then of clips, and `boxes`, whether there is a BOXES.
    """

    files: Mapping[str, Path]
    listing: Mapping[str, Any]


def read_folder(folder: Path | None) -> Folder:
    """What lies in a folder, not in folders inside; nothing for None.

    A release's models are those of its manifest, with their hashes; others are hashed now.
    Raises FileError for no folder, CheckError for a manifest that cannot be used.
    """
    files: dict[str, Path] = {}
    if folder is not None:
        if not folder.is_dir():
            raise FileError(
                f"{folder}: expected a folder of models and pictures, found none; give its path"
            )
        files = {
            path.name: path
            for path in sorted(folder.iterdir())
            if path.suffix.lower() in FILE_TYPES
            and not path.name.startswith(".")
            and path.is_file()
            and not path.is_symlink()
        }
    hashes = {}
    if folder is not None and MANIFEST in files:
        hashes = {file.path: file.sha256 for file in read_manifest(folder).files}
    models = [
        {
            "file": name,
            "size": path.stat().st_size,
            "sha256": hashes.get(name) or file_sha256(path),
        }
        for name, path in files.items()
        if path.suffix.lower() == ".onnx"
    ]
    kinds = {name: MEDIA_TYPES.get(path.suffix.lower(), "") for name, path in files.items()}
    media = sorted(filter(kinds.get, files), key=lambda name: (kinds[name][:5], name))
    listing = {"models": models, "media": media, "boxes": BOXES in files}
    names = {*(model["file"] for model in models), *media, BOXES}
    return Folder({name: path for name, path in files.items() if name in names}, listing)
