"""A strict reader of the protobuf wire format, for bytes that nobody vouches for.

See https://protobuf.dev/programming-guides/encoding/. A message is read by a schema of its fields.
Where protobuf is lenient, two readers of one file may see two files, so this reader refuses what
no writer writes: fields that the schema does not have, a field of another wire type, two values
where one belongs, two members of a oneof, numbers that are not in their shortest form or have too
many bits. What it accepts, every protobuf reader reads alike.

Messages are decoded one level deep and on demand, those that nobody asks for at once and for their
form alone; texts and bytes are stepped over. The number of fields is bounded, every length is
checked against the message it lies in, and schemas do not refer to themselves, which bounds depth.
"""

from __future__ import annotations

import mmap
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

MAX_FIELDS = 2_000_000
"""Fields and packed numbers decoded per file. A straight trace of a whole-body model, 45,501 nodes,
has under 1,500,000; the bound keeps hostile files to a few seconds."""

MAX_TEXT_BYTES = 1 << 26
"""Of all texts that are read of a file: names of operators, and metadata."""

MAX_BYTES = 2**31 - 1
"""Of a whole message; protobuf's own readers stop at the same size."""

_VARINT, _FIXED64, _LENGTH_DELIMITED, _FIXED32 = 0, 1, 2, 5
_FIXED_SIZES = {_FIXED64: 8, _FIXED32: 4}

_BAD_PACKED = re.compile(rb"[\x80-\xff](?:\x00|[\x80-\xff]{9}|[\x80-\xff]{8}[\x02-\x7f])")
"""A number among packed ones that `_Source.varint` would refuse, its missing end aside."""


class WireFormatError(ValueError):
    """Bytes that are no protobuf message of the form that was asked for."""


class RefusedFieldError(WireFormatError):
    """A field that exists but must not be there; the message says what it is."""


@dataclass(frozen=True)
class Number:
    """A numeric field. wire_type: how it is written; `largest`: of an enum, its greatest number."""

    wire_type: int
    bits: int = 64
    largest: int | None = None
    repeated: bool = False

    def holds(self, unsigned: int) -> bool:
        """Whether a varint is a number of this type, negative ones as 64-bit two's complements."""
        if self.largest is not None:
            return unsigned <= self.largest
        return self.bits == 64 or not 2**31 <= unsigned < 2**64 - 2**31


@dataclass(frozen=True)
class Bytes:
    """A text or bytes field."""

    repeated: bool = False


@dataclass(frozen=True)
class Nested:
    """A message field. read: somebody asks for it; otherwise its form is checked at once."""

    schema: Schema
    repeated: bool = False
    read: bool = True


Field = Number | Bytes | Nested

Value = int | tuple[int, int]
"""Of a field: a number, or (start, end) of a length-delimited value. Those of fixed size are 0,
since they are stepped over and no accessor reads them."""

INT64, INT32 = Number(_VARINT), Number(_VARINT, bits=32)
INT64S, INT32S = Number(_VARINT, repeated=True), Number(_VARINT, bits=32, repeated=True)
FLOAT, DOUBLE = Number(_FIXED32), Number(_FIXED64)
FLOATS, DOUBLES = Number(_FIXED32, repeated=True), Number(_FIXED64, repeated=True)
TEXT, TEXTS = Bytes(), Bytes(repeated=True)


def enum(largest: int) -> Number:
    """A field whose values are 0 to `largest`. Protobuf drops others, as if they were not there."""
    return Number(_VARINT, largest=largest)


