"""Writes docs/api.md, and the tables of rooms in docs/architecture.md, from docstrings.

Run by `make docs`. Nothing is imported: the code is read.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from rooms import FOLDERS, ORDER, Module, modules

API = Path(__file__).with_name("api.md")
ARCHITECTURE = Path(__file__).with_name("architecture.md")

SECTIONS = {
    "Poses of a frame": ("estimation.pose_model", "estimation.frame_model", "poses"),
    "Finding and following people": (
        "estimation.detector",
        "estimation.open_detector",
        "estimation.yolox",
        "estimation.mmdeploy_detector",
        "estimation.own_detector",
        "estimation.pose_pipeline",
        "tracking.tracker",
        "tracking.smoothing",
    ),
    "What becomes of poses": ("draw", "writers"),
    "What a model file says": (
        "model_file.reader",
        "model_file.contract",
        "model_file.contract_fields",
        "model_file.frame_contract",
        "model_file.onnx_graph",
        "keypoints",
    ),
    "Errors": ("errors",),
}
"""The page's sections, and the modules whose public names they show."""

WHOLE = frozenset({"draw", "writers", "errors"})
"""Modules that are imported by their own name: all that is public in them is shown."""

HELPERS = frozenset({"error_context", "first_line", "last_line", "quoted", "printable"})
"""What is public in these modules for ours alone."""

HEAD = """# The runtime's API

`make docs` writes this page from the docstrings. Import these names from `cigpose_runtime`; those
shown with a module, as `writers.to_csv`, from that module of it.
[runtime/README.md](../runtime/README.md) is the introduction.
"""

TABLES = re.compile(r"(?<=<!-- rooms: written by make docs -->\n).*(?=<!-- end of rooms -->)", re.S)

_LONG_LINE = 96

Definition = ast.ClassDef | ast.FunctionDef


def api_page() -> str:
    """docs/api.md."""
    found = modules()
    public = _names_in_all(found["cigpose_runtime"])
    parts, shown = [HEAD], set()
    for title, names in SECTIONS.items():
        parts.append(f"## {title}\n")
        for name in names:
            module = found[f"cigpose_runtime.{name}"]
            wanted = None if name in WHOLE else public
            for heading, text, one in _entries(module, wanted):
                parts.append(f"### {heading}\n\n{text}")
                shown.add(one)
    if missing := public - shown:
        raise ValueError(f"docs/write_pages.py: no section shows {', '.join(sorted(missing))}")
    return "\n".join(parts)


def architecture_page(page: str) -> str:
    """docs/architecture.md with its tables of rooms written anew."""
    found = modules()
    parts = []
    for package, folder in FOLDERS.items():
        parts.append(f"### {folder}/{package}\n\n| room | what |\n|---|---|")
        for room in ORDER[package]:
            name = f"{package}.{room.rstrip('/')}".removesuffix(".__init__")
            path = room if room.endswith("/") else f"{room}.py"
            link = f"../{folder}/{package}/{path}"
            parts.append(f"| [`{path}`]({link}) | {found[name].summary} |")
        parts.append("")
    return TABLES.sub(lambda _: "\n" + "\n".join(parts) + "\n", page)


def _names_in_all(package: Module) -> set[str]:
    for node in package.tree.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return set(ast.literal_eval(node.value))
    raise ValueError(f"{package.path}: expected __all__, found none")


def _entries(module: Module, public: set[str] | None) -> Iterator[tuple[str, str, str]]:
    """Heading, text and name of each public definition; `public` None: of all but private ones."""
    for number, node in enumerate(module.tree.body):
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            name, text = node.name, _described(node)
        elif isinstance(node, ast.Assign | ast.AnnAssign) and public is not None:
            target = node.targets[0] if isinstance(node, ast.Assign) else node.target
            name, text = ast.unparse(target), _constant(node, module.tree.body[number + 1 :])
        else:
            continue
        if name.startswith("_") or name in HELPERS:
            continue
        if public is None or name in public:
            yield (name if public is not None else f"{module.room}.{name}"), text, name


def _constant(node: ast.Assign | ast.AnnAssign, rest: Sequence[ast.stmt]) -> str:
    value = ast.unparse(node.value) if node.value else ""
    name = ast.unparse(node.targets[0] if isinstance(node, ast.Assign) else node.target)
    text = _code(f"{name} = {value}")
    following = rest[0] if rest else None
    if isinstance(following, ast.Expr) and isinstance(following.value, ast.Constant):
        text += "\n" + _prose(str(following.value.value), set())
    return text


