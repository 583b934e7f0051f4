"""Fetches models of a published release: each byte is accounted for by the release's manifest."""

from __future__ import annotations

import difflib
import hashlib
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from cigpose_runtime.errors import (
    CheckError,
    DownloadError,
    FileError,
    InputError,
    error_context,
    quoted,
)
from cigpose_runtime.files import appears_whole, file_sha256, locked, read_bytes
from cigpose_runtime.releases.cache import (
    copy_out,
    default_cache,
    holds,
    keep_blob,
    newest_version,
    was_fetched,
)
from cigpose_runtime.releases.http import GoneError, masked
from cigpose_runtime.releases.manifest import (
    MANIFEST,
    MANIFEST_BYTES,
    SIGNATURE,
    SIGNATURE_BYTES,
    Manifest,
    ReleasedFile,
)
from cigpose_runtime.releases.signature import require_signed_manifest
from cigpose_runtime.releases.source import Source, open_url

TRIES = 4
"""In a row that bring next to nothing."""

_WORTH_A_TRY = 1 << 18
"""Bytes. A server that breaks off sooner each time is given up."""

_CHUNK_BYTES = 1 << 20

OnBytes = Callable[[str, int, int], None]
"""Told the path of a file, the bytes so far, and in all."""


def fetch_model(
    name: str,
    source: Source,
    out: Path,
    *,
    cache: Path | None = None,
    public_key: Path | None = None,
    allow_older: bool = False,
    on_bytes: OnBytes = lambda _path, _done, _total: None,
    say: Callable[[str], None] = lambda _message: None,
) -> Path:
    """Fetches a model and its golden vectors into the folder `out`; returns the model's path.

    The release's manifest is kept with the golden vectors, as golden/NAME/manifest.json.
    What was fetched once stays in the cache by its hash, and is used without a network; an
    interrupted download goes on where it ended.

    public_key: PEM file of the key by whose owner the manifest, and so all it lists, has to be
    signed. allow_older: fetches an older version than was fetched from there before.
    say: told when the cache stands in for the network.
    Raises InputError for a name that the release lacks, and for a file in the way that came from no
    release; DownloadError when the network fails, CheckError for bytes that are not those of the
    manifest, FileError where a folder cannot be written into.
    """
    cache = cache or default_cache()
    with _unwritable_is_an_error(out):
        manifest, content = _manifest(source, cache, public_key, allow_older, say)
        files = [*_files_of(name, manifest), keep_blob(content, f"golden/{name}/{MANIFEST}", cache)]
        for file in [one for one in files if _is_wanted(out / one.path, one, cache)]:
            _place(file, source, out / file.path, cache, on_bytes)
    return out / manifest.models[name]


