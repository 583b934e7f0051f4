"""Files made to cost memory or time: each is refused, or read, in bounds, with one line.

All are loaded in one process that forks for each, so that the memory of each can be measured.
"""

import io
import json
import struct
import subprocess
import sys
import zipfile

import pytest

LEAST_BASE = 100_000_000
"""Bytes. What torch alone takes; less would mean that nothing was measured."""

MOST_MEMORY = 1_500_000_000
SECONDS = 60
"""Of CPU, after which the kernel ends a load."""


# Pickles, byte by byte

EMPTY_TUPLE, EMPTY_LIST, EMPTY_DICT, MARK, STOP = b")", b"]", b"}", b"(", b"."
APPENDS, SETITEM, SETITEMS, TUPLE, TUPLE1, TUPLE2 = b"e", b"s", b"u", b"t", b"\x85", b"\x86"
REDUCE, BUILD, POP, PERSISTENT, NONE = b"R", b"b", b"0", b"Q", b"N"


def pickled(*operations: bytes) -> bytes:
    return b"".join([b"\x80\x02", *operations, STOP])


def text(value: str) -> bytes:
    raw = value.encode()
    return b"X" + struct.pack("<L", len(raw)) + raw


def number(value: int) -> bytes:
    raw = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
    return b"\x8a" + bytes([len(raw)]) + raw


def name(module: str, attribute: str) -> bytes:
    return f"c{module}\n{attribute}\n".encode()


def put(index: int) -> bytes:
    return b"r" + struct.pack("<L", index)


def get(index: int) -> bytes:
    return b"j" + struct.pack("<L", index)


def items(*pairs: tuple[str, bytes]) -> bytes:
    """A dictionary; values as operations."""
    return EMPTY_DICT + MARK + b"".join(text(key) + value for key, value in pairs) + SETITEMS


STORAGE = (
    MARK + text("storage") + name("torch", "FloatStorage") + text("0") + text("cpu") + b"K\x01"
    + TUPLE + PERSISTENT
)  # fmt: skip


def tensor(shape: bytes = b"K\x01" + TUPLE1, strides: bytes = b"K\x01" + TUPLE1) -> bytes:
    rebuild = name("torch._utils", "_rebuild_tensor_v2")
    return rebuild + MARK + STORAGE + b"K\x00" + shape + strides + b"\x89" + NONE + TUPLE + REDUCE


WEIGHTS = ("state_dict", items(("weight", tensor())))


def nested(levels: int) -> bytes:
    """A tuple of twice the same, and so on: few bytes for 2**levels values."""
    return EMPTY_TUPLE + b"".join(put(i) + get(i) + TUPLE2 for i in range(levels))


