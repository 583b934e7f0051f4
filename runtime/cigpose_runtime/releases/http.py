"""HTTP with a stranger: bounded in time and size, and never down from https.

urllib brings proxies and certificates; redirects and statuses are dealt with here. A server that
is slow on purpose is left as one that is silent, and its answer may be no longer than the release
says.
"""

from __future__ import annotations

import http.client
import io
import re
import socket
import string
import time
import urllib.request
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from typing import Any
from urllib.parse import quote, unquote, urljoin, urlsplit

from cigpose_runtime.errors import CheckError, CigposeError, DownloadError, first_line

TIMEOUT_S = 30.0
"""How long a server may be slower than LEAST_RATE; its status and headers have to be there by then.
"""

LEAST_RATE = 1 << 13
"""Bytes in a second: 8 hours for the largest model."""

MOST_REDIRECTS = 5
"""GitHub takes one, Hugging Face two."""

_HEADER_BYTES = 1 << 18
_CHUNK_BYTES = 1 << 16
_REDIRECTS = (301, 302, 303, 307, 308)
_SECRETS = re.compile(r"(?<=//)[^/\s:]*(?::\S*)?@|(?<=\?)[^\s'\"]+")


class GoneError(DownloadError):
    """A file that the server says is not there: no try will bring it."""


def masked(text: object) -> str:
    """`text` for a message, without the user names, passwords and queries of the URLs in it."""
    return _SECRETS.sub("…", str(text))


@contextmanager
def open_http(url: str, most: int, start: int = 0) -> Iterator[tuple[int, Iterator[bytes]]]:
    """Opens a URL; yields the byte that the content begins at, and the content in portions.

    most: how many bytes the file may have. start: the byte to begin at, if the server can.
    Raises DownloadError, GoneError for 404 and 410, and CheckError for more bytes than `most`;
    while the content is read, too.
    """
    answer = ask(url, start)
    with answer:
        begins = start if answer.status == HTTPStatus.PARTIAL_CONTENT else 0
        yield begins, _content(masked(url), answer, most - begins)


def ask(url: str, start: int = 0, *, expected: str = "a file of a release") -> Answer:
    """What a server answers, after redirects; start and errors as in open_http.

    A user's name and password in the URL are sent there, and nowhere else. expected: what is there,
    for messages.
    """
    shown, headers = masked(url), {"User-Agent": "cigpose-runtime"}
    url, login = _without_login(url)
    if login:
        headers["Authorization"] = f"Basic {b64encode(unquote(login).encode()).decode()}"
    if start:
        headers["Range"] = f"bytes={start}-"
    for _ in range(MOST_REDIRECTS + 1):
        try:
            if urlsplit(url).scheme not in ("http", "https"):
                raise ValueError("neither http nor https")
            opener = urllib.request.build_opener(_OverHTTP, _OverHTTPS, _AsItIs)
            answer: Answer = opener.open(
                urllib.request.Request(url, headers=headers), timeout=TIMEOUT_S
            )
        except Exception as error:  # an odd URL or answer makes urllib raise nearly anything
            raise DownloadError(
                f"{shown}: expected a server that answers, found none ({_reason(error)}); check "
                "the network and run it again, it goes on where it stopped"
            ) from error
        if answer.status not in _REDIRECTS:
            break
        answer.close()
        url = _redirected(shown, url, answer.headers.get("Location", ""))
        headers.pop("Authorization", None)
    else:
        raise DownloadError(
            f"{shown}: expected {expected}, found more than {MOST_REDIRECTS} redirects; "
            "check where it is published"
        )
    if answer.status == HTTPStatus.OK or (start and answer.status == HTTPStatus.PARTIAL_CONTENT):
        return answer
    answer.close()  # what else it says is not read
    is_gone = answer.status in (HTTPStatus.NOT_FOUND, HTTPStatus.GONE)
    raise (GoneError if is_gone else DownloadError)(
        f"{shown}: expected {expected}, the server answers {_status(answer.status)}; "
        "check where it is published"
    )


def _without_login(url: str) -> tuple[str, str]:
    """The URL without user and password, and these."""
    scheme, mark, rest = url.partition("://")
    place, slash, path = rest.partition("/")
    login, _, host = place.rpartition("@")
    return f"{scheme}{mark}{host}{slash}{path}", login


