"""The command `cigpose-tools`, and the one place where errors become exit statuses."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from cigpose_export import __version__
from cigpose_export.errors import UsageError
from cigpose_export.variants import Project, Variant, WeightsKind
from cigpose_runtime import CigposeError
from cigpose_runtime.errors import printable
from cigpose_runtime.session import CPU

INTERRUPTED = 130
"""What a shell reports for a program that Ctrl-C ended."""

weights_option = click.option(
    "--weights",
    type=click.Choice(["real", "synthetic", "demo"]),
    default="real",
    show_default=True,
    help="Which checkpoints: published ones, seeded stand-ins of the same form, or the "
    "demonstration model's.",
)
all_option = click.option("--all", "every", is_flag=True, help="All 14 variants.")
json_option = click.option("--json", "as_json", is_flag=True, help="Machine-readable output.")


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs a command; exits 0 when done, 1 when a check failed, 2 for bad usage or input."""
    try:
        status = tools.main(args=arguments, prog_name="cigpose-tools", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        status = error.exit_code
    except CigposeError as error:
        _say(error)
        status = error.exit_status
    except OSError as error:
        _say(CigposeError(f"{error}; make room or correct the permissions, then run it again"))
        status = CigposeError.exit_status
    except (KeyboardInterrupt, click.Abort):
        status = INTERRUPTED
    sys.exit(status or 0)


def _say(error: CigposeError) -> None:
    click.echo(f"cigpose-tools: error: {printable(str(error))}", err=True)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__)
def tools() -> None:
    """Exports the CIGPose pose estimators to ONNX and checks what comes out."""


def _selected(project: Project, names: Sequence[str], every: bool) -> list[Variant]:
    if bool(names) == every:
        raise UsageError(
            "expected names of variants, or --all; `.venv/bin/cigpose-tools list` shows them"
        )
    return list(project.variants.values()) if every else project.select(names)


def _status(errors: Sequence[CigposeError], *, alone: bool) -> int:
    """Of many, one that failed is a failed check; of one alone, its own error tells."""
    if not errors:
        return 0
    return errors[0].exit_status if alone else 1


