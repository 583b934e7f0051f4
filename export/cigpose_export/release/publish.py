"""Publishes a checked release: to GitHub, to Hugging Face, or to a folder or bucket.

One flow for all: look at what is there, upload what is missing, read everything back and compare
hashes, and only then make it visible. Whatever goes wrong on the way, the next try looks again and
continues from there.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path

from cigpose_export.errors import PublishError
from cigpose_export.release.extra import release_extra
from cigpose_export.release.pages import without_front_matter
from cigpose_export.release.target import RemoteFile, RemoteState, Target, TransientError
from cigpose_runtime.files import file_sha256
from cigpose_runtime.releases.check import check_release
from cigpose_runtime.releases.manifest import MANIFEST, UNLISTED, Manifest, read_manifest

TRIES = 5
"""In a row without a file uploaded."""

LONGEST_WAIT_S = 900.0
"""When a server asks us to wait; GitHub's rate limits are hourly."""

Progress = Callable[[str, int], AbstractContextManager[Callable[[int], None]]]
"""Opens a progress bar of a title and a number of bytes; what it yields is told of each portion."""


@dataclass
class Publication:
    """A release on its way to a target.

    files: the local path of each file by its name on the target. update: whether a different
    release that is already published there is replaced. say: told what went wrong before a retry.
    sleep: waits for a number of seconds. uploaded: how many files were sent so far.
    """

    files: Mapping[str, Path]
    target: Target
    update: bool
    progress: Progress
    say: Callable[[str], None]
    sleep: Callable[[float], None] = time.sleep
    uploaded: int = 0
    _sha256: dict[str, str] = field(default_factory=dict)
    _read_back: set[str] = field(default_factory=set)

    @classmethod
    def of(
        cls,
        release: Path,
        to: str,
        *,
        update: bool,
        allow_synthetic: bool,
        progress: Progress,
        say: Callable[[str], None],
        sleep: Callable[[float], None] = time.sleep,
    ) -> Publication:
        """Of a released folder that passes its check, to a target this user may write to.

        Access to the target is checked first. Raises CigposeError where the release fails its
        check, or for a rehearsal unless that is allowed; CredentialsError, PublishError.
        """
        target = open_target(to, release)
        target.check_access()
        manifest = _checked_manifest(release, allow_synthetic=allow_synthetic)
        sha256 = {target.name_of(file.path): file.sha256 for file in manifest.files}
        beside = sorted(name for name in UNLISTED - {MANIFEST} if (release / name).is_file())
        paths = [*(file.path for file in manifest.files), *beside, MANIFEST]
        files = {target.name_of(path): release / path for path in paths}
        if len(files) < len(paths):
            raise PublishError(
                f"{release}: expected file names that differ on the target, found two alike; "
                "rename one"
            )
        return cls(files, target, update, progress, say, sleep, _sha256=sha256)

    def plan(self) -> tuple[RemoteState, list[str], list[str]]:
        """The state of the target, the paths to upload, and those to remove.

        Raises PublishError where what is there is not to be replaced.
        """
        remote = self.target.look()
        upload = [path for path in self.files if self._differs(path, remote.files.get(path))]
        extra = sorted(set(remote.files) - set(self.files))
        if foreign := sorted(set(extra) - remote.ours):
            raise PublishError(
                f"{foreign[0]}: expected only files of releases on the target, found this one; "
                "choose another target, or remove it"
            )
        if remote.published and not self.update and (upload or extra):
            raise _published_already((upload or extra)[0])
        return remote, upload, extra

    def run(self) -> None:
        """Publishes. Raises PublishError."""
        tries = 0
        while tries < TRIES:
            before = self.uploaded
            try:
                if self._one_round():
                    return
                problem, wait_s = "not everything that was uploaded is there yet", None
            except TransientError as error:
                problem, wait_s = str(error), error.wait_s
            tries = 1 if self.uploaded > before else tries + 1
            if tries < TRIES:
                wait = min(LONGEST_WAIT_S, 2.0 ** (tries - 1) if wait_s is None else wait_s)
                self.say(f"{problem}; trying again in {wait:.0f} s")
                self.sleep(wait)
        raise PublishError(
            f"{problem}; gave up after {TRIES} tries; run the same command to continue from here"
        )

    def _one_round(self) -> bool:
        """Uploads what is missing, makes it visible, and checks that everything is there."""
        remote, missing, extra = self.plan()
        if missing or extra or not remote.published:
            self.target.begin()
            for path in extra:
                self.target.remove(path)
            for path in missing:
                if path not in self.target.kept_back:
                    self._upload(path, replace=path in remote.files)
            self.target.commit()
            self._compare(set(self.files) - self.target.kept_back, self.target.look())
            self.target.publish({path: self.files[path] for path in self.target.kept_back})
            remote, missing, extra = self.plan()
        self._compare(set(self.files), remote)
        self.target.tidy()
        return remote.published and not missing and not extra

    def _differs(self, path: str, remote: RemoteFile | None) -> bool:
        if remote is None or remote.size != self.files[path].stat().st_size:
            return True
        return remote.sha256 is not None and remote.sha256 != self._sha256_of(path)

    def _sha256_of(self, path: str) -> str:
        if path not in self._sha256:
            self._sha256[path] = file_sha256(self.files[path])
        return self._sha256[path]

    def _upload(self, path: str, *, replace: bool) -> None:
        file = self.files[path]
        if replace:
            self.target.remove(path)
        with self.progress(f"uploading {path}", file.stat().st_size) as on_bytes:
            self.target.put(path, file, on_bytes)
        self.uploaded += 1

    def _compare(self, paths: set[str], state: RemoteState) -> None:
        """Compares what was not read back yet; what differs is removed for a retry."""
        differing = []
        for path in sorted(paths):
            remote = state.files.get(path)
            if remote is None:
                raise TransientError(f"{path}: expected it on the target, but it is gone")
            if remote.key in self._read_back:
                continue
            digest = hashlib.sha256()
            with self.progress(f"reading back {path}", remote.size) as on_bytes:
                for chunk in self.target.read(path):
                    digest.update(chunk)
                    on_bytes(len(chunk))
            if digest.hexdigest() == self._sha256_of(path):
                self._read_back.add(remote.key)
            else:
                differing.append(path)
        if differing:
            if state.published and not self.update and not self.uploaded:
                raise _published_already(differing[0])
            for path in differing:
                self.target.remove(path)
            raise TransientError(
                f"{differing[0]}: expected what was uploaded, read back something else "
                f"(in {len(differing)} files)"
            )


