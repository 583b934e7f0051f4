"""`cigpose-runtime check`: is a release whole, unaltered, and does each model work here?"""

from __future__ import annotations

import argparse
from pathlib import Path

from cigpose_runtime.commands.public_key import PUBLIC_KEY, add_public_key
from cigpose_runtime.errors import CigposeError, InputError
from cigpose_runtime.releases.check import check_release
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
        "--require-signature",
        action="store_true",
        help="fail unless a signature was verified",
    )
    add_public_key(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> list[CigposeError]:
    """Checks and says what was found."""
    if args.require_signature and not args.public_key:
        raise InputError(
            "--require-signature: expected a public key to verify a signature by, found none; give "
            f"the publisher's with --public-key FILE, or in {PUBLIC_KEY}"
        )
    manifest, errors = check_release(args.release, args.public_key, say=echo)
    if not errors:
        kind = "rehearsal" if manifest.rehearsal else "release"
        echo(
            f"{args.release}: {kind} of version {manifest.version}, {len(manifest.files)} files "
            f"unaltered, {len(manifest.models)} models pass their selftest"
        )
    return errors
