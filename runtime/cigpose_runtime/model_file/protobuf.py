"""A reader of the protobuf wire format, for bytes that nobody vouches for.

See https://protobuf.dev/programming-guides/encoding/. Messages are decoded one level deep and on
demand; the contents of fields that nobody asks for are stepped over. The number of fields and the
nesting are bounded, and every length is checked against the message it lies in.
"""

from __future__ import annotations

import mmap
from collections import defaultdict
from collections.abc import Iterator

MAX_FIELDS = 2_000_000
"""Fields and packed numbers decoded per file. A straight trace of a whole-body model, 45,501 nodes,
has under 500,000; the bound keeps hostile files to a few seconds."""

MAX_DEPTH = 100
"""Messages inside messages; Google's own readers stop at the same depth."""

_VARINT, _FIXED64, _LENGTH_DELIMITED, _FIXED32 = 0, 1, 2, 5
_FIXED_SIZES = {_FIXED64: 8, _FIXED32: 4}
_MAX_VARINT_BYTES = 10


class WireFormatError(ValueError):
    """Bytes that are no protobuf message of the form that was asked for."""


class _Source:
    """The bytes of a whole file and how many more of its fields may be decoded."""

    def __init__(self, data: bytes | mmap.mmap) -> None:
        self.data = data
        self.fields_left = MAX_FIELDS

    def varint(self, position: int, end: int) -> tuple[int, int]:
        """The unsigned number at `position`, and the position after it."""
        value = 0
        for index in range(min(_MAX_VARINT_BYTES, end - position)):
            byte = self.data[position + index]
            value |= (byte & 0x7F) << (7 * index)
            if byte < 0x80:
                return value, position + index + 1
        raise WireFormatError(f"a number that does not end, at byte {position}")

    def count_field(self) -> None:
        self.fields_left -= 1
        if self.fields_left < 0:
            raise WireFormatError(f"more than {MAX_FIELDS:,} fields")


class Message:
    """One message. Accessors take a field number and raise WireFormatError on another wire type."""

    def __init__(self, data: bytes | mmap.mmap) -> None:
        self._decode(_Source(data), 0, len(data), depth=0)

    def _decode(self, source: _Source, start: int, end: int, depth: int) -> None:
        if depth > MAX_DEPTH:
            raise WireFormatError(f"more than {MAX_DEPTH} nested messages, at byte {start}")
        self._source = source
        self._depth = depth
        # Per field number, in file order: a number, or the (start, end) of a length-delimited
        # value. Fixed-size values are left out: no accessor reads them.
        self._values = defaultdict[int, list[int | tuple[int, int]]](list)
        position = start
        while position < end:
            source.count_field()
            field_start = position
            tag, position = source.varint(position, end)
            number, wire_type = tag >> 3, tag & 7
            if wire_type == _VARINT:
                value, position = source.varint(position, end)
                self._values[number].append(value)
            elif wire_type == _LENGTH_DELIMITED:
                length, position = source.varint(position, end)
                self._values[number].append((position, position + length))
                position += length
            elif wire_type in _FIXED_SIZES:
                position += _FIXED_SIZES[wire_type]
            else:
                raise WireFormatError(f"wire type {wire_type} at byte {field_start}")
            if number == 0 or position > end:
                raise WireFormatError(f"a field that does not fit, at byte {field_start}")

    def __contains__(self, number: int) -> bool:
        return number in self._values

    def integers(self, number: int) -> list[int]:
        """All numbers of a repeated int64 field, packed or not."""
        values = []
        for value in self._values.get(number, ()):
            if isinstance(value, int):
                values.append(_signed(value))
                continue
            position, end = value
            while position < end:
                self._source.count_field()
                unsigned, position = self._source.varint(position, end)
                values.append(_signed(unsigned))
        return values

    def integer(self, number: int) -> int:
        """The last value of an int64 field, 0 where there is none."""
        values = self._values.get(number)
        if not values:
            return 0
        if not isinstance(values[-1], int):
            raise WireFormatError(f"field {number}: expected a number")
        return _signed(values[-1])

    def text(self, number: int) -> str:
        """The last value of a string field, empty where there is none."""
        values = self._values.get(number)
        if not values:
            return ""
        start, end = self._span(number, values[-1])
        try:
            return self._source.data[start:end].decode("utf-8")
        except UnicodeDecodeError as error:
            raise WireFormatError(f"text at byte {start} is not UTF-8") from error

    def content(self, number: int) -> bytes:
        """The last value of a bytes field, empty where there is none."""
        values = self._values.get(number)
        if not values:
            return b""
        start, end = self._span(number, values[-1])
        return self._source.data[start:end]

    def messages(self, *numbers: int) -> Iterator[Message]:
        """The messages of repeated fields, in file order within each field."""
        for number in numbers:
            for value in self._values.get(number, ()):
                message = Message.__new__(Message)
                message._decode(self._source, *self._span(number, value), self._depth + 1)
                yield message

    def message(self, number: int) -> Message | None:
        """The message of a field that occurs at most once."""
        if len(self._values.get(number, ())) > 1:
            raise WireFormatError(f"field {number}: expected one message, found several")
        return next(self.messages(number), None)

    @staticmethod
    def _span(number: int, value: int | tuple[int, int]) -> tuple[int, int]:
        if isinstance(value, int):
            raise WireFormatError(f"field {number}: expected bytes, found a number")
        return value


def _signed(value: int) -> int:
    """A 64-bit two's complement number from its unsigned reading."""
    value &= (1 << 64) - 1
    return value - (1 << 64) if value >> 63 else value
