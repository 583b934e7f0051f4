"""Reads a pickle as data: a machine that moves values and calls nothing but what it is given.

Python's own `pickle` leaves no say in what a few bytes may cost: a key of nested tuples takes
exponential time to be hashed, a shared list of arguments is copied for every call. Here each
operation takes a bounded time, keys are short to hash, and their number is bounded. The operations
are those of `torch.load(weights_only=True)`, pickle's protocol 2, in which torch saves; what they
do is described in `pickletools`.
"""

from __future__ import annotations

import mmap
import pickletools
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from cigpose_export.errors import CheckpointError
from cigpose_runtime.errors import first_line, printable

MOST_OPERATIONS = 4_000_000
"""Of a pickle. The published form of CIGPose-l needs 15,817, of x 19,129; a runner file of x with
optimizer, EMA and the history of 120,000 iterations 69,785. This many take up to 5 s and 500 MB."""

LARGEST_PICKLE = 1 << 27
"""Bytes; that runner file's has 2.9 MB. As text, they may take four times as much memory."""

LONGEST_NAME = 1000
"""Of a type or a function, in bytes."""

MOST_ARGUMENTS = 32
"""Of one call, each of which copies them; torch's own have up to nine."""

PROTOCOL = 2

UINT16, UINT32 = struct.Struct("<H"), struct.Struct("<L")
INT32, FLOAT64 = struct.Struct("<l"), struct.Struct(">d")

AGAIN = "delete the file and fetch it again"
TOO_MUCH = "keep only `meta` and `state_dict` in the file"


class Inert:
    """Stands in for a type that inference has no use for; takes everything, keeps nothing."""

    def __new__(cls, *_arguments: object) -> Inert:
        return super().__new__(cls)

    def __repr__(self) -> str:
        return "a value that is not read"

    def __setstate__(self, _state: object) -> None: ...


@dataclass(frozen=True)
class Function:
    """What a file may call by name; types of stand-ins may be called, too."""

    function: Callable[..., Any]

    def __setstate__(self, _state: object) -> None: ...


def call(function: object, arguments: object) -> Any:
    """The result of a call that a file asks for; raises `TypeError` for one that none needs."""
    if type(arguments) is not tuple or len(arguments) > MOST_ARGUMENTS:
        raise TypeError("a call without arguments, or with too many")
    if isinstance(function, Function):
        return function.function(*arguments)
    if isinstance(function, type):  # one of `names`: there are no others
        return function(*arguments)
    raise TypeError("a call of what is no function")


def unpickle(
    data: mmap.mmap,
    start: int,
    end: int,
    *,
    names: Mapping[str, Any],
    persistent: Callable[[Any], Any],
) -> tuple[Any, int]:
    """What the pickle at a position holds, which ends before another, and the position behind it.

    names: what stands for each name that may be asked for, as in "collections.OrderedDict".
    persistent: makes a value of an identifier. Raises `CheckpointError` for a pickle that is
    damaged, too long or too large, of another protocol, or asks for any other name.
    """
    machine = _Machine(data, start, end, names, persistent)
    try:
        return machine.run(), machine.position
    except CheckpointError:
        raise
    except Exception as error:  # whatever a damaged pickle makes of the stack and the stand-ins
        raise CheckpointError(
            "expected a pickle of weights, found a damaged one, or one that asks for more "
            f"({printable(first_line(error))}); nothing of it was run: {AGAIN}"
        ) from error


