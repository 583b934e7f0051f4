"""`cigpose-tools verify`."""

from __future__ import annotations

import json
from pathlib import Path

import click

from cigpose_export.cli.options import (
    INTERRUPTED,
    all_option,
    config_option,
    keypoints_option,
    pass_project,
    precision_option,
    require_config,
    say_error,
    status_of,
    weights_option,
)
from cigpose_export.errors import UsageError
from cigpose_export.project import Project
from cigpose_export.variants import WeightsKind
from cigpose_runtime.estimation.session import CPU
from cigpose_runtime.files import output_file, require_apart
from cigpose_runtime.model_file.contract import Precision, artefact_name


@click.command()
@click.argument("files", nargs=-1, type=click.Path(path_type=Path), metavar="[FILE]...")
@all_option
@weights_option
@precision_option("With --all: of which files.")
@click.option("--out", type=click.Path(path_type=Path), help="With --all: where the files lie.")
@click.option("--checkpoint", type=click.Path(path_type=Path), help="Compare with this file.")
@config_option
@keypoints_option
@click.option("--as", "model", metavar="NAME", help="Files of others: their variant.")
@click.option("--metadata", type=click.Path(path_type=Path), help="JSON, in place of their own.")
@click.option("--weights-key", metavar="KEY", help="Entry of the checkpoint with the weights.")
@click.option("--images", type=click.Path(path_type=Path), help="Folder of more pictures.")
@click.option("--provider", "providers", multiple=True, help="Execution provider, repeatable.")
@click.option("--against", type=click.Path(path_type=Path), help="A CIGPose fork's checkout.")
@click.option("--detector", type=click.Path(path_type=Path), help="The YOLOX in a packed file.")
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="Write reports here.")
@click.option("--jobs", type=click.IntRange(min=1), help="Files at once  [default: by cores]")
@pass_project
def verify(
    project: Project,
    files: tuple[Path, ...],
    every: bool,
    weights: WeightsKind,
    precision: Precision,
    out: Path | None,
    checkpoint: Path | None,
    config: str | None,
    keypoints: Path | None,
    model: str | None,
    metadata: Path | None,
    weights_key: str | None,
    images: Path | None,
    providers: tuple[str, ...],
    against: Path | None,
    detector: Path | None,
    json_path: Path | None,
    jobs: int | None,
) -> int:
    """Verify that exported files compute what PyTorch computes; reports go beside them.

    The checkpoint that a file is compared with is the one that it names; for a model of your own,
    give its --config and --checkpoint. With --as NAME, files that somebody else exported are
    compared with that variant: what they compute and what they say. Packed files are compared with
    the runtime on the files that they were packed from, and with MMPose's pipeline and model.
    """
    from cigpose_export.cli.console import print_verified, progress
    from cigpose_export.jobs.batch import State
    from cigpose_export.jobs.reference_options import ReferenceOptions
    from cigpose_export.jobs.verify import verify_files

    if bool(files) == every:
        raise UsageError("expected ONNX files, or --all; `make verify-all` does the latter")
    if every:
        folder = out or project.artefact_folder(weights)
        names = (artefact_name(name, precision) for name in project.variants)
        files = tuple(folder / f"{name}.onnx" for name in names)
    if (every and model) or (metadata and not model):
        raise UsageError("--as NAME needs files of others, and --metadata FILE needs --as NAME")
    if checkpoint and len(files) != 1:
        raise UsageError("--checkpoint FILE needs exactly one ONNX file; name it")
    if json_path and not json_path.absolute().parent.is_dir():
        raise UsageError(f"--json {json_path}: expected a folder that exists; create it first")
    if config and len(files) != 1:
        raise UsageError("--config FILE needs exactly one ONNX file; name it")
    require_config(config, keypoints)
    options = ReferenceOptions(
        checkpoint, images, against, weights_key, config, keypoints, model, metadata
    )
    files = tuple(dict.fromkeys(files))
    if json_path:
        given = [*files, checkpoint] if checkpoint else files
        reports_of = [file.parent / "parity" / f"{file.stem}.json" for file in files]
        require_apart(
            [("--json", json_path)],
            [("an input", path) for path in given] + [("a report", path) for path in reports_of],
        )
    with progress(len(files)) as on_stage:
        outcomes = verify_files(
            project,
            files,
            options=options,
            providers=providers or (CPU,),
            detector=detector,
            jobs=jobs,
            on_stage=on_stage,
        )
    print_verified(outcomes)
    if json_path:
        reports = [json.loads(one.result.to_json()) for one in outcomes if one.result]
        document = {"schema_version": 1, "reports": reports}
        with output_file(json_path) as file:
            file.write(json.dumps(document, indent=1).encode())
    errors = [one.error for one in outcomes if one.error]
    for error in errors:
        say_error(error)
    if any(one.state == State.INTERRUPTED for one in outcomes):
        return INTERRUPTED
    return status_of(errors, alone=len(files) == 1)