class Schema:
    """The fields of a message by number; any other is refused.

    name: with its article, for errors. oneof: fields of which at most one may be there. refused:
    what fields that exist but must not be there are, for errors.
    """

    def __init__(
        self,
        name: str,
        fields: Mapping[int, Field],
        *,
        oneof: frozenset[int] = frozenset(),
        refused: Mapping[int, str] = {},
    ) -> None:
        self.name = name
        self.fields = fields
        self.oneof = oneof
        self.refused = refused
        self.checked = {n for n, field in fields.items() if _is_checked(field)}
        """Numbers of the fields whose values are looked at as soon as they are decoded."""
        self.checked_deeply = self.checked | {
            n for n, field in fields.items() if isinstance(field, Nested)
        }
        """As `checked`, in messages that nobody reads."""
        self.by_tag: dict[int, Field] = {}
        for number, field in fields.items():
            wire_type = field.wire_type if isinstance(field, Number) else _LENGTH_DELIMITED
            self.by_tag[number << 3 | wire_type] = field
            if isinstance(field, Number) and field.repeated:  # packed
                self.by_tag[number << 3 | _LENGTH_DELIMITED] = field


def _is_checked(field: Field) -> bool:
    """Whether not every value of the right wire type is one of the field's."""
    if isinstance(field, Number):
        return field.repeated or field.bits < 64 or field.largest is not None
    return isinstance(field, Nested) and not field.read


class _Source:
    """The bytes of a whole file, and how many more fields and bytes of text may be decoded."""

    def __init__(self, data: bytes | mmap.mmap) -> None:
        if len(data) > MAX_BYTES:
            raise WireFormatError(f"{len(data):,} bytes, more than protobuf reads")
        self.data = data
        self.fields_left = MAX_FIELDS
        self.text_left = MAX_TEXT_BYTES

    def varint(self, position: int, end: int) -> tuple[int, int]:
        """The unsigned number at `position`, and the position after it."""
        value = 0
        for index in range(min(10, end - position)):
            byte = self.data[position + index]
            value |= (byte & 0x7F) << (7 * index)
            if byte < 0x80:
                if value >= 1 << 64 or (byte == 0 and index):
                    raise WireFormatError(f"a number that is too long, at byte {position}")
                return value, position + index + 1
        raise WireFormatError(f"a number that does not end, at byte {position}")

    def count_field(self) -> None:
        self.fields_left -= 1
        if self.fields_left < 0:
            raise WireFormatError(f"more than {MAX_FIELDS:,} fields")

    def field(self, position: int, end: int) -> tuple[int, Value, int]:
        """The tag and value of the field at `position`, and the position after it."""
        self.count_field()
        start, data = position, self.data
        tag = data[position]
        if tag < 0x80:  # most are, and a call for each would double the time
            position += 1
        else:
            tag, position = self.varint(position, end)
        wire_type = tag & 7
        value: Value = 0
        if wire_type in _FIXED_SIZES:
            position += _FIXED_SIZES[wire_type]
        elif wire_type in (_VARINT, _LENGTH_DELIMITED):
            number = data[position] if position < end else 0x80
            if number < 0x80:
                position += 1
            else:
                number, position = self.varint(position, end)
            value = number
            if wire_type == _LENGTH_DELIMITED:
                value = position, position + number
                position += number
        else:
            raise WireFormatError(f"wire type {wire_type} at byte {start}")
        if position > end:
            raise WireFormatError(f"a field that does not fit, at byte {start}")
        return tag, value, position

    def check_packed(self, field: Number, start: int, end: int) -> None:
        """Raises unless the bytes are whole numbers, one after the other."""
        if field.wire_type == _VARINT:
            bad = start < end and (
                self.data[end - 1] >= 0x80 or _BAD_PACKED.search(self.data, start, end) is not None
            )
        else:
            bad = (end - start) % _FIXED_SIZES[field.wire_type] != 0
        if bad:
            raise WireFormatError(f"packed numbers that are not whole, at byte {start}")


