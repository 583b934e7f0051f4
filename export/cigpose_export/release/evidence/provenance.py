"""Where a release comes from, as an in-toto statement with SLSA's provenance.

The statement is one of the release's files: the manifest has its hash, and so the signature covers
it. docs/releasing.md describes the type of build that it names.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cigpose_export import __version__
from cigpose_export.project import Project
from cigpose_export.release.figures import published_variant
from cigpose_export.release.source import LOCK
from cigpose_export.release.verified_models import VerifiedModel
from cigpose_runtime.files import file_sha256

PROVENANCE = "provenance.intoto.json"
STATEMENT = "https://in-toto.io/Statement/v1"
PREDICATE = "https://slsa.dev/provenance/v1"
BUILD_TYPE = f"pkg:generic/cigpose-toolchain@{__version__}#docs/releasing.md"
LOCAL_BUILD = f"pkg:generic/cigpose-toolchain@{__version__}?run=local"

_RUN = ("GITHUB_SERVER_URL", "GITHUB_WORKFLOW_REF", "GITHUB_REPOSITORY", "GITHUB_REF")


def write_provenance(
    project: Project, models: Sequence[VerifiedModel], release: Path, commit: str
) -> None:
    """Writes PROVENANCE into a folder that has all other files that lie beside the manifest.

    models: at least one, all with weights of one kind. commit: of the clone. No times, runs or
    names of machines: a second build by the same builder gives the same bytes.
    """
    beside = sorted(path for path in release.iterdir() if path.is_file())
    run = _workflow()
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
                    "weights": models[0].contract.weights,
                },
                "resolvedDependencies": [
                    _source(commit, run),
                    {"name": LOCK, "digest": {"sha256": file_sha256(project.root / LOCK)}},
                    *(_checkpoint(one) for one in models if one.form == "fp32"),
                    *(_detector(one) for one in models if one.packed and one.packed.detector),
                ],
            },
            "runDetails": {"builder": {"id": _builder(run)}},
        },
    }
    (release / PROVENANCE).write_text(json.dumps(statement, indent=1) + "\n", "utf-8")


def _workflow() -> Mapping[str, str] | None:
    """GitHub's own variables of the run that this is; None elsewhere."""
    found = {name: os.environ.get(name, "") for name in _RUN}
    return found if all(found.values()) else None


def _builder(run: Mapping[str, str] | None) -> str:
    """Who ran the build: the workflow, or somebody at a machine."""
    return LOCAL_BUILD if run is None else "{GITHUB_SERVER_URL}/{GITHUB_WORKFLOW_REF}".format(**run)


def _source(commit: str, run: Mapping[str, str] | None) -> dict[str, Any]:
    source = {"name": "source", "digest": {"gitCommit": commit}}
    if run is None:
        return source
    uri = "git+{GITHUB_SERVER_URL}/{GITHUB_REPOSITORY}@{GITHUB_REF}".format(**run)
    return {**source, "uri": uri}


def _detector(one: VerifiedModel) -> dict[str, Any]:
    """What is packed into a model beside it."""
    assert one.packed is not None
    assert one.packed.detector is not None
    digest = {"sha256": one.packed.detector.sha256}
    return {"name": f"detector in {one.released_name}", "digest": digest}


def _checkpoint(one: VerifiedModel) -> dict[str, Any]:
    """The checkpoint of a model; for a published one, where checkpoints/manifest.toml has it."""
    source, variant = one.contract.source_checkpoint, published_variant(one)
    assert source is not None
    checkpoint = {"name": source.file, "digest": {"sha256": source.sha256}}
    return checkpoint if variant is None else {**checkpoint, "uri": variant.source}