@tools.command("list")
@json_option
def list_variants(as_json: bool) -> None:
    """Show the variants, what the publisher reports of them, and what is here."""
    project = Project.of_this_clone()
    kinds: tuple[WeightsKind, ...] = ("real", "synthetic")
    rows: list[dict[str, Any]] = [
        {
            "name": v.name,
            "keypoints": v.num_keypoints,
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
    from cigpose_export.console import print_variants

    print_variants(rows)


@tools.command()
@click.argument("names", nargs=-1, metavar="[NAME]...")
@all_option
@weights_option
@click.option("--checkpoint", type=click.Path(path_type=Path), help="Export this file instead.")
@click.option("--out", type=click.Path(path_type=Path), help="Folder  [default: dist/WEIGHTS]")
@click.option("--jobs", type=click.IntRange(min=1), help="Exports at once  [default: by cores]")
def export(
    names: tuple[str, ...],
    every: bool,
    weights: WeightsKind,
    checkpoint: Path | None,
    out: Path | None,
    jobs: int | None,
) -> int:
    """Export variants to ONNX: only what is out of date, going on past failures."""
    from cigpose_export.batch import Batch
    from cigpose_export.console import print_outcomes, progress

    project = Project.of_this_clone()
    variants = _selected(project, names, every)
    if checkpoint and len(variants) != 1:
        raise UsageError("--checkpoint FILE goes with exactly one variant; name that one")
    with progress(len(variants)) as on_stage:
        outcomes = Batch(
            project,
            weights=weights,
            out=out or project.artefact_folder(weights),
            checkpoint=checkpoint,
            jobs=jobs,
            on_stage=on_stage,
        ).run(variants)
    print_outcomes(outcomes)
    for head in sorted({o.figures.reference_head for o in outcomes if o.figures}):
        if not head.startswith("cigpose_export."):
            click.echo(f"built from the installed CIGPose fork's own head, {head}")
    errors = [outcome.error for outcome in outcomes if outcome.error]
    for error in errors:
        _say(error)
    if any(outcome.state == "interrupted" for outcome in outcomes):
        click.echo("interrupted: the same command goes on with what is not yet there", err=True)
        return INTERRUPTED
    return _status(errors, alone=len(variants) == 1)


@tools.command()
@click.argument("files", nargs=-1, type=click.Path(path_type=Path), metavar="[FILE]...")
@all_option
@weights_option
@click.option("--out", type=click.Path(path_type=Path), help="With --all: where the files lie.")
@click.option("--checkpoint", type=click.Path(path_type=Path), help="Compare with this file.")
@click.option("--images", type=click.Path(path_type=Path), help="Folder of more pictures.")
@click.option("--provider", "providers", multiple=True, help="Execution provider, repeatable.")
@click.option("--against", type=click.Path(path_type=Path), help="A CIGPose fork's checkout.")
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="Write reports here.")
@click.option("--jobs", type=click.IntRange(min=1), help="Files at once  [default: by cores]")
def verify(
    files: tuple[Path, ...],
    every: bool,
    weights: WeightsKind,
    out: Path | None,
    checkpoint: Path | None,
    images: Path | None,
    providers: tuple[str, ...],
    against: Path | None,
    json_path: Path | None,
    jobs: int | None,
) -> int:
    """Prove that exported files compute what PyTorch computes; reports go beside them.

    The checkpoint that a file is compared with is the one that it names.
    """
    from cigpose_export.console import print_verified, progress
    from cigpose_export.verification import Verification

    project = Project.of_this_clone()
    if bool(files) == every:
        raise UsageError("expected ONNX files, or --all; `make verify-all` does the latter")
    if every:
        folder = out or project.artefact_folder(weights)
        files = tuple(folder / f"{name}.onnx" for name in project.variants)
    if checkpoint and len(files) != 1:
        raise UsageError("--checkpoint FILE goes with exactly one ONNX file; name that one")
    if json_path and not json_path.absolute().parent.is_dir():
        raise UsageError(f"--json {json_path}: expected a folder that exists; create it first")
    files = tuple(dict.fromkeys(files))
    with progress(len(files)) as on_stage:
        verified = Verification(
            project,
            checkpoint=checkpoint,
            images=images,
            providers=providers or (CPU,),
            against=against,
            jobs=jobs,
            on_stage=on_stage,
        ).run(files)
    print_verified(verified)
    if json_path:
        reports = [json.loads(one.report.to_json()) for one in verified if one.report]
        document = {"schema_version": 1, "reports": reports}
        json_path.write_text(json.dumps(document, indent=1), "utf-8")
    errors = [one.error for one in verified if one.error]
    for error in errors:
        _say(error)
    if any(one.state == "interrupted" for one in verified):
        return INTERRUPTED
    return _status(errors, alone=len(files) == 1)


@tools.group()
def checkpoints() -> None:
    """Fetch the published checkpoints, or make stand-ins of the same form."""


@checkpoints.command()
@click.argument("names", nargs=-1, metavar="[NAME]...")
@all_option
def fetch(names: tuple[str, ...], every: bool) -> int:
    """Download checkpoints, resuming what was begun; record or enforce their sha256."""
    from cigpose_export.checkpoints.fetch import fetch as fetch_one
    from cigpose_export.console import download_progress

    project = Project.of_this_clone()
    errors = []
    for variant in _selected(project, names, every):
        try:
            with download_progress(variant.name) as on_bytes:
                state = fetch_one(project, variant, on_bytes=on_bytes)
            click.echo(f"{variant.name}: {state}")
        except CigposeError as error:
            _say(error)
            errors.append(error)
    return _status(errors, alone=len(names) == 1)


@checkpoints.command()
@click.argument("names", nargs=-1, metavar="[NAME]...")
@all_option
def synthesize(names: tuple[str, ...], every: bool) -> None:
    """Make seeded checkpoints of the published ones' form, for running without them."""
    project = Project.of_this_clone()
    variants = _selected(project, names, every)

    from cigpose_export.checkpoints.synthesize import synthesize as synthesize_one

    for variant in variants:
        synthesize_one(project, variant)
        click.echo(f"{variant.name}: synthesised")


@tools.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--annotations", required=True, type=click.Path(path_type=Path), help="JSON in COCO's form."
)
@click.option("--images", required=True, type=click.Path(path_type=Path), help="Folder.")
@click.option(
    "--boxes", type=click.Path(path_type=Path), help="Detected boxes  [default: the annotated ones]"
)
@click.option("--flip", is_flag=True, help="Average with the mirror image, as published AP does.")
@click.option("--pytorch", is_flag=True, help="Measure MMPose's model and pipeline beside it.")
@click.option(
    "--out", type=click.Path(path_type=Path), help="Folder  [default: accuracy/NAME by FILE]"
)
@json_option
def accuracy(
    file: Path,
    annotations: Path,
    images: Path,
    boxes: Path | None,
    flip: bool,
    pytorch: bool,
    out: Path | None,
    as_json: bool,
) -> None:
    """Measure AP on COCO, COCO-WholeBody or CrowdPose, with the runtime.

    An interrupted run goes on where it stopped when it is started again.
    """
    from cigpose_export.accuracy.stage import measure_accuracy
    from cigpose_export.console import counted_progress, print_accuracy

    found = measure_accuracy(
        Project.of_this_clone(),
        file,
        annotations=annotations,
        images=images,
        boxes=boxes,
        flip=flip,
        pytorch=pytorch,
        out=out or file.parent / "accuracy" / file.stem,
        progress=counted_progress,
    )
    if as_json:
        click.echo(json.dumps({"schema_version": 1, **asdict(found)}, indent=1))
    else:
        print_accuracy(found)


