"""Reading from servers that mean no good: bounded, paced, and one line for each."""

import datetime
import ipaddress
import itertools
import re
import ssl
import threading
from contextlib import contextmanager

import pytest

from cigpose_runtime.errors import CheckError, DownloadError
from cigpose_runtime.releases import http
from cigpose_runtime.releases.http import GoneError, masked, open_http
from raw_server import UNTIL_THE_CLIENT_LEAVES, answering, ok, response


def read(url, most=100, start=0):
    with open_http(url, most, start) as (begins, portions):
        return begins, b"".join(portions)


def failure(answer, most=100, start=0, expected=DownloadError):
    """What reading from a server that answers so ends in."""
    with answering(answer) as server, pytest.raises(expected) as caught:
        read(server.url + "/file", most, start)
    assert type(caught.value) is expected
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_file_is_read():
    with answering(lambda _path: ok(b"content")) as server:
        assert read(server.url) == (0, b"content")


def test_a_server_that_goes_on_where_it_is_asked_to_says_so():
    with answering(lambda _path: [response(206, "Content-Length: 3"), b"ent"]) as server:
        assert read(server.url, start=4) == (4, b"ent")


def test_chunks_are_put_together():
    chunks = [response(200, "Transfer-Encoding: chunked"), b"3\r\ncon\r\n4\r\ntent\r\n0\r\n\r\n"]
    with answering(lambda _path: chunks) as server:
        assert read(server.url) == (0, b"content")


def redirecting(*locations):
    """/file leads to the first, each of their paths to the next, and the last to content."""
    steps = iter(locations)

    def answer(_path):
        location = next(steps, None)
        return ok(b"content") if location is None else [response(302, f"Location: {location}")]

    return answer


def test_five_redirects_are_followed_and_no_sixth():
    with answering(redirecting(*"abcde")) as server:
        assert read(server.url) == (0, b"content")
    assert "more than 5 redirects" in failure(redirecting(*"abcdef"))


@pytest.mark.parametrize(
    "location",
    [
        "ftp://127.0.0.1/file",
        "file:///etc/passwd",
        "data:,content",
        "http://[::1",
        "http://user:secret@127.0.0.1/",
        "",
    ],
)
def test_a_redirect_to_anything_but_a_plain_url_is_refused(location):
    said = failure(redirecting(location))
    assert "expected a redirect to a plain URL" in said
    assert "secret" not in said


@pytest.mark.parametrize(
    ("before", "after", "is_followed"),
    [
        ("https://a/x", "https://b/y", True),
        ("http://a/x", "https://b/y", True),
        ("http://a/x", "http://b/y", True),
        ("https://a/x", "/y", True),
        ("https://a/x", "http://a/x", False),
        ("https://a/x", "HTTP://a/x", False),
    ],
)
def test_https_is_never_left(before, after, is_followed):
    try:
        http._redirected("shown", before, after)
    except DownloadError:
        assert not is_followed
    else:
        assert is_followed


@pytest.mark.parametrize("status", [404, 410])
def test_gone_is_final(status):
    assert f"answers {status}" in failure(lambda _path: [response(status)], expected=GoneError)


@pytest.mark.parametrize("status", [204, 206, 304, 403, 416, 429, 500, 503, 599, 999])
def test_any_other_status_is_one_line_without_the_servers_words(status):
    said = failure(lambda _path: [response(status, "Content-Length: 4"), b"body"])
    assert f"answers {status}" in said
    assert "Said" not in said
    assert "body" not in said


def endlessly(*portions, then):
    return lambda _path: itertools.chain(portions, itertools.repeat(then))


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (endlessly(response(500), then=b"x" * 1000), DownloadError),
        (endlessly(response(302, "Location: ///"), then=b"x" * 1000), DownloadError),
        (endlessly(response(200), then=b"x" * 1000), CheckError),
        (endlessly(b"HTTP/1.1 200 ", then=b"x" * 1000), DownloadError),
        (endlessly(b"HTTP/1.1 200 OK\r\n", then=b"a: b\r\n"), DownloadError),
        (endlessly(then=response(100)), DownloadError),
        (
            endlessly(response(200, "Transfer-Encoding: chunked"), b"0\r\n", then=b"a: b\r\n"),
            DownloadError,
        ),
        (
            endlessly(response(200, "Transfer-Encoding: chunked"), then=b"1\r\nx\r\n"),
            CheckError,
        ),
        (lambda _path: ok(bytes(101)), CheckError),
    ],
    ids=[
        "error",
        "redirect",
        "body",
        "status",
        "headers",
        "continue",
        "trailers",
        "chunks",
        "announced",
    ],
)
def test_what_never_ends_is_left(answer, expected):
    failure(answer, expected=expected)


