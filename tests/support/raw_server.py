"""A server on loopback that answers with any bytes at all, HTTP or not."""

import socketserver
from contextlib import contextmanager

from loopback import serving

UNTIL_THE_CLIENT_LEAVES = None
"""A portion of an answer for which nothing is sent."""


class _Handler(socketserver.StreamRequestHandler):
    def handle(self):
        try:
            path = self.rfile.readline().split()[1].decode()
            while self.rfile.readline().strip():
                pass
            for portion in self.server.answer(path):
                if portion is UNTIL_THE_CLIENT_LEAVES:
                    self.rfile.read()
                else:
                    self.wfile.write(portion)
        except (OSError, IndexError):
            pass  # the client has had enough


@contextmanager
def answering(answer):
    """Serves; answer: gives the portions of bytes to send for a path."""
    with serving(_Handler) as server:
        server.answer = answer
        yield server


def ok(content, *headers):
    """The portions of an ordinary answer."""
    return [response(200, *headers, f"Content-Length: {len(content)}"), content]


def response(status, *headers):
    """Status line and headers."""
    return "\r\n".join([f"HTTP/1.1 {status} Said", *headers, "", ""]).encode("latin-1")
