"""The errors that cigpose_runtime raises on purpose, each one line of text."""

import reprlib
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from typing import ClassVar

_SHORTENED = reprlib.Repr()
_SHORTENED.maxstring = _SHORTENED.maxother = 80
_SHORTENED.maxtuple = _SHORTENED.maxlist = 4

_LONGEST_LINE = 300
"""Of what others say: parsers quote what they were given."""


class CigposeError(Exception):
    """Base of all errors raised on purpose: what was expected, what was there, what to do next.

    exit_status: what a command that stops for this error returns.
    """

    exit_status: ClassVar[int] = 2


class FileError(CigposeError):
    """A file that cannot be read at all: missing, a directory, no permission."""


class OnnxFileError(CigposeError):
    """A file that is no usable ONNX model: damaged, not self-contained, the wrong interface."""


class MetadataError(CigposeError):
    """Metadata that is missing, malformed, or contradicts itself or the graph."""


class InputError(CigposeError):
    """An array that cannot be used: a frame, boxes, or what a model returned."""


class ProviderError(CigposeError):
    """An execution provider that was asked for is not there or does not take part."""


class InstallError(CigposeError):
    """A package that is needed is missing, or does not fit the others."""


class DownloadError(CigposeError):
    """A file that cannot be fetched now."""

    exit_status = 1


class CheckError(CigposeError):
    """A model that does not answer as it should."""

    exit_status = 1


@contextmanager
def error_context(name: object) -> Iterator[None]:
    """Puts `name`, usually the file at hand, in front of any CigposeError raised inside."""
    try:
        yield
    except CigposeError as error:
        error.args = (f"{name}: {error}",)
        raise


def quoted(value: object) -> str:
    """`value` for an error message: its repr, on one line, shortened whatever its size or depth."""
    return _SHORTENED.repr(value)


def first_line(said: object) -> str:
    """The first line of what an exception or a process said, for an error message."""
    return _lines(said)[0]


def last_line(said: object) -> str:
    """The last line of it; of a traceback, that is the one that names the exception."""
    return _lines(said)[-1]


def _lines(said: object) -> list[str]:
    silent = type(said).__name__ if isinstance(said, BaseException) else "no message"
    lines = str(said).strip().splitlines() or [silent]
    return [line if len(line) <= _LONGEST_LINE else line[:_LONGEST_LINE] + "…" for line in lines]


def printable(text: str) -> str:
    """`text` on one line, safe for a terminal whoever wrote it; applied where text is shown.

    Escaped as in Python are all characters that move the cursor, start an escape sequence, reverse
    the reading order, or have no form at all: control and format characters, line separators,
    surrogates, private and unassigned ones. Letters, signs and spaces of all scripts stay.
    """
    return "".join(
        character
        if character.isprintable() or unicodedata.category(character) == "Zs"
        else character.encode("unicode_escape").decode()
        for character in text
    )
