"""What code a result follows from: the import closure of the function that a worker runs.

No list of files is kept by hand. A module that the function imports, directly or through others,
also inside functions, is part of the closure, and so are the data files that lie in the packages of
those modules. What is imported under `if TYPE_CHECKING` is not: it never runs.
"""

from __future__ import annotations

import ast
import contextlib
import hashlib
import importlib
import inspect
import json
import sys
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

from cigpose_export.graph.tool_versions import mmpose_files, tool_versions
from cigpose_export.project import Model, Project
from cigpose_export.variants import Variant
from cigpose_runtime.files import file_sha256

PACKAGES = ("cigpose_export", "cigpose_verify", "cigpose_runtime")
NOT_DATA = frozenset({".py", ".pyc", ".typed"})


def hash_of(*parts: str) -> str:
    """One sha256 of several texts."""
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def config_hash(path: Path) -> str:
    """A hash of a config file and of all that it is based on, by content."""
    return hash_of(*map(file_sha256, _config_files(path.resolve())))


def model_hash(project: Project, model: Model) -> str:
    """A hash of what decides about a model besides code and checkpoint.

    Of a variant, the files of its config. A user's own config may compute what it says: it is
    loaded, which takes MMPose, and what comes out counts, with the keypoints that it names.
    Raises CigposeError.
    """
    if isinstance(model, Variant):
        return config_hash(project.config_path(model.name))
    from cigpose_export.modeling.build import load_config
    from cigpose_export.modeling.keypoints_of_config import keypoints_in_config

    config = load_config(model.config)
    said = json.dumps(config.to_dict(), sort_keys=True, default=repr)
    keypoints = repr(keypoints_in_config(config, model.config))
    file = file_sha256(model.keypoints_path) if model.keypoints_path else ""
    modules = (config.get("custom_imports") or {}).get("imports") or []
    loaded = [
        sys.modules.get(name) for name in ([modules] if isinstance(modules, str) else modules)
    ]
    code = [file_sha256(Path(m.__file__)) for m in loaded if m and m.__file__]
    return hash_of(said, keypoints, file, *code)


def _config_files(path: Path) -> list[Path]:
    """The file itself, then those that its `_base_` names, however far away.

    Of bases in a package ("mmpose::…") nothing: its version is part of `code_hash`. What cannot be
    read or makes no sense is left to the worker that loads the config.
    """
    files: dict[Path, None] = {}
    waiting = [path]
    while waiting:
        current = waiting.pop()
        if current in files or not current.is_file():
            continue
        files[current] = None
        with contextlib.suppress(SyntaxError, ValueError, TypeError):
            for node in ast.parse(current.read_bytes()).body:
                if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "_base_":
                    value = ast.literal_eval(node.value)
                    bases = [value] if isinstance(value, str) else value
                    waiting += [(current.parent / base).resolve() for base in bases]
    return list(files)


@cache
def code_hash(function: Callable[..., Any]) -> str:
    """A hash of all code that decides what a worker's function returns or writes.

    That is our own modules in its import closure, by content, and the versions of the packages that
    those rest on.
    """
    files = closure_of(function)
    named = (f"{path.name} {file_sha256(path)}" for path in files)
    return hash_of(*named, json.dumps(tool_versions()), mmpose_files())


def closure_of(function: Callable[..., Any]) -> list[Path]:
    """The files of the modules that a function imports, however far away, and their data; sorted.

    Of the function's own module, what other functions in it import is left out.
    """
    source = Path(inspect.getfile(function))
    tree = ast.parse(source.read_text("utf-8"))
    here = [node for node in tree.body if not isinstance(node, ast.FunctionDef)]
    here += [n for n in tree.body if isinstance(n, ast.FunctionDef) and n.name == function.__name__]
    waiting = [name for node in here for name in _imported(node)]
    modules: dict[str, Path] = {function.__module__: source}
    while waiting:
        name = waiting.pop()
        if name in modules or (path := _file_of(name)) is None:
            continue
        modules[name] = path
        waiting += [name.rpartition(".")[0], *_imported(ast.parse(path.read_text("utf-8")))]
    data = [file for path in modules.values() if path.stem == "__init__" for file in _data(path)]
    return sorted({*modules.values(), *data})


def _imported(tree: ast.AST) -> Iterator[str]:
    """What a tree imports; of `from a import b` both a and a.b, which may be no module."""
    for node in _nodes_that_run(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _nodes_that_run(tree: ast.AST) -> Iterator[ast.AST]:
    is_for_types = isinstance(tree, ast.If) and ast.unparse(tree.test) == "TYPE_CHECKING"
    if not is_for_types:
        yield tree
    children: Iterable[ast.AST] = (
        tree.orelse if isinstance(tree, ast.If) and is_for_types else ast.iter_child_nodes(tree)
    )
    for child in children:
        yield from _nodes_that_run(child)


def _file_of(name: str) -> Path | None:
    """The file of one of our modules; None for what is no module, or somebody else's."""
    package, *inside = name.split(".")
    if package not in PACKAGES:
        return None
    # The package alone is imported here, which is light, never the module.
    path = Path(importlib.import_module(package).__path__[0]).joinpath(*inside)
    for candidate in (path / "__init__.py", path.with_suffix(".py")):
        if candidate.is_file():
            return candidate
    return None


def _data(init: Path) -> Iterator[Path]:
    """The files of a package that are not code, those of packages inside it left out."""
    for path in sorted(init.parent.iterdir()):
        if path.is_dir() and not (path / "__init__.py").exists():
            yield from (p for p in sorted(path.rglob("*")) if p.suffix not in NOT_DATA)
        elif path.is_file() and path.suffix not in NOT_DATA:
            yield path