def torch_file(*operations: bytes) -> bytes:
    """A torch file whose pickle is made of these operations, with one storage of one float."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("archive/data.pkl", pickled(*operations))
        archive.writestr("archive/data/0", bytes(4))
    return buffer.getvalue()


def with_meta(*operations: bytes) -> bytes:
    return torch_file(items(("meta", b"".join(operations)), WEIGHTS))


def legacy_file(keys: bytes) -> bytes:
    magic = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."
    machine = pickled(items(("little_endian", b"\x88")))
    content = pickled(items(WEIGHTS))
    return b"".join([magic, pickled(b"M\xe9\x03"), machine, content, pickled(keys), bytes(12)])


def safetensors(header: str) -> bytes:
    raw = header.encode()
    return struct.pack("<Q", len(raw)) + raw


def many_entries() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for index in range(65_000):
            archive.writestr(zipfile.ZipInfo(f"archive/data/{index}"), b"")
    return buffer.getvalue()


def lying(signature: bytes, at: int, layout: str, value: int) -> bytes:
    """A torch file with one number replaced behind the first such signature."""
    data = bytearray(torch_file(items(WEIGHTS)))
    struct.pack_into(layout, data, data.index(signature) + at, value)
    return bytes(data)


READ = "read"
MANY, MILLION = 100_000, 1_000_000
INERT = name("builtins", "set") + put(1) + POP


def numbers() -> bytes:
    """Many of them, as the items of a tuple or list."""
    return b"".join(b"J" + struct.pack("<l", i) for i in range(MANY))


ARRAY = (
    name("numpy.core.multiarray", "_reconstruct") + EMPTY_TUPLE + REDUCE + MARK + b"K\x01"
    + number(100_000) + TUPLE1
    + name("numpy", "dtype") + text("u1") + TUPLE1 + REDUCE
    + b"\x89" + name("_codecs", "encode") + text("a" * 100_000) + TUPLE1 + REDUCE + TUPLE + BUILD
)  # fmt: skip

HOSTILE = {
    "a bytearray of 8 GB": (
        lambda: with_meta(name("__builtin__", "bytearray"), number(8 * 10**9), TUPLE1, REDUCE),
        READ,
    ),
    "a storage of 2**60 numbers": (
        lambda: torch_file(
            items(("state_dict", items(("a", tensor().replace(b"K\x01t", number(2**60) + b"t"))))),
        ),
        "expected 4611686018427387904 bytes of the storage '0', found 4",
    ),
    "a tensor of many dimensions": (
        lambda: torch_file(
            items(("state_dict", items(("a", tensor(MARK + numbers() + TUPLE, EMPTY_TUPLE))))),
        ),
        "found a malformed one",
    ),
    "a size of 2**2000": (
        lambda: torch_file(items(("state_dict", items(("a", tensor(number(2**2000) + TUPLE1)))))),
        "found a malformed one",
    ),
    "many arguments, again and again": (
        lambda: with_meta(
            INERT, MARK, numbers(), TUPLE, put(2), (get(1) + get(2) + REDUCE + POP) * MANY
        ),
        "a call without arguments, or with too many",
    ),
    "the same behind a function": (
        lambda: with_meta(
            name("torch._tensor", "_rebuild_from_type_v2"), MARK, INERT, get(1), NONE,
            MARK, numbers(), TUPLE, NONE, TUPLE, REDUCE,
        ),
        "a call without arguments, or with too many",
    ),
    "functions in functions": (
        lambda: with_meta(
            name("torch._tensor", "_rebuild_from_type_v2"), put(3), POP, EMPTY_TUPLE,
            (put(4) + POP + MARK + get(3) + NONE + get(4) + NONE + TUPLE) * 10_000,
            put(5), POP, get(3), get(5), REDUCE,
        ),
        "nothing of it was run",
    ),
    "attributes of a dictionary, again and again": (
        lambda: with_meta(
            name("collections", "OrderedDict"), EMPTY_TUPLE, REDUCE,
            EMPTY_DICT, MARK, *(number(i) + NONE for i in range(MANY)), SETITEMS, put(2), POP,
            (get(2) + BUILD) * MANY,
        ),
        READ,
    ),
    # Keys
    "a key of nested tuples": (lambda: with_meta(EMPTY_DICT, nested(80), NONE, SETITEM), READ),
    "a key of nested tuples in the state dict": (
        lambda: torch_file(
            items(("state_dict", EMPTY_DICT + MARK + nested(80) + tensor() + SETITEMS)),
        ),
        "1 key of another type: a value that is not read; pass",
    ),
    "keys with one hash": (
        lambda: with_meta(
            EMPTY_DICT, MARK, *(number(i * (2**61 - 1)) + NONE for i in range(MANY)), SETITEMS
        ),
        READ,
    ),
    "many weights": (
        lambda: torch_file(
            tensor(), put(1), POP, EMPTY_DICT, text("state_dict"), EMPTY_DICT, MARK,
            *(text(str(i)) + get(1) for i in range(MANY)), SETITEMS, SETITEM,
        ),
        "expected at most 20000 weights, found 100000",
    ),
    "a long key of a storage": (
        lambda: torch_file(
            items(("state_dict", items(("a", tensor().replace(text("0"), text("k" * MANY)))))),
        ),
        "kkk', found none",
    ),
    "a long key": (
        lambda: torch_file(items(("state_dict", items(("k" * MANY, NONE))))),
        "1 key of another type: kkk",
    ),
    "a long name": (lambda: with_meta(name("k" * MANY, "x")), "a name without an end"),
    # Depth
    "a deep description of the data set": (
        lambda: with_meta(items(("dataset_meta", items(("a", EMPTY_TUPLE + TUPLE1 * MANY))))),
        READ,
    ),
    "a wide description of the data set": (
        lambda: with_meta(items(("dataset_meta", items(("a", nested(60)))))),
        READ,
    ),
    "one array of a description, again and again": (
        lambda: with_meta(
            items(
                (
                    "dataset_meta",
                    items(("a", EMPTY_LIST + MARK + ARRAY + put(9) + get(9) * MANY + APPENDS)),
                )
            )
        ),
        READ,
    ),
    # Memo and protocol
    "a memo that begins at its end": (lambda: with_meta(NONE, put(2**32 - 1)), READ),
    "a memo that has nothing": (lambda: with_meta(get(7)), "nothing of it was run"),
    "protocol 5": (lambda: with_meta(b"\x80\x05", NONE), "found protocol 5"),
    "a frame of 2**63 bytes": (
        lambda: with_meta(b"\x95" + struct.pack("<Q", 2**63), NONE),
        "found the operation FRAME",
    ),
    "a buffer from outside": (lambda: with_meta(b"\x97"), "found the operation NEXT_BUFFER"),
    "a text of 4 GB": (lambda: with_meta(b"X\xff\xff\xff\xff"), "it goes on behind its end"),
    # ZIP
    "a directory of other entries": (lambda: lying(b"PK\x05\x06", 8, "<H", 5), "found"),
    "an entry of 4 GB in the directory": (
        lambda: lying(b"PK\x01\x02", 20, "<L", 2**32 - 1),
        "found",
    ),
    "an entry of 4 GB in its header": (lambda: lying(b"PK\x03\x04", 18, "<L", 2**32 - 1), "found"),
    "an entry behind the end": (
        lambda: lying(b"PK\x01\x02", 42, "<L", 2**31),
        "found records with gaps",
    ),
    "a compressed entry": (lambda: lying(b"PK\x01\x02", 10, "<H", 8), "found compressed ones"),
    # Others
    "keys of a legacy file as nested tuples": (
        lambda: legacy_file(EMPTY_LIST + MARK + nested(80) + APPENDS),
        "expected the storages that the tensors name, found others",
    ),
    "brackets in a safetensors header": (
        lambda: safetensors("{" + "[" * 9_000_000),
        "found a header that",
    ),
    "dimensions in one": (
        lambda: safetensors(
            '{"a":{"dtype":"F32","data_offsets":[0,4],"shape":[1' + ",1" * 4_000_000 + "]}}"
        ) + bytes(4),
        "the shape [1, 1, 1, 1, ...] of 'a'",
    ),
    "many tensors in one": (
        lambda: safetensors(
            "{" + ",".join(
                f'"{i}":{{"dtype":"F32","shape":[0],"data_offsets":[0,0]}}' for i in range(MANY)
            ) + "}"
        ),
        "expected at most 20000 weights, found 100000",
    ),
    "a header of 2**63 bytes": (
        lambda: struct.pack("<Q", 2**63) + b"{}",
        "a header of 9223372036854775808",
    ),
}  # fmt: skip

LARGE = {
    "lists in lists": (lambda: with_meta(EMPTY_LIST * 1_300_000, b"a" * 1_299_999), READ),
    "tuples in tuples": (lambda: with_meta(EMPTY_TUPLE, TUPLE1 * 3 * MILLION), READ),
    "marks": (lambda: with_meta(MARK * 3 * MILLION), "nothing of it was run"),
    "too many operations": (lambda: with_meta(NONE * 4 * MILLION), "at most 4000000 operations"),
    "many dictionaries": (
        lambda: with_meta(EMPTY_LIST, MARK, EMPTY_DICT * 3_900_000, APPENDS),
        READ,
    ),
    "many filled dictionaries": (
        lambda: with_meta(
            text("k"), put(1), POP, EMPTY_LIST, MARK,
            (EMPTY_DICT + get(1) + NONE + SETITEM) * 970_000, APPENDS,
        ),
        READ,
    ),
    "many remembered lists": (
        lambda: with_meta(
            EMPTY_LIST, MARK, *(EMPTY_LIST + put(i) for i in range(1_900_000)), APPENDS
        ),
        READ,
    ),
    "many tensors": (
        lambda: with_meta(
            name("torch._utils", "_rebuild_tensor_v2"), put(1), POP, STORAGE, put(2), POP,
            b"K\x01", TUPLE1, put(3), POP, EMPTY_LIST, MARK,
            (get(1) + MARK + get(2) + b"K\x00" + get(3) + get(3) + TUPLE + REDUCE) * 480_000,
            APPENDS,
        ),
        READ,
    ),
    "a text of 120 MB that takes four times as much": (
        lambda: with_meta(text("😀" + "a" * 120_000_000)),
        READ,
    ),
    "a text of 120 MB for a shape": (
        lambda: torch_file(items(("state_dict", items(("a", tensor(text("a" * 120_000_000)))))),),
        "found a malformed one",
    ),
    "a text of 140 MB": (
        lambda: with_meta(text("a" * 140_000_000)),
        "at most 134217728 bytes of a pickle",
    ),
    "65,000 entries": (many_entries, "expected at most 20000 records, found 65000"),
    "a million dictionaries in one": (
        lambda: safetensors('{"__metadata__":[' + ",".join(["{}"] * 3_000_000) + "]}"),
        "metadata of another type",
    ),
}  # fmt: skip

LOAD_EACH = """
import json, os, resource, sys
from pathlib import Path
from cigpose_export.checkpoints.load import load_checkpoint
from cigpose_runtime import CigposeError
for path in sys.argv[2:]:
    if os.fork():
        _, status = os.wait()
        if status:
            print(json.dumps(["", "ended by signal or error %d" % status, 0]), flush=True)
        continue
    resource.setrlimit(resource.RLIMIT_CPU, (int(sys.argv[1]),) * 2)
    try:
        kind, said = "read", ", ".join(load_checkpoint(Path(path)).state_dict)
    except CigposeError as error:
        kind, said = type(error).__name__, str(error)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps([kind, said, peak]), flush=True)
    os._exit(0)
