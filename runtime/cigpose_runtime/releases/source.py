"""Where a release is published, and how its files are read from there."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, urlsplit
from urllib.request import url2pathname

from cigpose_runtime.errors import DownloadError, FileError, InputError, quoted
from cigpose_runtime.files import open_file
from cigpose_runtime.releases.http import masked, open_http
from cigpose_runtime.releases.manifest import asset_name

_SPEC = re.compile(r"(?P<repository>[\w.-]+/[\w.-]+)(@(?P<tag>[\w.+/-]+))?")
_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True)
class Source:
    """Where a release is published: a URL for a path in it, as text that ends in the path."""

    base: str
    flat: bool = False

    @classmethod
    def of(cls, text: str) -> Source:
        """From github:OWNER/REPO@TAG, hf:ORG/REPO[@TAG], a URL or a folder.

        Raises InputError for anything else.
        """
        scheme, _, rest = text.partition(":")
        found = _SPEC.fullmatch(rest)
        if scheme == "github" and found and found["tag"]:
            server = os.environ.get("GITHUB_SERVER_URL", "https://github.com").rstrip("/")
            tag = quote(found["tag"], safe="")
            return cls(f"{server}/{found['repository']}/releases/download/{tag}/", flat=True)
        if scheme == "hf" and found:
            server = os.environ.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/")
            return cls(f"{server}/{found['repository']}/resolve/{found['tag'] or 'main'}/")
        if scheme in ("http", "https", "file") and rest.startswith("//"):
            if "@" in rest[2:].partition("/")[0] or re.search("[?#]", rest):
                raise InputError(
                    f"{masked(text)}: expected a URL without user, password or query, found one "
                    "with; fetch the folder yourself and give its path"
                )
            return cls(text.rstrip("/") + "/")
        if text and scheme not in ("github", "hf") and Path(text).is_dir():
            return cls(Path(text).absolute().as_uri() + "/")
        raise InputError(
            f"{quoted(masked(text))}: expected a release as github:OWNER/REPO@TAG, hf:ORG/REPO, a "
            "URL or a folder, found none; say where the models are published"
        )

    def url(self, path: str) -> str:
        """The URL of a file of the release."""
        return self.base + quote(asset_name(path) if self.flat else path)


@contextmanager
def open_url(url: str, most: int, start: int = 0) -> Iterator[tuple[int, Iterator[bytes]]]:
    """Opens a file of a release; yields where its content begins, and that in portions.

    most: how many bytes the file may have. start: the byte to begin at, if the server can.
    Raises DownloadError, GoneError, and CheckError for more bytes; while it is read, too.
    """
    if urlsplit(url).scheme == "file":
        yield start, _portions(url2pathname(urlsplit(url).path), start)
    else:
        with open_http(url, most, start) as answer:
            yield answer


def _portions(path: str, start: int) -> Iterator[bytes]:
    try:
        with open_file(path, "a file of a release") as file:
            file.seek(start)
            while portion := file.read(_CHUNK_BYTES):
                yield portion
    except FileError as error:
        raise DownloadError(str(error)) from error
