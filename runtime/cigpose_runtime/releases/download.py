"""Fetches models of a published release: each byte is accounted for by the release's manifest."""

from __future__ import annotations

import difflib
import hashlib
import os
import re
import shutil
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from http.client import HTTPException
from pathlib import Path
from typing import IO

from cigpose_runtime.errors import CheckError, DownloadError, InputError, error_context, quoted
from cigpose_runtime.files import appears_whole, file_sha256, locked, read_bytes
from cigpose_runtime.releases.manifest import MANIFEST, Manifest, ReleasedFile, asset_name

TIMEOUT_S = 30.0
"""Without a byte from the server."""

TRIES = 4
"""In a row that bring nothing."""

_SPEC = re.compile(r"(?P<repository>[\w.-]+/[\w.-]+)(@(?P<tag>[\w.+/-]+))?")
_LARGEST_MANIFEST = 1 << 24
_CHUNK_BYTES = 1 << 20

OnBytes = Callable[[str, int, int], None]
"""Told the path of a file, the bytes so far, and in all."""


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
            tag = urllib.parse.quote(found["tag"], safe="")
            return cls(f"{server}/{found['repository']}/releases/download/{tag}/", flat=True)
        if scheme == "hf" and found:
            server = os.environ.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/")
            return cls(f"{server}/{found['repository']}/resolve/{found['tag'] or 'main'}/")
        if scheme in ("http", "https", "file") and rest.startswith("//"):
            return cls(text.rstrip("/") + "/")
        if text and scheme not in ("github", "hf") and Path(text).is_dir():
            return cls(Path(text).absolute().as_uri() + "/")
        raise InputError(
            f"{quoted(text)}: expected a release as github:OWNER/REPO@TAG, hf:ORG/REPO, a URL or a "
            "folder, found none; say where the models are published"
        )

    def url(self, path: str) -> str:
        """The URL of a file of the release."""
        return self.base + urllib.parse.quote(asset_name(path) if self.flat else path)


def default_cache() -> Path:
    """CIGPOSE_CACHE, or `cigpose` among this user's caches."""
    if chosen := os.environ.get("CIGPOSE_CACHE"):
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "cigpose"


def fetch_model(
    name: str,
    source: Source,
    out: Path,
    *,
    cache: Path | None = None,
    on_bytes: OnBytes = lambda _path, _done, _total: None,
    say: Callable[[str], None] = lambda _message: None,
) -> Path:
    """Fetches a model and its golden vectors into the folder `out`; returns the model's path.

    What was fetched once stays in the cache by its hash, and is used without a network; an
    interrupted download goes on where it ended.

    say: told when the cache stands in for the network.
    Raises InputError for a name that the release lacks, DownloadError when the network fails,
    CheckError for bytes that are not those of the manifest.
    """
    cache = cache or default_cache()
    manifest = _manifest(source, cache, say)
    if name not in manifest.models:
        near = difflib.get_close_matches(name, manifest.models, n=3, cutoff=0.5)
        known = ", ".join(near or sorted(manifest.models)) or "no model"
        raise InputError(
            f"{quoted(name)}: expected a model of the release, found none of that name; it has "
            f"{known}"
        )
    model = manifest.models[name]
    if model != f"{name}.onnx":
        raise CheckError(
            f"{MANIFEST}: expected {quoted(name)} to be in the file {name}.onnx, found "
            f"{quoted(model)}; fetch nothing from there, and tell the publisher"
        )
    vectors = [file for file in manifest.files if file.path.startswith(f"golden/{name}/")]
    if odd := [file.path for file in vectors if not file.path.endswith((".json", ".pb"))]:
        raise CheckError(
            f"{MANIFEST}: expected golden vectors in .json and .pb files, found {quoted(odd[0])}; "
            "fetch nothing from there, and tell the publisher"
        )
    for file in manifest.files:
        if file.path == model or file in vectors:
            _place(file, source, out / file.path, cache, on_bytes)
    return out / model


