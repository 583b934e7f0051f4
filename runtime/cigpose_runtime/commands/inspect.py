"""`cigpose-runtime inspect`: what model files contain, and what differs between two of them."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from cigpose_runtime.errors import CigposeError, error_context
from cigpose_runtime.files import file_sha256
from cigpose_runtime.model_file.onnx_graph import ValueInfo, read_onnx_file
from cigpose_runtime.model_file.reader import contract_of, read_metadata_file
from cigpose_runtime.terminal import echo

JSON_SCHEMA_VERSION = 1

_LONG = 8
"""Collections with more items than this are abbreviated."""
_SHOWN = 5

Report = dict[str, Any]
"""One file as JSON has it: path, and the sections file, graph and contract."""


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds the subcommand to those of `cigpose-runtime`."""
    parser = commands.add_parser(
        "inspect",
        help="show what model files contain; of two files, what differs",
        description="Shows graph and metadata of CIGPose ONNX files. Of two files, only what "
        "differs is shown.",
    )
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="ONNX file")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument(
        "--metadata",
        type=Path,
        metavar="FILE.json",
        help="use this metadata in place of what the files carry",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> list[CigposeError]:
    """Prints the reports of the files that can be read, and returns the errors of the others."""
    reports: list[Report] = []
    errors: list[CigposeError] = []
    for path in args.files:
        try:
            reports.append(make_report(path, args.metadata))
        except CigposeError as error:
            errors.append(error)
    is_pair = len(args.files) == len(reports) == 2
    if args.json:
        document: Report = {"schema_version": JSON_SCHEMA_VERSION, "files": reports}
        if is_pair:
            document["differences"] = [
                {"field": field, "values": values} for field, *values in differences(*reports)
            ]
        sys.stdout.write(json.dumps(document, indent=2, allow_nan=False) + "\n")
        return errors
    if is_pair:
        lines = [*_comparison(*reports)]
    else:
        lines = [line for report in reports for line in ("", *_table(report))][1:]
    for line in lines:
        echo(line)
    return errors


def make_report(path: Path, metadata: Path | None = None) -> Report:
    """Everything worth showing of the model file at `path`.

    metadata: a JSON file to use in place of the metadata in the model file.
    Raises FileError, OnnxFileError or MetadataError.
    """
    onnx_file = read_onnx_file(path)
    with error_context(path):
        override = None if metadata is None else read_metadata_file(metadata, onnx_file)
        contract = contract_of(onnx_file, override=override)
    return {
        "path": str(path),
        "file": {"size_bytes": onnx_file.size, "sha256": file_sha256(path)},
        "graph": {
            "ir_version": onnx_file.ir_version,
            "opset": onnx_file.opset,
            "producer": onnx_file.producer,
            "inputs": [asdict(value) for value in onnx_file.inputs],
            "outputs": [asdict(value) for value in onnx_file.outputs],
            "nodes": onnx_file.node_count,
            "operators": dict(onnx_file.op_counts),
            "local_functions": onnx_file.local_function_count,
            "initializers": onnx_file.initializer_count,
            "parameters": onnx_file.parameter_count,
            "metadata_keys": [key for key, _ in onnx_file.metadata_props],
        },
        "contract": json.loads(contract.to_json()),
    }


def differences(first: Report, second: Report) -> list[tuple[str, Any, Any]]:
    """The (field, first value, second value) of all that is not equal, the path left out.

    Fields are named by their keys, as in "graph.operators.Conv"; a field that a file has not, such
    as an operator, is None there.
    """
    rows, others = dict(_fields(first)), dict(_fields(second))
    return [
        (field, rows.get(field), others.get(field))
        for field in {**rows, **others}
        if rows.get(field) != others.get(field)
    ]


def _fields(report: Report) -> Iterator[tuple[str, Any]]:
    for section in ("file", "graph", "contract"):
        yield from _leaves(section, report[section])


def _leaves(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for key, member in value.items():
            yield from _leaves(f"{name}.{key}", member)
    else:
        yield name, value


def _table(report: Report) -> Iterator[str]:
    yield report["path"]
    for section in ("file", "graph", "contract"):
        yield ""
        yield section
        yield from _aligned((f"  {key}", _cell(value)) for key, value in report[section].items())


def _comparison(first: Report, second: Report) -> Iterator[str]:
    rows = [(field, *_differing_cells(*values)) for field, *values in differences(first, second)]
    fields = {name for report in (first, second) for name, _ in _fields(report)}
    yield from _aligned([("", first["path"], second["path"]), *rows])
    yield f"{len(fields) - len(rows)} rows are equal"


def _aligned(rows: Iterable[tuple[str, ...]]) -> Iterator[str]:
    rows = list(rows)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        yield "  ".join(cells).rstrip()


def _differing_cells(first: Any, second: Any) -> tuple[str, str]:
    """Two cells; of two long lists of one length, the first items that differ."""
    if isinstance(first, list) and isinstance(second, list) and len(first) == len(second) > _LONG:
        index = next(i for i, item in enumerate(first) if item != second[i])
        return f"[{index}] {_cell(first[index])}", f"[{index}] {_cell(second[index])}"
    return _cell(first), _cell(second)


def _cell(value: Any) -> str:
    match value:
        case None:
            return "-"
        case int():
            return f"{value:,}"
        case {"name": str(), "elem_type": _, "shape": _}:
            return str(ValueInfo(**value))
        case [int(first), int(second)]:
            return f"{first}-{second}"
        case dict() | list():
            return _joined(value)
        case _:
            return str(value) or "-"


def _joined(items: dict[str, Any] | list[Any]) -> str:
    if isinstance(items, dict):
        cells = [f"{key} {_cell(value)}" for key, value in items.items()]
    else:
        cells = [_cell(item) for item in items]
    if len(cells) > _LONG:
        return f"{len(cells)}: {', '.join(cells[:_SHOWN])}, ..."
    return ", ".join(cells) or "-"
