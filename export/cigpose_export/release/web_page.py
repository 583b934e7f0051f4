"""The web page as an archive of a release: unpacked, any web server serves it, GitHub Pages too."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from cigpose_export.project import Project
from cigpose_runtime.web.engine import engine_files
from cigpose_runtime.web.folder import BOXES, read_folder
from cigpose_runtime.web.server import page_files, write_site
from cigpose_verify.cases import CROPS, PHOTOGRAPHS

PAGE = "page.zip"

NPM_INSTALL = "npm ci --ignore-scripts --prefix runtime/examples"
"""Gets the engine, as package-lock.json has it; `engine_files` compares what comes."""

_LARGEST = 100_000_000
"""Bytes of a file that GitHub Pages takes."""


def engine_of(project: Project) -> Path | None:
    """The npm package onnxruntime-web in a clone; None where NPM_INSTALL was not run."""
    folder = project.root / "runtime/examples/node_modules/onnxruntime-web"
    return folder if folder.is_dir() else None


@contextmanager
def page_site(engine: Path, models: Sequence[Path]) -> Iterator[Mapping[str, Path]]:
    """The files of the page by name, while the context lasts.

    The page offers the smallest of the models, if GitHub Pages takes it, and a photograph.
    Raises FileError or CheckError for another engine than the pinned one.
    """
    with tempfile.TemporaryDirectory() as folder:
        offered, site = Path(folder) / "offered", Path(folder) / "site"
        offered.mkdir()
        size, smallest = min((path.stat().st_size, path) for path in models)
        if size <= _LARGEST:
            shutil.copy(smallest, offered)
        picture, box, _ = CROPS["astronaut"]
        shutil.copy(PHOTOGRAPHS / picture, offered)
        (offered / BOXES).write_text(json.dumps({picture: [box]}), "utf-8")
        write_site(page_files(engine_files(engine), read_folder(offered)), site)
        yield {
            path.relative_to(site).as_posix(): path for path in site.rglob("*") if path.is_file()
        }
