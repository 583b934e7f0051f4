"""`make engines` on a tiny file: who is called right, wrong, failing or late, and the page."""

import numpy as np
import onnx
import pytest

from benchmarks import cpu_speed
from benchmarks.engines import __main__ as main
from benchmarks.engines import runners
from benchmarks.engines.install import command_of
from benchmarks.engines.measure import Answer, Cell, Verdict, ask, fix_batch, judge
from benchmarks.engines.page import with_tables
from benchmarks.engines.results import Result, Row, read_results, write_result
from benchmarks.engines.table import ENGINES, REFERENCE, Engine
from cigpose_export.errors import ExportError
from cigpose_runtime import read_contract
from cigpose_runtime.errors import CheckError, InstallError
from tiny_onnx import tiny_model

STUB = """
import json, os, subprocess, sys, time
import numpy as np
job = json.load(open(sys.argv[1]))
people = job["shape"][0]
{work}
"""

MOBILE = {("m", "portable"): {"NNAPI": "1/2 in 3"}}

PLACE = "before\n<!-- engines: written by make engines -->\nold\n<!-- end of engines -->\nafter\n"


@pytest.fixture
def model(tmp_path):
    path = tmp_path / "tiny.onnx"
    path.write_bytes(tiny_model().SerializeToString())
    return path


@pytest.fixture
def images():
    return np.random.default_rng(0).standard_normal((2, 3, 8, 6), dtype=np.float32)


@pytest.fixture
def stub(tmp_path):
    """What runs an engine whose runner does this."""

    def make(work):
        path = tmp_path / "stub.py"
        path.write_text(STUB.format(work=work))
        return [*command_of(REFERENCE, tmp_path)[:2], str(path)]

    return make


def measured(command, model, images, limit_s=60.0):
    return main.measure_cell(command, model, images, read_contract(model), limit_s=limit_s)


# Engines as processes


def test_the_standard_s_own_evaluator_is_right(model, images, tmp_path):
    (engine,) = [one for one in ENGINES if one.runner == "onnx_reference"]
    cell = measured(command_of(engine, tmp_path), model, images)
    assert (cell.verdict, cell.same_bins) == (Verdict.RIGHT, 1)
    assert cell.speed > 0
    assert cell.failure is None


def test_an_engine_that_crashes_fails_and_the_signal_is_named(model, images, stub):
    cell = measured(stub("os.abort()"), model, images)
    assert (cell.verdict, cell.failure) == (Verdict.FAILS, "its process ends with SIGABRT")


def test_an_engine_that_raises_fails_with_what_it_says(model, images, tmp_path):
    model.write_bytes(b"no model")
    answer = ask(command_of(REFERENCE, tmp_path), model, images, limit_s=60)
    assert answer.failure.startswith("InvalidProtobuf: ")
    assert judge(answer, answer, None).verdict == Verdict.FAILS


def test_an_engine_that_hangs_is_late_and_so_is_one_whose_converter_hangs(model, images, stub):
    work = "subprocess.run([sys.executable, '-c', 'import time; time.sleep(600)'])"
    cell = measured(stub(work), model, images, limit_s=2)
    assert (cell.verdict, cell.failure) == (Verdict.LATE, "nothing after 2 s")


def test_a_reference_that_fails_makes_no_engine_wrong(model, images, monkeypatch):
    failing = Answer(failure="no memory")
    answers = {"onnxruntime": failing, "other": Answer()}
    monkeypatch.setattr(main, "ask", lambda command, *_, **__: answers[command[-1]])
    with pytest.raises(ExportError, match="found: no memory"):
        measured(["other"], model, images)


# Verdicts


@pytest.fixture
def reference():
    rng = np.random.default_rng(0)
    return Answer(
        tuple(rng.standard_normal((2, 17, bins)).astype(np.float32).ravel() for bins in (12, 16)),
        cpu_s=2,
    )


def with_outputs(reference, change):
    shaped = zip(reference.outputs, (12, 16), strict=True)
    return Answer(tuple(change(out.reshape(2, 17, bins)).ravel() for out, bins in shaped), cpu_s=1)


@pytest.mark.parametrize(
    ("change", "verdict"),
    [
        (lambda out: out, Verdict.RIGHT),
        (lambda out: out + np.float32(5e-5), Verdict.RIGHT),
        (lambda out: out + np.float32(0.01), Verdict.INEXACT),
        (lambda out: out[:, ::-1], Verdict.WRONG),
        (lambda out: out[::-1], Verdict.WRONG),
        (lambda out: out[..., ::-1], Verdict.WRONG),
        (lambda out: np.concatenate([out[:1], out[:1]]), Verdict.WRONG),
        (lambda out: out[:1], Verdict.WRONG),
        (lambda out: np.where(out == out.max(), np.float32(np.nan), out), Verdict.WRONG),
    ],
    ids=[
        "same",
        "rounded",
        "off",
        "keypoints",
        "people",
        "mirrored",
        "only the first",
        "one person",
        "a NaN",
    ],
)
def test_outputs_are_judged(reference, model, change, verdict):
    cell = judge(with_outputs(reference, change), reference, read_contract(model))
    assert (cell.verdict, cell.speed) == (verdict, 2)


# Which forms and batches