def _place(file: ReleasedFile, source: Source, target: Path, cache: Path, on: OnBytes) -> None:
    if _holds(target, file):
        return
    blob = cache / "blobs" / file.sha256
    if not _holds(blob, file):
        _download(file, source, blob, on)
    with blob.open("rb") as content, appears_whole(target) as copy:
        shutil.copyfileobj(content, copy, _CHUNK_BYTES)


def _holds(path: Path, file: ReleasedFile) -> bool:
    return path.is_file() and path.stat().st_size == file.size and file_sha256(path) == file.sha256


def _manifest(source: Source, cache: Path, say: Callable[[str], None]) -> Manifest:
    url = source.url(MANIFEST)
    kept = cache / "manifests" / f"{hashlib.sha256(url.encode()).hexdigest()}.json"
    try:
        with _open(url) as answer:
            content = answer.read(_LARGEST_MANIFEST)
    except DownloadError as error:
        if not kept.is_file():
            raise
        say(f"{error}; going by the manifest in the cache")
        content = read_bytes(kept, "a manifest in the cache")
    with error_context(url):
        manifest = Manifest.from_json(content.decode("utf-8", "replace"))
    with appears_whole(kept) as copy:
        copy.write(content)
    return manifest


def _download(file: ReleasedFile, source: Source, blob: Path, on_bytes: OnBytes) -> None:
    """Fills the blob's .part, going on with what is there, and names it once its hash is right."""
    blob.parent.mkdir(parents=True, exist_ok=True)
    part = blob.with_name(f".{blob.name}.part")
    with part.open("ab") as content, locked(part):
        tries = 0
        while (before := part.stat().st_size) < file.size:
            try:
                _append(file, source.url(file.path), content, on_bytes)
            except DownloadError:
                tries = tries + 1 if part.stat().st_size == before else 1
                if tries >= TRIES:
                    raise
                time.sleep(2.0 ** (tries - 1))
    if not _holds(part, file):
        found = file_sha256(part)
        part.unlink()
        raise CheckError(
            f"{file.path}: expected sha256 {file.sha256[:12]} by the manifest, found "
            f"{found[:12]}; fetch it again, and if that persists tell the publisher"
        )
    part.replace(blob)


def _append(file: ReleasedFile, url: str, content: IO[bytes], on_bytes: OnBytes) -> None:
    content.flush()
    done = content.seek(0, os.SEEK_END)
    with _open(url, done) as answer:
        if getattr(answer, "status", None) != HTTPStatus.PARTIAL_CONTENT and done:
            content.truncate(done := 0)  # this server starts from the beginning
        try:
            while chunk := answer.read(_CHUNK_BYTES):
                content.write(chunk)
                done += len(chunk)
                on_bytes(file.path, done, file.size)
                if done > file.size:
                    break
        except (OSError, HTTPException) as error:
            raise DownloadError(f"{url}: broke off ({_reason(error)})") from error
        finally:
            content.flush()
    if done < file.size:
        raise DownloadError(f"{url}: broke off after {done} of {file.size} bytes; run it again")


@contextmanager
def _open(url: str, done: int = 0) -> Iterator[IO[bytes]]:
    """Opens a URL from byte `done` on, if the server can. Raises DownloadError."""
    request = urllib.request.Request(url, headers={"User-Agent": "cigpose-runtime"})
    if done:
        request.add_header("Range", f"bytes={done}-")
    try:
        # Which schemes there may be is Source's business.
        answer = urllib.request.urlopen(request, timeout=TIMEOUT_S)
    except urllib.error.HTTPError as error:
        error.close()
        raise DownloadError(
            f"{url}: expected a file of a release, the server answers {error.code} "
            f"{error.reason}; check where it is published"
        ) from error
    except (OSError, HTTPException) as error:
        raise DownloadError(
            f"{url}: expected a server that answers, found none ({_reason(error)}); check the "
            "network and run it again, it goes on where it stopped"
        ) from error
    with answer:
        yield answer


def _reason(error: Exception) -> str:
    reason = getattr(error, "reason", None) or error
    return str(getattr(reason, "strerror", None) or reason or type(error).__name__)
