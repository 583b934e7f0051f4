"""`cigpose-tools demo`."""

from __future__ import annotations

from pathlib import Path

import click

from cigpose_export.cli.options import pass_project
from cigpose_export.project import Project
from cigpose_runtime.terminal import echo


@click.command()
@click.option("--out", type=click.Path(path_type=Path), help="Folder  [default: dist/demo]")
@pass_project
def demo(project: Project, out: Path | None) -> None:
    """Show the whole toolchain on a tiny model and drawn people, offline."""
    from cigpose_export.cli.console import progress
    from cigpose_export.drawn.demo import run_demo

    with progress(1) as on_stage:
        shown = run_demo(
            project, out or project.artefact_folder("demo"), on_stage=on_stage, say=echo
        )
    for title, path in vars(shown).items():
        echo(f"{title:>8}: {path}")
