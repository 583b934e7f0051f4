"""What commands have in common: options, the project that they work on, exit statuses."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar, get_args

import click

from cigpose_export.errors import UsageError
from cigpose_export.project import Project
from cigpose_export.variants import Variant
from cigpose_runtime import CigposeError
from cigpose_runtime.model_file.contract import Reduced
from cigpose_runtime.terminal import echo

Command = TypeVar("Command", bound=Callable[..., Any])

INTERRUPTED = 130
"""What a shell reports for a program that Ctrl-C ended."""

pass_project = click.make_pass_decorator(Project)
"""Hands a command the project that `--project` names, by default this clone."""

weights_option = click.option(
    "--weights",
    type=click.Choice(["real", "synthetic", "demo"]),
    default="real",
    show_default=True,
    help="Which checkpoints: published ones, seeded stand-ins of the same form, or the "
    "demonstration model's.",
)
all_option = click.option("--all", "every", is_flag=True, help="All 14 variants.")
config_option = click.option(
    "--config",
    metavar="FILE|mmpose:PATH",
    help="MMEngine config of a model of your own, or one that MMPose ships. It is Python, and is "
    "run: use only what you trust.",
)
keypoints_option = click.option(
    "--keypoints",
    type=click.Path(path_type=Path),
    help="With --config: JSON file with the keypoint_names, skeleton, flip_pairs and oks_sigmas "
    "that config and checkpoint do not say.",
)


def precision_option(meaning: str) -> Callable[[Command], Command]:
    """Adds --precision, which means something else to each command."""
    return click.option(
        "--precision",
        type=click.Choice(["fp32", *get_args(Reduced)]),
        default="fp32",
        show_default=True,
        help=meaning,
    )


json_option = click.option("--json", "as_json", is_flag=True, help="Machine-readable output.")


def say_error(error: CigposeError) -> None:
    """One line on stderr."""
    echo(f"cigpose-tools: error: {error}", err=True)


def selected(project: Project, names: Sequence[str], every: bool) -> list[Variant]:
    """The variants of these names, or all; raises UsageError for both or neither."""
    if bool(names) == every:
        raise UsageError(
            "expected names of variants, or --all; `.venv/bin/cigpose-tools list` shows them"
        )
    return list(project.variants.values()) if every else project.select(names)


def require_config(config: str | None, keypoints: Path | None) -> None:
    """Raises UsageError for keypoints without the model that they are of."""
    if keypoints and config is None:
        raise UsageError("--keypoints FILE needs --config FILE, the model's; give both")


def status_of(errors: Sequence[CigposeError], *, alone: bool) -> int:
    """Of many, one that failed is a failed check; of one alone, its own error tells."""
    if not errors:
        return 0
    return errors[0].exit_status if alone else 1
