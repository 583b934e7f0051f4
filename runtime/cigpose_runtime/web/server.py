"""Serves the page, its engine and a folder on this machine, to who knows the address."""

from __future__ import annotations

import json
import secrets
import shutil
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import unquote, urlsplit

from cigpose_runtime.errors import FileError
from cigpose_runtime.loopback import LoopbackHandler, LoopbackServer
from cigpose_runtime.web.folder import FILE_TYPES, LISTING, Folder

PAGE_FOLDER = Path(__file__).parent / "page"
INDEX = "index.html"
ENGINE = "engine"
FOLDER = "folder"

_TYPES = {
    **FILE_TYPES,
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".mjs": "text/javascript; charset=utf-8",
    ".wasm": "application/wasm",
    ".txt": "text/plain; charset=utf-8",
}

HEADERS = {
    "Cache-Control": "no-cache",
    "Content-Security-Policy": "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; "
    "style-src 'self'; img-src 'self' blob: data:; media-src 'self' blob:; connect-src 'self'; "
    "worker-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(self), microphone=(), geolocation=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
"""Of every answer: nothing leaves this machine, no other page may show it or learn its address, and
the page may use threads, which browsers allow where Opener and Embedder are policed."""


def page_files(engine: Mapping[str, Path], folder: Folder) -> dict[str, Path | bytes]:
    """All that the page asks for, by its path below the page: files, or the bytes of one."""
    page = {path.name: path for path in PAGE_FOLDER.iterdir()}
    return {
        **page,
        "": page[INDEX],
        **{f"{ENGINE}/{name}": path for name, path in engine.items()},
        **{f"{FOLDER}/{name}": path for name, path in folder.files.items()},
        f"{FOLDER}/{LISTING}": json.dumps(folder.listing).encode(),
    }


def write_site(files: Mapping[str, Path | bytes], folder: Path) -> None:
    """Writes page_files into a new folder that any web server can serve, GitHub Pages too.

    Raises FileError where there is something already.
    """
    if folder.exists():
        raise FileError(f"{folder}: expected no such folder yet, found one; name another")
    for name, content in files.items():
        target = folder / (name or INDEX)
        target.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, bytes):
            target.write_bytes(content)
        else:
            shutil.copyfile(content, target)


class WebServer(LoopbackServer):
    """Answers with these files below a secret path, `url`; `serve_forever` runs it.

    port: 0 takes a free one. Raises InputError when it is taken.
    """

    most_clients = 64
    """A browser asks for 6 files at once, and for the next before the last thread has ended."""

    def __init__(self, port: int, files: Mapping[str, Path | bytes]) -> None:
        super().__init__(port, _Handler, "--port")
        self.files = files
        self.path = f"/{secrets.token_urlsafe(16)}/"
        self.url = f"http://127.0.0.1:{self.server_port}{self.path}"


class _Handler(LoopbackHandler):
    server: WebServer
    of_every_answer = HEADERS

    def do_GET(self) -> None:  # noqa: N802 - http.server asks for this name
        if self.refuses_host():
            return
        path, start = urlsplit(self.path).path, self.server.path
        is_known = secrets.compare_digest(path[: len(start)].encode(), start.encode())
        found = self.server.files.get(unquote(path[len(start) :]))
        if found is None or not is_known:
            self.say_not_found()
        elif isinstance(found, bytes):
            self.say(200, _TYPES[".json"], found)
        else:
            with found.open("rb") as file:
                self.begin(200, _TYPES[found.suffix.lower()], found.stat().st_size)
                shutil.copyfileobj(file, self.wfile, 1 << 20)
