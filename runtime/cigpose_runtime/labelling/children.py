"""Processes that answer requests; that one crashes or hangs is an error here and nothing more."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import pickle
import signal
import threading
import weakref
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from typing import Any

from cigpose_runtime.errors import CigposeError, first_line

Answer = Callable[[Any], Iterator[Any]]

_SPAWN = multiprocessing.get_context("spawn")
_ITEM, _END, _FAILED = range(3)


class ChildError(CigposeError):
    """A process that died, or did not answer in time, before it had answered a request."""

    exit_status = 1


class Child:
    """A process in which `make` is called, once, and what that returns for every request.

    make: importable by its name, as pickle wants it; returns a function that takes a request and
    yields replies. The process is started by the first request and started again by the first one
    after its death. It ends with this one, whatever ends this one; Ctrl-C does not reach it.
    """

    def __init__(self, make: Callable[[], Answer]) -> None:
        self._make = make
        self._process: Any = None
        self._line: Any = None
        self._close: weakref.finalize[Any, Any] | None = None
        self._killed = False

    def replies(self, request: Any, *, patience: float | None = None) -> Iterator[Any]:
        """What it yields for a request. patience: seconds to wait for each reply.

        Raises the CigposeError that it raises, and ChildError for whatever else ends it. Leaving
        before the last reply ends the process.
        """
        answered = False
        try:
            if self._process is None:
                self._start()
            _send(self._line, request)
            while True:
                if not self._line.poll(patience):
                    raise ChildError(f"found no answer within {patience:g} s")
                kind, value = _receive(self._line)
                if kind == _ITEM:
                    yield value
                    continue
                answered = True
                if kind == _FAILED:
                    raise value
                return
        except (EOFError, OSError) as error:
            raise ChildError(f"found that its process died ({self._epitaph()})") from error
        finally:
            if not answered:
                self.close()

    def close(self) -> None:
        """Ends the process; a request after that starts another one."""
        self._process = None
        if self._close is not None:
            self._close()

    def kill(self) -> None:
        """Ends the process for good, also while another thread waits for its replies."""
        self._killed = True
        process = self._process
        if process is not None:
            with contextlib.suppress(ValueError):  # that thread has just closed it
                process.kill()

    def _start(self) -> None:
        if self._killed:
            raise ChildError("found that it was ended")
        self._line, there = _SPAWN.Pipe()
        self._process = _SPAWN.Process(target=_serve, args=(self._make, there))
        with _without_ctrl_c(), there:
            self._process.start()
        # Also when nobody closes it: at its end Python waits for processes that are left.
        self._close = weakref.finalize(self, _end, self._process, self._line)
        self._line.recv()  # it has imported what it needs, so that patience is for its work

    def _epitaph(self) -> str:
        self._process.join()
        status: int = self._process.exitcode
        return f"signal {-status}" if status < 0 else f"exit status {status}"


def _serve(make: Callable[[], Answer], line: Connection) -> None:
    threading.Thread(target=_end_with_parent, daemon=True).start()
    answer: Answer | None = None
    line.send(None)
    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):
        while True:
            request = _receive(line)
            try:
                answer = answer or make()
                for reply in answer(request):
                    _send(line, (_ITEM, reply))
                end: tuple[int, Any] = _END, None
            except CigposeError as error:
                end = _FAILED, error
            except (BrokenPipeError, ConnectionResetError):
                break
            except Exception as error:  # noqa: BLE001 - handed to the process that asks
                said = f"found {type(error).__name__}: {first_line(error)}"
                end = _FAILED, ChildError(said)
            _send(line, end)
    os._exit(1)  # nobody asks any more; processes of its own see it go


def _end(process: Any, line: Connection) -> None:
    process.kill()
    process.join()
    process.close()
    line.close()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _send(line: Any, message: Any) -> None:
    """Arrays go as they lie in memory, without a copy among the pickled rest."""
    buffers: list[pickle.PickleBuffer] = []
    pickled = pickle.dumps(message, protocol=5, buffer_callback=buffers.append)
    line.send((pickled, len(buffers)))
    for buffer in buffers:
        line.send_bytes(buffer.raw())


def _receive(line: Any) -> Any:
    pickled, count = line.recv()
    return pickle.loads(pickled, buffers=[line.recv_bytes() for _ in range(count)])


@contextlib.contextmanager
def _without_ctrl_c() -> Iterator[None]:
    """Processes that start meanwhile never see SIGINT: who asks them decides what follows."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
