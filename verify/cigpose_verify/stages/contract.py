"""Do the metadata of a file match its config and its checkpoint?"""

from __future__ import annotations

from dataclasses import fields

from cigpose_runtime import Contract
from cigpose_runtime.errors import quoted

FREE_FIELDS = frozenset({"tools", "source_checkpoint"})
"""The versions of the tools that made a file need not be those that judge it, and the checkpoint
may have another file name: of that, the hash is compared."""


def check_contract(found: Contract, expected: Contract) -> list[str]:
    """The fields in which a file's contract is not the expected one, one problem each."""
    pairs = {
        field.name: (getattr(found, field.name), getattr(expected, field.name))
        for field in fields(Contract)
        if field.name not in FREE_FIELDS
    }
    sources = found.source_checkpoint, expected.source_checkpoint
    hashes = tuple(source.sha256 if source else None for source in sources)
    pairs["source_checkpoint.sha256"] = (hashes[0], hashes[1])
    return [
        f"{name}: expected {quoted(wanted)}, found {quoted(there)}"
        for name, (there, wanted) in pairs.items()
        if there != wanted
    ]


def interface_problems(found: Contract, expected: Contract) -> list[str]:
    """What keeps outputs from being compared at all; the contract has been held to the graph."""
    fields = ("num_keypoints", "input_w", "input_h", "split_ratio")
    return [
        f"{field}: expected outputs for {wanted}, found them for {there}"
        for field in fields
        if (wanted := getattr(expected, field)) != (there := getattr(found, field))
    ]