@tools.command()
@click.option("--out", type=click.Path(path_type=Path), help="Folder  [default: dist/demo]")
def demo(out: Path | None) -> None:
    """Show the whole toolchain on a tiny model and drawn people, offline."""
    from cigpose_export.console import progress
    from cigpose_export.demo import run_demo

    project = Project.of_this_clone()
    with progress(1) as on_stage:
        shown = run_demo(
            project, out or project.artefact_folder("demo"), on_stage=on_stage, say=click.echo
        )
    for title, path in vars(shown).items():
        click.echo(f"{title:>8}: {path}")


@tools.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--pictures", type=click.IntRange(min=1), default=500, show_default=True)
@click.option("--keypoints", type=click.Choice(["14", "17", "133"]), default="17")
@click.option("--seed", type=click.IntRange(min=0), default=1, show_default=True)
def draw(folder: Path, pictures: int, keypoints: str, seed: int) -> None:
    """Draw a data set of people, in the form of COCO, COCO-WholeBody or CrowdPose."""
    from cigpose_export.console import counted_progress
    from cigpose_export.drawn.dataset import write_dataset

    with counted_progress("drawing", pictures) as on_done:
        path = write_dataset(
            folder, pictures=pictures, num_keypoints=int(keypoints), seed=seed, on_done=on_done
        )
    click.echo(str(path))


@tools.group()
def release() -> None:
    """Build releases from verified models, and check them."""


@release.command("build")
@weights_option
@click.option("--models", type=click.Path(path_type=Path), help="Folder  [default: dist/WEIGHTS]")
@click.option("--out", type=click.Path(path_type=Path), help="Folder  [default: dist/release]")
@click.option("--allow-synthetic", is_flag=True, help="Rehearse with synthetic weights.")
def build(
    weights: WeightsKind, models: Path | None, out: Path | None, allow_synthetic: bool
) -> None:
    """Make the folder to publish, from models that verify has passed."""
    from cigpose_export.release.build import build_release

    project = Project.of_this_clone()
    target = out or project.release_folder
    manifest = build_release(
        project,
        models or project.artefact_folder(weights),
        target,
        allow_synthetic=allow_synthetic,
    )
    kind = "rehearsal" if manifest.rehearsal else "release"
    click.echo(f"{kind} of {len(manifest.models)} models, {len(manifest.files)} files: {target}")


