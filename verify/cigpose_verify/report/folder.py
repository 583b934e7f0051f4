"""The verdicts that lie in a folder of models, and the pages on them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

from cigpose_runtime import FileError
from cigpose_runtime.files import appears_whole, file_sha256
from cigpose_verify.report.document import Report
from cigpose_verify.report.markdown import render_markdown
from cigpose_verify.report.page import write_page


def write_pages(folder: Path, is_believed: Callable[[Path], bool] = lambda _path: True) -> None:
    """Writes parity/index.html and summary.md on all verdicts that stand for a file's bytes.

    is_believed: whether the report in a file is to be shown.
    """
    reports = list(standing_reports(folder, is_believed))
    if reports:
        write_page(reports, folder / "parity" / "index.html")
        with appears_whole(folder / "parity" / "summary.md") as file:
            file.write(render_markdown(reports).encode())


def standing_reports(
    folder: Path, is_believed: Callable[[Path], bool] = lambda _path: True
) -> Iterator[Report]:
    """The verdicts on the files of a folder, by name, that were reached on their present bytes."""
    for path in sorted(folder.glob("*.onnx")):
        report_path = folder / "parity" / f"{path.stem}.json"
        with contextlib.suppress(FileError):
            report = Report.read(report_path)
            if is_believed(report_path) and report.sha256 == file_sha256(path):
                yield report
