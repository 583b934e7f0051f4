"""`cigpose-tools list` and `export`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from cigpose_export.cli.options import (
    INTERRUPTED,
    all_option,
    json_option,
    pass_project,
    say_error,
    selected,
    status_of,
    weights_option,
)
from cigpose_export.errors import UsageError
from cigpose_export.project import Project
from cigpose_export.variants import WeightsKind
from cigpose_runtime.files import require_apart
from cigpose_runtime.terminal import echo


@click.command("list")
@json_option
@pass_project
def list_variants(project: Project, as_json: bool) -> None:
    """Show the variants, what the publisher reports of them, and what is here."""
    kinds: tuple[WeightsKind, ...] = ("real", "synthetic")
    rows: list[dict[str, Any]] = [
        {
            "name": v.name,
            "keypoints": len(v.keypoints.names),
            "input": [v.input_w, v.input_h],
            "published": dict(v.published),
            "checkpoints": [k for k in kinds if project.checkpoint_path(v.name, k).is_file()],
            "artefacts": [k for k in kinds if project.artefact_path(v.name, k).is_file()],
        }
        for v in project.variants.values()
    ]
    if as_json:
        click.echo(json.dumps({"schema_version": 1, "variants": rows}, indent=1))
        return
    from cigpose_export.cli.console import print_variants

    print_variants(rows)


@click.command()
@click.argument("names", nargs=-1, metavar="[NAME]...")
@all_option
@weights_option
@click.option("--checkpoint", type=click.Path(path_type=Path), help="Export this file instead.")
@click.option("--weights-key", metavar="KEY", help="Entry of the checkpoint with the weights.")
@click.option("--out", type=click.Path(path_type=Path), help="Folder  [default: dist/WEIGHTS]")
@click.option("--jobs", type=click.IntRange(min=1), help="Exports at once  [default: by cores]")
@pass_project
def export(
    project: Project,
    names: tuple[str, ...],
    every: bool,
    weights: WeightsKind,
    checkpoint: Path | None,
    weights_key: str | None,
    out: Path | None,
    jobs: int | None,
) -> int:
    """Export variants to ONNX: only what is out of date, going on past failures."""
    from cigpose_export.cli.console import print_outcomes, progress
    from cigpose_export.jobs.batch import State
    from cigpose_export.jobs.export import export_variants

    variants = selected(project, names, every)
    if checkpoint and len(variants) != 1:
        raise UsageError("--checkpoint FILE needs exactly one variant; name it")
    folder = out or project.artefact_folder(weights)
    if checkpoint:
        require_apart(
            [("the exported file", folder / f"{variants[0].name}.onnx")],
            [("--checkpoint", checkpoint)],
        )
    with progress(len(variants)) as on_stage:
        outcomes = export_variants(
            project,
            variants,
            weights=weights,
            out=folder,
            checkpoint=checkpoint,
            weights_key=weights_key,
            jobs=jobs,
            on_stage=on_stage,
        )
    print_outcomes(outcomes)
    for head in sorted({o.result.reference_head for o in outcomes if o.result}):
        if not head.startswith("cigpose_export."):
            echo(f"built from the installed CIGPose fork's own head, {head}")
    for note in (o.result.note for o in outcomes if o.result and o.result.note):
        echo(f"note: {note}")
    errors = [outcome.error for outcome in outcomes if outcome.error]
    for error in errors:
        say_error(error)
    if any(outcome.state == State.INTERRUPTED for outcome in outcomes):
        echo("interrupted: run the same command to continue", err=True)
        return INTERRUPTED
    return status_of(errors, alone=len(variants) == 1)
