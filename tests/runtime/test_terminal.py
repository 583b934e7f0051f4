"""Text from elsewhere on its way to the terminal."""

import io
import sys

import pytest

from cigpose_runtime.errors import printable
from cigpose_runtime.terminal import echo

HOSTILE = {
    "colour": ("a\x1b[31mb", r"a\x1b[31mb"),
    "title": ("\x1b]0;owned\x07", r"\x1b]0;owned\x07"),
    "8-bit escape": ("\x9b2J", r"\x9b2J"),
    "carriage return": ("bad\rgood", r"bad\rgood"),
    "backspace": ("no\b\bok", r"no\x08\x08ok"),
    "line": ("a\nb\u2028c", r"a\nb\u2028c"),
    "delete": ("\x7f", r"\x7f"),
    "right to left": ("photo\u202egpj.exe", r"photo\u202egpj.exe"),
    "isolate": ("\u2066a\u2069", r"\u2066a\u2069"),
    "mark": ("\u200e\u061c", r"\u200e\u061c"),
    "invisible": ("a\u200bb\ufeff", r"a\u200bb\ufeff"),
    "tag": ("\U000e0041", r"\U000e0041"),
    "surrogate": ("\udcff.png", r"\udcff.png"),
    "private": ("\ue000", r"\ue000"),
}


@pytest.mark.parametrize(("text", "shown"), HOSTILE.values(), ids=HOSTILE)
def test_what_drives_a_terminal_is_escaped(text, shown):
    assert printable(text) == shown
    assert printable(shown) == shown


@pytest.mark.parametrize(
    "text",
    [
        "Grüße, 世界 🙂 नमस्ते שלום",
        "C:\\folder\\new.png",
        "Screenshot at 1.00.00\u202fPM.png",  # as macOS names them
        "写真\u3000一.png",
    ],
)
def test_text_of_all_scripts_stays(text):
    assert printable(text) == text


def test_a_line_goes_to_stdout_or_stderr(capsys):
    echo("one\ntwo")
    echo("three", err=True)
    assert capsys.readouterr() == ("one\\ntwo\n", "three\n")


def test_what_the_encoding_has_not_is_escaped(monkeypatch):
    ascii_only = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", ascii_only)
    echo("Grüße, 世界")
    ascii_only.flush()
    assert ascii_only.buffer.getvalue() == rb"Gr\xfc\xdfe, \u4e16\u754c" + b"\n"