class _Machine:
    """Stack, marked stacks and memo of one pickle; `position` is the next byte to read."""

    def __init__(
        self,
        data: mmap.mmap,
        start: int,
        end: int,
        names: Mapping[str, Any],
        persistent: Callable[[Any], Any],
    ) -> None:
        self.data = data
        self.start = self.position = start
        self.end = end
        self.names = names
        self.persistent = persistent
        self.stack: list[Any] = []
        self.marked: list[list[Any]] = []
        self.memo: dict[int, Any] = {}

    def run(self) -> Any:
        """Runs all operations; returns what they leave."""
        for _ in range(MOST_OPERATIONS):
            code = self.byte()
            if code == STOP:
                return self.stack.pop()
            operation = OPERATIONS.get(code)
            if operation is None:
                raise _foreign(f"the operation {_name_of(code)}")
            operation(self)
        raise CheckpointError(
            f"expected at most {MOST_OPERATIONS} operations of a pickle, found more; {TOO_MUCH}"
        )

    # What operations read

    def skip(self, count: int) -> int:
        """Goes on by as many bytes, which have to be there; the position of the first."""
        first, self.position = self.position, self.position + count
        if self.position > self.end:
            raise ValueError("it goes on behind its end")
        if self.position - self.start > LARGEST_PICKLE:
            raise CheckpointError(
                f"expected at most {LARGEST_PICKLE} bytes of a pickle, found more; {TOO_MUCH}"
            )
        return first

    def byte(self) -> int:
        return self.data[self.skip(1)]

    def number(self, layout: struct.Struct) -> Any:
        return layout.unpack_from(self.data, self.skip(layout.size))[0]

    def bytes(self, count: int) -> bytes:
        first = self.skip(count)
        return self.data[first : self.position]

    def line(self) -> str:
        end = self.data.find(b"\n", self.position, self.position + LONGEST_NAME)
        if end < 0:
            raise ValueError("a name without an end")
        return self.bytes(end + 1 - self.position)[:-1].decode("utf-8")

    # What operations do

    def push(self, value: Any) -> None:
        self.stack.append(value)

    def mark(self) -> None:
        self.marked.append(self.stack)
        self.stack = []

    def since_mark(self) -> list[Any]:
        values, self.stack = self.stack, self.marked.pop()
        return values

    def drop(self) -> None:
        if self.stack:
            del self.stack[-1]
        else:
            self.since_mark()

    def remember(self, index: int) -> None:
        self.memo[index] = self.stack[-1]

    def find_name(self) -> None:
        module, name = self.line(), self.line()
        # Protocol 2 calls the built-in names what Python 2 called them.
        full = f"{'builtins' if module == '__builtin__' else module}.{name}"
        if full not in self.names:
            raise CheckpointError(
                f"the file asks for more than weights ({printable(full[:200])}); nothing of it was "
                "run: do not use it unless you trust where it came from"
            )
        self.push(self.names[full])

    def call(self) -> None:
        arguments, function = self.stack.pop(), self.stack.pop()
        self.push(call(function, arguments))

    def set_state(self) -> None:
        state = self.stack.pop()
        self.stack[-1].__setstate__(state)

    def append(self, values: list[Any]) -> None:
        if isinstance(self.stack[-1], list):
            self.stack[-1].extend(values)
        elif not isinstance(self.stack[-1], Inert):
            raise TypeError("an item of what is no list")

    def set_items(self, flat: list[Any]) -> None:
        if isinstance(self.stack[-1], dict):
            keys = map(_key, flat[::2])
            self.stack[-1].update(zip(keys, flat[1::2], strict=True))
        elif not isinstance(self.stack[-1], Inert):
            raise TypeError("an item of what is no dictionary")

    def tuple_of(self, count: int) -> None:
        values = [self.stack.pop() for _ in range(count)]
        self.push(tuple(reversed(values)))

    def check_protocol(self) -> None:
        if (protocol := self.byte()) != PROTOCOL:
            raise _foreign(f"protocol {protocol}")


def _key(key: object) -> object:
    """A key as it is, if hashing it takes no time; another stays apart from all others."""
    is_short = key is None or type(key) in (str, bool)
    return key if is_short or (type(key) is int and abs(key) < 1 << 32) else Inert()


def _pop_two(machine: _Machine) -> list[Any]:
    value, key = machine.stack.pop(), machine.stack.pop()
    return [key, value]


def _foreign(found: str) -> CheckpointError:
    return CheckpointError(
        f"expected a pickle of protocol {PROTOCOL}, in which torch saves, found {found}; save the "
        "weights again with torch.save and its defaults"
    )


def _name_of(code: int) -> str:
    return next((op.name for op in pickletools.opcodes if op.code == chr(code)), hex(code))


STOP = ord(".")

OPERATIONS: dict[int, Callable[[_Machine], None]] = {
    0x80: _Machine.check_protocol,
    ord("c"): _Machine.find_name,
    ord("R"): _Machine.call,
    0x81: _Machine.call,  # NEWOBJ: of a type
    ord("b"): _Machine.set_state,
    ord("Q"): lambda m: m.push(m.persistent(m.stack.pop())),
    ord("("): _Machine.mark,
    ord("0"): _Machine.drop,
    ord("q"): lambda m: m.remember(m.byte()),
    ord("r"): lambda m: m.remember(m.number(UINT32)),
    ord("h"): lambda m: m.push(m.memo[m.byte()]),
    ord("j"): lambda m: m.push(m.memo[m.number(UINT32)]),
    ord("N"): lambda m: m.push(None),
    0x88: lambda m: m.push(True),
    0x89: lambda m: m.push(False),
    ord("J"): lambda m: m.push(m.number(INT32)),
    ord("K"): lambda m: m.push(m.byte()),
    ord("M"): lambda m: m.push(m.number(UINT16)),
    0x8A: lambda m: m.push(int.from_bytes(m.bytes(m.byte()), "little", signed=True)),
    ord("G"): lambda m: m.push(m.number(FLOAT64)),
    ord("X"): lambda m: m.push(m.bytes(m.number(UINT32)).decode("utf-8", "surrogatepass")),
    ord("U"): lambda m: m.push(m.bytes(m.byte()).decode("latin1")),
    ord(")"): lambda m: m.push(()),
    ord("t"): lambda m: m.push(tuple(m.since_mark())),
    0x85: lambda m: m.tuple_of(1),
    0x86: lambda m: m.tuple_of(2),
    0x87: lambda m: m.tuple_of(3),
    ord("]"): lambda m: m.push([]),
    ord("a"): lambda m: m.append([m.stack.pop()]),
    ord("e"): lambda m: m.append(m.since_mark()),
    ord("}"): lambda m: m.push({}),
    ord("s"): lambda m: m.set_items(_pop_two(m)),
    ord("u"): lambda m: m.set_items(m.since_mark()),
}
"""By the byte that each has in a file."""
