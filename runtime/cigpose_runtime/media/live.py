"""Shows pictures as they come: in a window, or on a page of this machine with a secret address."""

from __future__ import annotations

import io
import secrets
import threading
from types import TracebackType

import numpy as np

from cigpose_runtime.arrays import Pixels
from cigpose_runtime.errors import InputError
from cigpose_runtime.loopback import LoopbackHandler, LoopbackServer

JPEG_QUALITY = 80

PAGE = b"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>cigpose-runtime</title>
<link rel="icon" href="data:,">
<style>body { margin: 0; background: #111; height: 100vh; display: grid; place-items: center }
img { max-width: 100vw; max-height: 100vh }</style></head>
<body><img src="stream" alt="the annotated camera"></body></html>
"""

HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; img-src 'self' data:; "
    "style-src 'unsafe-inline'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
}
"""Of every answer: no other page may show it, keep it, or learn its address."""

_BOUNDARY = b"frame"


class Page:
    """A page on localhost with the pictures that `show` is given; used as a context.

    Only who knows `url` sees it, not every user of this machine, nor another site in the browser.
    port: 0 takes a free one, `url` says which. Raises InputError when the port is taken.
    """

    def __init__(self, port: int) -> None:
        self._picture = b""
        self._number = 0
        self._changed = threading.Condition()
        self._open = True
        self._server = LoopbackServer(port, self._handler(), "--serve")
        self._path = f"/{secrets.token_urlsafe(16)}/"
        self.url = f"http://127.0.0.1:{self._server.server_port}{self._path}"

    def show(self, pixels: Pixels) -> bool:
        """Shows the next picture, (H, W, 3) uint8 BGR; returns whether to go on."""
        from PIL import Image

        file = io.BytesIO()
        Image.fromarray(np.ascontiguousarray(pixels[:, :, ::-1])).save(
            file, "JPEG", quality=JPEG_QUALITY
        )
        with self._changed:
            self._picture, self._number = file.getvalue(), self._number + 1
            self._changed.notify_all()
        return True

    def _next(self, seen: int) -> tuple[bytes, int]:
        """The first picture after the one of this number; empty when there is none any more."""
        with self._changed:
            self._changed.wait_for(lambda: self._number > seen or not self._open)
            return (self._picture, self._number) if self._open else (b"", seen)

    def _is(self, path: str, name: str = "") -> bool:
        return secrets.compare_digest(path.encode(), f"{self._path}{name}".encode())

    def _handler(self) -> type[LoopbackHandler]:
        page = self

        class Handler(LoopbackHandler):
            of_every_answer = HEADERS

            def do_GET(self) -> None:  # noqa: N802 - http.server asks for this name
                if self.refuses_host():
                    return
                if page._is(self.path):
                    self.say(200, "text/html; charset=utf-8", PAGE)
                elif page._is(self.path, "stream"):
                    self._stream()
                else:
                    self.say_not_found()

            def _stream(self) -> None:
                self.begin(200, f"multipart/x-mixed-replace; boundary={_BOUNDARY.decode()}")
                number = 0
                while True:
                    picture, number = page._next(number)
                    if not picture:
                        return
                    head = b"--%s\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n"
                    self.wfile.write(head % (_BOUNDARY, len(picture)) + picture + b"\r\n")

        return Handler

    def __enter__(self) -> Page:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with self._changed:
            self._open = False
            self._changed.notify_all()
        self._server.shutdown()
        self._server.server_close()


class Window:
    """A window with the pictures that `show` is given, until it is closed.

    Raises InputError where there is no display, or no Tk.
    """

    def __init__(self) -> None:
        try:
            import tkinter

            self._root = tkinter.Tk()
        except Exception as error:
            raise InputError(
                f"expected a display for a window, found none ({error}); pass --serve and open the "
                "page in a browser"
            ) from error
        self._root.title("cigpose-runtime")
        self._label = tkinter.Label(self._root)
        self._label.pack()
        self._is_open = True
        self._root.protocol("WM_DELETE_WINDOW", self._close)
        self._root.bind("<Escape>", lambda _event: self._close())

    def show(self, pixels: Pixels) -> bool:
        """Shows the next picture, (H, W, 3) uint8 BGR; returns whether to go on."""
        from PIL import Image, ImageTk

        if self._is_open:
            picture = ImageTk.PhotoImage(Image.fromarray(np.ascontiguousarray(pixels[:, :, ::-1])))
            self._label.configure(image=picture)
            self._label.image = picture  # type: ignore[attr-defined]  # Tk keeps no reference
            self._root.update()
        return self._is_open

    def _close(self) -> None:
        self._is_open = False

    def __enter__(self) -> Window:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._root.destroy()
