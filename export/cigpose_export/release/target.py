"""What a place to publish to has to be able to do."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from cigpose_export.errors import PublishError
from cigpose_runtime.errors import CigposeError
from cigpose_runtime.releases.manifest import UNLISTED, Manifest


class TransientError(PublishError):
    """A failure that may pass on the next try. wait_s: how long the server asked us to wait."""

    def __init__(self, message: str, wait_s: float | None = None) -> None:
        super().__init__(message)
        self.wait_s = wait_s


@dataclass(frozen=True)
class RemoteFile:
    """A file on the target: its size, its sha256 if the server tells, and a key of this version."""

    size: int
    sha256: str | None
    key: str


@dataclass(frozen=True)
class RemoteState:
    """What the target holds.

    published: whether it is visible to others. files: by path, those of an earlier release
    included. ours: the paths that may be removed; the others belong to somebody else.
    """

    published: bool
    files: Mapping[str, RemoteFile]
    ours: frozenset[str] = frozenset()


class Target(Protocol):
    """A place to publish to. Methods raise TransientError, PublishError or CredentialsError."""

    @property
    def kept_back(self) -> frozenset[str]:
        """The paths that `publish` uploads last, because their presence makes the rest visible."""

    def name_of(self, path: str) -> str:
        """The name of a release's file on the target."""

    def check_access(self) -> None:
        """Raises CredentialsError unless this user may publish here."""

    def look(self) -> RemoteState:
        """What is there now."""

    def begin(self) -> None:
        """Makes the place ready for files, and what is being replaced invisible, if it can."""

    def put(self, path: str, file: Path, on_bytes: Callable[[int], None]) -> None:
        """Uploads a file."""

    def remove(self, path: str) -> None:
        """Removes a file there."""

    def commit(self) -> None:
        """Ends the upload: from here on `read` finds everything."""

    def read(self, path: str) -> Iterable[bytes]:
        """The content of a file on the target, in chunks."""

    def publish(self, kept_back: Mapping[str, Path]) -> None:
        """Makes the release visible to others."""

    def tidy(self) -> None:
        """Removes what publishing has left beside the release."""


def paths_of(manifest: bytes) -> frozenset[str]:
    """The paths of the release that this is, or may once have been, the manifest of."""
    try:
        read = Manifest.from_json(manifest.decode("utf-8", "replace"))
    except CigposeError:
        return UNLISTED
    return UNLISTED | {file.path for file in read.files}
