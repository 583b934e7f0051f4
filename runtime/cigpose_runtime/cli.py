"""The command `cigpose-runtime`."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from cigpose_runtime import __version__, bench, inspect, selftest
from cigpose_runtime.commands import image, video, webcam
from cigpose_runtime.errors import CigposeError, printable

PROGRAM = "cigpose-runtime"

# What a shell reports for a program that the signal ended: 128 + SIGINT, 128 + SIGPIPE.
_INTERRUPTED = 130
_BROKEN_PIPE = 141


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line and returns its exit status: 0 done, 1 a check failed, 2 bad input."""
    try:
        args = _parser().parse_args(argv)
        try:
            errors: list[CigposeError] = args.run(args)
        except CigposeError as stopped:
            errors = [stopped]
        sys.stdout.flush()
    except KeyboardInterrupt:
        return _INTERRUPTED
    except BrokenPipeError:
        # The interpreter flushes stdout once more as it exits; give it somewhere to go.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _BROKEN_PIPE
    for error in errors:
        sys.stderr.write(f"{PROGRAM}: error: {printable(str(error))}\n")
    return max((error.exit_status for error in errors), default=0)


def _parser() -> argparse.ArgumentParser:
    """Each subcommand adds its own parser, whose `run` takes the arguments.

    It returns the errors that did not keep it from going on with the next file.
    """
    parser = argparse.ArgumentParser(
        prog=PROGRAM, description="Runs and inspects CIGPose pose estimators in ONNX files."
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    image.add_parser(commands)
    video.add_parser(commands)
    webcam.add_parser(commands)
    inspect.add_parser(commands)
    selftest.add_parser(commands)
    bench.add_parser(commands)
    return parser


if __name__ == "__main__":
    sys.exit(main())
