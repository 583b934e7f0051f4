"""Protobuf messages as trees of fields, and structured damage to them."""

from dataclasses import dataclass

from google.protobuf.descriptor import FieldDescriptor


@dataclass
class WireField:
    """One field as it is written. payload: its bytes after the tag, or its fields if a message.

    tag_bits: beyond the 32 that a tag may have. padding: superfluous bytes of tag and length.
    """

    number: int
    wire_type: int
    payload: object
    tag_bits: int = 0
    padding: int = 0


def varint(value, padding=0):
    """The bytes of a number, with `padding` bytes more than it takes."""
    digits = []
    while value > 0x7F or padding > 0:
        padding -= value <= 0x7F
        digits.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*digits, value])


def take_varint(data, position):
    """The number at a position, and the position after it."""
    value = shift = 0
    while True:
        byte = data[position]
        value |= (byte & 0x7F) << shift
        position, shift = position + 1, shift + 7
        if byte < 0x80:
            return value, position


def to_fields(data, descriptor):
    """A well-formed message as a list of fields."""
    fields, position = [], 0
    while position < len(data):
        tag, position = take_varint(data, position)
        number, wire_type = tag >> 3, tag & 7
        start = position
        if wire_type == 0:
            _, position = take_varint(data, position)
            payload = data[start:position]
        elif wire_type == 2:
            length, start = take_varint(data, position)
            position = start + length
            payload = data[start:position]
            inner = descriptor.fields_by_number[number].message_type
            if inner is not None:
                payload = to_fields(payload, inner)
        else:
            position += {1: 8, 5: 4}[wire_type]
            payload = data[start:position]
        fields.append(WireField(number, wire_type, payload))
    return fields


def to_bytes(fields):
    """The bytes of a list of fields, damaged ones as well."""
    parts = []
    for field in fields:
        payload = field.payload if isinstance(field.payload, bytes) else to_bytes(field.payload)
        tag = field.number << 3 | field.wire_type | field.tag_bits
        parts.append(varint(tag, field.padding))
        if field.wire_type == 2:
            parts.append(varint(len(payload), field.padding))
        parts.append(payload)
    return b"".join(parts)


def damage(fields, descriptor, rng):
    """Does one random thing to one random message in the tree.

    rng: random.Random.
    """
    while True:  # down to some message
        inner = [
            (field, descriptor.fields_by_number.get(field.number))
            for field in fields
            if isinstance(field.payload, list)
        ]
        inner = [(field, kind) for field, kind in inner if kind and kind.message_type]
        if not inner or rng.random() < 0.25:
            break
        field, kind = rng.choice(inner)
        fields, descriptor = field.payload, kind.message_type
    place = rng.randint(0, len(fields))
    if not fields or rng.random() < 0.3:
        fields.insert(place, _new_field(descriptor, rng))
        return
    index = rng.randrange(len(fields))
    field = fields[index]
    match rng.randrange(9):
        case 0:
            fields.insert(place, field)
        case 1:
            del fields[index]
        case 2:
            fields.insert(place, fields.pop(index))
        case 3:
            fields[index] = WireField(field.number, rng.randrange(8), field.payload)
        case 4:
            number = rng.choice([*descriptor.fields_by_number, rng.randint(0, 40)])
            fields[index] = WireField(number, field.wire_type, field.payload)
        case 5:
            bits = 1 << rng.randint(32, 62)
            fields[index] = WireField(field.number, field.wire_type, field.payload, tag_bits=bits)
        case 6:
            padding = rng.choice([1, 2, 4, 9])
            fields[index] = WireField(field.number, field.wire_type, field.payload, padding=padding)
        case 7:
            payload = field.payload if isinstance(field.payload, bytes) else to_bytes(field.payload)
            fields[index] = WireField(field.number, field.wire_type, _other_bytes(payload, rng))
        case 8:
            fields[index] = _new_field(descriptor, rng, field.number)


def _new_field(descriptor, rng, number=None):
    number = number or rng.choice([*descriptor.fields_by_number, rng.randint(0, 300)])
    kind = descriptor.fields_by_number.get(number)
    if kind is None or rng.random() < 0.2:
        wire_type = rng.choice([0, 1, 2, 2, 3, 5])
    elif kind.type in (FieldDescriptor.TYPE_FLOAT, FieldDescriptor.TYPE_DOUBLE):
        wire_type = 5 if kind.type == FieldDescriptor.TYPE_FLOAT else 1
    elif kind.type in (
        FieldDescriptor.TYPE_STRING,
        FieldDescriptor.TYPE_BYTES,
        FieldDescriptor.TYPE_MESSAGE,
    ):
        wire_type = 2
    else:
        wire_type = rng.choice([0, 0, 2])
    if wire_type == 2 and kind is not None and kind.message_type is not None:
        return WireField(number, 2, [_new_field(kind.message_type, rng)] * rng.randint(0, 2))
    payloads = {
        0: lambda: _number(rng),
        1: lambda: rng.randbytes(8),
        2: lambda: rng.choice(
            [b"", b"Add", b"Loop", b"location", b"\xff\xfe", b"\x01\x02", _number(rng)]
        ),
        3: lambda: b"",
        5: lambda: rng.randbytes(4),
    }
    return WireField(number, wire_type, payloads[wire_type]())


def _number(rng):
    value = rng.choice(
        [0, 1, 2, 3, 14, 15, 127, 128, 2**31 - 1, 2**31, 2**32 + 1, 2**63, 2**64 - 1]
    )
    return varint(value, rng.choice([0, 0, 0, 1, 3]))


def _other_bytes(payload, rng):
    start = rng.randint(0, len(payload))
    inserted = rng.randbytes(rng.randint(0, 3))
    return payload[:start] + inserted + payload[start + rng.randint(0, 3) :]
