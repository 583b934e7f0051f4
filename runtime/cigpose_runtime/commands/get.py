"""`cigpose-runtime get`: fetches a published model, with its golden vectors."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from cigpose_runtime.commands.public_key import add_public_key
from cigpose_runtime.errors import CigposeError, InputError, printable
from cigpose_runtime.releases.download import fetch_model
from cigpose_runtime.releases.source import Source
from cigpose_runtime.terminal import echo

_FROM = "CIGPOSE_FROM"


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds the subcommand to those of `cigpose-runtime`."""
    parser = commands.add_parser(
        "get",
        help="fetch a published model, checked against its release's manifest",
        description="Fetches models and their golden vectors. What was fetched once is taken from "
        "the cache, without a network; an interrupted download goes on where it stopped.",
    )
    parser.add_argument("names", nargs="+", metavar="NAME", help="model, as the release names it")
    parser.add_argument(
        "--from",
        dest="source",
        metavar="RELEASE",
        default=os.environ.get(_FROM),
        help=f"github:OWNER/REPO@TAG, hf:ORG/REPO, a URL or a folder  [default: ${_FROM}]",
    )
    parser.add_argument(
        "--out", type=Path, default=Path(), metavar="DIR", help="[default: this folder]"
    )
    add_public_key(parser)
    parser.add_argument(
        "--allow-older",
        action="store_true",
        help="fetch an older version of the release than was fetched before",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> list[CigposeError]:
    """Fetches each; returns the errors of those that failed."""
    if not args.source:
        raise InputError(
            f"expected where the models are published, in --from or ${_FROM}, found neither; "
            "as in --from github:OWNER/REPO@TAG"
        )
    source, errors = Source.of(args.source), []
    for name in args.names:
        try:
            path = fetch_model(
                name,
                source,
                args.out,
                public_key=args.public_key,
                allow_older=args.allow_older,
                on_bytes=_show,
                say=_say,
            )
        except CigposeError as error:
            errors.append(error)
            continue
        echo(str(path))
    return errors


def _show(path: str, done: int, total: int) -> None:
    if sys.stderr.isatty():
        end = "\n" if done >= total else ""
        line = printable(f"{path}: {done / 1e6:.1f} of {total / 1e6:.1f} MB")
        sys.stderr.write(f"\r\x1b[K{line}{end}")


def _say(message: str) -> None:
    echo(message, err=True)
