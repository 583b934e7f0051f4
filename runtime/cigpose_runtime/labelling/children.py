"""Processes that answer requests; that one crashes or hangs is an error here and nothing more.

multiprocessing would import the main module again in each of them, which only works for scripts
that are written for it; these start from nothing, wherever they are asked for.
"""

from __future__ import annotations

import contextlib
import math
import os
import pickle
import queue
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

from cigpose_runtime.errors import CigposeError, InstallError, first_line

Answer = Callable[[Any], Iterator[Any]]

_ITEM, _END, _FAILED = range(3)

_COMMAND = "from cigpose_runtime.labelling.children import serve; serve()"

TRIES = 3
"""Of a request whose process dies: memory that another program took may be there the next time."""


class ChildError(CigposeError):
    """A process that died in each try, or did not answer in time, or failed, at a request."""

    exit_status = 1


class _DiedError(Exception):
    """The process is gone, by a signal or with an exit status."""


class Child:
    """A process in which `make` is called, once, and what that returns for every request.

    make: importable by its name, as pickle wants it; returns a function that takes a request and
    yields replies. The process is started by the first request and started again by the first one
    after its death. It ends with this one, whatever ends this one; Ctrl-C does not reach it.
    """

    def __init__(self, make: Callable[[], Answer]) -> None:
        self._make = make
        self._process: subprocess.Popen[bytes] | None = None
        self._killed = False
        self._watch = _Watch()

    def replies(
        self, request: Any, *, patience: float | None = None, tries: int = TRIES
    ) -> Iterator[Any]:
        """What it yields for a request. patience: seconds to wait for each reply.

        A request whose process dies is made again, and must get the same replies: those that were
        given are left out. Raises the CigposeError that it raises, and ChildError for whatever else
        ends it. Leaving before the last reply ends the process.
        """
        given = 0
        for tried in range(1, tries + 1):
            try:
                for number, reply in enumerate(self._replies(request, patience)):
                    if number == given:
                        given += 1
                        yield reply
            except _DiedError as died:
                if self._killed or tried == tries:
                    each = f" in each of {tried} tries" if tried > 1 else ""
                    said = f"found that its process died ({died}){each}"
                    raise ChildError(said) from died
            else:
                return

    def _replies(self, request: Any, patience: float | None) -> Iterator[Any]:
        process = self._process or self._started()
        assert process.stdin is not None
        assert process.stdout is not None
        answered = False
        try:
            _send(process.stdin, request)
            while True:
                with self._watch.over(process, patience):
                    kind, value = _receive(process.stdout)
                if kind == _ITEM:
                    yield value
                    continue
                answered = True
                if kind == _FAILED:
                    raise value
                return
        except (EOFError, OSError) as error:
            raise _DiedError(_epitaph(process)) from error
        finally:
            if not answered:
                self.close()

    def close(self) -> None:
        """Ends the process; a request after that starts another one."""
        process, self._process = self._process, None
        self._watch.stop()
        if process is not None:
            process.kill()
            with contextlib.suppress(OSError), process:  # closes its pipes
                pass

    def kill(self) -> None:
        """Ends the process for good, also while another thread waits for its replies."""
        self._killed = True
        process = self._process
        if process is not None:
            process.kill()

    def _started(self) -> subprocess.Popen[bytes]:
        if self._killed:
            raise _DiedError("ended")
        try:
            process = self._process = subprocess.Popen(
                [sys.executable, "-P", "-c", _COMMAND],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
                start_new_session=True,  # Ctrl-C reaches this process alone, which then decides
            )
        except OSError as error:
            raise _no_process(error.strerror) from error
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            _send(process.stdin, self._make)
            _receive(process.stdout)  # it has imported what it needs: patience is for its work
        except (EOFError, OSError) as error:
            said = _epitaph(process)
            self.close()
            if self._killed:
                raise _DiedError(said) from error
            raise _no_process(said) from error
        if self._killed:  # before it was known here
            process.kill()
        return process


def _no_process(said: str | None) -> InstallError:
    return InstallError(
        f"expected that {sys.executable} starts as another process, found: {said}; correct what "
        "keeps it from starting"
    )


