"""The option of commands that verify the signature of a release."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

PUBLIC_KEY = "CIGPOSE_PUBLIC_KEY"


def add_public_key(parser: argparse.ArgumentParser) -> None:
    """Adds `--public-key` to a subcommand: a path, or None."""
    path = os.environ.get(PUBLIC_KEY)
    parser.add_argument(
        "--public-key",
        type=Path,
        metavar="FILE",
        default=Path(path) if path else None,
        help=f"verify the signature by this key (PEM)  [default: ${PUBLIC_KEY}]",
    )
