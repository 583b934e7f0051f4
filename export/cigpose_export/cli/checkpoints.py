"""`cigpose-tools checkpoints`: fetch the published ones, or make stand-ins."""

from __future__ import annotations

import click

from cigpose_export.cli.options import all_option, pass_project, say_error, selected, status_of
from cigpose_export.project import Project
from cigpose_runtime import CigposeError
from cigpose_runtime.terminal import echo


@click.group()
def checkpoints() -> None:
    """Fetch the published checkpoints, or make stand-ins of the same form."""


@checkpoints.command()
@click.argument("names", nargs=-1, metavar="[NAME]...")
@all_option
@click.option("--recorded", is_flag=True, help="Fetch none whose sha256 is not in the manifest.")
@pass_project
def fetch(project: Project, names: tuple[str, ...], every: bool, recorded: bool) -> int:
    """Download checkpoints, resuming what was begun; record or enforce their sha256."""
    from cigpose_export.checkpoints.fetch import fetch as fetch_one
    from cigpose_export.cli.console import download_progress

    errors = []
    for variant in selected(project, names, every):
        try:
            with download_progress(variant.name) as on_bytes:
                state = fetch_one(project, variant, on_bytes=on_bytes, recorded=recorded)
            echo(f"{variant.name}: {state}")
        except CigposeError as error:
            say_error(error)
            errors.append(error)
    return status_of(errors, alone=len(names) == 1)


@checkpoints.command()
@click.argument("names", nargs=-1, metavar="[NAME]...")
@all_option
@pass_project
def synthesize(project: Project, names: tuple[str, ...], every: bool) -> None:
    """Make seeded checkpoints of the published ones' form, for running without them."""
    variants = selected(project, names, every)

    from cigpose_export.checkpoints.synthesize import synthesize as synthesize_one

    for variant in variants:
        synthesize_one(project, variant)
        echo(f"{variant.name}: synthesised")
