"""Text from elsewhere, made fit for a message of one line."""

import pytest

from cigpose_runtime.errors import first_line, last_line


@pytest.mark.parametrize(
    ("said", "first", "last"),
    [
        ("one", "one", "one"),
        ("\n  Traceback:\n  at x\nKeyError: 'y'\n\n", "Traceback:", "KeyError: 'y'"),
        ("", "no message", "no message"),
        (ValueError("a\nb\nc"), "a", "c"),
        (ValueError(" \n"), "ValueError", "ValueError"),
        (StopIteration(), "StopIteration", "StopIteration"),
    ],
)
def test_one_line_of_what_was_said(said, first, last):
    assert (first_line(said), last_line(said)) == (first, last)
