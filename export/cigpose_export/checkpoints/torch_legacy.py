"""Torch's legacy container: `torch.save(..., _use_new_zipfile_serialization=False)`.

MMPose's publishing script still writes it. Five pickles, one after the other: a magic number, the
version, facts of the machine, the content, the keys of the storages in the order in which they
follow; then each storage, its count of numbers before it (torch/serialization.py, `_legacy_save`).
"""

from __future__ import annotations

import mmap
import struct
from typing import Any

from cigpose_export.checkpoints.torch_pickle import load_pickle
from cigpose_export.errors import CheckpointError
from cigpose_runtime.errors import quoted

MAGIC = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."
"""The pickle of the magic number that torch begins the file with."""

VERSION = 1001
COUNT = struct.Struct("<q")

AGAIN = "delete the file and fetch it again"


def load_torch_legacy(mapped: mmap.mmap) -> Any:
    """What a file holds, its storages placed; raises `CheckpointError`.

    The container has no checksums: that a file is whole, not that it is undamaged, is what a
    successful load shows.
    """
    version, _, position = load_pickle(mapped, len(MAGIC), len(mapped))
    machine, _, position = load_pickle(mapped, position, len(mapped))
    if version != VERSION or not isinstance(machine, dict):
        raise CheckpointError(f"expected version {VERSION} of torch's legacy container; {AGAIN}")
    if machine.get("little_endian") is not True:
        raise CheckpointError(
            "expected little-endian numbers, found others; load the file with torch on the kind of "
            "machine that wrote it and save its state_dict() from there with torch.save"
        )
    content, storages, position = load_pickle(mapped, position, len(mapped))
    keys, _, position = load_pickle(mapped, position, len(mapped))
    named = isinstance(keys, list) and all(type(key) is str for key in keys)
    if not named or sorted(keys) != sorted(storages):
        raise CheckpointError(f"expected the storages that the tensors name, found others; {AGAIN}")
    for key in keys:
        storage = storages[key]
        header = mapped[position : position + COUNT.size]
        count = COUNT.unpack(header)[0] if len(header) == COUNT.size else "the end of the file"
        if count != storage.count:
            raise CheckpointError(
                f"expected {storage.count} numbers of the storage {quoted(key)}, found {count}: "
                f"a damaged or truncated file; {AGAIN}"
            )
        storage.start = position + COUNT.size
        position = storage.start + storage.size
    if position != len(mapped):
        raise CheckpointError(
            f"expected {position} bytes, found {len(mapped)}: a damaged or truncated file; {AGAIN}"
        )
    return content
