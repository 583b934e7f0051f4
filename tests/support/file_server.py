"""A web server on loopback with one file, which it hands out in parts, or breaks off."""

from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler

from loopback import serving


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        server = self.server
        server.asked.append((self.path, self.headers.get("Range"), self.headers["Authorization"]))
        content, start = server.content, 0
        if self.path == "/gone":
            self.send_error(404)
            return
        if "Range" in self.headers and server.takes_ranges:
            start = int(self.headers["Range"].removeprefix("bytes=").rstrip("-"))
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        else:
            self.send_response(200)
        if server.has_length:
            self.send_header("Content-Length", str(len(content) - start))
        self.send_header("Content-Type", server.kind)
        self.end_headers()
        most = server.portions.pop(0) if server.portions else len(content)
        with suppress(OSError):  # the client has moved on
            self.wfile.write(content[start : start + most])

    def log_message(self, *_args):
        pass


@contextmanager
def serving_file(
    content, *, portions=(), takes_ranges=True, has_length=True, kind="application/octet-stream"
):
    """Serves these bytes under any path but /gone; yields the server, with `url` and `asked`.

    portions: how many bytes of them the first answers have, though they announce all.
    """
    with serving(_Handler) as server:
        server.content, server.portions, server.kind = content, list(portions), kind
        server.takes_ranges, server.has_length, server.asked = takes_ranges, has_length, []
        yield server
