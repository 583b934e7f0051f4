"""Downloads published checkpoints; records their hash once, enforces it ever after."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import gdown
import requests
import tomlkit

from cigpose_export.checkpoints.announced import TIMEOUT_S, announced_sha256
from cigpose_export.checkpoints.load import Checkpoint, load_checkpoint, load_weights
from cigpose_export.errors import CheckpointError
from cigpose_export.modeling.build import build_reference, load_config
from cigpose_export.project import Project
from cigpose_export.variants import Variant
from cigpose_runtime.errors import DownloadError, first_line
from cigpose_runtime.files import appears_whole, file_sha256, locked

RETRIES = 2
"""Further tries after a connection breaks; each goes on where the last one ended."""


def fetch(
    project: Project,
    variant: Variant,
    *,
    on_bytes: Callable[[int, int | None], None],
    recorded: bool = False,
) -> str:
    """Brings a variant's published checkpoint here and returns "already here" or "fetched".

    The file gets its name only once it has the recorded hash. On the first fetch, its bytes have to
    be checked in another way, it has to hold the variant's weights, and its hash is recorded in the
    manifest. An interrupted download goes on where it ended. `on_bytes` is called with the bytes so
    far and in all.

    Raises `DownloadError` when the download fails, `CheckpointError` for another file, and with
    `recorded` before any download where the manifest has no hash: nobody has looked at that file.
    """
    if recorded and variant.sha256 is None:
        raise CheckpointError(
            f"{variant.name}: expected its sha256 in checkpoints/manifest.toml, found none; run "
            "make checkpoints on a machine of your own, and commit the hashes that it records"
        )
    target = project.checkpoint_path(variant.name, "real")
    if target.is_file():
        return _check_what_is_here(project, variant, target)
    download = target.with_name(f".{target.name}.download")
    _download(variant, download, on_bytes)
    try:
        checkpoint = load_checkpoint(download, expected_sha256=variant.sha256)
        if variant.sha256 is None:
            if not checkpoint.has_checksums:
                _compare_with_source(variant, download, checkpoint.sha256, on_bytes)
            _require_weights_of(project, variant, checkpoint)
            record_sha256(project.manifest_path, variant.name, checkpoint.sha256)
    except CheckpointError:
        download.unlink()
        raise
    download.replace(target)
    return "fetched"


def _check_what_is_here(project: Project, variant: Variant, target: Path) -> str:
    """Holds a file to its hash; records it, if there is none, only where the bytes are checked."""
    if variant.sha256 is not None:
        if (digest := file_sha256(target)) != variant.sha256:
            raise CheckpointError(
                f"{target}: expected sha256 {variant.sha256} (checkpoints/manifest.toml), "
                f"found {digest}; delete the file and fetch it again"
            )
        return "already here"
    checkpoint = load_checkpoint(target)
    _require_weights_of(project, variant, checkpoint)
    if not checkpoint.has_checksums:
        return (
            f"already here, unchecked: this form of file has no checksums, so its sha256 "
            f"{checkpoint.sha256} is not recorded; compare it with the publisher's and enter it in "
            "checkpoints/manifest.toml, or delete the file and fetch it again"
        )
    record_sha256(project.manifest_path, variant.name, checkpoint.sha256)
    return "already here"


def _compare_with_source(
    variant: Variant, download: Path, digest: str, on_bytes: Callable[[int, int | None], None]
) -> None:
    """Raises `CheckpointError` unless the source says, or gives again, what was downloaded.

    Torch's legacy container and safetensors have no checksums. The source may say the hash; where
    it does not, what two downloads have in common is what the source holds.
    """
    if begins := announced_sha256(variant.source):
        if not digest.startswith(begins):
            raise CheckpointError(
                f"{download}: expected a sha256 that begins with {begins}, as {variant.source} "
                f"says, found {digest}; the download is damaged: fetch it again"
            )
        return
    again = download.with_name(f"{download.name}.again")
    try:
        _download(variant, again, on_bytes)
        if (second := file_sha256(again)) != digest:
            raise CheckpointError(
                f"{download}: expected the same bytes from two downloads, found sha256 {digest} "
                f"and {second}: one of them is damaged, and neither is kept; fetch it again"
            )
    finally:
        again.unlink(missing_ok=True)


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


def _require_weights_of(project: Project, variant: Variant, checkpoint: Checkpoint) -> None:
    """Raises `CheckpointError` for other weights than the variant's published ones."""
    if checkpoint.weights != "real":
        raise CheckpointError(
            f"{checkpoint.path}: expected published weights, found {checkpoint.weights} ones; "
            "correct the source of this variant in checkpoints/manifest.toml"
        )
    load_weights(build_reference(load_config(project.config_path(variant.name))), checkpoint)


def record_sha256(manifest: Path, name: str, sha256: str) -> None:
    """Adds the hash of a variant's checkpoint to the manifest, leaving all else as it is."""
    with locked(manifest.parent):  # another fetch may be recording its own
        document = tomlkit.parse(manifest.read_text("utf-8"))
        document[name]["sha256"] = sha256
        with appears_whole(manifest) as file:
            file.write(tomlkit.dumps(document).encode())
