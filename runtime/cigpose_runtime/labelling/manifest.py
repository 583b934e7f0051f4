"""What a folder of results says of itself, and whether a run may go on in it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from cigpose_runtime.errors import FileError, InputError, quoted
from cigpose_runtime.labelling.folder import Folder
from cigpose_runtime.labelling.rows import Counts, read_about
from cigpose_runtime.labelling.shards import Shard
from cigpose_runtime.model_file.contract import Contract
from cigpose_runtime.sources import storage

MANIFEST = "manifest.json"

FORMAT, SCHEMA_VERSION = "cigpose-label", 1

_NAME = r"(shard-\d{6,}\.parquet|manifest\.json)"
_OURS = re.compile(_NAME)
_LEFT_OVER = re.compile(rf"\.{_NAME}\.\w+\.partial|{_NAME}\.partial")
"""What appears_whole and UrlFolder leave when a run is killed."""


@dataclass(frozen=True)
class Found:
    """What was in the folder: the shards that are done and their counts, and foreign files."""

    done: Mapping[str, Counts]
    foreign: Sequence[str]


def look(folder: Folder, about: Mapping[str, Any], shards: Sequence[Shard]) -> Found:
    """Finds out what is done already, and removes what earlier runs left and nobody needs.

    about: how this run makes its shards. A shard is done when its file says that it was made in
    this way from the same inputs. Raises InputError, naming the options, where the folder's
    results were made in another way, and FileError for files of others under names of ours.
    """
    names = folder.names()
    if MANIFEST in names:
        _require_same(folder, read_manifest(folder.name)["about"], about)
    planned = {shard.name: shard for shard in shards}
    done, foreign = {}, []
    for name in names:
        if _LEFT_OVER.fullmatch(name):
            folder.remove(name)
        elif not _OURS.fullmatch(name):
            foreign.append(name)
        elif name != MANIFEST:
            with storage.opened(folder.file(name), "a Parquet file") as file:
                made, counts = read_about(file, folder.file(name))
            inputs = made.pop("inputs_sha256", None)
            _require_same(folder, made, about)
            if name not in planned:
                folder.remove(name)
            elif inputs == planned[name].inputs_sha256:
                done[name] = counts
    return Found(done, foreign)


def remove_others(folder: Folder, about: Mapping[str, Any]) -> None:
    """Removes the shards and the manifest, if that says that they were made in another way."""
    names = folder.names()
    if MANIFEST in names and read_manifest(folder.name)["about"] != about:
        for name in names:
            if _OURS.fullmatch(name):
                folder.remove(name)


def write_manifest(
    folder: Folder, about: Mapping[str, Any], contract: Contract, done: Mapping[str, Counts] | None
) -> None:
    """Writes the manifest. done: the counts of all shards at the end of a run, None before it."""
    counts = [] if done is None else list(done.values())
    document = {
        "format": FORMAT,
        "schema_version": SCHEMA_VERSION,
        "complete": done is not None,
        "about": about,
        "contract": json.loads(contract.to_json()),
        "shards": {name: asdict(count) for name, count in (done or {}).items()},
        "pictures": sum(count.pictures for count in counts),
        "people": sum(count.people for count in counts),
        "errors": sum(count.errors for count in counts),
    }
    with folder.writing(MANIFEST) as file:
        file.write(json.dumps(document, indent=1, sort_keys=True).encode() + b"\n")


def read_manifest(folder: str) -> dict[str, Any]:
    """The manifest of a folder of results. Raises FileError where there is none of ours."""
    name = f"{folder.rstrip('/')}/{MANIFEST}"
    try:
        document = json.loads(storage.read(name, "the manifest of a folder that label wrote"))
        is_ours = document["format"] == FORMAT
        version = document["schema_version"]
        if version == SCHEMA_VERSION:
            mappings = document["about"], document["contract"], document["shards"]
            is_ours &= all(isinstance(one, dict) for one in mappings)
            is_ours &= all(_OURS.fullmatch(name) for name in document["shards"])
            is_ours &= isinstance(document["complete"], bool)
    except (ValueError, KeyError, TypeError):
        is_ours = False
    if not is_ours:
        raise FileError(
            f"{name}: expected a manifest that label wrote, found another file; give another folder"
        )
    if version != SCHEMA_VERSION:
        raise FileError(
            f"{name}: expected schema version {SCHEMA_VERSION}, found {quoted(version)}; upgrade "
            "cigpose-runtime, or give another folder"
        )
    return dict(document)


def _require_same(folder: Folder, made: Mapping[str, Any], about: Mapping[str, Any]) -> None:
    before, now = dict(_flat(made)), dict(_flat(json.loads(json.dumps(about))))
    changed = [
        f"{key} was {quoted(before.get(key))} and is {quoted(now.get(key))}"
        for key in sorted({*before, *now})
        if before.get(key) != now.get(key)
    ]
    if changed:
        raise InputError(
            f"{folder.name}: expected the options that its results were made with, found others: "
            f"{'; '.join(changed)}; repeat those or give another --out"
        )


def _flat(document: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in document.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key} ")
        else:
            yield f"{prefix}{key}", value