@release.command("check")
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--public-key", type=click.Path(), help="Verify the signature by this key (PEM).")
def check(path: Path, public_key: str | None) -> int:
    """Check a released folder or ZIP archive, as `cigpose-runtime check` does."""
    from cigpose_runtime import cli as runtime

    by = ["--public-key", public_key] if public_key else []
    return runtime.main(["check", str(path), *by])


@release.command("sign")
@click.argument("folder", type=click.Path(path_type=Path), required=False)
@click.option("--private-key", type=click.Path(path_type=Path), required=True, help="PEM file.")
@click.option(
    "--password", envvar="CIGPOSE_KEY_PASSWORD", help="Of the key; better in $CIGPOSE_KEY_PASSWORD."
)
def sign(folder: Path | None, private_key: Path, password: str | None) -> None:
    """Check a release and sign its manifest and all its files, with OpenSSF's model-signing."""
    from cigpose_export.release.sign import sign_release

    folder = folder or Project.of_this_clone().release_folder
    click.echo(f"signed: {sign_release(folder, private_key, password=password)}")


@release.command("publish")
@click.argument("folder", type=click.Path(path_type=Path), required=False)
@click.option(
    "--to",
    required=True,
    metavar="TARGET",
    help="github:OWNER/REPO@TAG, hf:ORG/REPO[@TAG], or a URL.",
)
@click.option("--update", is_flag=True, help="Replace what is published there.")
@click.option("--dry-run", is_flag=True, help="Say what would be done.")
@click.option("--allow-synthetic", is_flag=True, help="Rehearse with synthetic weights.")
def publish(
    folder: Path | None, to: str, update: bool, dry_run: bool, allow_synthetic: bool
) -> None:
    """Bring a release over, read all of it back, and only then make it visible.

    An interrupted run goes on where it stopped when it is started again. Credentials: GITHUB_TOKEN;
    HF_TOKEN; those of the file system that a URL names.
    """
    from cigpose_export.console import byte_size, portions_progress
    from cigpose_export.release.publish import Publication

    publication = Publication.of(
        folder or Project.of_this_clone().release_folder,
        to,
        update=update,
        allow_synthetic=allow_synthetic,
        progress=portions_progress,
        say=lambda message: click.echo(message, err=True),
    )
    files = publication.files
    if dry_run:
        there, bring, extra = publication.plan()
        for path in bring:
            click.echo(f"{'replace' if path in there.files else 'send'} {path}")
        for path in extra:
            click.echo(f"remove {path}")
        size = byte_size(sum(files[path].stat().st_size for path in bring))
        state = "published" if there.published else "not published yet"
        click.echo(f"{len(bring)} of {len(files)} files to send, {size}; {state} there")
        return
    publication.run()
    click.echo(f"published: {len(files)} files, {publication.brought} sent now, all read back")


@tools.command()
@json_option
def doctor(as_json: bool) -> int:
    """Look for install conflicts and name the fix of each."""
    from cigpose_export.doctor import examine

    findings = examine()
    if as_json:
        click.echo(
            json.dumps({"schema_version": 1, "findings": [vars(f) for f in findings]}, indent=1)
        )
    else:
        from cigpose_export.console import print_findings

        print_findings(findings)
    return 1 if any(finding.state == "conflict" for finding in findings) else 0


@tools.command()
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="Write figures here.")
@click.argument("names", nargs=-1, metavar="[NAME]...")
def bench(names: tuple[str, ...], json_path: Path | None) -> None:
    """Measure what exports cost, beside a straight trace of the reference head."""
    from cigpose_export.bench import run_bench

    project = Project.of_this_clone()
    run_bench(project, project.select(names or project.variants), json_path)


if __name__ == "__main__":
    main()
