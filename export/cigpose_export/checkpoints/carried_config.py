"""Reads the config text that a checkpoint carries (`meta['cfg']`) without running any of it.

MMEngine writes `Config.pretty_text` there: assignments of literals, with `dict(...)` for mappings.
The text is parsed and its literals are put together here; a name is known where the text assigns
it. All else (calls, loops, imports) becomes `Unread` in the place where its value would be.
"""

from __future__ import annotations

import ast
import operator
import re
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

MOST_CHARACTERS = 1 << 19
"""The longest text that is read. Those of the published variants have 20,000 to 50,000."""

MOST_VALUES = 500_000
"""Of one text, those of names counted wherever the name is used, characters of sums included."""

DEEPEST = 60
"""Levels of nesting of expressions and of values; MMPose's configs have about ten."""


@dataclass(frozen=True)
class Unread:
    """Stands where a text has something that is no literal."""

    why: str


def read_config_text(text: str) -> dict[str, Any] | Unread:
    """What a config text assigns, by name: plain values, with `Unread` in place of all others.

    Nothing in the text is executed. `Unread` for a text that is no Python, or too long or too deep
    for a config.
    """
    if len(text) > MOST_CHARACTERS:
        return Unread(f"the text has {len(text)} characters")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of odd escapes in strings
            module = ast.parse(text)
        return _Reader().read(module)
    except SyntaxError as error:
        return Unread(f"the text is no Python (line {error.lineno})")
    except (ValueError, MemoryError, RecursionError, _TooLargeError):
        return Unread("the text is no config: binary, nested too deep or too large")


class _TooLargeError(Exception):
    """The values of a text are more than those of any config."""