"""


Loaded = dict[str, tuple[str, str, int]]
"""What became of each file: read or the error's type, keys or the error, peak memory."""


@pytest.fixture(scope="module")
def loaded(tmp_path_factory) -> Loaded:
    return load_each(tmp_path_factory.mktemp("hostile"), HOSTILE)


@pytest.fixture(scope="module")
def loaded_large(tmp_path_factory) -> Loaded:
    return load_each(tmp_path_factory.mktemp("large"), LARGE)


def load_each(folder, files) -> Loaded:
    paths = [folder / f"{index}.pth" for index in range(len(files))]
    for path, (make, _) in zip(paths, files.values(), strict=True):
        path.write_bytes(make())
    ran = subprocess.run(
        [sys.executable, "-c", LOAD_EACH, str(SECONDS), *map(str, paths)],
        text=True,
        capture_output=True,
        check=True,
    )
    for path in paths:
        path.unlink()
    lines = [tuple(json.loads(line)) for line in ran.stdout.splitlines()]
    return dict(zip(files, lines, strict=True))


@pytest.mark.parametrize("what", HOSTILE)
def test_a_hostile_file_costs_little_and_gets_one_line(loaded, what):
    assert_bounded(loaded[what], HOSTILE[what][1])


@pytest.mark.long
@pytest.mark.parametrize("what", LARGE)
def test_a_large_hostile_file_costs_little_and_gets_one_line(loaded_large, what, record_property):
    record_property("figure", f"loading {what}: {loaded_large[what][2] / 1e6:.0f} MB")
    assert_bounded(loaded_large[what], LARGE[what][1])


def assert_bounded(became: tuple[str, str, int], expected: str) -> None:
    kind, said, peak = became
    if expected == READ:
        assert (kind, said) == ("read", "weight")
    else:
        assert kind == "CheckpointError", said
        assert expected in said
        assert said.isprintable()
        assert len(said) < 1500
    assert LEAST_BASE < peak < MOST_MEMORY