def _described(node: Definition) -> str:
    return _class(node) if isinstance(node, ast.ClassDef) else _function(node, _signature(node))


def _class(node: ast.ClassDef) -> str:
    """Its fields, or how it is made, then its public methods that have a docstring."""
    functions = [one for one in node.body if isinstance(one, ast.FunctionDef)]
    init = next((one for one in functions if one.name == "__init__"), None)
    if init:
        code = _signature(init).replace("__init__", node.name)
        names = {argument.arg for argument in _arguments(init)}
    else:
        bases = ", ".join(ast.unparse(base) for base in node.bases)
        fields = [one for one in node.body if isinstance(one, ast.AnnAssign)]
        lines = [f"class {node.name}({bases})" if bases else f"class {node.name}"]
        code = "\n".join(lines + [f"    {ast.unparse(field)}" for field in fields])
        names = {ast.unparse(field.target) for field in fields}
    parts = [_code(code), _prose(ast.get_docstring(node) or "", names)]
    for one in functions:
        public = not one.name.startswith("_") or one.name in ("__call__", "__getitem__")
        if public and ast.get_docstring(one):
            decorators = {ast.unparse(decorator) for decorator in one.decorator_list}
            is_property = decorators & {"property", "cached_property"}
            called = one.name if is_property else _signature(one)
            parts.append(_function(one, f"{node.name}.{called}"))
    return "\n".join(parts)


def _function(node: ast.FunctionDef, code: str) -> str:
    names = {argument.arg for argument in _arguments(node)}
    return _code(code) + "\n" + _prose(ast.get_docstring(node) or "", names)


def _arguments(node: ast.FunctionDef) -> list[ast.arg]:
    return [*node.args.args, *node.args.kwonlyargs]


def _signature(node: ast.FunctionDef) -> str:
    """As it is written, without `self`; a long one with an argument a line."""
    parameters = list(_parameters(node.args))
    returns = f" -> {ast.unparse(node.returns)}" if node.returns else ""
    returns = "" if returns == " -> None" else returns
    one_line = f"{node.name}({', '.join(parameters)}){returns}"
    if len(one_line) <= _LONG_LINE:
        return one_line
    lines = "".join(f"    {parameter},\n" for parameter in parameters)
    return f"{node.name}(\n{lines}){returns}"


def _parameters(arguments: ast.arguments) -> Iterator[str]:
    positional = [*[None] * (len(arguments.args) - len(arguments.defaults)), *arguments.defaults]
    for argument, default in zip(arguments.args, positional, strict=True):
        if argument.arg not in ("self", "cls"):
            yield _parameter(argument, default)
    if arguments.kwonlyargs:
        yield "*"
    for argument, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True):
        yield _parameter(argument, default)


def _parameter(argument: ast.arg, default: ast.expr | None) -> str:
    return ast.unparse(argument) + (f" = {ast.unparse(default)}" if default else "")


def _code(text: str) -> str:
    return f"```python\n{text}\n```\n"


def _prose(docstring: str, names: set[str]) -> str:
    """A docstring as Markdown: what it says of `names` as a list, examples as code."""
    parts = []
    for paragraph in re.split(r"\n\s*\n", docstring.strip("\n")):
        lines = paragraph.split("\n")
        if paragraph.lstrip().startswith(">>>") or all(line.startswith("    ") for line in lines):
            parts.append(_code("\n".join(line.removeprefix("    ") for line in lines)))
        else:
            parts.append(_paragraph(" ".join(line.strip() for line in lines), names) + "\n")
    text = "\n".join(parts)
    return text.replace("```\n\n```python\n", "\n")  # an example in several paragraphs is one


def _paragraph(text: str, names: set[str]) -> str:
    if not names:
        return text
    found = "|".join(sorted(map(re.escape, names)))
    # Of "..., in their order. frame: (H, W, 3) uint8. Raises InputError ..."
    text = re.sub(rf"(^|(?<=[.;]) )({found}): ", r"\n- `\2`: ", text)
    head, *items = text.split("\n- ")
    if not items:
        return text
    items[-1], raises, errors = items[-1].partition(" Raises ")
    listed = "\n".join(f"- {item.strip()}" for item in items)
    return "\n\n".join(part for part in (head.strip(), listed, f"{raises}{errors}".strip()) if part)


if __name__ == "__main__":
    API.write_text(api_page(), "utf-8")
    ARCHITECTURE.write_text(architecture_page(ARCHITECTURE.read_text("utf-8")), "utf-8")