@contextmanager
def _unwritable_is_an_error(out: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise FileError(
            f"{error.filename or out}: expected a folder to write into, found: "
            f"{error.strerror or error}; make room, correct its permissions, or choose another "
            "with --out, or in CIGPOSE_CACHE for the cache"
        ) from error


def _files_of(name: str, manifest: Manifest) -> list[ReleasedFile]:
    """The model of this name, and its golden vectors."""
    if name not in manifest.models:
        near = difflib.get_close_matches(name[:100], manifest.models, n=3, cutoff=0.5)
        known = ", ".join(near or sorted(manifest.models)[:20]) or "no model"
        raise InputError(
            f"{quoted(name)}: expected a model of the release, found none of that name; it has "
            f"{known}"
        )
    vectors = [file for file in manifest.files if file.path.startswith(f"golden/{name}/")]
    taken = f"golden/{name}/{MANIFEST}".lower()
    if odd := [
        file.path
        for file in vectors
        if not file.path.endswith((".json", ".pb")) or file.path.lower().startswith(taken)
    ]:
        raise CheckError(
            f"{MANIFEST}: expected golden vectors in .json and .pb files, found {quoted(odd[0])}; "
            "fetch nothing from there, and tell the publisher"
        )
    return [file for file in manifest.files if file.path == manifest.models[name]] + vectors


def _is_wanted(target: Path, file: ReleasedFile, cache: Path) -> bool:
    """False if the file is there. Raises InputError for what is there and came from no release."""
    if not os.path.lexists(target):
        return True
    if holds(target, file):
        return False
    if target.is_symlink() or not target.is_file() or not was_fetched(target, cache):
        raise InputError(
            f"{target}: expected nothing there, or a file that get has fetched, found another; "
            "move it, or fetch into another folder with --out"
        )
    return True


def _place(file: ReleasedFile, source: Source, target: Path, cache: Path, on: OnBytes) -> None:
    blob = cache / "blobs" / file.sha256
    if copy_out(blob, file, target):
        return
    blob.parent.mkdir(parents=True, exist_ok=True)
    lock = blob.with_name(f".{blob.name}.lock")
    lock.touch()  # and it stays: whoever removed it would take it from under those who wait
    with locked(lock):
        if not holds(blob, file):  # another process may have brought it meanwhile
            _download(file, source, blob, on)
    if not copy_out(blob, file, target):
        raise CheckError(
            f"{blob}: expected the file that was put there just now, found another; choose a "
            "folder that only you write into, in CIGPOSE_CACHE"
        )


def _manifest(
    source: Source,
    cache: Path,
    public_key: Path | None,
    allow_older: bool,
    say: Callable[[str], None],
) -> tuple[Manifest, bytes]:
    """The manifest of the release, and its bytes: signed, if there is a key, and none too old."""
    url = source.url(MANIFEST)
    kept = cache / "manifests" / f"{hashlib.sha256(url.encode()).hexdigest()}.json"
    content = _read_or_kept(url, MANIFEST_BYTES, kept, say)
    with error_context(masked(url)):
        manifest = Manifest.from_json(content.decode("utf-8", "replace"))
    to_keep = {kept: content}
    if public_key is not None:
        kept_signature = kept.with_suffix(".sig")
        signature = _read_or_kept(source.url(SIGNATURE), SIGNATURE_BYTES, kept_signature, say)
        with error_context(masked(url)):
            require_signed_manifest(signature, content, public_key)
        to_keep[kept_signature] = signature
    with error_context(masked(url)):
        newest_version(kept.with_suffix(".version"), manifest.version, allow_older=allow_older)
    for path, copied in to_keep.items():
        with appears_whole(path) as copy:
            copy.write(copied)
    return manifest, content


def _read_or_kept(url: str, most: int, kept: Path, say: Callable[[str], None]) -> bytes:
    """What is published there; without a network, the copy in the cache."""
    try:
        with open_url(url, most) as (_, portions):
            return b"".join(portions)
    except GoneError:
        kept.unlink(missing_ok=True)
        raise
    except DownloadError as error:
        if not kept.is_file():
            raise
        say(f"{error}; going by the one in the cache")
        return read_bytes(kept, "a copy in the cache", most=most)


def _download(file: ReleasedFile, source: Source, blob: Path, on_bytes: OnBytes) -> None:
    """Fills the blob's .part, going on with what is there, and names it once its hash is right."""
    part = blob.with_name(f".{blob.name}.part")
    with part.open("ab") as content:
        if content.tell() > file.size:
            _empty(content)
        free = shutil.disk_usage(blob.parent).free
        if free < file.size - content.tell():
            raise FileError(
                f"{blob.parent}: expected room for {file.path}, {file.size / 1e6:.0f} MB, found "
                f"{free / 1e6:.0f}; make room, or choose another folder in CIGPOSE_CACHE"
            )
        tries = 0
        while (before := content.tell()) < file.size:
            try:
                _append(file, source.url(file.path), content, on_bytes)
            except GoneError:
                raise
            except DownloadError:
                tries = 1 if content.tell() - before >= _WORTH_A_TRY else tries + 1
                if tries >= TRIES:
                    raise
                time.sleep(2.0 ** (tries - 1))
    if not holds(part, file):
        found = file_sha256(part)
        part.unlink()
        raise CheckError(
            f"{file.path}: expected sha256 {file.sha256[:12]} by the manifest, found "
            f"{found[:12]}; fetch it again, and if that persists tell the publisher"
        )
    part.replace(blob)


def _append(file: ReleasedFile, url: str, content: BinaryIO, on_bytes: OnBytes) -> None:
    done = content.tell()
    with open_url(url, file.size, done) as (begins, portions):
        if begins != done:  # this server starts from the beginning
            _empty(content)
        done = begins
        for portion in portions:
            content.write(portion)
            done += len(portion)
            on_bytes(file.path, done, file.size)
    if done < file.size:
        raise DownloadError(
            f"{masked(url)}: expected all of it, but it broke off after {done} of {file.size} "
            "bytes; run it again"
        )


def _empty(file: BinaryIO) -> None:
    file.seek(0)
    file.truncate()
