"""Does a file say of itself what its config and its checkpoint say?"""

from __future__ import annotations

from dataclasses import fields

from cigpose_runtime import Contract
from cigpose_runtime.errors import quoted

FREE_FIELDS = frozenset({"tools"})
"""The versions of the tools that made a file need not be those that judge it."""


def check_contract(found: Contract, expected: Contract) -> list[str]:
    """The fields in which a file's contract is not the expected one, one problem each."""
    return [
        f"{field.name}: expected {quoted(wanted)}, found {quoted(there)}"
        for field in fields(Contract)
        if field.name not in FREE_FIELDS
        and (wanted := getattr(expected, field.name)) != (there := getattr(found, field.name))
    ]
