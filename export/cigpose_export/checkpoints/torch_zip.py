"""Torch's ZIP container, read so strictly that a flipped bit anywhere in it is found.

Torch stores records one after the other, uncompressed, each behind a local header and, since it
writes in one pass, before a descriptor with checksum and size; then come the directory and the
ends. Here nothing else passes: no gap, no byte that is not accounted for, no field of a record that
differs between its header and the directory, or from those of the other records. Python's
`zipfile`, which does without descriptors, writes files that pass, too.

The layout: PKWARE's APPNOTE.TXT 6.3, and `torch/csrc/.../caffe2/serialize/inline_container.cc`.
"""

from __future__ import annotations

import mmap
import struct
import zlib
from dataclasses import dataclass
from typing import Any

from cigpose_export.checkpoints.torch_pickle import load_pickle
from cigpose_export.errors import CheckpointError
from cigpose_runtime.errors import printable, quoted

MOST_RECORDS = 20_000
"""One a storage; a runner file of CIGPose-x with optimizer and EMA has some 3,000."""

LONGEST_NAME = 1000
"""Bytes; torch's are some 20 long, behind the name of the file itself."""

LOCAL = struct.Struct("<4s5H3L2H")
DESCRIPTOR = struct.Struct("<4s3L")
CENTRAL = struct.Struct("<4s6H3L5H2L")
END = struct.Struct("<4s4H2LH")
END_64 = struct.Struct("<4sQ2H2L4Q")
LOCATOR = struct.Struct("<4sLQL")

HAS_DESCRIPTOR, UTF8_NAMES = 1 << 3, 1 << 11
CHUNK = 1 << 24

AGAIN = "delete the file and fetch it again"


@dataclass(frozen=True)
class Record:
    """A record's content in the file."""

    name: str
    start: int
    size: int
    checksum: int

    @property
    def end(self) -> int:
        """The byte behind it."""
        return self.start + self.size


def load_torch_zip(mapped: mmap.mmap, *, check_sums: bool) -> Any:
    """What a file holds, its storages placed. Raises `CheckpointError`.

    check_sums: compare the records with their checksums, too, which takes 0.7 s for a gigabyte.
    """
    records = read_directory(mapped)
    (root,) = {name.partition("/")[0] for name in records}
    if f"{root}/data.pkl" not in records:
        raise CheckpointError(
            "expected a checkpoint, found a zip archive that is no torch file; pass the .pth file"
        )
    if check_sums:
        _require_sums(mapped, records)
    order = records.get(f"{root}/byteorder")
    if order is not None and mapped[order.start : order.end] != b"little":
        raise CheckpointError(
            "expected little-endian numbers, found others; load the file with torch.load, which "
            "converts them, and save its state_dict with torch.save"
        )
    data = records[f"{root}/data.pkl"]
    content, storages, end = load_pickle(mapped, data.start, data.end)
    if end != data.end:
        raise CheckpointError(
            f"expected one pickle in {printable(root)}/data.pkl, found more; {AGAIN}"
        )
    for key, storage in storages.items():
        record = records.get(f"{root}/data/{key}")
        found = "none" if record is None else f"{record.size}"
        if record is None or record.size != storage.size:
            raise CheckpointError(
                f"expected {storage.size} bytes of the storage {quoted(key)}, found {found}; "
                f"{AGAIN}"
            )
        storage.start = record.start
    return content


def read_directory(mapped: mmap.mmap) -> dict[str, Record]:
    """The records of a ZIP file by their names.

    Raises `CheckpointError` for a file that is laid out in another way than torch's.
    """
    count, start, size = _read_ends(mapped)
    records: dict[str, Record] = {}
    position, end, entry = 0, start, start
    shared = None
    for _ in range(count):
        if entry + CENTRAL.size > start + size:
            raise _damaged("a directory that ends too early")
        (
            signature, made_by, needed, flags, method, time, date, checksum, packed, length,
            name_size, extra_size, comment_size, disk, internal, external, offset,
        ) = CENTRAL.unpack_from(mapped, entry)  # fmt: skip
        if name_size > LONGEST_NAME:
            raise _damaged(f"a name of {name_size} bytes")
        raw_name = mapped[entry + CENTRAL.size : entry + CENTRAL.size + name_size]
        entry += CENTRAL.size + name_size
        if raw_name.partition(b"/")[2].startswith(b"code/"):
            raise CheckpointError(
                "expected a checkpoint, found a TorchScript archive; pass the checkpoint that it "
                "was made from"
            )
        if method:
            raise CheckpointError(
                "expected records as torch stores them, found compressed ones; unpack the archive "
                "and pack it without compression, or save the weights again with torch.save"
            )
        if flags & ~(HAS_DESCRIPTOR | UTF8_NAMES):
            raise _damaged(f"flags {flags:#x}")
        shared = shared or (made_by, external)
        odd = (extra_size, comment_size, disk, internal, packed - length)
        if signature != b"PK\x01\x02" or any(odd) or shared != (made_by, external):
            raise _damaged("a directory entry of another kind")
        if offset != position:
            raise _damaged("records with gaps between them")
        header = (needed, flags, method, time, date)
        record = _read_record(mapped, offset, end, header, (checksum, length), raw_name)
        if record.name in records:
            raise _damaged("two records of one name")
        records[record.name] = record
        position = record.start + length + (DESCRIPTOR.size if flags & HAS_DESCRIPTOR else 0)
    if position != start or entry != start + size:
        raise _damaged("bytes that belong to no record")
    if len({name.partition("/")[0] for name in records}) != 1:
        raise CheckpointError(
            "expected a checkpoint, found a zip archive that is no torch file; pass the .pth file"
        )
    return records


