"""Publishes as a GitHub release: a draft until every asset was read back and compared.

By GitHub's REST API, version 2022-11-28 (docs.github.com/rest/releases). GITHUB_API_URL and
GITHUB_TOKEN are those of GitHub Actions.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import Any, BinaryIO

import requests
from requests.auth import AuthBase

from cigpose_export.errors import CredentialsError, PublishError
from cigpose_export.release.target import RemoteFile, RemoteState, TransientError
from cigpose_runtime.releases.manifest import asset_name
from cigpose_runtime.releases.source import Source

API_URL = "https://api.github.com"
TIMEOUT_S = (10, 60)
"""To connect, and between two portions of an answer."""

_SPEC = re.compile(r"(?P<repository>[\w.-]+/[\w.-]+)@(?P<tag>[\w.+/-]+)")
_LINK = re.compile(r"\]\((?!\w+:)([^)]+)\)")
"""In Markdown, to a file of the release."""

_PAGE = 100
_MOST_PAGES = 100
"""A release on GitHub has at most 1000 assets."""

_MESSAGE_LENGTH = 200
_CHUNK_BYTES = 1 << 20


# What JSON of another form than the expected one runs into.
_ODD_ANSWER = (ValueError, KeyError, TypeError, AttributeError, RecursionError)


class _Bearer(AuthBase):
    """Sends the token; unlike a plain header it is not replaced by one from ~/.netrc."""

    def __init__(self, token: str) -> None:
        self._token = token

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = f"Bearer {self._token}"
        return request


class _Counted:
    """A file for an upload, of known length, that tells how far it was read."""

    def __init__(self, file: BinaryIO, size: int, on_bytes: Callable[[int], None]) -> None:
        self._file, self._size, self._on_bytes = file, size, on_bytes

    def __len__(self) -> int:
        return self._size

    def read(self, size: int = -1) -> bytes:
        chunk = self._file.read(size)
        self._on_bytes(len(chunk))
        return chunk


@dataclass
class GithubTarget:
    """A release of a repository. notes: its text. prerelease: marked as not for use."""

    repository: str
    tag: str
    notes: str
    prerelease: bool
    api_url: str
    session: requests.Session
    kept_back: frozenset[str] = frozenset()
    _release: dict[str, Any] | None = None
    _assets: dict[str, dict[str, Any]] = field(default_factory=dict)

    @classmethod
    def of(cls, spec: str, notes: str, *, prerelease: bool) -> GithubTarget:
        """From OWNER/REPO@TAG and the environment. Raises PublishError, CredentialsError."""
        found = _SPEC.fullmatch(spec)
        if found is None:
            raise PublishError(f"github:{spec}: expected github:OWNER/REPO@TAG; correct --to")
        token = os.environ.get("GITHUB_TOKEN", "").strip()
        if not token:
            raise CredentialsError(
                "expected a token in GITHUB_TOKEN; create one that may write contents of "
                f"{found['repository']} and export it"
            )
        session = requests.Session()
        session.auth = _Bearer(token)
        session.headers.update(
            {"Accept": "application/vnd.github+json", "X-GitHub-Api-Version": "2022-11-28"}
        )
        api_url = os.environ.get("GITHUB_API_URL", API_URL).rstrip("/")
        return cls(
            found["repository"],
            found["tag"],
            _with_whole_links(notes, f"github:{spec}"),
            prerelease,
            api_url,
            session,
        )

    def name_of(self, path: str) -> str:
        """As `Target`: GitHub has no folders."""
        return asset_name(path)

    def check_access(self) -> None:
        """As `Target`: the token is known, and may write to the repository."""
        try:
            answer = self._call("GET", f"/repos/{self.repository}")
        except PublishError as error:
            if isinstance(error, TransientError):
                raise
            raise CredentialsError(
                f"expected a token in GITHUB_TOKEN that may write to {self.repository}, but "
                f"GitHub refuses it ({error}); check both"
            ) from error
        with _as_documented("the repository"):
            may_write = answer.json().get("permissions", {}).get("push", True)
        if not may_write:
            raise CredentialsError(
                f"expected a token in GITHUB_TOKEN that may write to {self.repository}, found one "
                "that may only read; give it write access to contents"
            )

    def look(self) -> RemoteState:
        """As `Target`: the release of the tag, published or draft, and its assets."""
        with _as_documented("the releases"):
            releases = [
                one
                for one in self._pages(f"/repos/{self.repository}/releases")
                if one["tag_name"] == self.tag
            ]
        if len(releases) > 1:
            raise PublishError(
                f"{self.repository}@{self.tag}: expected one release or draft at most, found "
                f"{len(releases)}; delete all but one on GitHub"
            )
        self._release = releases[0] if releases else None
        if self._release is None:
            self._assets = {}
            return RemoteState(published=False, files={})
        with _as_documented("the assets"):
            assets = self._pages(f"/repos/{self.repository}/releases/{self._release['id']}/assets")
            self._assets = {asset["name"]: asset for asset in assets}
            files = {name: _remote(asset) for name, asset in self._assets.items()}
            return RemoteState(not self._release["draft"], files, frozenset(files))

    def begin(self) -> None:
        """As `Target`: makes the draft."""
        if self._release is None:
            document = {
                "tag_name": self.tag,
                "name": self.tag,
                "body": self.notes,
                "draft": True,
                "prerelease": self.prerelease,
            }
            answer = self._call("POST", f"/repos/{self.repository}/releases", json=document)
            with _as_documented("the draft"):
                self._release = dict(answer.json())

    def put(self, path: str, file: Path, on_bytes: Callable[[int], None]) -> None:
        """As `Target`."""
        assert self._release is not None
        with _as_documented("where to upload to"):
            url = self._release["upload_url"].partition("{")[0]
        with file.open("rb") as content:
            self._call(
                "POST",
                url,
                params={"name": path},
                data=_Counted(content, file.stat().st_size, on_bytes),
                headers={"Content-Type": "application/octet-stream"},
            )

    def remove(self, path: str) -> None:
        """As `Target`; a half uploaded asset is one, too."""
        url = f"/repos/{self.repository}/releases/assets/{self._assets[path]['id']}"
        self._call("DELETE", url, missing_is_fine=True)

    def commit(self) -> None:
        """As `Target`: an asset is there as soon as it is uploaded."""

    def read(self, path: str) -> Iterator[bytes]:
        """As `Target`."""
        url = f"/repos/{self.repository}/releases/assets/{self._assets[path]['id']}"
        headers = {"Accept": "application/octet-stream"}
        with self._call("GET", url, headers=headers, stream=True) as answer:
            try:
                yield from answer.iter_content(_CHUNK_BYTES)
            except requests.RequestException as error:
                raise TransientError(f"{path}: cannot be read back ({_reason(error)})") from error

    def publish(self, kept_back: Mapping[str, Path]) -> None:
        """As `Target`."""
        assert self._release is not None
        url = f"/repos/{self.repository}/releases/{self._release['id']}"
        self._call("PATCH", url, json={"draft": False, "body": self.notes})

    def tidy(self) -> None:
        """As `Target`: leaves nothing."""

    def _pages(self, path: str) -> Iterator[dict[str, Any]]:
        for page in range(1, _MOST_PAGES + 1):
            found = self._call("GET", path, params={"per_page": _PAGE, "page": page}).json()
            yield from found
            if len(found) < _PAGE:
                return
        raise PublishError(
            f"{path}: expected at most {_MOST_PAGES} pages, found more; tidy up there"
        )

    def _call(
        self, method: str, path: str, *, missing_is_fine: bool = False, **arguments: Any
    ) -> requests.Response:
        """One request. TransientError for a failure that may pass, else PublishError."""
        url = path if "://" in path else self.api_url + path
        what = f"{method} {url.partition('?')[0]}"
        try:
            answer = self.session.request(method, url, timeout=TIMEOUT_S, **arguments)
        except requests.RequestException as error:
            raise TransientError(f"{what}: no answer ({_reason(error)})") from error
        status = answer.status_code
        if answer.ok or (missing_is_fine and status == HTTPStatus.NOT_FOUND):
            return answer
        message = f"{what}: {status} {_message(answer)}"
        wait_s = _wait_s(answer)
        if wait_s is not None or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            raise TransientError(message, wait_s)
        if status == HTTPStatus.UNPROCESSABLE_ENTITY and "already_exists" in answer.text:
            raise TransientError(message)  # an earlier try whose answer was lost: look again
        raise PublishError(message)


def _with_whole_links(notes: str, source: str) -> str:
    """The notes for the page of a release, beside which there are no files."""
    assets = Source.of(source)
    return _LINK.sub(lambda link: f"]({assets.url(link[1])})", notes)


def _remote(asset: dict[str, Any]) -> RemoteFile:
    kind, _, digest = (asset.get("digest") or "").partition(":")
    size = asset["size"] if asset["state"] == "uploaded" else -1
    return RemoteFile(size, digest if kind == "sha256" else None, str(asset["id"]))


def _wait_s(answer: requests.Response) -> float | None:
    """How long the server asks us to wait: its rate limits, primary and secondary."""
    limited = answer.status_code in (HTTPStatus.FORBIDDEN, HTTPStatus.TOO_MANY_REQUESTS)
    after = answer.headers.get("Retry-After", "")
    if after.isdecimal() and (limited or answer.status_code >= HTTPStatus.INTERNAL_SERVER_ERROR):
        return float(after)
    if limited and answer.headers.get("X-RateLimit-Remaining") == "0":
        reset = answer.headers.get("X-RateLimit-Reset", "")
        return max(1.0, float(reset) - time.time()) if reset.isdecimal() else 60.0
    return 60.0 if answer.status_code == HTTPStatus.TOO_MANY_REQUESTS else None


def _message(answer: requests.Response) -> str:
    try:
        document = answer.json()
        errors = [str(error.get("code", error)) for error in document.get("errors", [])]
        return ", ".join([str(document["message"]), *errors])[:_MESSAGE_LENGTH]
    except _ODD_ANSWER:
        return (answer.reason or "with no message")[:_MESSAGE_LENGTH]


@contextmanager
def _as_documented(what: str) -> Iterator[None]:
    try:
        yield
    except _ODD_ANSWER as error:
        raise PublishError(
            f"expected {what} as GitHub's API describes it, found another answer "
            f"({type(error).__name__}); check GITHUB_API_URL"
        ) from error


def _reason(error: Exception) -> str:
    return type(error).__name__