class Message:
    """One message of a schema, of a whole file. Accessors take a field number."""

    def __init__(self, data: bytes | mmap.mmap, schema: Schema) -> None:
        self._decode(_Source(data), 0, len(data), schema, is_read=True)

    def _decode(
        self, source: _Source, start: int, end: int, schema: Schema, *, is_read: bool
    ) -> None:
        self._source = source
        self._schema = schema
        self._values: dict[int, list[Value]] = {}  # per field number, in file order
        read_field, by_tag, values = source.field, schema.by_tag, self._values
        position = start
        while position < end:
            field_start = position
            tag, value, position = read_field(position, end)
            field = by_tag.get(tag)
            if field is None:
                raise self._unknown(tag, field_start)
            number = tag >> 3
            if number not in values:
                values[number] = [value]
            elif field.repeated:
                values[number].append(value)
            else:
                raise WireFormatError(f"field {number} of {schema.name} more than once")
        if schema.oneof and len(schema.oneof & values.keys()) > 1:
            raise WireFormatError(f"{schema.name} of two kinds at once, at byte {start}")
        for number in values.keys() & (schema.checked if is_read else schema.checked_deeply):
            for value in values[number]:
                self._check(schema.fields[number], value)

    def _check(self, field: Field, value: Value) -> None:
        """Raises for a value that its field cannot have, and checks messages that nobody reads."""
        if isinstance(field, Number):
            if isinstance(value, int):
                if not field.holds(value):
                    raise WireFormatError(f"a number out of its range in {self._schema.name}")
            else:
                self._source.check_packed(field, *value)
        elif isinstance(field, Nested):
            assert isinstance(value, tuple)
            self._nested(value, field.schema, is_read=False)

    def _nested(self, span: tuple[int, int], schema: Schema, *, is_read: bool) -> Message:
        message = Message.__new__(Message)
        message._decode(self._source, *span, schema, is_read=is_read)
        return message

    def _unknown(self, tag: int, position: int) -> WireFormatError:
        number, schema = tag >> 3, self._schema
        if number in schema.refused:
            return RefusedFieldError(schema.refused[number])
        if number in schema.fields:
            return WireFormatError(
                f"field {number} of {schema.name} with wire type {tag & 7}, at byte {position}"
            )
        return WireFormatError(f"{schema.name} with an unknown field {number}, at byte {position}")

    def __contains__(self, number: int) -> bool:
        return number in self._values

    def integers(self, number: int) -> list[int]:
        """All numbers of a repeated int64 field, packed or not."""
        numbers = []
        for value in self._values.get(number, ()):
            if isinstance(value, int):
                numbers.append(_signed(value))
                continue
            position, end = value
            while position < end:
                self._source.count_field()
                unsigned, position = self._source.varint(position, end)
                numbers.append(_signed(unsigned))
        return numbers

    def integer(self, number: int) -> int:
        """The value of an integer field, 0 where there is none."""
        value = self._values.get(number, (0,))[0]
        assert isinstance(value, int)
        return _signed(value)

    def text(self, number: int) -> str:
        """The value of a string field, empty where there is none."""
        return self._text(*self._span(number))

    def texts(self, number: int) -> list[str]:
        """All values of a repeated string field."""
        texts = []
        for value in self._values.get(number, ()):
            assert isinstance(value, tuple)
            texts.append(self._text(*value))
        return texts

    def _text(self, start: int, end: int) -> str:
        self._source.text_left -= end - start
        if self._source.text_left < 0:
            raise WireFormatError(f"more than {MAX_TEXT_BYTES:,} bytes of text")
        try:
            return self._source.data[start:end].decode("utf-8")
        except UnicodeDecodeError as error:
            raise WireFormatError(f"text that is not UTF-8 in {self._schema.name}") from error

    def content(self, number: int) -> bytes:
        """The value of a bytes field, empty where there is none."""
        start, end = self._span(number)
        return self._source.data[start:end]

    def _span(self, number: int) -> tuple[int, int]:
        value = self._values.get(number, ((0, 0),))[0]
        assert isinstance(value, tuple)
        return value

    def messages(self, number: int) -> Iterator[Message]:
        """The messages of a field, in file order."""
        field = self._schema.fields[number]
        assert isinstance(field, Nested)
        for value in self._values.get(number, ()):
            assert isinstance(value, tuple)
            yield self._nested(value, field.schema, is_read=True)

    def message(self, number: int) -> Message | None:
        """The message of a field that occurs at most once."""
        return next(self.messages(number), None)


def _signed(value: int) -> int:
    """A 64-bit two's complement number from its unsigned reading."""
    return value - (1 << 64) if value >> 63 else value
