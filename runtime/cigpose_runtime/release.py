"""Checks a released folder or archive of models, with numpy and onnxruntime alone.

A release is a folder with `manifest.json`, which names every file in it but itself, the sums and
the signature. Nothing in it is believed before the manifest accounts for it.
"""

from __future__ import annotations

import json
import re
import stat
import tempfile
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from cigpose_runtime.errors import (
    CheckError,
    CigposeError,
    FileError,
    InstallError,
    error_context,
    quoted,
)
from cigpose_runtime.files import file_sha256, open_file
from cigpose_runtime.selftest import selftest

MANIFEST = "manifest.json"
SUMS = "SHA256SUMS"
SIGNATURE = "model.sig"
UNLISTED = frozenset({MANIFEST, SUMS, SIGNATURE})
"""What a release holds beside the files of its manifest."""

SCHEMA_VERSION = 1

_SHA256 = re.compile("[0-9a-f]{64}")
_SAFE_PART = re.compile(r"[A-Za-z0-9_+][A-Za-z0-9_.+-]*")
_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True)
class ReleasedFile:
    """One file of a release: its path with forward slashes, size in bytes, and sha256."""

    path: str
    size: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """What a release consists of, and what it was made of and by.

    files: sorted by path. models: the paths of those that are models, by name. sources: the sha256
    of each model's checkpoint, by name. rehearsal: made of synthetic weights, to be published
    nowhere. tools: versions by package; lock_sha256: of the pinned dependencies; commit: of git.
    """

    rehearsal: bool
    version: str
    files: tuple[ReleasedFile, ...]
    models: Mapping[str, str]
    sources: Mapping[str, str]
    tools: Mapping[str, str]
    lock_sha256: str
    commit: str

    def to_json(self) -> str:
        """The text of manifest.json; `from_json` reads it."""
        document = {"schema_version": SCHEMA_VERSION, **asdict(self)}
        return json.dumps(document, indent=1, sort_keys=True) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Manifest:
        """Reads a manifest; raises CheckError naming what is wrong in it."""
        try:
            document = json.loads(text, object_pairs_hook=_no_key_twice)
        except (ValueError, RecursionError) as error:
            raise _bad_manifest(f"no JSON ({error})") from error
        if not isinstance(document, dict) or document.get("schema_version") != SCHEMA_VERSION:
            version = document.get("schema_version") if isinstance(document, dict) else document
            raise _bad_manifest(f"schema version {quoted(version)}, this release knows 1")
        fields = {key: value for key, value in document.items() if key != "schema_version"}
        if odd := sorted(set(fields) ^ set(cls.__dataclass_fields__)):
            raise _bad_manifest(f"missing or unknown fields {', '.join(map(quoted, odd))}")
        texts = [fields[name] for name in ("version", "lock_sha256", "commit")]
        maps = [fields[name] for name in ("models", "sources", "tools")]
        if not all(isinstance(text, str) for text in texts) or not all(map(_is_text_map, maps)):
            raise _bad_manifest("fields of the wrong type")
        if not isinstance(fields["rehearsal"], bool) or not isinstance(fields["files"], list):
            raise _bad_manifest("fields of the wrong type")
        fields["files"] = tuple(_read_file(one) for one in fields["files"])
        manifest = cls(**fields)
        with error_context(MANIFEST):
            _require_safe([file.path for file in manifest.files])
        listed = {file.path for file in manifest.files}
        if strangers := sorted(set(manifest.models.values()) - listed):
            raise _bad_manifest(f"a model {quoted(strangers[0])} that is none of its files")
        return manifest


