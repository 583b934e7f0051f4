"""`cigpose-tools release`: build, check, sign, publish."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, get_args

import click

from cigpose_export.cli.options import pass_project, weights_option
from cigpose_export.project import Project
from cigpose_export.variants import WeightsKind
from cigpose_runtime.model_file.contract import Reduced
from cigpose_runtime.terminal import echo

if TYPE_CHECKING:
    from cigpose_export.release.verified_models import Form


@click.group()
def release() -> None:
    """Build releases from verified models, and check them."""


@release.command("build")
@weights_option
@click.option("--models", type=click.Path(path_type=Path), help="Folder  [default: dist/WEIGHTS]")
@click.option("--out", type=click.Path(path_type=Path), help="Folder  [default: dist/release]")
@click.option("--allow-synthetic", is_flag=True, help="Rehearse with synthetic weights.")
@click.option(
    "--own-weights", is_flag=True, help="Release other weights than the published, named so."
)
@click.option(
    "--also",
    multiple=True,
    type=click.Choice([*get_args(Reduced), "packed"]),
    help="Forms beside float32, repeatable: reduced precisions, packed files.",
)
@pass_project
def build(
    project: Project,
    weights: WeightsKind,
    models: Path | None,
    out: Path | None,
    allow_synthetic: bool,
    own_weights: bool,
    also: tuple[Form, ...],
) -> None:
    """Make the folder to publish, from models that verify has passed."""
    from cigpose_export.release.build import build_release
    from cigpose_export.release.verified_models import left_out
    from cigpose_export.release.web_page import NPM_INSTALL, engine_of

    target, source = out or project.release_folder, models or project.artefact_folder(weights)
    manifest = build_release(
        project,
        source,
        target,
        allow_synthetic=allow_synthetic,
        own_weights=own_weights,
        also=also,
    )
    kind = "rehearsal" if manifest.rehearsal else "release"
    echo(f"{kind} of {len(manifest.models)} models, {len(manifest.files)} files: {target}")
    if engine_of(project) is None:
        echo(f"note: without onnxruntime-web it has no web page; to add it: {NPM_INSTALL}")
    if others := left_out(project, source, also):
        echo(f"note: --also adds other forms than float32; left out: {', '.join(others)}")


@release.command("check")
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--public-key", type=click.Path(), help="Verify the signature by this key (PEM).")
@click.option("--require-signature", is_flag=True, help="Fail unless a signature was verified.")
def check(path: Path, public_key: str | None, require_signature: bool) -> int:
    """Check a released folder or ZIP archive, as `cigpose-runtime check` does."""
    from cigpose_runtime import cli as runtime

    by = ["--public-key", public_key] if public_key else []
    required = ["--require-signature"] if require_signature else []
    return runtime.main(["check", str(path), *by, *required])


@release.command("sign")
@click.argument("folder", type=click.Path(path_type=Path), required=False)
@click.option("--private-key", type=click.Path(path_type=Path), required=True, help="PEM file.")
@click.option(
    "--password",
    envvar="CIGPOSE_KEY_PASSWORD",
    help="Password of the key; better in $CIGPOSE_KEY_PASSWORD.",
)
@pass_project
def sign(project: Project, folder: Path | None, private_key: Path, password: str | None) -> None:
    """Check a release and sign its manifest and all its files, with OpenSSF's model-signing."""
    from cigpose_export.release.sign import sign_release

    folder = folder or project.release_folder
    echo(f"signed: {sign_release(folder, private_key, password=password)}")


@release.command("publish")
@click.argument("folder", type=click.Path(path_type=Path), required=False)
@click.option(
    "--to",
    required=True,
    metavar="TARGET",
    help="github:OWNER/REPO@TAG, hf:ORG/REPO[@TAG], or a URL.",
)
@click.option("--update", is_flag=True, help="Replace what is published there.")
@click.option("--dry-run", is_flag=True, help="Print what would be done.")
@click.option("--allow-synthetic", is_flag=True, help="Rehearse with synthetic weights.")
@pass_project
def publish(
    project: Project,
    folder: Path | None,
    to: str,
    update: bool,
    dry_run: bool,
    allow_synthetic: bool,
) -> None:
    """Upload a release, read all of it back, and only then make it visible.

    Run it again after an interruption, and it continues where it stopped.
    Credentials: GITHUB_TOKEN;
    HF_TOKEN; those of the file system that a URL names.
    """
    from cigpose_export.cli.console import byte_size, portions_progress
    from cigpose_export.release.publish import Publication

    publication = Publication.of(
        folder or project.release_folder,
        to,
        update=update,
        allow_synthetic=allow_synthetic,
        progress=portions_progress,
        say=lambda message: echo(message, err=True),
    )
    files = publication.files
    if dry_run:
        remote, upload, extra = publication.plan()
        for path in upload:
            echo(f"{'replace' if path in remote.files else 'upload'} {path}")
        for path in extra:
            echo(f"remove {path}")
        size = byte_size(sum(files[path].stat().st_size for path in upload))
        state = "published" if remote.published else "not published yet"
        echo(f"{len(upload)} of {len(files)} files to upload, {size}; {state}")
        return
    publication.run()
    echo(f"published: {len(files)} files, {publication.uploaded} uploaded now, all read back")