def _read_record(
    mapped: mmap.mmap,
    offset: int,
    end: int,
    expected: tuple[int, ...],
    contents: tuple[int, int],
    raw_name: bytes,
) -> Record:
    """A record that begins at an offset and has to end before another one.

    expected: version, flags, method, time and date; contents: checksum and size: as the directory
    has them.
    """
    if offset + LOCAL.size > end:
        raise _damaged("a record outside the file")
    signature, *found, checksum, packed, length, name_size, extra_size = LOCAL.unpack_from(
        mapped, offset
    )
    streamed = bool(expected[1] & HAS_DESCRIPTOR)
    announced = (0, 0, 0) if streamed else (contents[0], contents[1], contents[1])
    name_start = offset + LOCAL.size
    extra_start = name_start + name_size
    start = extra_start + extra_size
    behind = start + contents[1]
    if (
        signature != b"PK\x03\x04"
        or tuple(found) != expected
        or (checksum, packed, length) != announced
        or mapped[name_start:extra_start] != raw_name
        or not _is_padding(mapped[extra_start:start])
    ):
        raise _damaged("a record that the directory describes otherwise")
    if behind + streamed * DESCRIPTOR.size > end:
        raise _damaged("a record that is longer than the file")
    if streamed and DESCRIPTOR.unpack_from(mapped, behind) != (
        b"PK\x07\x08", contents[0], contents[1], contents[1],
    ):  # fmt: skip
        raise _damaged("a record that its descriptor contradicts")
    try:
        name = raw_name.decode("utf-8")
    except UnicodeDecodeError:
        raise _damaged("a name that is no text") from None
    return Record(name, start, contents[1], contents[0])


def _is_padding(extra: bytes) -> bool:
    """Torch aligns storages with a field named FB that is filled with the letter Z."""
    if not extra:
        return True
    return extra[:4] == b"FB" + struct.pack("<H", len(extra) - 4) and not extra[4:].strip(b"Z")


def _read_ends(mapped: mmap.mmap) -> tuple[int, int, int]:
    """Records, first byte and size of the directory, by the ends of the file that follow it."""
    at = len(mapped) - END.size
    if at < 0:
        raise _damaged("no directory")
    signature, disk, first_disk, here, count, size, start, comment = END.unpack_from(mapped, at)
    if signature != b"PK\x05\x06":
        raise _damaged("no directory at its end")
    if count > MOST_RECORDS:
        raise CheckpointError(
            f"expected at most {MOST_RECORDS} records, found {count}; keep only `meta` and "
            "`state_dict` in the file"
        )
    if disk or first_disk or comment or here != count or not count:
        raise _damaged("a directory of another kind")
    if mapped[at - LOCATOR.size : at - LOCATOR.size + 4] == b"PK\x06\x07":
        at -= LOCATOR.size + END_64.size
        # Both versions are what miniz, in torch, writes there.
        expected_end = (
            b"PK\x06\x06",
            END_64.size - 12,
            0x031E,
            45,
            0,
            0,
            count,
            count,
            size,
            start,
        )
        locator = LOCATOR.unpack_from(mapped, at + END_64.size) if at >= 0 else ()
        if locator != (b"PK\x06\x07", 0, at, 1) or END_64.unpack_from(mapped, at) != expected_end:
            raise _damaged("ends that contradict each other")
    if start + size != at:
        raise _damaged("a directory that does not reach to its end")
    return count, start, size


def _require_sums(mapped: mmap.mmap, records: dict[str, Record]) -> None:
    view = memoryview(mapped)
    for record in records.values():
        found = 0
        for start in range(record.start, record.end, CHUNK):
            found = zlib.crc32(view[start : min(start + CHUNK, record.end)], found)
        if found != record.checksum:
            raise _damaged(f"other bytes in {record.name} than its checksum says")


def _damaged(found: str) -> CheckpointError:
    return CheckpointError(
        f"expected a whole zip archive as torch writes it, found {printable(found)}: a damaged or "
        f"truncated file; {AGAIN}"
    )
