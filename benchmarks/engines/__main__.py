"""`make engines`: runs the files in every engine, and writes the tables of docs/engines.md."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import click

from benchmarks.engines.install import command_of
from benchmarks.engines.measure import (
    Cell,
    Verdict,
    ask,
    fix_batch,
    judge,
    make_images,
    make_portable,
)
from benchmarks.engines.mobile import check_mobile
from benchmarks.engines.page import with_tables
from benchmarks.engines.results import Result, Row, read_results, write_result
from benchmarks.engines.runners import Images
from benchmarks.engines.table import ENGINES, REFERENCE, Engine
from cigpose_export.cli.options import say_error
from cigpose_export.errors import ExportError, UsageError
from cigpose_export.project import Project
from cigpose_export.variants import DEMO
from cigpose_runtime import Contract, read_contract
from cigpose_runtime.errors import CigposeError, InstallError, quoted
from cigpose_runtime.terminal import echo

MODELS = (
    "cigpose-m_coco-wholebody_256x192",
    "cigpose-l_coco_256x192",
    "cigpose-x_coco-wholebody_384x288",
)

BATCHES = (1, 3, 8)
LARGE = 150_000_000
"""Bytes of a file from which 8 people at once are left out: they take minutes in some engines."""

AS_IT_IS, FIXED, PORTABLE = "as it is", "batch fixed", "portable"
MADE_BY: Mapping[str, Callable[[Path, int, Path], None]] = {
    FIXED: fix_batch,
    PORTABLE: make_portable,
}


def measure_file(
    command: Sequence[str],
    model: Path,
    images: Images,
    limit_s: float,
    *,
    one_by_one: bool = False,
) -> list[Row]:
    """The rows of one engine and file: as it is and, where that does not do, in other forms.

    one_by_one: as of the engine.
    """
    contract = read_contract(model)
    rows = []
    for form in (AS_IT_IS, *MADE_BY):
        cells: dict[int, Cell] = {}
        for people in BATCHES if model.stat().st_size < LARGE else BATCHES[:-1]:
            if any(cell.verdict == Verdict.LATE for cell in cells.values()):
                cells[people] = Cell(Verdict.LATE, failure="a smaller batch was too slow")
            else:
                cells[people] = measure_cell(
                    command,
                    model,
                    images[:people],
                    contract,
                    limit_s=limit_s,
                    form=form,
                    batch=1 if one_by_one else people,
                )
        rows.append(Row(model.stem, form, cells))
        if rows[0].is_good or any(cell.verdict == Verdict.LATE for cell in cells.values()):
            break
    return rows


def measure_cell(
    command: Sequence[str],
    model: Path,
    images: Images,
    contract: Contract,
    *,
    limit_s: float,
    form: str = AS_IT_IS,
    batch: int = 1,
) -> Cell:
    """One answer, judged beside one that the reference gives to the file as it is, right after it.

    batch: of the form that the engine gets, unless that is the file as it is. Raises ExportError
    where the reference gives none.
    """
    with tempfile.TemporaryDirectory() as folder:
        file = model
        if form != AS_IT_IS:
            file = Path(folder) / model.name
            MADE_BY[form](model, batch, file)
        answer = ask(command, file, images, limit_s=limit_s)
    if answer.failure is not None:
        return judge(answer, answer, contract)
    reference = ask(command_of(REFERENCE, Path()), model, images, limit_s=limit_s)
    if reference.failure is not None:
        raise ExportError(
            f"{model.name}: expected {REFERENCE.title} to run, found: {reference.failure}; run "
            "make doctor, or give it more time with --limit"
        )
    return judge(answer, reference, contract)


def _select(names: Sequence[str]) -> list[Engine]:
    unknown = set(names) - {engine.runner for engine in ENGINES}
    if unknown:
        raise UsageError(
            f"expected engines of {sorted({engine.runner for engine in ENGINES})}, found "
            f"{quoted(sorted(unknown))}; correct the name"
        )
    return [engine for engine in ENGINES if not names or engine.runner in names]


def _files(project: Project) -> list[Path]:
    files = [project.artefact_path(DEMO.name, "demo")]
    files += [project.artefact_path(name, "synthetic") for name in MODELS]
    missing = [path for path in files if not path.is_file()]
    if missing:
        raise UsageError(
            f"expected {missing[0]}, found no such file; run make demo, and make export-all "
            f'WEIGHTS=synthetic MODELS="{" ".join(MODELS)}"'
        )
    return files


def _measure(engine: Engine, files: Sequence[Path], folder: Path, limit_s: float) -> Result:
    echo(f"{engine.title}: installing, then measuring")
    try:
        command = command_of(engine, folder)
    except InstallError as error:
        return Result(absent=str(error))
    rows: list[Row] = []
    for path in files:
        images = make_images(read_contract(path), max(BATCHES))
        rows += measure_file(command, path, images, limit_s, one_by_one=engine.one_by_one)
        words = ", ".join(f"{people}: {cell.verdict}" for people, cell in rows[-1].cells.items())
        echo(f"{engine.title}: {path.stem}, {rows[-1].form}: {words}")
    return Result(rows=rows)


def _mobile(path: Path, form: str) -> dict[str, str]:
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / path.name
        MADE_BY[form](path, 1, made)
        return check_mobile(made)


@click.command()
@click.option("--engine", "names", multiple=True, help="A runner's name; others keep their rows.")
@click.option("--limit", "limit_s", default=180.0, help="Seconds for one file and batch.")
def engines(names: tuple[str, ...], limit_s: float) -> None:
    """Run the demonstration model and three synthetic ones in other engines."""
    project = Project.of_this_clone()
    files, chosen = _files(project), _select(names)
    folder = project.root / "build" / "engines"
    folder.mkdir(parents=True, exist_ok=True)
    for engine in chosen:
        write_result(folder, engine.title, _measure(engine, files, folder, limit_s))
    page = project.root / "docs" / "engines.md"
    results = read_results(folder, [engine.title for engine in ENGINES])
    mobile = {(path.stem, form): _mobile(path, form) for form in MADE_BY for path in files}
    text = with_tables(page.read_text("utf-8"), REFERENCE.title, results, mobile)
    page.write_text(text, "utf-8")
    echo(f"tables written: {page}")


if __name__ == "__main__":
    try:
        engines()
    except CigposeError as error:
        say_error(error)
        sys.exit(error.exit_status)