def dripping(first):
    """A byte now and then, until the client leaves."""

    def answer(_path):
        yield first
        while True:
            threading.Event().wait(0.02)
            yield b"x"

    return answer


@pytest.mark.parametrize(
    "first", [b"", b"HTTP/1.1 200 OK\r\n", response(200, "Content-Length: 100")]
)
def test_a_server_that_is_slow_on_purpose_is_left(monkeypatch, first):
    monkeypatch.setattr(http, "TIMEOUT_S", 0.2)
    assert re.search("too slow|timed out", failure(dripping(first)))


def test_a_server_that_says_nothing_is_left(monkeypatch):
    monkeypatch.setattr(http, "TIMEOUT_S", 0.2)
    assert "timed out" in failure(lambda _path: [response(200), UNTIL_THE_CLIENT_LEAVES])


def test_a_stall_after_a_fast_beginning_is_left_as_soon(monkeypatch):
    monkeypatch.setattr(http, "TIMEOUT_S", 0.2)
    monkeypatch.setattr(http, "LEAST_RATE", 1000)
    assert "broke off" in failure(dripping(response(200) + bytes(100_000)), most=1_000_000)


@pytest.mark.parametrize(
    "answer",
    [
        [],
        [b"\0\xff" * 50],
        [b"HTTP/1.1 two hundred\r\n\r\n"],
        [b"HTTP/9.9 200 OK\r\n\r\n"],
        [response(200, "Content-Length: 50"), b"less"],
        [response(200, "Transfer-Encoding: chunked"), b"zz\r\n"],
        [response(200, "Transfer-Encoding: chunked"), b"-5\r\nabc"],
        [response(302)],
        [response(302, "Location: http://127.0.0.1:99999/")],
        [response(302, "Location: http://" + "a" * 70 + ".example/")],
    ],
)
def test_an_answer_that_is_no_http_is_one_line(answer):
    failure(lambda _path: answer)


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:99999/", "http://[/", "http://\ud800/", "http:///x", "http://a b/"]
)
def test_a_url_that_is_none_is_one_line(url):
    with pytest.raises(DownloadError):
        read(url)


@pytest.mark.parametrize(
    "text",
    [
        "https://me:secret@host/file",
        "https://secret@host/file: broke off",
        "https://me:sec/secret@host/file",
        "https://host/file?token=secret&more",
        "no 'http://host/?secret', but http://secret@b/",
    ],
)
def test_messages_have_no_credentials(text):
    assert "secret" in text
    assert "secret" not in masked(text)
    assert "host" in masked(text)


def test_where_a_redirect_leads_is_not_said():
    said = failure(redirecting("http://127.0.0.1:9/file?token=secret"))
    assert "secret" not in said


@pytest.fixture
def https(tmp_path, monkeypatch):
    """Turns what `answering` serves into HTTPS, with a certificate that this process trusts."""
    x509 = pytest.importorskip("cryptography.x509")
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "loopback")])
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(datetime.datetime(2020, 1, 1))
        .not_valid_after(datetime.datetime(2100, 1, 1))
        .add_extension(x509.SubjectAlternativeName([address]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    path = tmp_path / "server.pem"
    form, plain = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    path.write_bytes(key.private_bytes(pem, form, plain) + made.public_bytes(pem))
    monkeypatch.setenv("SSL_CERT_FILE", str(path))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)

    @contextmanager
    def serve(answer):
        with answering(answer) as server:
            server.socket = context.wrap_socket(server.socket, server_side=True)
            yield server.url.replace("http:", "https:")

    return serve


def test_https_is_read_as_http_is(https):
    with https(lambda _path: ok(b"content")) as url:
        assert read(url) == (0, b"content")


def test_a_redirect_from_https_to_http_is_refused(https):
    with answering(lambda _path: ok(b"content")) as plain:
        refused = pytest.raises(DownloadError, match="that keeps https")
        with https(redirecting(plain.url)) as url, refused:
            read(url)
        assert read(plain.url) == (0, b"content")


def test_a_slow_server_is_left_over_https_too(https, monkeypatch):
    monkeypatch.setattr(http, "TIMEOUT_S", 0.5)
    with https(dripping(response(200))) as url, pytest.raises(DownloadError, match="broke off"):
        read(url)


def test_a_certificate_that_nobody_trusts_is_refused(https, monkeypatch):
    monkeypatch.delenv("SSL_CERT_FILE")
    refused = pytest.raises(DownloadError, match="certificate verify failed")
    with https(lambda _path: ok(b"content")) as url, refused:
        read(url)


def test_a_proxy_of_the_environment_is_asked(monkeypatch):
    with answering(lambda path: ok(path.encode())) as server:
        monkeypatch.setenv("http_proxy", server.url)
        assert read("http://elsewhere.example/file") == (0, b"http://elsewhere.example/file")
