"""`cigpose-runtime web`: what it serves, to whom, and what it says when it cannot."""

import http.client
import json
import re
import shutil
import threading
from contextlib import contextmanager
from pathlib import Path

import pytest

from cigpose_runtime import cli
from cigpose_runtime.errors import FileError
from cigpose_runtime.files import file_sha256
from cigpose_runtime.releases.manifest import read_manifest
from cigpose_runtime.web.engine import ENGINE_FILES, VERSION
from cigpose_runtime.web.folder import read_folder
from cigpose_runtime.web.server import HEADERS, PAGE_FOLDER, WebServer, page_files, write_site
from small_release import make_release

CLONE = Path(__file__).resolve().parents[2]
EXAMPLES = CLONE / "runtime" / "examples"


@contextmanager
def served(folder=None):
    """The page without an engine, as (host and port, secret path)."""
    with WebServer(0, page_files({}, read_folder(folder))) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,)).start()
        try:
            yield f"127.0.0.1:{server.server_port}", server.path
        finally:
            server.shutdown()


def ask(host, path, method="GET", **headers):
    connection = http.client.HTTPConnection(host, timeout=60)
    try:
        connection.request(method, path, headers=headers)
        answer = connection.getresponse()
        return answer.status, dict(answer.getheaders()), answer.read()
    finally:
        connection.close()


@pytest.fixture
def folder(tmp_path, model):
    """A model, a picture, a clip, and what is not for the page."""
    folder = tmp_path / "folder"
    folder.mkdir()
    shutil.move(model, folder / "a.onnx")
    for name in ("b.png", "a.mp4", "boxes.json", "secret.txt", ".hidden.png"):
        (folder / name).write_bytes(b"{}")
    (tmp_path / "outside.png").write_bytes(b"outside")
    (folder / "link.png").symlink_to(tmp_path / "outside.png")
    return folder


def test_all_files_of_the_page_are_served_as_they_lie(folder):
    with served() as (host, path):
        for file in PAGE_FOLDER.iterdir():
            status, headers, content = ask(host, path + file.name)
            assert (status, content) == (200, file.read_bytes())
            assert headers.items() >= HEADERS.items()
        assert ask(host, path)[2] == (PAGE_FOLDER / "index.html").read_bytes()


def test_a_folder_is_listed_with_hashes_and_pictures_first(folder):
    with served(folder) as (host, path):
        listing = json.loads(ask(host, f"{path}folder/folder.json")[2])
        content = ask(host, f"{path}folder/a.onnx")[2]
    size = (folder / "a.onnx").stat().st_size
    digest = file_sha256(folder / "a.onnx")
    assert listing == {
        "models": [{"file": "a.onnx", "size": size, "sha256": digest}],
        "media": ["b.png", "a.mp4"],
        "boxes": True,
    }
    assert content == (folder / "a.onnx").read_bytes()


@pytest.mark.parametrize(
    "name",
    [
        "secret.txt",
        "link.png",
        ".hidden.png",
        "../outside.png",
        "%2e%2e/outside.png",
        "..%2foutside.png",
        "%ff",
        "folder.json/",
    ],
)
def test_nothing_else_is_served(folder, name):
    with served(folder) as (host, path):
        assert ask(host, f"{path}folder/{name}")[0] == 404


@pytest.mark.parametrize("path", ["/", "/index.html", "//", "/%C3%A9", "/folder/folder.json"])
def test_who_does_not_know_the_address_sees_nothing(folder, path):
    with served(folder) as (host, _):
        assert ask(host, path)[0] == 404


@pytest.mark.parametrize("name", ["evil.example", "evil.example:80", "127.0.0.1", "localhost:1"])
def test_a_name_that_leads_to_this_machine_is_not_enough(name):
    with served() as (host, path):
        assert ask(host, path, Host=name)[0] == 421


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_every_answer_isolates_the_page_and_forbids_other_sites(method):
    with served() as (host, path):
        _, headers, _ = ask(host, path, method)
    assert headers["Cross-Origin-Opener-Policy"] == "same-origin"
    assert headers["Cross-Origin-Embedder-Policy"] == "require-corp"
    assert "connect-src 'self'" in headers["Content-Security-Policy"]
    assert "http" not in headers["Content-Security-Policy"]


def test_the_page_has_the_servers_policy_where_others_serve_it():
    (policy,) = re.findall(
        r'content="(default-src[^"]+)"', (PAGE_FOLDER / "index.html").read_text()
    )
    assert HEADERS["Content-Security-Policy"] == f"{policy}; frame-ancestors 'none'"


def test_a_releases_models_have_the_hashes_of_its_manifest_whatever_they_became(tmp_path):
    make_release(tmp_path, names=("a.onnx",))
    (released,) = read_manifest(tmp_path).files
    (tmp_path / "a.onnx").write_bytes(b"other")
    assert [model["sha256"] for model in read_folder(tmp_path).listing["models"]] == [
        released.sha256
    ]


def test_a_site_is_written_into_a_new_folder_alone(folder, tmp_path):
    files = page_files({}, read_folder(folder))
    write_site(files, tmp_path / "site")
    written = {
        p.relative_to(tmp_path / "site").as_posix() for p in (tmp_path / "site").rglob("*.*")
    }
    assert written == {name for name in files if name}
    with pytest.raises(FileError, match="expected no such folder yet"):
        write_site(files, tmp_path / "site")


def test_the_tests_npm_package_is_the_pinned_one():
    package = json.loads((EXAMPLES / "package.json").read_text())
    assert package["devDependencies"]["onnxruntime-web"] == VERSION


@pytest.mark.parametrize(
    ("prepare", "said"),
    [
        (lambda engine: None, "found no such folder"),
        (lambda engine: (engine / "dist").mkdir(parents=True), "found: No such file"),
        (
            lambda engine: (
                (engine / "dist").mkdir(parents=True),
                [(engine / "dist" / name).write_bytes(b"other") for name in ENGINE_FILES],
            ),
            "found other content",
        ),
    ],
)
def test_another_engine_or_none_is_one_line(tmp_path, capsys, prepare, said):
    prepare(tmp_path / "engine")
    assert cli.main(["web", "--engine", str(tmp_path / "engine")]) in (1, 2)
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line
