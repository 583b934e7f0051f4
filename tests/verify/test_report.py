"""Reports read back from JSON: what is not of its type is refused, what is shown is escaped."""

import copy
import json

import pytest

from cigpose_runtime import FileError
from cigpose_verify.judge import judge
from cigpose_verify.matrix import Matrix
from cigpose_verify.report.document import Report
from cigpose_verify.report.markdown import render_markdown
from cigpose_verify.report.page import render_page
from faults import apply_fault

HOSTILE = "<script>alert(1)</script>"
VALUES = (HOSTILE, None, -1, 1e308, [])


@pytest.fixture(scope="module")
def reports(tiny):
    matrix = Matrix(levels=("all",), threads=(1,), batches=(1,))
    bad = apply_fault("one graph edge removed", tiny.data, tiny.contract)
    return [
        json.loads(judge("file.onnx", data, tiny.record, matrix).to_json())
        for data in (tiny.data, bad)
    ]


def read(document, folder):
    path = folder / "report.json"
    path.write_text(json.dumps(document))
    return Report.read(path)


def leaves(value, path=()):
    """Of a list the first item stands for all."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from leaves(item, (*path, key))
    elif isinstance(value, list) and value:
        yield from leaves(value[0], (*path, 0))
    yield path


def changed(document, path, value):
    document = copy.deepcopy(document)
    *parents, last = path
    place = document
    for key in parents:
        place = place[key]
    place[last] = value
    return document


def test_what_was_written_is_read_back(reports, tmp_path):
    for document in reports:
        assert json.loads(read(document, tmp_path).to_json()) == document


def test_without_times_a_slower_run_gives_the_same_report(reports, tmp_path):
    for document in reports:
        slower = changed(document, ("seconds",), document["seconds"] + 9)
        if slower["cells"]:
            slower = changed(slower, ("cells", 0, "milliseconds"), 1234.5)
        assert read(slower, tmp_path) != read(document, tmp_path)
        quick, slow = (read(each, tmp_path).without_times() for each in (document, slower))
        assert quick == slow
        assert read(json.loads(slow.to_json()), tmp_path) == slow
        assert "Milliseconds per person" not in render_page([slow])


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("seconds",), HOSTILE, "report.seconds: expected a finite number, found '<script>"),
        (("seconds",), True, "report.seconds: expected a finite number, found 'True'"),
        (("seconds",), float("nan"), "report.seconds: expected a finite number, found 'nan'"),
        (("model",), 7, "report.model: expected text, found '7'"),
        (("cells", 0, "batch"), 1.5, r"report.cells\[0\].batch: expected a whole number"),
        (("cells", 0, "excess"), HOSTILE, r"report.cells\[0\].excess: expected a finite number"),
        (("precision", "ratio"), HOSTILE, "report.precision.ratio: expected a finite number"),
        (("origin",), {"torch": 2}, "report.origin.torch: expected text, found '2'"),
        (("worst", "input_wh"), [1, 2, 3], "report.worst.input_wh: expected a value of the type"),
        (("worst", "keypoints", 0, "torch_xy", 0), HOSTILE, "torch_xy.0.: expected a finite"),
        (("worst", "picture"), "https://example.org/x.png", "a JPEG in a data URI"),
        (("verdict",), "failed", "failed with its failures"),
        (("extra",), 1, "exactly the fields of Report"),
        (("schema_version",), 99, "schema version 99"),
    ],
)
def test_a_value_of_another_type_is_refused(reports, tmp_path, path, value, message):
    with pytest.raises(FileError, match=message):
        read(changed(reports[0], path, value), tmp_path)


@pytest.mark.parametrize("text", ["[" * 100_000, "[]", "7", '{"schema_version": 2}', "{", "\xff"])
def test_what_is_no_report_at_all_is_refused(tmp_path, text):
    path = tmp_path / "report.json"
    path.write_text(text, "latin-1")
    with pytest.raises(FileError, match="expected a parity report"):
        Report.read(path)


def test_whatever_is_changed_is_refused_or_shown_without_harm(reports, tmp_path):
    shown = refused = 0
    failed = reports[1]  # which has all parts but the divergence
    for path in filter(None, leaves(failed)):
        for value in VALUES:
            try:
                report = read(changed(failed, path, value), tmp_path)
            except FileError:
                refused += 1
                continue
            shown += 1
            for text in (render_page([report]), render_markdown([report])):
                assert "<script" not in text, path
    assert shown > 100
    assert refused > 200
