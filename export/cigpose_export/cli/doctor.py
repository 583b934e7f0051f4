"""Looks at the installation for the conflicts that MMPose beside a current torch is known for."""

from __future__ import annotations

import importlib
import importlib.util
import json
import platform
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from typing import Literal

import click

from cigpose_export.cli.options import json_option, pass_project
from cigpose_export.project import Project
from cigpose_runtime import CigposeError

SETUP = "run `make setup` in the clone"

PYTHONS = ((3, 11), (3, 12), (3, 13), (3, 14))

CLASHES = (
    ("mmcv-lite", "mmcv", "both install the package mmcv; uninstall both, then {setup}"),
    ("opencv-python-headless", "opencv-python", "both install cv2; uninstall both, then {setup}"),
    ("onnxruntime", "onnxruntime-gpu", "both install onnxruntime; uninstall both, then {setup}"),
)
"""Distributions that write into each other's files."""


@dataclass(frozen=True)
class Finding:
    """One thing checked: `state` is ok, note (works, but know of it) or conflict (fix it)."""

    subject: str
    state: Literal["ok", "note", "conflict"]
    found: str
    fix: str = ""


def examine(project: Project) -> list[Finding]:
    """Looks at everything and returns what was found, in the order of an export."""
    return [finding for look in LOOKS for finding in look(project)]


def _python(_: Project) -> Iterator[Finding]:
    found = platform.python_version()
    if sys.version_info[:2] in PYTHONS:
        yield Finding("Python", "ok", found)
    else:
        fix = "the pinned packages have wheels for 3.11 to 3.14: make PYTHON=python3.14 setup"
        yield Finding("Python", "conflict", found, fix)


def _pins(project: Project) -> Iterator[Finding]:
    outside = project.root / "requirements" / "openmmlab.txt"
    lines = [*(requires("cigpose-toolchain") or []), *outside.read_text("utf-8").splitlines()]
    for line in sorted(lines):
        pinned = re.match(r"([\w.-]+)==([^\s;]+)(?!.*extra ==)", line)
        if pinned is None:
            continue
        name, pin = pinned.groups()
        found = _installed(name)
        if found is None:
            yield Finding(name, "conflict", "not installed", SETUP)
        elif found.partition("+")[0] != pin:
            yield Finding(name, "conflict", f"{found}, expected {pin}", SETUP)
        else:
            yield Finding(name, "ok", found)


def _installed(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _clashes(_: Project) -> Iterator[Finding]:
    for ours, other, fix in CLASHES:
        if _installed(ours) and _installed(other):
            subject = f"{ours} and {other}"
            yield Finding(subject, "conflict", "both are installed", fix.format(setup=SETUP))


def _torch(_: Project) -> Iterator[Finding]:
    try:
        torch = importlib.import_module("torch")
    except (ImportError, OSError) as error:
        yield Finding("import torch", "conflict", str(error), SETUP)
        return
    if torch.version.cuda:
        yield Finding(
            "torch build",
            "note",
            f"CUDA {torch.version.cuda}",
            "exports run on the CPU; a CPU build saves some gigabytes",
        )
    else:
        yield Finding("torch build", "ok", "CPU")


def _optional_packages(_: Project) -> Iterator[Finding]:
    for module, purpose in (("mmcv._ext", "compiled mmcv"), ("mmdet", "MMDetection")):
        try:
            there = importlib.util.find_spec(module) is not None
        except ImportError:
            there = False
        yield Finding(purpose, "ok", "installed" if there else "not installed, not needed")


def _evaluators(_: Project) -> Iterator[Finding]:
    try:
        importlib.import_module("faster_coco_eval")
    except ModuleNotFoundError:
        yield Finding("AP", "ok", "no faster-coco-eval, not needed for exports")
    except ImportError as error:
        yield Finding("AP", "conflict", f"faster-coco-eval cannot be imported ({error})", SETUP)
    else:
        yield Finding("AP", "ok", "faster-coco-eval")
    try:
        importlib.import_module("xtcocotools.coco")
    except ModuleNotFoundError:
        return  # MMPose is given a placeholder
    except (ImportError, ValueError) as error:  # built for another numpy: ValueError
        yield Finding(
            "xtcocotools",
            "conflict",
            f"cannot be imported ({error})",
            "MMPose imports it, and nothing here needs it: .venv/bin/pip uninstall xtcocotools",
        )


def _reference_head(_: Project) -> Iterator[Finding]:
    try:
        from cigpose_export.modeling.build import register_head

        origin = register_head()
    except (CigposeError, ImportError) as error:
        yield Finding("reference head", "conflict", str(error), SETUP)
        return
    if origin.startswith("cigpose_export."):
        yield Finding("reference head", "ok", origin)
    else:
        yield Finding(
            "reference head", "note", origin, "exports are built from this CIGPose fork's own head"
        )


def _onnx_tools(_: Project) -> Iterator[Finding]:
    for module in ("onnx", "onnxscript", "onnxsim", "onnxruntime"):
        try:
            importlib.import_module(module)
        except (ImportError, OSError) as error:
            yield Finding(f"import {module}", "conflict", str(error), SETUP)


LOOKS: tuple[Callable[[Project], Iterator[Finding]], ...] = (
    _python,
    _pins,
    _clashes,
    _torch,
    _optional_packages,
    _evaluators,
    _reference_head,
    _onnx_tools,
)


@click.command()
@json_option
@pass_project
def doctor(project: Project, as_json: bool) -> int:
    """Look for install conflicts and name the fix of each."""
    findings = examine(project)
    if as_json:
        click.echo(
            json.dumps({"schema_version": 1, "findings": [vars(f) for f in findings]}, indent=1)
        )
    else:
        _print(findings)
    return 1 if any(finding.state == "conflict" for finding in findings) else 0


def _print(findings: Sequence[Finding]) -> None:
    from rich.table import Table
    from rich.text import Text

    from cigpose_export.cli.console import print_table

    styles = {"ok": "green", "note": "yellow", "conflict": "red"}
    table = Table("", "subject", "found", "what to do", box=None, header_style="bold")
    for finding in findings:
        mark = Text(finding.state, style=styles[finding.state])
        table.add_row(mark, finding.subject, finding.found, finding.fix)
    print_table(table)
