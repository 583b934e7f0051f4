"""The rooms of the three packages, their order, and the imports between them, read from the code.

A room is a folder or a module that lies directly in a package. tests/repository/test_rooms.py holds
the order; draw_architecture.py draws it.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

CLONE = Path(__file__).resolve().parents[1]

FOLDERS = {"cigpose_export": "export", "cigpose_verify": "verify", "cigpose_runtime": "runtime"}
"""The packages and where they lie, in order: each imports only itself and those after it."""

ORDER: Mapping[str, tuple[str, ...]] = {
    "cigpose_export": (
        "cli/",
        "drawn/",
        "release/",
        "accuracy/",
        "jobs/",
        "pipeline",
        "reference/",
        "graph/",
        "checkpoints/",
        "modeling/",
        "openmmlab/",
        "project",
        "own_model",
        "variants",
        "errors",
        "__init__",
    ),
    "cigpose_verify": (
        "__main__",
        "packed/",
        "judge",
        "golden",
        "reduced/",
        "summary",
        "rows",
        "diverge",
        "stages/",
        "report/",
        "matrix",
        "reference_record",
        "measures/",
        "cases/",
        "errors",
        "__init__",
    ),
    "cigpose_runtime": (
        "cli",
        "commands/",
        "__init__",
        "labelling/",
        "sources/",
        "web/",
        "releases/",
        "writers",
        "draw",
        "media/",
        "estimation/",
        "tracking/",
        "model_file/",
        "overlap",
        "poses",
        "keypoints",
        "files",
        "arrays",
        "machine",
        "loopback",
        "terminal",
        "errors",
    ),
}
"""The rooms of each package, folders with a slash: each imports only rooms further down."""


@dataclass(frozen=True)
class Module:
    """One file of a package. name: dotted, as it is imported. room: where it lies in `package`."""

    name: str
    package: str
    room: str
    path: Path

    @cached_property
    def tree(self) -> ast.Module:
        """The parsed file."""
        return ast.parse(self.path.read_text("utf-8"))

    @property
    def summary(self) -> str:
        """The first line of its docstring."""
        return (ast.get_docstring(self.tree) or "").partition("\n")[0]


def modules(clone: Path = CLONE) -> dict[str, Module]:
    """All modules of the three packages by dotted name."""
    found = {}
    for package, folder in FOLDERS.items():
        for path in sorted((clone / folder / package).rglob("*.py")):
            parts = path.relative_to(clone / folder).with_suffix("").parts
            room = f"{parts[1]}/" if len(parts) > 2 else parts[1]
            name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
            found[name] = Module(name, package, room, path)
    return found


def imports(found: Mapping[str, Module]) -> dict[str, set[str]]:
    """For each module, those of ours that it imports: at its top, in functions, or only for types.

    A text that is a module's dotted name counts too: commands are imported by name when called.
    """
    return {name: set(_imported(module, found)) - {name} for name, module in found.items()}


def _imported(module: Module, found: Mapping[str, Module]) -> Iterator[str]:
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in found)
        elif isinstance(node, ast.ImportFrom) and node.module and node.module in found:
            inside = (f"{node.module}.{alias.name}" for alias in node.names)
            yield from (name if name in found else node.module for name in inside)
        elif isinstance(node, ast.Constant) and node.value in found and "." in str(node.value):
            yield str(node.value)


def rooms_imported(
    found: Mapping[str, Module], imported: Mapping[str, set[str]]
) -> dict[tuple[str, str], set[tuple[str, str]]]:
    """For each room, as package and room, the other rooms that its modules import."""
    arrows: dict[tuple[str, str], set[tuple[str, str]]] = {}
    for name, targets in imported.items():
        here = found[name].package, found[name].room
        there = {(found[target].package, found[target].room) for target in targets}
        arrows.setdefault(here, set()).update(there - {here})
    return arrows
