"""`cigpose-runtime check`: is a release whole, unaltered, and does each model work here?"""

from __future__ import annotations

import argparse
from pathlib import Path

from cigpose_runtime.errors import CigposeError
from cigpose_runtime.releases.check import check_release
from cigpose_runtime.releases.manifest import SIGNATURE
from cigpose_runtime.terminal import echo


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds the subcommand to those of `cigpose-runtime`."""
    parser = commands.add_parser(
        "check",
        help="check a release: nothing missing, altered or added, and each model works",
        description="Checks a released folder or ZIP archive against its manifest, and replays the "
        "golden vectors of each model.",
    )
    parser.add_argument("release", type=Path, metavar="DIR|ZIP")
    parser.add_argument(
        "--public-key", type=Path, metavar="FILE", help="verify the signature by this key (PEM)"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> list[CigposeError]:
    """Checks and says what was found."""
    manifest, errors = check_release(args.release, args.public_key, say=echo)
    if not errors:
        kind = "rehearsal" if manifest.rehearsal else "release"
        by = ", signed by the owner of the key" if args.public_key else ""
        echo(
            f"{args.release}: {kind} of version {manifest.version}, {len(manifest.files)} files "
            f"unaltered, {len(manifest.models)} models pass their selftest{by}"
        )
        if not args.public_key and args.release.is_dir() and (args.release / SIGNATURE).exists():
            echo("its signature was not looked at: --public-key FILE does")
    return errors