class _Reader:
    """Puts the values of one text together, statement by statement."""

    def __init__(self) -> None:
        self.names: dict[str, Any] = {}
        self.left = MOST_VALUES

    def read(self, module: ast.Module) -> dict[str, Any]:
        for statement in module.body:
            match statement:
                case ast.Assign(targets=targets) if all(isinstance(t, ast.Name) for t in targets):
                    value = self.value(statement.value, 0)
                    self.names.update({t.id: value for t in targets if isinstance(t, ast.Name)})
                case ast.Expr(value=ast.Constant()) | ast.Pass():
                    pass
                case _:  # it may have changed whatever it names
                    unread = _unread(statement)
                    for name in _names_in(statement):
                        if name == "*":
                            self.names = dict.fromkeys(self.names, unread)
                        self.names[name] = unread
        return self.names

    def value(self, node: ast.expr, depth: int) -> Any:
        """The value of an expression, as a tree: nothing in it is shared with another."""
        self.spend(1)
        if depth > DEEPEST:
            return _unread(node)
        deeper = depth + 1
        match node:
            case ast.Constant(value=str(text)) if "{{" in text:
                interpolated = _INTERPOLATED.fullmatch(text)
                return self.named(node, interpolated[1], depth) if interpolated else _unread(node)
            case ast.Constant(value=value):
                return value
            case ast.List(elts=items):
                return [self.value(item, deeper) for item in items]
            case ast.Tuple(elts=items):
                return tuple(self.value(item, deeper) for item in items)
            case ast.Dict(keys=keys, values=values):
                pairs = [
                    (None if key is None else self.value(key, deeper), self.value(value, deeper))
                    for key, value in zip(keys, values, strict=True)
                ]
                return _as_dict(node, pairs)
            case ast.Call(func=ast.Name(id="dict"), args=args, keywords=keywords):
                pairs = [(None, self.value(arg, deeper)) for arg in args]
                pairs += [(k.arg, self.value(k.value, deeper)) for k in keywords]
                return _as_dict(node, pairs)
            case ast.Call(func=ast.Name(id="list" | "tuple" as kind), args=[arg], keywords=[]):
                items = self.value(arg, deeper)
                if not isinstance(items, list | tuple):
                    return _unread(node)
                return tuple(items) if kind == "tuple" else list(items)
            case ast.UnaryOp() | ast.BinOp():
                return self.computed(node, deeper)
        return self.looked_up(node, depth)

    def looked_up(self, node: ast.expr, depth: int) -> Any:
        """The value of an expression that refers to what was assigned before."""
        deeper = depth + 1
        match node:
            case ast.Set(elts=[ast.Set(elts=[inner])]):  # MMEngine's {{_base_.name}}
                return self.value(inner, deeper)
            case ast.Attribute(value=ast.Name(id="_base_"), attr=name):
                return self.named(node, name, depth)
            case ast.Name(id=name):
                return self.named(node, name, depth)
            case ast.Attribute(value=owner, attr=key):
                return self.item(node, self.value(owner, deeper), key)
            case ast.Subscript(value=owner, slice=index):
                return self.item(node, self.value(owner, deeper), self.value(index, deeper))
        return _unread(node)

    def named(self, node: ast.expr, name: str, depth: int) -> Any:
        """The value of a name that was assigned before; `inf` and `nan` as MMEngine prints them."""
        if name in self.names:
            return self.copy(self.names[name], depth)
        return float(name) if name in ("inf", "nan") else _unread(node)

    def item(self, node: ast.expr, owner: Any, key: Any) -> Any:
        if isinstance(owner, dict | list | tuple):
            try:
                return owner[key]
            except (KeyError, IndexError, TypeError):
                pass
        return _unread(node)

    def computed(self, node: ast.UnaryOp | ast.BinOp, depth: int) -> Any:
        """Arithmetic of numbers, and sums of texts, lists and tuples."""
        operands = [node.operand] if isinstance(node, ast.UnaryOp) else [node.left, node.right]
        values = [self.value(operand, depth) for operand in operands]
        compute = _ARITHMETIC.get(type(node.op))
        if compute is not None and all(type(v) in (int, float) for v in values):
            try:
                result = compute(*values)
            except (ArithmeticError, ValueError):
                return _unread(node)
            return result if isinstance(result, float) or abs(result) < 1 << 64 else _unread(node)
        kinds = {type(v) for v in values}
        if isinstance(node.op, ast.Add) and len(kinds) == 1 and kinds <= {str, list, tuple}:
            self.spend(sum(map(len, values)))
            return values[0] + values[1]
        return _unread(node)

    def copy(self, value: Any, depth: int) -> Any:
        self.spend(1)
        if depth > DEEPEST:
            return Unread("a value that is nested too deep")
        if isinstance(value, dict):
            return {key: self.copy(item, depth + 1) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return type(value)(self.copy(item, depth + 1) for item in value)
        return value

    def spend(self, count: int) -> None:
        self.left -= count
        if self.left < 0:
            raise _TooLargeError


_INTERPOLATED = re.compile(r"\{\{\s*_base_\.(\w+)\s*\}\}")

_ARITHMETIC: dict[type[ast.operator | ast.unaryop], Callable[..., Any]] = {
    ast.UAdd: operator.pos,
    ast.USub: operator.neg,
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
}


def _as_dict(node: ast.expr, pairs: list[tuple[Any, Any]]) -> Any:
    """A dict of pairs; with the key None, of a whole mapping."""
    result: dict[Any, Any] = {}
    for key, value in pairs:
        if key is None:
            if not isinstance(value, Mapping):
                return _unread(node)
            result.update(value)
        elif type(key) in (str, int, float, bool):
            result[key] = value
        else:
            return _unread(node)
    return result


def _unread(node: ast.stmt | ast.expr) -> Unread:
    return Unread(f"line {node.lineno} is no literal")


def _names_in(statement: ast.stmt) -> set[str]:
    """All that a statement could give another value, "*" for everything."""
    names = set()
    for node in ast.walk(statement):
        match node:
            case ast.Name(id=name) | ast.FunctionDef(name=name) | ast.ClassDef(name=name):
                names.add(name)
            case ast.alias(name=name, asname=other):
                names.add(other or name.partition(".")[0])
    return names
