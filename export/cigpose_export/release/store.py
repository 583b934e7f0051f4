"""Publishes into a folder or bucket, by fsspec: visible once its manifest is there, the last file.

A release is what a manifest accounts for; without one nobody takes the files for a release.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fsspec

from cigpose_export.errors import CredentialsError, PublishError
from cigpose_export.release.target import RemoteFile, RemoteState, TransientError, paths_of
from cigpose_runtime.errors import CigposeError
from cigpose_runtime.releases.manifest import MANIFEST

REPLACED = f"{MANIFEST}.replaced"
"""The manifest of the release that is being replaced: it says which files may go."""

_PARTIAL = f"{MANIFEST}.partial"
_CHUNK_BYTES = 1 << 20
_IN_URL = re.compile(r"//[^/@]*@")


@dataclass
class StoreTarget:
    """A folder of a file system. root: its path there."""

    fs: Any
    root: str
    kept_back: frozenset[str] = frozenset({MANIFEST})

    @classmethod
    def of(cls, url: str) -> StoreTarget:
        """From an fsspec URL. Raises PublishError for one that names no place to write to."""
        shown = _IN_URL.sub("//", url)
        try:
            options = {"auto_mkdir": True} if url.startswith("file:") else {}
            fs, root = fsspec.core.url_to_fs(url, skip_instance_cache=True, **options)
        except (ValueError, ImportError) as error:
            raise PublishError(
                f"{shown}: expected a URL that fsspec can open ({error}); give "
                "another, or install the package that it needs"
            ) from error
        if not root.strip("/"):
            raise PublishError(f"{shown}: expected a folder, found the root; name a folder in it")
        return cls(fs, root.rstrip("/"))

    def name_of(self, path: str) -> str:
        """As `Target`."""
        return path

    def check_access(self) -> None:
        """As `Target`: listing works. Whether writing does, the first file tells."""
        with _errors("listing it"), contextlib.suppress(FileNotFoundError):
            self.fs.ls(self.root)

    def look(self) -> RemoteState:
        """As `Target`."""
        with _errors("listing it"):
            self.fs.invalidate_cache()
            found = self.fs.find(self.root, detail=True) if self.fs.exists(self.root) else {}
        files = {
            path.removeprefix(self.root).lstrip("/"): RemoteFile(
                info["size"], None, _key(path, info)
            )
            for path, info in found.items()
        }
        ours = {_PARTIAL, REPLACED}
        for name in (MANIFEST, REPLACED):
            if name in files:
                ours |= paths_of(b"".join(self.read(name)))
        kept = {path: remote for path, remote in files.items() if path not in (_PARTIAL, REPLACED)}
        return RemoteState(MANIFEST in files, kept, frozenset(ours))

    def begin(self) -> None:
        """As `Target`: takes the manifest of what is being replaced out of sight."""
        with _errors("renaming the manifest"):
            if self.fs.exists(f"{self.root}/{MANIFEST}"):
                self.fs.mv(f"{self.root}/{MANIFEST}", f"{self.root}/{REPLACED}")

    def put(self, path: str, file: Path, on_bytes: Callable[[int], None]) -> None:
        """As `Target`."""
        with _errors(f"uploading {path}"):
            self.fs.put_file(str(file), f"{self.root}/{path}", callback=_Portions(on_bytes))

    def remove(self, path: str) -> None:
        """As `Target`."""
        with _errors(f"removing {path}"):
            if self.fs.exists(f"{self.root}/{path}"):
                self.fs.rm_file(f"{self.root}/{path}")

    def commit(self) -> None:
        """As `Target`: a file is there as soon as it is uploaded."""

    def read(self, path: str) -> Iterator[bytes]:
        """As `Target`."""
        with _errors(f"reading {path}"), self.fs.open(f"{self.root}/{path}", "rb") as file:
            while chunk := file.read(_CHUNK_BYTES):
                yield chunk

    def publish(self, kept_back: Mapping[str, Path]) -> None:
        """As `Target`: the manifest appears at once and whole."""
        with _errors("publishing the manifest"):
            self.fs.put_file(str(kept_back[MANIFEST]), f"{self.root}/{_PARTIAL}")
            self.fs.mv(f"{self.root}/{_PARTIAL}", f"{self.root}/{MANIFEST}")

    def tidy(self) -> None:
        """As `Target`."""
        for name in (_PARTIAL, REPLACED):
            self.remove(name)


class _Portions(fsspec.Callback):  # type: ignore[misc]
    """Tells how many bytes have gone."""

    def __init__(self, on_bytes: Callable[[int], None]) -> None:
        super().__init__()
        self._on_bytes = on_bytes

    def relative_update(self, inc: int = 1) -> None:
        self._on_bytes(inc)


def _key(path: str, info: Mapping[str, Any]) -> str:
    """Says whether a file is still the one that was read back."""
    return repr([path, info["size"], *(info.get(name) for name in ("ETag", "ino", "mtime"))])


@contextmanager
def _errors(doing: str) -> Iterator[None]:
    """File systems raise what their libraries do: what is not about rights may pass by itself."""
    try:
        yield
    except (CigposeError, FileNotFoundError):
        raise
    except Exception as error:
        kind = type(error).__name__
        if isinstance(error, PermissionError) or "Credentials" in kind:
            raise CredentialsError(
                f"access denied when {doing} ({kind}); check your credentials"
            ) from error
        raise TransientError(f"{doing}: {kind}") from error
