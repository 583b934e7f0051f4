"""A server on this machine alone, for a page: who connects, and which names lead to it."""

from __future__ import annotations

import sys
import threading
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar

from cigpose_runtime.errors import InputError

PATIENCE_S = 10.0
"""For a client that neither asks nor takes what it asked for."""


class LoopbackServer(ThreadingHTTPServer):
    """Serves `most_clients` at once on 127.0.0.1, each in a thread, and refuses more.

    port: 0 takes a free one, `server_port` says which. option: how the command line names it, for
    the message. Raises InputError when the port is taken.
    """

    most_clients = 8

    def __init__(self, port: int, handler: type[BaseHTTPRequestHandler], option: str) -> None:
        self._free = threading.Semaphore(self.most_clients)
        try:
            super().__init__(("127.0.0.1", port), handler)
        except OSError as error:
            raise InputError(
                f"{option} {port}: expected a free port, found: {error.strerror}; give another"
            ) from error

    def is_host(self, name: str | None) -> bool:
        """Whether a request's Host is this machine, and no other name that leads here."""
        return name in {f"{host}:{self.server_port}" for host in ("127.0.0.1", "localhost")}

    def verify_request(self, request: Any, client_address: Any) -> bool:
        return self._free.acquire(blocking=False)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exception(), OSError):  # which says that the client has left
            super().handle_error(request, client_address)


class LoopbackHandler(BaseHTTPRequestHandler):
    """Answers a request of one's own browser, who waits; says nothing on the terminal."""

    server: LoopbackServer
    timeout = PATIENCE_S

    of_every_answer: ClassVar[Mapping[str, str]] = {}
    """Headers."""

    def refuses_host(self) -> bool:
        """Whether the request was for another name that leads here; such a one is answered."""
        if self.server.is_host(self.headers.get("Host")):
            return False
        self.say(421, "text/plain", b"this is no host of that name\n")
        return True

    def say_not_found(self) -> None:
        """To who does not know the address."""
        self.say(404, "text/plain", b"the address is what the command says\n")

    def say(self, status: int, kind: str, content: bytes) -> None:
        """A whole answer. kind: its media type."""
        self.begin(status, kind, len(content))
        self.wfile.write(content)

    def begin(self, status: int, kind: str, size: int | None = None) -> None:
        """An answer of this many bytes, None for one without an end."""
        self.send_response(status)
        self.send_header("Content-Type", kind)
        if size is not None:
            self.send_header("Content-Length", str(size))
        self.end_headers()

    def end_headers(self) -> None:
        for name, value in self.of_every_answer.items():
            self.send_header(name, value)
        super().end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: requests of one's own browser are no news."""