def serve() -> None:
    """What the process runs: answers what comes through stdin until its other end is gone."""
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what libraries print is no reply
    requests: queue.SimpleQueue[Any] = queue.SimpleQueue()
    threading.Thread(target=_read_requests, args=(requests,), daemon=True).start()
    make, answer = requests.get(), None
    try:
        _send(replies, None)
        while True:
            request = requests.get()
            try:
                answer = answer or make()
                for reply in answer(request):
                    _send(replies, (_ITEM, reply))
                end: tuple[int, Any] = _END, None
            except CigposeError as error:
                end = _FAILED, error
            except BrokenPipeError:
                raise
            except Exception as error:  # noqa: BLE001 - handed to the process that asks
                end = _FAILED, ChildError(f"found {type(error).__name__}: {first_line(error)}")
            _send(replies, end)
    except BrokenPipeError:
        os._exit(1)


def _read_requests(requests: queue.SimpleQueue[Any]) -> None:
    try:
        while True:
            requests.put(_receive(sys.stdin.buffer))
    except EOFError:
        pass
    except Exception as error:  # noqa: BLE001 - a request that this Python cannot make sense of
        sys.stderr.write(f"{type(error).__name__}: {first_line(error)}\n")
        sys.stderr.flush()
    os._exit(1)  # whoever asks is gone, whatever the other threads are at


class _Watch:
    """Ends a process that does not reply in time.

    One timer goes on from reply to reply: to start a thread for each takes half a millisecond of
    CPU while other threads work, as long as receiving a picture.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._awaited: _Awaited | None = None
        self._looks_at = math.inf
        self._timer: threading.Timer | None = None

    def stop(self) -> None:
        """Ends the timer; the next reply that is waited for starts another one."""
        with self._lock:
            self._looks_at = math.inf
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None

    @contextlib.contextmanager
    def over(self, process: subprocess.Popen[bytes], patience: float | None) -> Iterator[None]:
        """Raises ChildError for an end of its output because it was late."""
        if patience is None:
            yield
            return
        awaited = _Awaited(process, time.monotonic() + patience)
        with self._lock:
            self._awaited = awaited
            if awaited.deadline < self._looks_at:
                self._look_at(awaited.deadline)
        try:
            yield
        except EOFError as error:
            if awaited.was_late:
                raise ChildError(f"found no answer within {patience:g} s") from error
            raise
        finally:
            with self._lock:
                self._awaited = None

    def _look_at(self, when: float) -> None:
        self._looks_at = when
        if self._timer is not None:
            self._timer.cancel()
        self._timer = threading.Timer(max(0.0, when - time.monotonic()), self._look, [when])
        self._timer.daemon = True
        self._timer.start()

    def _look(self, when: float) -> None:
        with self._lock:
            if when != self._looks_at:  # an earlier one took its place
                return
            self._looks_at = math.inf
            if self._awaited is None:
                return
            if time.monotonic() < self._awaited.deadline:
                self._look_at(self._awaited.deadline)
                return
            self._awaited.was_late = True
            self._awaited.process.kill()


@dataclass
class _Awaited:
    """A reply that a process owes."""

    process: subprocess.Popen[bytes]
    deadline: float
    was_late: bool = False


def _epitaph(process: subprocess.Popen[bytes]) -> str:
    status = process.wait()
    return f"signal {-status}" if status < 0 else f"exit status {status}"


def _send(file: BinaryIO | Any, message: Any) -> None:
    """Arrays go as they lie in memory, without a copy among the pickled rest."""
    buffers: list[pickle.PickleBuffer] = []
    parts = [pickle.dumps(message, protocol=5, buffer_callback=buffers.append)]
    parts += [buffer.raw() for buffer in buffers]  # type: ignore[misc]
    file.write(struct.pack(f"<{1 + len(parts)}Q", len(parts), *map(len, parts)))
    for part in parts:
        file.write(part)
    file.flush()


def _receive(file: BinaryIO | Any) -> Any:
    (count,) = struct.unpack("<Q", _exactly(file, 8))
    sizes = struct.unpack(f"<{count}Q", _exactly(file, 8 * count))
    pickled, *buffers = [_exactly(file, size) for size in sizes]
    return pickle.loads(pickled, buffers=buffers)


def _exactly(file: BinaryIO | Any, size: int) -> bytes:
    content: bytes = file.read(size)
    if len(content) < size:
        raise EOFError
    return content