def _redirected(shown: str, url: str, location: str) -> str:
    """The URL that a redirect leads to; it keeps https, and has neither user nor password."""
    try:
        target = urljoin(url, quote(location, safe=string.punctuation, encoding="latin-1"))
        before, after = urlsplit(url), urlsplit(target)
        is_fine = after.scheme in ("https", before.scheme) and "@" not in after.netloc
    except ValueError:
        is_fine = False
    if not location or not is_fine:
        raise DownloadError(
            f"{shown}: expected a redirect to a plain URL that keeps https, found another; fetch "
            "nothing from there, and tell the publisher"
        )
    return target


def _content(shown: str, answer: Answer, most: int) -> Iterator[bytes]:
    announced: int | None = answer.length
    too_much = CheckError(
        f"{shown}: expected at most {most} bytes, the server has more; fetch nothing from there, "
        "and tell the publisher"
    )
    if announced is not None and announced > most:
        raise too_much
    answer.paced.body_follows(most)
    done = 0
    try:
        while done != announced and (portion := answer.read1(_CHUNK_BYTES)):
            done += len(portion)
            if done > most:
                raise too_much
            yield portion
    except CigposeError:
        raise
    except Exception as error:  # as above
        raise DownloadError(
            f"{shown}: expected all of it, but it broke off ({_reason(error)}); run it again"
        ) from error
    if announced is not None and done < announced:
        raise DownloadError(
            f"{shown}: expected all of it, but it broke off after {done} of {announced} bytes; run "
            "it again"
        )


class _Paced(io.RawIOBase):
    """What a socket receives, as long as it comes fast enough and is not too much.

    Each read takes from the patience that there is; each byte of a body gives some back.
    """

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._raw: Any = sock.makefile("rb", buffering=0)
        self._patience_s = TIMEOUT_S
        self._left = _HEADER_BYTES
        self._gain_s = 0.0

    def body_follows(self, most: int, least_rate: float = LEAST_RATE) -> None:
        """From here on at most twice so many bytes come: in chunks each has its own length."""
        self._left += 2 * most
        self._patience_s, self._gain_s = TIMEOUT_S, 1 / least_rate

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if self._left <= 0:
            raise ConnectionError("more than was announced")
        if self._patience_s <= 0:
            raise TimeoutError("too slow")
        self._socket.settimeout(self._patience_s)
        started = time.monotonic()
        count: int = self._raw.readinto(memoryview(buffer)[: self._left])
        took = time.monotonic() - started
        self._patience_s = min(TIMEOUT_S, self._patience_s - took + count * self._gain_s)
        self._left -= count
        return count

    def close(self) -> None:
        self._raw.close()
        super().close()


class Answer(http.client.HTTPResponse):
    """An answer that is read through _Paced, from its first line on."""

    def __init__(self, sock: socket.socket, *arguments: Any, **named: Any) -> None:
        super().__init__(sock, *arguments, **named)
        self.fp.close()
        self.paced = _Paced(sock)
        self.fp = io.BufferedReader(self.paced)


class _HTTP(http.client.HTTPConnection):
    response_class = Answer


class _HTTPS(http.client.HTTPSConnection):
    response_class = Answer


class _OverHTTP(urllib.request.HTTPHandler):
    def http_open(self, request: urllib.request.Request) -> Any:
        return self.do_open(_HTTP, request)


class _OverHTTPS(urllib.request.HTTPSHandler):
    def https_open(self, request: urllib.request.Request) -> Any:
        return self.do_open(_HTTPS, request)


class _AsItIs(urllib.request.HTTPErrorProcessor):
    """Hands on every answer: urllib's own way reads error and redirect pages to their end."""

    def http_response(self, request: Any, response: Any) -> Any:
        return response

    https_response = http_response


def _status(code: int) -> str:
    """As the standard words it: what the server says may be any text."""
    return f"{code} {HTTPStatus(code).phrase}" if code in set(HTTPStatus) else str(code)


def _reason(error: Exception) -> str:
    reason = getattr(error, "reason", None) or error
    return masked(getattr(reason, "strerror", None) or first_line(reason))
