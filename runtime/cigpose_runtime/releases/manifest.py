"""The manifest of a release: every file in it by path, size and sha256, and what it was made of."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from cigpose_runtime.errors import CheckError, error_context, quoted
from cigpose_runtime.files import file_sha256, read_bytes

MANIFEST = "manifest.json"
SUMS = "SHA256SUMS"
SIGNATURE = "model.sig"
UNLISTED = frozenset({MANIFEST, SUMS, SIGNATURE})
"""What a release holds beside the files of its manifest."""

SCHEMA_VERSION = 1

MANIFEST_BYTES = 1 << 20
"""At most. That of all models names 200 files in 40 kB."""

SIGNATURE_BYTES = 1 << 22
"""At most. A signature has a line for each file of the manifest, twice encoded."""

_MOST_MODELS = 500
"""There are 14; the name that somebody asks for is compared with each."""

_LARGEST_FILE = 1 << 40
"""Bytes. The largest model has 240 MB."""

_SHA256 = re.compile("[0-9a-f]{64}")
# Neither hidden, nor what Windows takes for a device or for another name (it drops a last dot).
_SAFE_PART = re.compile(
    r"(?!(?i:con|prn|aux|nul|com\d|lpt\d)(?:\.|\Z))"
    r"[A-Za-z0-9_+](?:[A-Za-z0-9_.+-]*[A-Za-z0-9_+-])?"
)


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
        listed = {file.path for file in manifest.files}
        with error_context(MANIFEST):
            require_safe_names([*UNLISTED, *(file.path for file in manifest.files)])
        if len(manifest.models) > _MOST_MODELS:
            raise _bad_manifest(f"{len(manifest.models)} models, more than {_MOST_MODELS}")
        for name, path in manifest.models.items():
            if path not in listed:
                raise _bad_manifest(f"a model {quoted(path)} that is none of its files")
            if path != f"{name}.onnx" or "/" in path:
                raise _bad_manifest(f"the model {quoted(name)} in {quoted(path)}, not NAME.onnx")
        return manifest


def read_manifest(folder: Path) -> Manifest:
    """The manifest of the release in `folder`. Raises FileError without one, and CheckError."""
    expected = "the manifest of a release, as make release leaves it"
    content = read_bytes(folder / MANIFEST, expected, most=MANIFEST_BYTES)
    return Manifest.from_json(content.decode("utf-8", "replace"))


def asset_name(path: str) -> str:
    """The name of a file of a release where there are no folders, as on GitHub."""
    return path.replace("/", "--")


def sums_of(folder: Path, manifest: Manifest) -> str:
    """The text of SHA256SUMS, as `sha256sum --check` reads it, for what lies beside the manifest.

    What lies in folders has other names where there are none; it is in the manifest, which is here.
    """
    sums = {file.path: file.sha256 for file in manifest.files if "/" not in file.path}
    sums[MANIFEST] = file_sha256(folder / MANIFEST)
    return "".join(f"{digest}  {path}\n" for path, digest in sorted(sums.items()))


def is_safe_name(name: str) -> bool:
    """Whether a name leads to a file in the same folder, on any system."""
    return _SAFE_PART.fullmatch(name) is not None


def require_safe_names(paths: Sequence[str]) -> None:
    """Raises CheckError for names that leave the folder, or that some file system takes for one."""
    for path in paths:
        parts = path.split("/")
        if not all(map(is_safe_name, parts)) or len(path) > 200:
            raise CheckError(
                f"{quoted(path)}: expected a relative path of letters, digits and _.+-, found "
                "another; do not unpack it"
            )
    seen: dict[str, str] = {}
    for path in paths:
        if (other := seen.get(path.lower())) is not None:
            raise CheckError(
                f"{path}: expected each name once, found {other} too; do not unpack it"
            )
        seen[path.lower()] = path
    for path in paths:
        folder = path.lower()
        while folder := folder.rpartition("/")[0]:
            if folder in seen:
                raise CheckError(
                    f"{path}: expected {seen[folder]} to be a folder, found a file of that name "
                    "too; do not unpack it"
                )


def _read_file(one: Any) -> ReleasedFile:
    good = (
        isinstance(one, dict)
        and set(one) == {"path", "size", "sha256"}
        and isinstance(one["path"], str)
        and type(one["size"]) is int
        and 0 <= one["size"] <= _LARGEST_FILE
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