def check_release(
    path: Path, public_key: Path | None = None
) -> tuple[Manifest, list[CigposeError]]:
    """Checks a released folder or ZIP archive: its manifest, and all that does not hold.

    Everything listed is there and unaltered, nothing else is, the sums say the same, each model
    loads and passes its selftest, and, given a public key (PEM), the signature is by its owner.
    Raises FileError where there is no folder or file, CheckError for what cannot be gone through: a
    damaged archive or manifest, or names that are not safe to unpack; InstallError where a
    signature is to be verified without model-signing.
    """
    with _unpacked(path) as folder:
        with open_file(folder / MANIFEST, "the manifest of a release") as file:
            manifest = Manifest.from_json(file.read().decode("utf-8", "replace"))
        errors: list[CigposeError] = list(_differences(folder, manifest))
        broken = {str(error).partition(":")[0] for error in errors}
        for name, model in sorted(manifest.models.items()):
            if model not in broken:
                errors.extend(_model_errors(folder, name, model))
        if public_key is not None:
            errors.extend(_signature_errors(folder, public_key))
    return manifest, errors


def asset_name(path: str) -> str:
    """The name of a file of a release where there are no folders, as on GitHub."""
    return path.replace("/", "--")


def _signature_errors(folder: Path, public_key: Path) -> Iterator[CheckError]:
    try:
        from model_signing import verifying
    except ImportError as error:
        raise InstallError(
            "expected model-signing, by which signatures are verified, found none; "
            "pip install model-signing pyopenssl"
        ) from error
    with open_file(public_key, "a public key in PEM"):
        pass
    if not (folder / SIGNATURE).exists():
        yield CheckError(f"{SIGNATURE}: expected a signature, found none; fetch it again")
        return
    try:
        config = verifying.Config()  # type: ignore[no-untyped-call]
        config.use_elliptic_key_verifier(public_key=public_key)
    except Exception as error:
        raise FileError(
            f"{public_key}: expected a public key in PEM, found otherwise ({_reason(error)}); "
            "give the publisher's"
        ) from error
    try:
        config.verify(folder.absolute(), folder.absolute() / SIGNATURE)
    except Exception as error:  # noqa: BLE001 - nor here; whatever it is, nothing is verified
        yield CheckError(
            f"{SIGNATURE}: expected a signature of these files by the owner of {public_key}, found "
            f"none such ({_reason(error)}); use none of them"
        )