@pytest.mark.parametrize(
    ("verdicts", "expected"),
    [
        ([Verdict.RIGHT], {"as it is": [Verdict.RIGHT] * 3}),
        (
            [Verdict.FAILS, Verdict.RIGHT],
            {
                "as it is": [Verdict.FAILS] * 3,
                "batch fixed": [Verdict.RIGHT] * 3,
                "portable": [Verdict.RIGHT] * 3,
            },
        ),
        ([Verdict.LATE], {"as it is": [Verdict.LATE] * 3}),
    ],
)
def test_other_forms_are_tried_where_the_file_as_it_is_does_not_do(
    model, images, monkeypatch, verdicts, expected
):
    forms = []

    def cell(*_, form, **__):
        forms.append(form)
        return Cell(verdicts[form != "as it is"])

    monkeypatch.setattr(main, "measure_cell", cell)
    rows = main.measure_file([], model, images, limit_s=1)
    assert {row.form: [one.verdict for one in row.cells.values()] for row in rows} == expected
    assert (len(forms) == 1) == (verdicts == [Verdict.LATE])  # larger ones would be later still


@pytest.mark.parametrize(("one_by_one", "batches"), [(False, [1, 3, 8]), (True, [1, 1, 1])])
def test_an_engine_without_a_batch_gets_files_for_one_person(
    model, images, monkeypatch, one_by_one, batches
):
    found = []

    def cell(*_, form, batch, **__):
        found.append((form, batch))
        return Cell(Verdict.FAILS)

    monkeypatch.setattr(main, "measure_cell", cell)
    main.measure_file([], model, images, limit_s=1, one_by_one=one_by_one)
    assert found[3:] == [(form, n) for form in ("batch fixed", "portable") for n in batches]


def test_a_fixed_batch_changes_shapes_alone(model, tmp_path):
    fix_batch(model, 3, tmp_path / "fixed.onnx")
    before, after = onnx.load(model).graph, onnx.load(tmp_path / "fixed.onnx").graph
    assert [value.type.tensor_type.shape.dim[0].dim_value for value in after.output] == [3, 3]
    assert (list(after.node), list(after.initializer)) == (
        list(before.node),
        list(before.initializer),
    )


# The model alone on CPUs


def test_an_int8_file_beside_a_model_is_measured_and_marked_as_inexact(model, monkeypatch):
    for name, value in {"ENGINES": (), "THREADS": (1,), "PEOPLE": (2,), "TURNS": 1}.items():
        monkeypatch.setattr(cpu_speed, name, value)
    other = tiny_model(seed=1).SerializeToString()
    model.with_name("tiny_int8.onnx").write_bytes(other)
    ours, one_by_one, int8 = cpu_speed.measure_cpu(model)
    assert [ours.side, one_by_one.side, int8.side] == ["ours", "one by one", "int8"]
    assert (ours.ratio, ours.same_bins, one_by_one.same_bins) == (1, None, None)
    assert int8.same_bins < 1


# The table and the page


@pytest.mark.parametrize("engine", ENGINES, ids=lambda engine: engine.title)
def test_every_engine_has_a_runner_and_a_version(engine):
    assert engine.runner == "runner.mjs" or callable(getattr(runners, engine.runner))
    assert engine.version[0].isdigit()


def test_an_engine_that_cannot_be_installed_says_why(tmp_path):
    engine = Engine("other", "onnxruntime", "other", ("other==1",), python="no-such-python")
    with pytest.raises(InstallError, match="expected no-such-python, found none"):
        command_of(engine, tmp_path)


def test_the_page_gets_a_row_for_each_engine_and_file():
    cells = {1: Cell(Verdict.RIGHT, 1e-6, 1, 0.5), 3: Cell(Verdict.FAILS, failure="a|b")}
    wrong = {1: Cell(Verdict.WRONG, 0.5, 0.034, 2)}
    results = {
        "A (1)": Result([Row("m", "as it is", cells), Row("m", "batch fixed", wrong)]),
        "B (2)": Result(absent="no wheel"),
    }
    page = with_tables(PLACE, "R (3)", results, MOBILE)
    assert page.startswith("before\n") and page.endswith("after\n") and "old" not in page
    lines = [line for line in page.splitlines() if line.startswith("| ")]
    assert lines[1:4] == [
        "| A (1) | `m` | as it is | right at 1; **fails** at 3 | 1.0e-06 | 100.0% | 0.50, – "
        "| a\\|b |",
        "| A (1) | `m` | batch fixed | **silently wrong** | 5.0e-01 | 3.4% | 2.00 |  |",
        "| B (2) | | | not installed here | | | | no wheel |",
    ]
    assert lines[-1] == "| `m` | portable | 1/2 in 3 |"
    assert with_tables(page, "R (3)", results, MOBILE) == page


def test_a_page_without_the_place_is_refused():
    with pytest.raises(CheckError, match="two comments"):
        with_tables("a page", "R", {}, {})


def test_what_was_measured_is_kept_as_it_was(tmp_path):
    result = Result([Row("m", "as it is", {1: Cell(Verdict.INEXACT, 0.1, 0.9, 1.5)})])
    write_result(tmp_path, "A (1)", result)
    assert read_results(tmp_path, ["A (1)", "B (2)"]) == {"A (1)": result}
