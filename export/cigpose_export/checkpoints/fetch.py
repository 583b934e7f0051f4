"""Downloads published checkpoints; records their hash once, enforces it ever after."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import gdown
import requests
import tomlkit

from cigpose_export.checkpoints.load import load_checkpoint, load_weights
from cigpose_export.errors import CheckpointError
from cigpose_export.modeling.build import build_reference, load_config
from cigpose_export.project import Project
from cigpose_export.variants import Variant
from cigpose_runtime.errors import DownloadError, first_line
from cigpose_runtime.files import appears_whole, file_sha256, locked

TIMEOUT_S = 60
"""Seconds without a byte from the server after which a download is given up."""

RETRIES = 2
"""Further tries after a connection breaks; each goes on where the last one ended."""


def fetch(
    project: Project, variant: Variant, *, on_bytes: Callable[[int, int | None], None]
) -> str:
    """Brings a variant's published checkpoint here and returns "already here" or "fetched".

    The file gets its name only once it has the recorded hash or, on the first fetch, once it was
    found to hold the variant's weights; then its hash is recorded in the manifest. An interrupted
    download goes on where it ended. `on_bytes` is called with the bytes so far and in all.

    Raises `DownloadError` when the download fails, `CheckpointError` for another file.
    """
    target = project.checkpoint_path(variant.name, "real")
    state = "already here"
    if not target.is_file():
        download = target.with_name(f".{target.name}.download")
        _download(variant, download, on_bytes)
        try:
            digest = _verify(project, variant, download)
        except CheckpointError:
            download.unlink()
            raise
        download.replace(target)
        state = "fetched"
    elif variant.sha256 is None:
        digest = _verify(project, variant, target)
    elif (digest := file_sha256(target)) != variant.sha256:
        raise CheckpointError(
            f"{target}: expected sha256 {variant.sha256} (checkpoints/manifest.toml), "
            f"found {digest}; delete the file and fetch it again"
        )
    if variant.sha256 is None:
        record_sha256(project.manifest_path, variant.name, digest)
    return state


def _download(variant: Variant, target: Path, on_bytes: Callable[[int, int | None], None]) -> None:
    kind, _, identifier = variant.source.partition(":")
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        gdown.download(
            id=identifier if kind == "gdrive" else None,
            url=None if kind == "gdrive" else variant.source,
            output=str(target),
            quiet=True,
            resume=True,
            use_cookies=False,
            timeout=TIMEOUT_S,
            retries=RETRIES,
            progress=on_bytes,
        )
    except (gdown.DownloadError, requests.RequestException, OSError) as error:
        raise DownloadError(
            f"{variant.name}: cannot download {variant.source} ({first_line(error)}); run the same "
            f"command again to go on, after deleting {target}*.part if the file there has changed, "
            f"or put it at {target.parent / variant.name}.pth yourself"
        ) from error


def _verify(project: Project, variant: Variant, path: Path) -> str:
    """The sha256 of a file that has the recorded hash and the variant's weights.

    Raises `CheckpointError` for any other file.
    """
    checkpoint = load_checkpoint(path, expected_sha256=variant.sha256)
    if checkpoint.weights != "real":
        raise CheckpointError(
            f"{path}: expected published weights, found {checkpoint.weights} ones; correct the "
            "source of this variant in checkpoints/manifest.toml"
        )
    if variant.sha256 is None:
        load_weights(build_reference(load_config(project.config_path(variant.name))), checkpoint)
    return checkpoint.sha256


def record_sha256(manifest: Path, name: str, sha256: str) -> None:
    """Adds the hash of a variant's checkpoint to the manifest, leaving all else as it is."""
    with locked(manifest.parent):  # another fetch may be recording its own
        document = tomlkit.parse(manifest.read_text("utf-8"))
        document[name]["sha256"] = sha256
        with appears_whole(manifest) as file:
            file.write(tomlkit.dumps(document).encode())
