"""Publishes a checked release: to GitHub, to Hugging Face, or to a folder or bucket.

One flow for all: look at what is there, bring over what is not, read everything back and compare
hashes, and only then make it visible. Whatever goes wrong on the way, the next try looks anew and
goes on from there.
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
from cigpose_export.release.pages import FRONT_MATTER
from cigpose_export.release.target import RemoteFile, RemoteState, Target, TransientError
from cigpose_runtime.files import file_sha256, open_file
from cigpose_runtime.releases.check import check_release
from cigpose_runtime.releases.manifest import MANIFEST, UNLISTED, Manifest

TRIES = 5
"""In a row without a file brought over."""

LONGEST_WAIT_S = 900.0
"""For a server that asks for patience; GitHub's limits are by the hour."""

Progress = Callable[[str, int], AbstractContextManager[Callable[[int], None]]]
"""Opens a progress bar of a title and a number of bytes; what it yields is told of each portion."""


@dataclass
class Publication:
    """A release on its way to a target.

    files: path by name of all that is to be there. update: whether another release that is
    published there is replaced. say: told what goes wrong and is tried again. sleep: waits for so
    many seconds.
    """

    files: Mapping[str, Path]
    target: Target
    update: bool
    progress: Progress
    say: Callable[[str], None]
    sleep: Callable[[float], None] = time.sleep
    brought: int = 0
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
        """Of a released folder that passes its check, at a place that this user may write to.

        The place is asked first. Raises CigposeError where the check finds something, or for a
        rehearsal unless that is allowed; CredentialsError, PublishError.
        """
        target = open_target(to, release)
        target.check_access()
        manifest = _checked_manifest(release, allow_synthetic=allow_synthetic)
        sha256 = {target.name_of(file.path): file.sha256 for file in manifest.files}
        beside = sorted(name for name in UNLISTED - {MANIFEST} if (release / name).is_file())
        paths = [*(file.path for file in manifest.files), *beside, MANIFEST]
        files = {target.name_of(path): release / path for path in paths}
        if len(files) < len(paths):
            raise PublishError(f"{release}: expected names that stay apart there, found two alike")
        return cls(files, target, update, progress, say, sleep, _sha256=sha256)

    def plan(self) -> tuple[RemoteState, list[str], list[str]]:
        """What is there, the paths to bring over, and those to remove.

        Raises PublishError where what is there is not to be replaced.
        """
        there = self.target.look()
        bring = [path for path in self.files if self._differs(path, there.files.get(path))]
        extra = sorted(set(there.files) - set(self.files))
        if foreign := sorted(set(extra) - there.ours):
            raise PublishError(
                f"{foreign[0]}: expected no files but those of releases, found it there; choose "
                "another place, or remove it"
            )
        if there.published and not self.update and (bring or extra):
            raise _published_already((bring or extra)[0])
        return there, bring, extra

    def run(self) -> None:
        """Publishes. Raises PublishError."""
        tries = 0
        while tries < TRIES:
            before = self.brought
            try:
                if self._one_round():
                    return
                problem, wait_s = "what was sent is not yet all there", None
            except TransientError as error:
                problem, wait_s = str(error), error.wait_s
            tries = 1 if self.brought > before else tries + 1
            if tries < TRIES:
                wait = min(LONGEST_WAIT_S, 2.0 ** (tries - 1) if wait_s is None else wait_s)
                self.say(f"{problem}; trying again in {wait:.0f} s")
                self.sleep(wait)
        raise PublishError(
            f"{problem}; given up after {TRIES} tries, the same command goes on from here"
        )

    def _one_round(self) -> bool:
        """Looks, brings over what is missing, makes it visible, and looks whether all is there."""
        there, bring, extra = self.plan()
        if bring or extra or not there.published:
            self.target.begin()
            for path in extra:
                self.target.remove(path)
            for path in bring:
                if path not in self.target.kept_back:
                    self._bring(path, replace=path in there.files)
            self.target.commit()
            self._compare(set(self.files) - self.target.kept_back, self.target.look())
            self.target.publish({path: self.files[path] for path in self.target.kept_back})
            there, bring, extra = self.plan()
        self._compare(set(self.files), there)
        self.target.tidy()
        return there.published and not bring and not extra

    def _differs(self, path: str, remote: RemoteFile | None) -> bool:
        if remote is None or remote.size != self.files[path].stat().st_size:
            return True
        return remote.sha256 is not None and remote.sha256 != self._sha256_of(path)

    def _sha256_of(self, path: str) -> str:
        if path not in self._sha256:
            self._sha256[path] = file_sha256(self.files[path])
        return self._sha256[path]

    def _bring(self, path: str, *, replace: bool) -> None:
        file = self.files[path]
        if replace:
            self.target.remove(path)
        with self.progress(f"sending {path}", file.stat().st_size) as on_bytes:
            self.target.put(path, file, on_bytes)
        self.brought += 1

    def _compare(self, paths: set[str], there: RemoteState) -> None:
        """Reads back what was not yet and compares it; what differs is removed, to be sent anew."""
        differing = []
        for path in sorted(paths):
            remote = there.files.get(path)
            if remote is None:
                raise TransientError(f"{path}: expected it there, found it gone")
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
            if there.published and not self.update and not self.brought:
                raise _published_already(differing[0])
            for path in differing:
                self.target.remove(path)
            raise TransientError(
                f"{differing[0]}: expected what was to be sent, read back something else, as in "
                f"{len(differing)} files"
            )


def _published_already(path: str) -> PublishError:
    return PublishError(
        f"expected nothing published there yet, found a release that differs in {path}; choose "
        "another tag or place, or replace it with --update"
    )


def _checked_manifest(release: Path, *, allow_synthetic: bool) -> Manifest:
    manifest, errors = check_release(release)
    if errors:
        raise errors[0]
    if manifest.rehearsal and not allow_synthetic:
        raise PublishError(
            f"{release}: expected real weights, found a rehearsal with synthetic ones; release "
            "real ones, or rehearse publishing, too, with --allow-synthetic"
        )
    return manifest


def open_target(to: str, release: Path) -> Target:
    """The place that `to` names, for a released folder.

    Raises PublishError, CredentialsError, and InstallError without the extra [release].
    """
    with open_file(
        release / MANIFEST, "the manifest of a release, as make release leaves it"
    ) as file:
        manifest = Manifest.from_json(file.read().decode("utf-8", "replace"))
    scheme, _, rest = to.partition(":")
    if scheme == "github":
        from cigpose_export.release.github import GithubTarget

        notes = (release / "README.md").read_text("utf-8").removeprefix(FRONT_MATTER)
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
        f"{to}: expected github:OWNER/REPO@TAG, hf:ORG/REPO or a URL as file:///folder or "
        "s3://bucket/folder, found none of them"
    )
