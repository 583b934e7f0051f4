"""What a place to publish at has to be able to do."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from cigpose_export.errors import PublishError
from cigpose_runtime.errors import CigposeError
from cigpose_runtime.releases.manifest import UNLISTED, Manifest


class TransientError(PublishError):
    """What may go well the next time. wait_s: how long the server asked to be left alone."""

    def __init__(self, message: str, wait_s: float | None = None) -> None:
        super().__init__(message)
        self.wait_s = wait_s


@dataclass(frozen=True)
class RemoteFile:
    """A file over there: its size, its sha256 where the server tells, and a key of this version."""

    size: int
    sha256: str | None
    key: str


@dataclass(frozen=True)
class RemoteState:
    """What is over there: files by their path here, those of an earlier release, and whether all
    is visible to others. ours: the paths that may be removed; the others are somebody else's."""

    published: bool
    files: Mapping[str, RemoteFile]
    ours: frozenset[str] = frozenset()


class Target(Protocol):
    """A place to publish at. Methods raise TransientError, PublishError or CredentialsError."""

    @property
    def kept_back(self) -> frozenset[str]:
        """The paths that `publish` brings over, for their being there makes the rest visible."""

    def name_of(self, path: str) -> str:
        """How a file of a release is called there."""

    def check_access(self) -> None:
        """Raises CredentialsError unless this user may publish here."""

    def look(self) -> RemoteState:
        """What is there now."""

    def begin(self) -> None:
        """Makes the place ready for files, and what is being replaced invisible, if it can."""

    def put(self, path: str, file: Path, on_bytes: Callable[[int], None]) -> None:
        """Brings a file over."""

    def remove(self, path: str) -> None:
        """Removes a file there."""

    def commit(self) -> None:
        """Ends the bringing over: from here on `read` finds everything."""

    def read(self, path: str) -> Iterable[bytes]:
        """A file as it is there, in portions."""

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
