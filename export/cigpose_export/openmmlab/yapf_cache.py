"""Keeps processes that start at once from tripping over yapf's cache."""

from __future__ import annotations

import importlib
import importlib.util
from pathlib import Path

from cigpose_runtime.files import locked


def import_yapf_alone() -> None:
    """Imports yapf, which MMEngine does, in one process at a time.

    The first import on a machine writes a cache of yapf's grammar in place, and another process
    that reads half of it fails.
    """
    spec = importlib.util.find_spec("yapf")
    if spec is not None and spec.origin is not None:
        with locked(Path(spec.origin)):
            importlib.import_module("yapf.yapflib.yapf_api")
