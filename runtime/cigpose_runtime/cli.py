"""The command `cigpose-runtime`."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from types import FrameType
from typing import NoReturn

from cigpose_runtime import __version__
from cigpose_runtime.errors import CigposeError, FileError, InputError
from cigpose_runtime.terminal import echo

PROGRAM = "cigpose-runtime"

COMMANDS = {
    "image": "cigpose_runtime.commands.image",
    "video": "cigpose_runtime.commands.video",
    "webcam": "cigpose_runtime.commands.webcam",
    "web": "cigpose_runtime.commands.web",
    "label": "cigpose_runtime.commands.label",
    "label-export": "cigpose_runtime.commands.label_export",
    "inspect": "cigpose_runtime.commands.inspect",
    "selftest": "cigpose_runtime.commands.selftest",
    "get": "cigpose_runtime.commands.get",
    "check": "cigpose_runtime.commands.check",
    "bench": "cigpose_runtime.commands.bench",
}
"""The module of each subcommand, whose `add_parser` says what it takes."""

# What a shell reports for a program that a signal ended is 128 + its number; of SIGPIPE, 13.
_ENDED = 128
_BROKEN_PIPE = 141


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line and returns its exit status: 0 done, 1 a check failed, 2 bad input.

    SIGTERM and SIGHUP, which schedulers and closed terminals send, end it as Ctrl-C does.
    """
    with _signals_as_ctrl_c() as received:
        try:
            return _run(argv)
        except KeyboardInterrupt:
            return _ENDED + (received or [signal.SIGINT])[0]


@contextmanager
def _signals_as_ctrl_c() -> Iterator[list[int]]:
    """Yields the numbers of those that came; one that is ignored, as by nohup, stays so."""
    received: list[int] = []

    def end(number: int, _frame: FrameType | None) -> None:
        received.append(number)
        raise KeyboardInterrupt

    before = {}
    if threading.current_thread() is threading.main_thread():  # no other may change them
        for name in ("SIGTERM", "SIGHUP"):
            number = getattr(signal, name, None)  # Windows has no SIGHUP
            if number is not None and signal.getsignal(number) is signal.SIG_DFL:
                before[number] = signal.signal(number, end)
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _run(argv: Sequence[str] | None) -> int:
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