def _published_already(path: str) -> PublishError:
    return PublishError(
        f"expected nothing published on the target yet, found a release that differs in {path}; "
        "choose another tag or target, or replace it with --update"
    )


def _checked_manifest(release: Path, *, allow_synthetic: bool) -> Manifest:
    manifest, errors = check_release(release)
    if errors:
        raise errors[0]
    if manifest.rehearsal and not allow_synthetic:
        raise PublishError(
            f"{release}: expected real weights, found a rehearsal with synthetic ones; release "
            "real ones, or rehearse publishing with --allow-synthetic"
        )
    return manifest


def open_target(to: str, release: Path) -> Target:
    """The place that `to` names, for a released folder.

    Raises PublishError, CredentialsError, and InstallError without the extra [release].
    """
    manifest = read_manifest(release)
    scheme, _, rest = to.partition(":")
    if scheme == "github":
        from cigpose_export.release.github import GithubTarget

        notes = without_front_matter((release / "README.md").read_text("utf-8"))
        return GithubTarget.of(rest, notes, prerelease=manifest.rehearsal)
    if scheme == "hf":
        with release_extra():
            from cigpose_export.release.hugging_face import HuggingFaceTarget

        return HuggingFaceTarget.of(rest, f"v{manifest.version}")
    if "://" in to:
        with release_extra():
            from cigpose_export.release.store import StoreTarget

        return StoreTarget.of(to)
    raise PublishError(
        f"{to}: expected github:OWNER/REPO@TAG, hf:ORG/REPO or a URL such as file:///folder or "
        "s3://bucket/folder; correct --to"
    )
