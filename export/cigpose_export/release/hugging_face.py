"""Publishes as a model repository on Hugging Face: one commit, read back, then tagged.

By huggingface_hub, which takes the token from HF_TOKEN or `hf auth login`, and the server from
HF_ENDPOINT.
"""

from __future__ import annotations

import hashlib
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, RepoFile
from huggingface_hub.errors import (
    HfHubHTTPError,
    LocalTokenNotFoundError,
    RepositoryNotFoundError,
)

from cigpose_export.errors import CredentialsError, PublishError
from cigpose_export.release.target import RemoteFile, RemoteState, TransientError, paths_of
from cigpose_runtime.errors import CigposeError
from cigpose_runtime.releases.manifest import MANIFEST

_SPEC = re.compile(r"(?P<repository>[\w.-]+/[\w.-]+)(@(?P<tag>[\w.+-]+))?")
_CHUNK_BYTES = 1 << 20
_OF_THE_REPOSITORY = ".gitattributes"


@dataclass
class HuggingFaceTarget:
    """A model repository, and the tag that makes a commit of it a release."""

    repository: str
    tag: str
    api: HfApi
    kept_back: frozenset[str] = frozenset()
    _published: bool = False
    _operations: dict[str, CommitOperationAdd | CommitOperationDelete] = field(default_factory=dict)
    _sha256: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, spec: str, tag: str) -> HuggingFaceTarget:
        """From ORG/REPO, with a tag of its own or this one. Raises PublishError."""
        found = _SPEC.fullmatch(spec)
        if found is None:
            raise PublishError(f"hf:{spec}: expected hf:ORG/REPO or hf:ORG/REPO@TAG; correct --to")
        return cls(found["repository"], found["tag"] or tag, HfApi())

    def name_of(self, path: str) -> str:
        """As `Target`."""
        return path

    def check_access(self) -> None:
        """As `Target`: the token is known, and may write where the repository is there already."""
        try:
            with _errors("asking who this is"):
                self.api.whoami()
            with _errors("asking for the repository"):
                self.api.auth_check(self.repository, write=True)
        except RepositoryNotFoundError:
            return  # it will be made

    def look(self) -> RemoteState:
        """As `Target`: the files of the tag, or else of the main branch."""
        try:
            with _errors("looking"):
                tags = self.api.list_repo_refs(self.repository).tags
                self._published = self.tag in {tag.name for tag in tags}
                tree = self.api.list_repo_tree(
                    self.repository, recursive=True, revision=self._revision
                )
                found = [one for one in tree if isinstance(one, RepoFile)]
        except RepositoryNotFoundError:
            return RemoteState(published=False, files={})
        files = {one.path: self._remote(one) for one in found if one.path != _OF_THE_REPOSITORY}
        ours = paths_of(b"".join(self.read(MANIFEST))) if MANIFEST in files else frozenset()
        return RemoteState(self._published, files, ours)

    def begin(self) -> None:
        """As `Target`: makes the repository, or takes the tag away."""
        self._operations.clear()
        with _errors("making the repository"):
            self.api.create_repo(self.repository, exist_ok=True)
            if self._published:
                self.api.delete_tag(self.repository, tag=self.tag)
                self._published = False

    def put(self, path: str, file: Path, on_bytes: Callable[[int], None]) -> None:
        """As `Target`: large files go now, small ones with the commit."""
        addition = CommitOperationAdd(path, str(file))
        with _errors(f"uploading {path}"):
            self.api.preupload_lfs_files(self.repository, [addition], free_memory=False)
        self._operations[path] = addition
        on_bytes(file.stat().st_size)

    def remove(self, path: str) -> None:
        """As `Target`, with the commit."""
        self._operations[path] = CommitOperationDelete(path)

    def commit(self) -> None:
        """As `Target`."""
        if self._operations:
            with _errors("committing"):
                self.api.create_commit(
                    self.repository,
                    list(self._operations.values()),
                    commit_message=f"Release {self.tag}",
                )
            self._operations.clear()

    def read(self, path: str) -> Iterator[bytes]:
        """As `Target`."""
        with tempfile.TemporaryDirectory(prefix="cigpose-publish-") as folder:
            with _errors(f"reading {path}"):
                downloaded = self.api.hf_hub_download(
                    self.repository,
                    path,
                    revision=self._revision,
                    local_dir=folder,
                    force_download=True,
                )
            with Path(downloaded).open("rb") as file:
                while chunk := file.read(_CHUNK_BYTES):
                    yield chunk

    def publish(self, kept_back: Mapping[str, Path]) -> None:
        """As `Target`."""
        with _errors("tagging"):
            self.api.create_tag(self.repository, tag=self.tag, exist_ok=True)

    def tidy(self) -> None:
        """As `Target`: leaves nothing."""

    @property
    def _revision(self) -> str:
        return self.tag if self._published else "main"

    def _remote(self, one: RepoFile) -> RemoteFile:
        if one.lfs is not None:
            return RemoteFile(one.size, one.lfs.sha256, f"{one.path} {one.lfs.sha256}")
        if one.blob_id not in self._sha256:  # of small files git's own hash is known
            content = b"".join(self.read(one.path))
            self._sha256[one.blob_id] = hashlib.sha256(content).hexdigest()
        return RemoteFile(one.size, self._sha256[one.blob_id], f"{one.path} {one.blob_id}")


@contextmanager
def _errors(doing: str) -> Iterator[None]:
    try:
        yield
    except (CigposeError, RepositoryNotFoundError):
        raise
    except LocalTokenNotFoundError as error:
        raise CredentialsError(
            "expected a Hugging Face token; set HF_TOKEN or run hf auth login"
        ) from error
    except HfHubHTTPError as error:
        status = error.response.status_code
        message = f"{doing}: Hugging Face answers {status} {error.response.reason_phrase}"
        if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
            raise CredentialsError(
                f"{message}; expected a token that may write, in HF_TOKEN or of hf auth login"
            ) from error
        if status >= HTTPStatus.INTERNAL_SERVER_ERROR or status == HTTPStatus.TOO_MANY_REQUESTS:
            raise TransientError(message) from error
        raise PublishError(message) from error
    except Exception as error:
        raise TransientError(f"{doing}: {type(error).__name__}") from error
