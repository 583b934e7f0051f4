"""The HTML page and the Markdown summary: what they say, and that a browser is content."""

from dataclasses import replace

import pytest

from chromium import chromium, needs_chromium
from cigpose_verify.judge import judge
from cigpose_verify.matrix import Matrix
from cigpose_verify.report.document import Failure
from cigpose_verify.report.markdown import render_markdown
from cigpose_verify.report.page import render_page, write_page
from cigpose_verify.report.words import headline, number
from faults import apply_fault

SMALL = Matrix(levels=("disabled", "all"), threads=(1,), batches=(1, 3))


@pytest.fixture(scope="module")
def passed(tiny):
    return judge("tiny.onnx", tiny.data, tiny.record, SMALL)


@pytest.fixture(scope="module")
def failed(tiny):
    data = apply_fault("one graph edge removed", tiny.data, tiny.contract)
    return replace(judge("wrong.onnx", data, tiny.record, SMALL), model="cigpose-wrong")


@pytest.fixture(scope="module")
def refused(tiny):
    """Fails before anything is run: most parts are missing."""
    data = apply_fault("wrong keypoint count, the last one left out", tiny.data, tiny.contract)
    return replace(judge("short.onnx", data, tiny.record, SMALL), model="cigpose-short")


def many(report, count):
    return [
        replace(report, model=f"{report.model}-{i}", sha256=f"{i:064x}"[::-1]) for i in range(count)
    ]


@pytest.mark.parametrize(
    ("good", "bad", "expected"),
    [
        (0, 0, "no model has been verified"),
        (1, 0, "the model computes what PyTorch computes"),
        (14, 0, "all 14 models compute what PyTorch computes"),
        (12, 2, "2 of 14 models failed"),
        (0, 1, "1 of 1 model failed"),
    ],
)
def test_the_headline_is_the_verdict_on_the_set(passed, failed, good, bad, expected):
    assert headline([*many(passed, good), *many(failed, bad)]) == expected


@pytest.mark.parametrize("render", [render_page, render_markdown])
def test_failing_models_come_first_with_their_reason(passed, failed, refused, render):
    text = render([*many(passed, 3), failed, refused])
    reason = next(f.message for f in failed.failures if f.stage == "parity")[:40]
    places = [text.index(part) for part in ("cigpose-wrong", reason, f"{passed.model}-0")]
    assert places == sorted(places)
    assert text.index("cigpose-short") < text.index(f"{passed.model}-0")


@pytest.mark.parametrize("render", [render_page, render_markdown])
def test_what_comes_from_a_file_is_escaped(failed, render):
    hostile = "<script>alert(1)</script>"
    changed = replace(
        failed,
        model=hostile,
        file=hostile,
        failures=(Failure("parity", hostile),),
        origin={"a": hostile},
    )
    assert "<script" not in render([changed])


def test_figures_that_are_not_finite_are_said_to_be(tiny):
    data = apply_fault("NaN in one bias", tiny.data, tiny.contract)
    page = render_page([judge("nan.onnx", data, tiny.record, SMALL)])
    assert "not finite" in page


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "not finite"), (0.0, "0"), (0.1341, "0.134"), (2.43e-5, "2.4e-05"), (3e5, "3.0e+05")],
)
def test_numbers_are_short(value, text):
    assert number(value) == text


def test_a_page_of_14_is_small(passed):
    assert len(render_page(many(passed, 14))) < 2_000_000


@needs_chromium
@pytest.mark.parametrize("case", ["passing", "failing", "empty"])
def test_a_browser_opens_it_without_a_request_or_a_complaint(
    passed, failed, refused, tmp_path, case
):
    reports = {
        "passing": many(passed, 14),
        "failing": [*many(passed, 12), failed, refused],
        "empty": [],
    }
    path = tmp_path / "index.html"
    write_page(reports[case], path)
    with chromium(tmp_path / "profile") as page:
        page.open(path.as_uri())
        title = page.evaluate("document.title")
        places = page.evaluate(
            "[...document.querySelectorAll('.why')].filter(e => e.tagName == 'DIV' "
            "&& !e.closest('details')).map(e => [e.innerText, e.getBoundingClientRect().bottom])"
        )
    assert title == f"CIGPose parity: {headline(reports[case])}"
    assert page.complaints == []
    loaded = [url for url in page.requests if not url.startswith("data:")]
    assert loaded == [path.as_uri()]
    if case == "failing":
        (first, first_end), (second, second_end) = places
        assert "cigpose-wrong" in first
        assert "max|difference|" in first
        assert "cigpose-short" in second
        assert max(first_end, second_end) <= 800  # on the first screen
    else:
        assert places == []


@needs_chromium
def test_a_request_or_an_error_would_be_noticed(tmp_path):
    path = tmp_path / "bad.html"
    path.write_text("<img src='other.png'><script>throw new Error('seeded')</script>")
    with chromium(tmp_path / "profile") as page:
        page.open(path.as_uri())
        page.evaluate("1")
    assert len(page.requests) == 2
    assert len(page.complaints) >= 2
