"""Children import from where Python is installed, never from the folder that one stands in."""

import ast

import onnx
import pytest

from cigpose_export.graph.simplify import simplify
from tiny_onnx import tiny_model
from tiny_project import CLONE

OURS = [
    path
    for folder in ("export", "verify", "runtime", "benchmarks")
    for path in sorted((CLONE / folder).rglob("*.py"))
    if "sys.executable" in path.read_text("utf-8")
]


@pytest.fixture
def trap(tmp_path, monkeypatch):
    """The folder that one stands in has a numpy.py, as a release or an e-mail may have left it."""
    folder = tmp_path / "trap"
    folder.mkdir()
    sprung = folder / "sprung"
    for name in ("numpy", "onnx", "json"):
        (folder / f"{name}.py").write_text(f"open({str(sprung)!r}, 'w').close()")
    monkeypatch.chdir(folder)
    return sprung


def test_simplifying_imports_nothing_from_here(trap):
    assert isinstance(simplify(tiny_model()), onnx.ModelProto)
    assert not trap.exists()


@pytest.mark.parametrize("path", OURS, ids=lambda path: path.stem)
def test_every_python_that_we_start_is_told_so(path):
    lists = [
        node for node in ast.walk(ast.parse(path.read_text("utf-8"))) if type(node) is ast.List
    ]
    words = [[ast.unparse(element) for element in node.elts] for node in lists]
    commands = [command for command in words if command[:1] == ["sys.executable"]]
    assert commands
    assert all(command[1] == "'-P'" for command in commands)
