"""Who sees the page with the camera, and what a client can do to it."""

import http.client
import socket
from contextlib import ExitStack

import numpy as np
import pytest

from cigpose_runtime.errors import InputError
from cigpose_runtime.loopback import LoopbackHandler, LoopbackServer
from cigpose_runtime.media.live import HEADERS, Page


@pytest.fixture
def page():
    with Page(0) as page:
        page.show(np.zeros((48, 64, 3), np.uint8))
        yield page


def address(page):
    host, _, path = page.url.removeprefix("http://").partition("/")
    name, port = host.split(":")
    return name, int(port), f"/{path}"


def ask(page, path=None, *, method="GET", **headers):
    """Status, headers, and the first bytes of what is answered."""
    host, port, own = address(page)
    connection = http.client.HTTPConnection(host, port, timeout=60)
    try:
        connection.request(method, own if path is None else path, headers=headers)
        answer = connection.getresponse()
        return answer.status, dict(answer.getheaders()), answer.read1(400)
    finally:
        connection.close()


def test_who_knows_the_address_sees_the_camera(page):
    _, _, own = address(page)
    status, _, content = ask(page)
    assert (status, b'<img src="stream"' in content) == (200, True)
    status, headers, content = ask(page, f"{own}stream")
    assert (status, b"image/jpeg" in content) == (200, True)
    assert headers["Content-Type"] == "multipart/x-mixed-replace; boundary=frame"


def test_the_address_is_another_one_each_time():
    with Page(0) as first, Page(0) as second:
        paths = {address(page)[2] for page in (first, second)}
    assert len(paths) == 2
    assert {len(path) for path in paths} == {24}  # 16 random bytes in base64, and two slashes


@pytest.mark.parametrize("path", ["/", "/stream", "/favicon.ico", "/%2e%2e/", "//"])
def test_who_does_not_know_it_sees_nothing(page, path):
    status, _, content = ask(page, path)
    assert status == 404
    assert b"img" not in content


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8000", "127.0.0.1", "localhost:1"])
def test_a_name_that_leads_to_this_machine_is_not_enough(page, host):
    """As after DNS rebinding, when a page of another site asks with its own name."""
    assert ask(page, Host=host)[0] == 421


def test_localhost_is_a_name_of_this_machine(page):
    _, port, _ = address(page)
    assert ask(page, Host=f"localhost:{port}")[0] == 200


@pytest.mark.parametrize("path", [None, "/elsewhere"])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_no_other_site_may_use_any_answer(page, path, method):
    _, headers, _ = ask(page, path, method=method)
    assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
    assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
    assert headers.items() >= HEADERS.items()


def test_so_many_clients_are_served_and_the_next_ones_when_they_leave(page):
    host, port, own = address(page)
    request = f"GET {own}stream HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n".encode()
    with ExitStack() as stack:
        for _ in range(LoopbackServer.most_clients):
            client = stack.enter_context(socket.create_connection((host, port), timeout=60))
            client.sendall(request)
            assert client.recv(12) == b"HTTP/1.0 200"
        with socket.create_connection((host, port), timeout=60) as one_more:
            assert is_closed(one_more)
    status = None
    while status is None:  # they have left when the next picture cannot be sent to them
        page.show(np.zeros((48, 64, 3), np.uint8))
        try:
            status, _, _ = ask(page)
        except (ConnectionError, http.client.RemoteDisconnected):
            continue
    assert status == 200


def is_closed(client):
    try:
        return client.recv(1) == b""
    except ConnectionResetError:
        return True


def test_a_client_that_says_nothing_is_left(monkeypatch, capfd):
    monkeypatch.setattr(LoopbackHandler, "timeout", 0.05)
    with Page(0) as page:
        host, port, _ = address(page)
        with socket.create_connection((host, port), timeout=60) as silent:
            assert is_closed(silent)
    assert capfd.readouterr().err == ""


def test_a_client_that_leaves_at_once_is_no_news(page, capfd):
    host, port, own = address(page)
    for request in (
        b"",
        b"GET ",
        f"GET {own}stream HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n".encode(),
    ):
        with socket.create_connection((host, port)) as client:
            client.sendall(request)
    page.show(np.zeros((48, 64, 3), np.uint8))
    assert ask(page)[0] == 200
    assert capfd.readouterr().err == ""


def test_a_port_that_is_taken_is_one_line():
    with (
        socket.create_server(("127.0.0.1", 0)) as taken,
        pytest.raises(InputError, match="expected a free port"),
    ):
        Page(taken.getsockname()[1])