def _reason(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def _differences(folder: Path, manifest: Manifest) -> Iterator[CheckError]:
    here = set(_files_in(folder))
    listed = {file.path: file for file in manifest.files}
    for path in sorted(set(listed) - here):
        yield CheckError(f"{path}: expected a file of the manifest, found none; fetch it again")
    for path in sorted(here - set(listed) - UNLISTED):
        yield CheckError(f"{path}: expected no such file, the manifest lacks it; remove it")
    for path in sorted(here & set(listed)):
        size, digest = (folder / path).stat().st_size, file_sha256(folder / path)
        if (size, digest) != (listed[path].size, listed[path].sha256):
            yield CheckError(
                f"{path}: expected {listed[path].size} bytes of sha256 {listed[path].sha256[:12]}, "
                f"found {size} of {digest[:12]}; fetch it again"
            )
    if SUMS not in here:
        yield CheckError(f"{SUMS}: expected it beside the manifest, found none; fetch it again")
    elif (folder / SUMS).read_bytes() != sums_of(folder, manifest).encode():
        yield CheckError(f"{SUMS}: expected the sums of the manifest's files; fetch it again")


def sums_of(folder: Path, manifest: Manifest) -> str:
    """The text of SHA256SUMS, as `sha256sum --check` reads it: the manifest and all its files."""
    sums = {file.path: file.sha256 for file in manifest.files}
    sums[MANIFEST] = file_sha256(folder / MANIFEST)
    return "".join(f"{digest}  {path}\n" for path, digest in sorted(sums.items()))


def _model_errors(folder: Path, name: str, model: str) -> Iterator[CigposeError]:
    try:
        replayed, is_released = selftest(folder / model)
    except CigposeError as error:
        yield CheckError(str(error).replace(f"{folder}/", ""))
        return
    if PurePosixPath(model).stem != name:
        yield CheckError(f"{model}: expected the model {name}, found a file of another name")
    if not is_released:
        yield CheckError(f"{model}: expected the bytes that its golden vectors are for")
    if bad := [one for one in replayed if not one.holds]:
        yield CheckError(
            f"{model}: expected PyTorch's outputs to {bad[0].tolerance:.1e}, found them off by "
            f"{bad[0].error:.1e}; try another onnxruntime"
        )


def _files_in(folder: Path) -> Iterator[str]:
    for path in folder.rglob("*"):
        if path.is_symlink() or not path.is_dir():
            yield path.relative_to(folder).as_posix()


@contextmanager
def _unpacked(path: Path) -> Iterator[Path]:
    """The folder itself, or an archive's content for as long as the block runs."""
    if path.is_dir():
        for found in path.rglob("*"):
            if not stat.S_ISREG(mode := found.lstat().st_mode) and not stat.S_ISDIR(mode):
                name = found.relative_to(path).as_posix()
                raise CheckError(
                    f"{name}: expected a plain file, found a link or device; remove it"
                )
        yield path
        return
    with open_file(path, "a released folder or ZIP archive") as file:
        try:
            archive = zipfile.ZipFile(file)
        except (zipfile.BadZipFile, ValueError) as error:
            raise CheckError(
                f"{path}: expected a released folder or ZIP archive, found no archive ({error}); "
                "fetch it again"
            ) from error
        with archive, tempfile.TemporaryDirectory(prefix="cigpose-release-") as folder:
            _extract(archive, Path(folder))
            yield Path(folder)


def _extract(archive: zipfile.ZipFile, folder: Path) -> None:
    entries = archive.infolist()
    _require_safe([entry.filename for entry in entries])
    manifest = next((entry for entry in entries if entry.filename == MANIFEST), None)
    if manifest is None or manifest.file_size > _CHUNK_BYTES:
        raise CheckError(f"{MANIFEST}: expected it in the archive, found none; fetch it again")
    try:
        sizes = {
            file.path: file.size
            for file in Manifest.from_json(archive.read(manifest).decode("utf-8", "replace")).files
        }
        for entry in entries:
            if entry.file_size > sizes.get(entry.filename, _CHUNK_BYTES):
                raise CheckError(
                    f"{entry.filename}: expected at most the manifest's "
                    f"{sizes.get(entry.filename, _CHUNK_BYTES)} bytes, found {entry.file_size}; "
                    "fetch the archive again"
                )
            archive.extract(entry, folder)  # reads no more than file_size, and checks the CRC
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError) as error:
        raise CheckError(
            f"expected a sound ZIP archive, found a damaged one ({error}); fetch it again"
        ) from error


def _require_safe(paths: Sequence[str]) -> None:
    """Raises CheckError for names that leave the folder, or that some file system takes for one."""
    for path in paths:
        parts = path.split("/")
        if not all(_SAFE_PART.fullmatch(part) for part in parts) or len(path) > 200:
            raise CheckError(
                f"{quoted(path)}: expected a relative path of letters, digits and _.+-, found "
                "another; do not unpack it"
            )
    seen: dict[str, str] = {}
    for path in paths:
        if (other := seen.setdefault(path.lower(), path)) != path or paths.count(path) > 1:
            raise CheckError(
                f"{path}: expected each name once, found {other} too; do not unpack it"
            )


def _read_file(one: Any) -> ReleasedFile:
    good = (
        isinstance(one, dict)
        and set(one) == {"path", "size", "sha256"}
        and isinstance(one["path"], str)
        and isinstance(one["size"], int)
        and one["size"] >= 0
        and isinstance(one["sha256"], str)
        and _SHA256.fullmatch(one["sha256"]) is not None
    )
    if not good:
        raise _bad_manifest(f"a file {quoted(one)} without path, size and sha256")
    return ReleasedFile(**one)


def _is_text_map(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(text, str) for text in value.values())


def _no_key_twice(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    document: dict[str, Any] = {}
    for key, value in pairs:
        if key in document:
            raise ValueError(f"{quoted(key)} twice")
        document[key] = value
    return document


def _bad_manifest(found: str) -> CheckError:
    return CheckError(
        f"{MANIFEST}: expected the manifest of a release, found {found}; fetch it again"
    )
