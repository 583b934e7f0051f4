"""Where a release comes from, as an in-toto statement with SLSA's provenance.

The statement is one of the release's files: the manifest has its hash, and so the signature covers
it. docs/releasing.md describes the type of build that it names.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cigpose_export import __version__
from cigpose_export.project import Project
from cigpose_export.release.figures import published_variant
from cigpose_export.release.verified_models import VerifiedModel
from cigpose_runtime.files import file_sha256

PROVENANCE = "provenance.intoto.json"
STATEMENT = "https://in-toto.io/Statement/v1"
PREDICATE = "https://slsa.dev/provenance/v1"
BUILD_TYPE = f"pkg:generic/cigpose-toolchain@{__version__}#docs/releasing.md"
LOCAL_BUILD = f"pkg:generic/cigpose-toolchain@{__version__}?run=local"

_LOCK = "requirements/lock.txt"


def write_provenance(
    project: Project, models: Sequence[VerifiedModel], release: Path, commit: str
) -> None:
    """Writes PROVENANCE into a folder that has all other files that lie beside the manifest.

    commit: of the clone that the release is built from. No times, runs or names of machines: a
    second build by the same builder gives the same bytes.
    """
    weights = {one.contract.weights for one in models}
    beside = sorted(path for path in release.iterdir() if path.is_file())
    statement = {
        "_type": STATEMENT,
        "subject": [
            {"name": path.name, "digest": {"sha256": file_sha256(path)}} for path in beside
        ],
        "predicateType": PREDICATE,
        "predicate": {
            "buildDefinition": {
                "buildType": BUILD_TYPE,
                "externalParameters": {
                    "models": [one.released_name for one in models],
                    "weights": sorted(filter(None, weights)),
                },
                "resolvedDependencies": [
                    _source(commit),
                    {"name": _LOCK, "digest": {"sha256": file_sha256(project.root / _LOCK)}},
                    *map(_checkpoint, models),
                ],
            },
            "runDetails": {"builder": {"id": _builder()}},
        },
    }
    (release / PROVENANCE).write_text(json.dumps(statement, indent=1) + "\n", "utf-8")


def _is_workflow() -> bool:
    return os.environ.get("GITHUB_ACTIONS") == "true"


def _builder() -> str:
    """Who ran the build: the workflow, by GitHub's own variables, or somebody at a machine."""
    if _is_workflow():
        return f"{os.environ['GITHUB_SERVER_URL']}/{os.environ['GITHUB_WORKFLOW_REF']}"
    return LOCAL_BUILD


def _source(commit: str) -> dict[str, Any]:
    source = {"name": "source", "digest": {"gitCommit": commit}}
    if _is_workflow():
        repository = f"{os.environ['GITHUB_SERVER_URL']}/{os.environ['GITHUB_REPOSITORY']}"
        source["uri"] = f"git+{repository}@{os.environ['GITHUB_REF']}"
    return source


def _checkpoint(one: VerifiedModel) -> dict[str, Any]:
    """The checkpoint of a model; for a published one, where checkpoints/manifest.toml has it."""
    source, variant = one.contract.source_checkpoint, published_variant(one)
    assert source is not None
    checkpoint = {"name": source.file, "digest": {"sha256": source.sha256}}
    return checkpoint if variant is None else {**checkpoint, "uri": variant.source}
