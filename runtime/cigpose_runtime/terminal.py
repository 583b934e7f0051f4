"""The way of text to the terminal: all that a command says goes through here."""

from __future__ import annotations

import sys

from cigpose_runtime.errors import printable


def echo(line: str = "", *, err: bool = False) -> None:
    """Writes one line to stdout, or stderr, as `showable` makes it."""
    stream = sys.stderr if err else sys.stdout
    stream.write(f"{showable(line, stream.encoding)}\n")


def showable(text: str, encoding: str | None) -> str:
    """`text` as `printable` makes it; what the encoding has no character for is escaped, too."""
    encoding = encoding or "utf-8"
    return printable(text).encode(encoding, "backslashreplace").decode(encoding)
