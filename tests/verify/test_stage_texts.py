"""What is said of a gate, wherever it is said, follows the constant that decides."""

import re
from pathlib import Path

import pytest

from cigpose_verify.judge import judge
from cigpose_verify.matrix import Matrix
from cigpose_verify.measures import keypoints, tolerances
from cigpose_verify.measures.stage_texts import STAGES, exact, gates, parity_tolerance
from cigpose_verify.report.markdown import render_markdown
from cigpose_verify.report.page import render_page
from faults import apply_fault

ROOT = Path(__file__).parents[2]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
CHANGES = [
    (tolerances, "RELATIVE_TOLERANCE", 2.5e-5, "2.5e-5"),
    (tolerances, "SCALE_QUANTILE", 0.95, "p95)"),
    (tolerances, "LEAST_COSINE", 0.99999975, "0.99999975"),
    (tolerances, "PRECISION_FACTOR", 7.5, "7.5 times"),
    (tolerances, "PRECISION_FLOOR", 3e-7, "3e-7"),
    (tolerances, "REDUCED_FACTOR", 2.0**12, "4096 times"),
    (tolerances, "WORST_CONDITION", 0.03, "more than 3 %"),
    (tolerances, "MOST_ILL_CONDITIONED", 0.2, "one case in 5"),
    (keypoints, "MOST_NEAR_TIES", 0.005, "0.5 %"),
]


@pytest.fixture(scope="module")
def failed(tiny):
    data = apply_fault("one graph edge removed", tiny.data, tiny.contract)
    return judge(
        "wrong.onnx", data, tiny.record, Matrix(levels=("all",), threads=(1,), batches=(1,))
    )


@pytest.mark.parametrize(
    ("limit", "text"),
    [(4.0, "4"), (1e-4, "1e-4"), (2.5e-5, "2.5e-5"), (0.999999, "0.999999"), (1e-6, "1e-6")],
)
def test_a_limit_is_written_with_all_its_digits(limit, text):
    assert exact(limit) == text


def test_every_stage_has_its_gate():
    assert tuple(gates()) == STAGES


@pytest.mark.parametrize(("module", "name", "value", "text"), CHANGES)
def test_a_changed_constant_changes_the_words(monkeypatch, module, name, value, text):
    assert text not in " ".join(gates().values())
    monkeypatch.setattr(module, name, value)
    assert text in " ".join(gates().values())


def test_a_changed_factor_changes_page_and_summary(monkeypatch, failed):
    monkeypatch.setattr(tolerances, "PRECISION_FACTOR", 7.5)
    page, summary = render_page([failed]), render_markdown([failed])
    assert "(≤ 7.5;" in page
    assert "the limit, 7.5 times" in page
    assert "(≤ 7.5;" in summary
    assert "≤ 4" not in page + summary


def test_a_changed_tolerance_changes_the_page_and_the_card(monkeypatch, failed):
    monkeypatch.setattr(tolerances, "RELATIVE_TOLERANCE", 2.5e-5)
    assert parity_tolerance() == "2.5e-5 · max(1, p99.9)"
    page = render_page([failed])
    assert "2.5e-5 · max(1, p99.9)" in page
    assert "1e-4 ·" not in page


@pytest.mark.parametrize("stage", ["parity", "precision", "keypoints"])
def test_the_documents_state_the_gates_that_decide(stage):
    text = "\n".join(document.read_text("utf-8") for document in DOCUMENTS)
    rows = re.findall(rf"^\| {stage} \| (.+) \|$", text, re.MULTILINE)
    assert {row.replace("\\|", "|") for row in rows} == {gates()[stage]}
