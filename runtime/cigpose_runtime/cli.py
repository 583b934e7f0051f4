"""The command `cigpose-runtime`."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import NoReturn

from cigpose_runtime import __version__
from cigpose_runtime.errors import CigposeError, FileError, InputError
from cigpose_runtime.terminal import echo

PROGRAM = "cigpose-runtime"

COMMANDS = {
    "image": "cigpose_runtime.commands.image",
    "video": "cigpose_runtime.commands.video",
    "webcam": "cigpose_runtime.commands.webcam",
    "label": "cigpose_runtime.commands.label",
    "label-export": "cigpose_runtime.commands.label_export",
    "inspect": "cigpose_runtime.commands.inspect",
    "selftest": "cigpose_runtime.commands.selftest",
    "get": "cigpose_runtime.commands.get",
    "check": "cigpose_runtime.commands.check",
    "bench": "cigpose_runtime.commands.bench",
}
"""The module of each subcommand, whose `add_parser` says what it takes."""

# What a shell reports for a program that the signal ended: 128 + SIGINT, 128 + SIGPIPE.
_INTERRUPTED = 130
_BROKEN_PIPE = 141


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line and returns its exit status: 0 done, 1 a check failed, 2 bad input."""
    try:
        arguments = sys.argv[1:] if argv is None else argv
        args = _parser(arguments).parse_args(arguments)
        try:
            errors: list[CigposeError] = args.run(args)
        except CigposeError as stopped:
            errors = [stopped]
        except MemoryError:
            errors = [InputError("expected more memory than there is; give smaller inputs")]
        except BrokenPipeError:
            raise
        except OSError as stopped:
            errors = [_no_room(stopped)]
        sys.stdout.flush()
    except KeyboardInterrupt:
        return _INTERRUPTED
    except BrokenPipeError:
        _discard_stdout()
        return _BROKEN_PIPE
    except OSError as stopped:
        _discard_stdout()
        errors = [_no_room(stopped)]
    for error in errors:
        echo(f"{PROGRAM}: error: {error}", err=True)
    return max((error.exit_status for error in errors), default=0)


def _no_room(error: OSError) -> FileError:
    return FileError(f"{error}; make room or correct the permissions, then run it again")


def _discard_stdout() -> None:
    """The interpreter flushes stdout once more as it exits; gives it somewhere to go."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


class _Parser(argparse.ArgumentParser):
    """One whose messages are safe to show: the arguments may be names of a stranger's files."""

    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        echo(f"{self.prog}: error: {message}", err=True)
        sys.exit(2)


def _parser(arguments: Sequence[str]) -> argparse.ArgumentParser:
    """Each subcommand adds its own parser, whose `run` takes the arguments.

    It returns the errors that did not keep it from going on with the next file. Only the module
    of the command that is asked for is imported: `inspect` does not wait for numpy.
    """
    parser = _Parser(
        prog=PROGRAM, description="Runs and inspects CIGPose pose estimators in ONNX files."
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    asked_for = [COMMANDS[name] for name in arguments[:1] if name in COMMANDS]
    for module in asked_for or COMMANDS.values():
        import_module(module).add_parser(commands)
    return parser


if __name__ == "__main__":
    sys.exit(main())
