"""`cigpose-tools list` and `export`."""

from __future__ import annotations

import contextlib
import json
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cigpose_export.cli.options import (
    INTERRUPTED,
    all_option,
    config_option,
    json_option,
    keypoints_option,
    pass_project,
    precision_option,
    require_config,
    say_error,
    selected,
    status_of,
    weights_option,
)
from cigpose_export.errors import UsageError
from cigpose_export.project import Model, Project
from cigpose_export.variants import WeightsKind
from cigpose_runtime.files import require_apart
from cigpose_runtime.model_file.contract import Precision
from cigpose_runtime.terminal import echo

if TYPE_CHECKING:
    from cigpose_export.graph.calibration import CalibrationSet

MOST_PEOPLE = 16
"""In a fixed batch: `verify` has no more inputs."""

NO_FORKS = ("cigpose_export.", "mmpose.models.heads.coord_cls_heads.rtm")
"""Where heads are from that no CIGPose fork of MMPose brings: our own, RTMPose's and RTMW's."""


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
@config_option
@click.option("--name", metavar="NAME", help="With --config: of the file  [default: the config's]")
@keypoints_option
@click.option("--weights-key", metavar="KEY", help="Entry of the checkpoint with the weights.")
@precision_option(
    "Float16 tensors, float16 weights alone, or 8 bits, in a file of its own (docs/precision.md)."
)
@click.option(
    "--calibration",
    metavar="DIR|drawn",
    help="Of int8: pictures like those that the model will see, or drawn people.",
)
@click.option(
    "--target",
    type=click.Choice(["portable"]),
    help="For engines that cannot run the default file: floats alone, a fixed batch "
    "(docs/engines.md).",
)
@click.option(
    "--batch",
    type=click.IntRange(1, MOST_PEOPLE),
    help="Of --target portable: people at once, no fewer and no more  [default: 1]",
)
@click.option("--out", type=click.Path(path_type=Path), help="Folder  [default: dist/WEIGHTS]")
@click.option("--jobs", type=click.IntRange(min=1), help="Exports at once  [default: by cores]")
@pass_project
def export(
    project: Project,
    names: tuple[str, ...],
    every: bool,
    weights: WeightsKind,
    checkpoint: Path | None,
    config: str | None,
    name: str | None,
    keypoints: Path | None,
    weights_key: str | None,
    precision: Precision,
    calibration: str | None,
    target: str | None,
    batch: int | None,
    out: Path | None,
    jobs: int | None,
) -> int:
    """Export variants to ONNX: only what is out of date, going on past failures.

    With --config and --checkpoint, export a model of your own: a fine-tuned CIGPose, or any
    RTMPose, DWPose or RTMW.
    """
    from cigpose_export.cli.console import print_outcomes, progress
    from cigpose_export.jobs.batch import State
    from cigpose_export.jobs.export import export_models

    require_config(config, keypoints)
    fixed = _fixed_batch(target, batch, precision)
    models: Sequence[Model]
    if config is None:
        models = selected(project, names, every)
        if name:
            raise UsageError("--name NAME needs --config FILE; a variant has its name")
        if checkpoint and len(models) != 1:
            raise UsageError("--checkpoint FILE needs exactly one variant; name it")
    else:
        models = [project.own_model(config, name, keypoints)]
        if names or every:
            raise UsageError("--config FILE is a model by itself; name no variants beside it")
        if checkpoint is None and weights != "synthetic":
            raise UsageError(
                "--config FILE needs --checkpoint FILE, its weights; or try the way without them: "
                "--weights synthetic"
            )
    folder = out or project.artefact_folder(weights)
    if checkpoint:
        require_apart(
            [("the exported file", folder / f"{models[0].name}.onnx")],
            [("--checkpoint", checkpoint)],
        )
    with _calibration_set(calibration, precision) as crops, progress(len(models)) as on_stage:
        outcomes = export_models(
            project,
            models,
            weights=weights,
            out=folder,
            checkpoint=checkpoint,
            weights_key=weights_key,
            precision=precision,
            calibration=crops,
            batch=fixed,
            jobs=jobs,
            on_stage=on_stage,
        )
    print_outcomes(outcomes)
    for head in sorted({o.result.reference_head for o in outcomes if o.result}):
        if not head.startswith(NO_FORKS):
            echo(f"built from the installed CIGPose fork's own head, {head}")
    for note in (o.result.note for o in outcomes if o.result and o.result.note):
        echo(f"note: {note}")
    errors = [outcome.error for outcome in outcomes if outcome.error]
    for error in errors:
        say_error(error)
    if any(outcome.state == State.INTERRUPTED for outcome in outcomes):
        echo("interrupted: run the same command to continue", err=True)
        return INTERRUPTED
    return status_of(errors, alone=len(models) == 1)


def _fixed_batch(target: str | None, batch: int | None, precision: Precision) -> int | None:
    """How many people a portable file is for; None for other files, which take any number."""
    if target is None:
        if batch is not None:
            raise UsageError("--batch N needs --target portable; other files take any number")
        return None
    if precision != "fp32":
        raise UsageError("--target portable is in float32; leave --precision out")
    return batch or 1


@contextlib.contextmanager
def _calibration_set(
    calibration: str | None, precision: Precision
) -> Iterator[CalibrationSet | None]:
    """What --calibration names: a folder, or drawn people, who are drawn anew each time."""
    if (precision == "int8") != (calibration is not None):
        raise UsageError(
            "--precision int8 needs --calibration DIR, pictures like those that the model will "
            "see, or --calibration drawn; no other precision takes it"
        )
    if calibration is None:
        yield None
        return
    from cigpose_export.drawn.calibration import write_calibration
    from cigpose_export.graph.calibration import CalibrationSet

    if calibration != "drawn":
        yield CalibrationSet.read("pictures", Path(calibration))
        return
    with tempfile.TemporaryDirectory() as folder:
        write_calibration(Path(folder))
        yield CalibrationSet.read("drawn", Path(folder))
