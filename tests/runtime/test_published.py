"""Fetching published models: resume, cache, and what is refused."""

import hashlib
import http.server
import re
import subprocess
import sys
import threading
from contextlib import contextmanager
from types import SimpleNamespace

import numpy as np
import pytest

from cigpose_runtime import cli
from cigpose_runtime.errors import CheckError, DownloadError, FileError, InputError
from cigpose_runtime.releases import download as published
from cigpose_runtime.releases.download import fetch_model
from cigpose_runtime.releases.http import GoneError
from cigpose_runtime.releases.manifest import (
    MANIFEST,
    Manifest,
    ReleasedFile,
    asset_name,
)
from cigpose_runtime.releases.source import Source
from loopback import serving
from raw_server import answering, ok
from small_release import contents, make_release

MODEL = "cigpose-m_coco_256x192"
NAMES = (f"{MODEL}.onnx", f"golden/{MODEL}/golden.json", "golden/other/golden.json", "README.md")
FETCHED = {*NAMES[:2], f"golden/{MODEL}/{MANIFEST}"}


@pytest.fixture
def release(tmp_path):
    """A release with one file that its manifest calls a model."""
    folder = tmp_path / "release"
    make_release(folder, names=NAMES)
    manifest = Manifest.from_json((folder / MANIFEST).read_text())
    with_model = Manifest(**{**vars(manifest), "models": {MODEL: f"{MODEL}.onnx"}})
    (folder / MANIFEST).write_text(with_model.to_json())
    return folder


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch, tmp_path):
    monkeypatch.setattr(published.time, "sleep", lambda _seconds: None)
    monkeypatch.setenv("CIGPOSE_CACHE", str(tmp_path / "cache"))


class _Handler(http.server.BaseHTTPRequestHandler):
    """Serves a folder with ranges; cuts answers for some paths after so many bytes."""

    def log_message(self, *args):
        pass

    def do_GET(self):
        server = self.server
        server.requests.append((self.path, self.headers.get("Range")))
        content = server.files.get(self.path)
        if content is None:
            self.send_error(404)
            return
        start = 0
        if server.ranges and (found := re.fullmatch(r"bytes=(\d+)-", self.headers["Range"] or "")):
            start = int(found[1])
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        self.wfile.write(content[start : start + server.cut_after.get(self.path, len(content))])


@contextmanager
def serve(files, *, ranges=True, cut_after=()):
    with serving(_Handler) as server:
        server.files, server.requests = files, []
        server.ranges, server.cut_after = ranges, dict(cut_after)
        yield server


def files_of(release, prefix="/", name=lambda path: path):
    return {prefix + name(path): content for path, content in contents(release).items()}


def fetched(out):
    return set(contents(out))


def test_a_model_comes_with_its_golden_vectors(release, tmp_path):
    with serve(files_of(release)) as server:
        path = fetch_model(MODEL, Source.of(server.url), tmp_path / "out")
    assert path.read_bytes() == (release / f"{MODEL}.onnx").read_bytes()
    assert fetched(tmp_path / "out") == FETCHED


def test_a_folder_is_a_source(release, tmp_path):
    for source in (str(release), release.as_uri()):
        out = tmp_path / f"out{len(source)}"
        assert fetch_model(MODEL, Source.of(source), out).is_file()


def test_github_has_no_folders(release, tmp_path, monkeypatch):
    files = files_of(release, "/somebody/models/releases/download/v1/", asset_name)
    with serve(files) as server:
        monkeypatch.setenv("GITHUB_SERVER_URL", server.url)
        fetch_model(MODEL, Source.of("github:somebody/models@v1"), tmp_path / "out")
    assert fetched(tmp_path / "out") == FETCHED


def test_hugging_face_has_revisions(release, tmp_path, monkeypatch):
    with serve(files_of(release, "/somebody/models/resolve/v1/")) as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        fetch_model(MODEL, Source.of("hf:somebody/models@v1"), tmp_path / "out")
    assert fetched(tmp_path / "out") == FETCHED


def test_a_download_that_breaks_off_goes_on(release, tmp_path):
    size = (release / f"{MODEL}.onnx").stat().st_size
    with serve(files_of(release), cut_after={f"/{MODEL}.onnx": size // 3}) as server:
        fetch_model(MODEL, Source.of(server.url), tmp_path / "out")
        starts = [range_ for path, range_ in server.requests if path == f"/{MODEL}.onnx"]
    assert starts[:3] == [None, f"bytes={size // 3}-", f"bytes={size // 3 * 2}-"]
    assert fetched(tmp_path / "out") == FETCHED


def test_a_server_without_ranges_is_read_from_the_beginning(release, tmp_path):
    size = (release / f"{MODEL}.onnx").stat().st_size
    cut = {f"/{MODEL}.onnx": size // 3}
    with serve(files_of(release), ranges=False, cut_after=cut) as server:
        with pytest.raises(DownloadError, match=r"broke off after \d+ of \d+ bytes"):
            fetch_model(MODEL, Source.of(server.url), tmp_path / "out")
        server.cut_after = {}
        path = fetch_model(MODEL, Source.of(server.url), tmp_path / "out")
    assert path.read_bytes() == (release / f"{MODEL}.onnx").read_bytes()


def test_what_was_fetched_once_needs_no_network(release, tmp_path):
    said = []
    with serve(files_of(release)) as server:
        source = Source.of(server.url)
        fetch_model(MODEL, source, tmp_path / "out")
        assert len(server.requests) == 3
        fetch_model(MODEL, source, tmp_path / "again")
        assert len(server.requests) == 4  # the manifest
    path = fetch_model(MODEL, source, tmp_path / "offline", say=said.append)
    assert path.read_bytes() == (release / f"{MODEL}.onnx").read_bytes()
    assert said[0].endswith("going by the one in the cache")


def test_other_bytes_are_refused_and_forgotten(release, tmp_path):
    files = files_of(release)
    good = files[f"/{MODEL}.onnx"]
    files[f"/{MODEL}.onnx"] = bytes([good[0] ^ 1]) + good[1:]
    with serve(files) as server:
        with pytest.raises(CheckError, match=r"expected sha256 \w+ by the manifest, found"):
            fetch_model(MODEL, Source.of(server.url), tmp_path / "out")
        assert not (tmp_path / "out" / f"{MODEL}.onnx").exists()
        files[f"/{MODEL}.onnx"] = good
        fetch_model(MODEL, Source.of(server.url), tmp_path / "out")


def test_a_spoilt_cache_is_noticed(release, tmp_path):
    fetch_model(MODEL, Source.of(str(release)), tmp_path / "out")
    for blob in (tmp_path / "cache" / "blobs").iterdir():
        blob.write_bytes(b"other")
    path = fetch_model(MODEL, Source.of(str(release)), tmp_path / "again")
    assert path.read_bytes() == (release / f"{MODEL}.onnx").read_bytes()


def test_a_name_that_the_release_lacks(release, tmp_path):
    with pytest.raises(InputError, match=f"it has {MODEL}"):
        fetch_model("cigpose-m_coco_256x19", Source.of(str(release)), tmp_path / "out")


@pytest.mark.parametrize(
    "text", ["", "nowhere", "github:somebody/models", "ftp://x/y", "hf:models"]
)
def test_a_source_that_is_none(text):
    with pytest.raises(InputError, match="expected a release as github:OWNER/REPO@TAG"):
        Source.of(text)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("http://127.0.0.1:9", "expected a server that answers, found none"),
        ("file:///nowhere/at/all", "No such file"),
    ],
)
def test_no_answer_is_one_line(url, message, tmp_path):
    with pytest.raises(DownloadError, match=message) as caught:
        fetch_model(MODEL, Source.of(url), tmp_path)
    assert "\n" not in str(caught.value)


def test_the_command(release, tmp_path, capsys, monkeypatch):
    monkeypatch.delenv("CIGPOSE_FROM", raising=False)
    out = tmp_path / "out"
    assert cli.main(["get", MODEL, "--out", str(out)]) == 2
    assert "--from or $CIGPOSE_FROM" in capsys.readouterr().err
    command = ["get", MODEL, "nothing", "--from", str(release), "--out", str(out)]
    assert cli.main(command) == 2
    found = capsys.readouterr()
    assert found.out.splitlines() == [str(out / f"{MODEL}.onnx")]
    assert "'nothing': expected a model of the release" in found.err


@pytest.mark.parametrize("model", ["numpy.py", "Makefile", "other.onnx"])
def test_a_manifest_cannot_choose_which_file_a_model_is_written_to(release, tmp_path, model):
    manifest = Manifest.from_json((release / MANIFEST).read_text())
    (release / model).write_bytes((release / f"{MODEL}.onnx").read_bytes())
    listed = next(file for file in manifest.files if file.path == f"{MODEL}.onnx")
    renamed = type(listed)(model, listed.size, listed.sha256)
    fields = {**vars(manifest), "models": {MODEL: model}, "files": (*manifest.files, renamed)}
    (release / MANIFEST).write_text(Manifest(**fields).to_json())
    out = tmp_path / "out"
    with pytest.raises(CheckError, match=rf"the model '{MODEL}' in '{re.escape(model)}', not NAME"):
        fetch_model(MODEL, Source.of(str(release)), out)
    assert not out.exists()


def test_golden_vectors_are_never_code(release, tmp_path):
    manifest = Manifest.from_json((release / MANIFEST).read_text())
    listed = next(file for file in manifest.files if file.path == f"{MODEL}.onnx")
    code = type(listed)(f"golden/{MODEL}/numpy.py", listed.size, listed.sha256)
    fields = {**vars(manifest), "files": (*manifest.files, code)}
    (release / MANIFEST).write_text(Manifest(**fields).to_json())
    with pytest.raises(CheckError, match=r"found '.*numpy\.py'"):
        fetch_model(MODEL, Source.of(str(release)), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def fetch(release, out, name=MODEL):
    return fetch_model(name, Source.of(str(release)), out)


def release_of(folder, seed):
    """Another release with the same model, of other bytes."""
    make_release(folder, seed=seed, names=NAMES)
    manifest = Manifest.from_json((folder / MANIFEST).read_text())
    changed = Manifest(**{**vars(manifest), "models": {MODEL: f"{MODEL}.onnx"}})
    (folder / MANIFEST).write_text(changed.to_json())
    return folder


@pytest.mark.parametrize("path", NAMES[:2])
def test_a_file_that_came_from_no_release_is_not_replaced(release, tmp_path, path):
    mine = tmp_path / "out" / path
    mine.parent.mkdir(parents=True)
    mine.write_text("my own")
    with pytest.raises(
        InputError, match=rf"{path}: expected nothing there.*move it, or fetch into"
    ):
        fetch(release, tmp_path / "out")
    assert fetched(tmp_path / "out") == {path}
    assert mine.read_text() == "my own"


def test_a_file_of_another_release_is_replaced(release, tmp_path):
    other = release_of(tmp_path / "other", seed=7)
    fetch(other, tmp_path / "out")
    path = fetch(release, tmp_path / "out")
    assert path.read_bytes() == (release / path.name).read_bytes()


@pytest.mark.parametrize("leads_to", ["mine.txt", "nothing"])
def test_a_link_is_not_replaced_nor_followed(release, tmp_path, leads_to):
    (tmp_path / "mine.txt").write_text("my own")
    link = tmp_path / "out" / f"{MODEL}.onnx"
    link.parent.mkdir()
    link.symlink_to(tmp_path / leads_to)
    with pytest.raises(InputError, match="expected nothing there"):
        fetch(release, tmp_path / "out")
    assert link.is_symlink()
    assert (tmp_path / "mine.txt").read_text() == "my own"
    assert not (tmp_path / "nothing").exists()


def test_what_is_there_already_is_left_as_it_is_even_behind_a_link(release, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / f"{MODEL}.onnx").symlink_to(release / f"{MODEL}.onnx")
    assert fetch(release, tmp_path / "out").is_symlink()


def test_a_manifest_that_is_gone_is_forgotten(release, tmp_path):
    with serve(files_of(release)) as server:
        source = Source.of(server.url)
        fetch_model(MODEL, source, tmp_path / "out")
        manifest = server.files.pop(f"/{MANIFEST}")
        with pytest.raises(GoneError, match="answers 404"):
            fetch_model(MODEL, source, tmp_path / "again")
    with pytest.raises(DownloadError, match="found none"):
        fetch_model(MODEL, source, tmp_path / "again")
    assert manifest
    assert not (tmp_path / "again").exists()


def test_a_file_that_is_gone_is_asked_for_once(release, tmp_path):
    files = files_of(release)
    del files[f"/{MODEL}.onnx"]
    with serve(files) as server:
        with pytest.raises(GoneError):
            fetch_model(MODEL, Source.of(server.url), tmp_path / "out")
        assert [path for path, _ in server.requests].count(f"/{MODEL}.onnx") == 1


def test_a_server_that_breaks_off_after_each_byte_is_given_up(release, tmp_path):
    with serve(files_of(release), cut_after={f"/{MODEL}.onnx": 1}) as server:
        with pytest.raises(DownloadError, match="broke off"):
            fetch_model(MODEL, Source.of(server.url), tmp_path / "out")
        assert [path for path, _ in server.requests].count(f"/{MODEL}.onnx") == published.TRIES


def test_more_bytes_than_the_manifest_says_are_refused(release, tmp_path):
    files = files_of(release)
    files[f"/{MODEL}.onnx"] += b"more"
    with serve(files) as server, pytest.raises(CheckError, match="expected at most"):
        fetch_model(MODEL, Source.of(server.url), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_file_without_room_for_it_is_not_begun(release, tmp_path, monkeypatch):
    monkeypatch.setattr(published.shutil, "disk_usage", lambda _path: SimpleNamespace(free=10))
    with pytest.raises(FileError, match=r"expected room for .*found 0"):
        fetch(release, tmp_path / "out")


def test_a_user_without_a_home_is_told_to_name_a_cache(release, tmp_path, monkeypatch):
    def home():
        raise RuntimeError("Could not determine home directory.")

    for name in ("CIGPOSE_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(published.Path, "home", home)
    with pytest.raises(InputError, match=r"expected a home folder .* CIGPOSE_CACHE"):
        fetch(release, tmp_path / "out")


@pytest.mark.parametrize("at", ["out", "cache"])
def test_a_folder_that_is_a_file_is_one_line(release, tmp_path, at, capsys):
    (tmp_path / at).write_text("x")
    assert cli.main(["get", MODEL, "--from", str(release), "--out", str(tmp_path / "out")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "expected a folder to write into" in line


@pytest.mark.parametrize(
    "text",
    ["https://me:secret@host/x", "https://host/x?token=secret", "ftp://me:secret@host/x"],
)
def test_a_source_with_credentials_is_refused_without_saying_them(text):
    with pytest.raises(InputError, match="expected a") as caught:
        Source.of(text)
    assert "secret" not in str(caught.value)


PROCESSES = 24


@pytest.mark.parametrize("places", [1, PROCESSES], ids=["one folder", "a folder each"])
def test_processes_that_get_the_same_model_at_once_all_have_it_whole(release, tmp_path, places):
    """From a server that brings each answer in small portions, so that they overlap."""
    content = np.random.default_rng(0).bytes(3_000_000)
    manifest = Manifest.from_json((release / MANIFEST).read_text())
    files = tuple(
        ReleasedFile(file.path, len(content), hashlib.sha256(content).hexdigest())
        if file.path == f"{MODEL}.onnx"
        else file
        for file in manifest.files
    )
    served = files_of(release) | {
        f"/{MODEL}.onnx": content,
        f"/{MANIFEST}": Manifest(**{**vars(manifest), "files": files}).to_json().encode(),
    }
    started = threading.Barrier(PROCESSES)

    def answer(path):
        if path == f"/{MANIFEST}":
            started.wait(60)  # all have to be there before any goes on
        head, body = ok(served[path])
        return [head, *(body[at : at + 50_000] for at in range(0, len(body), 50_000))]

    outs = [tmp_path / f"out{n % places}" for n in range(PROCESSES)]
    with answering(answer) as server:
        command = [sys.executable, "-m", "cigpose_runtime.cli", "get", MODEL, "--from", server.url]
        children = [
            subprocess.Popen([*command, "--out", str(out)], stdout=subprocess.DEVNULL)
            for out in outs
        ]
        assert [child.wait() for child in children] == [0] * PROCESSES
    for out in outs:
        assert (out / f"{MODEL}.onnx").read_bytes() == content
        assert fetched(out) == FETCHED


# Older versions


def with_version(release, version):
    manifest = Manifest.from_json((release / MANIFEST).read_text())
    (release / MANIFEST).write_text(Manifest(**{**vars(manifest), "version": version}).to_json())


@pytest.mark.parametrize("older", ["1.2.2", "1.1.9", "0.9", "one"])
def test_an_older_version_of_a_release_is_fetched_only_if_told(release, tmp_path, capsys, older):
    command = ["get", MODEL, "--from", str(release), "--out", str(tmp_path / "out")]
    assert cli.main(command) == 0
    with_version(release, older)
    assert cli.main(command) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "expected version '1.2.3' of the release, as was fetched before, or a newer" in line
    assert cli.main([*command, "--allow-older"]) == 0
    assert cli.main(command) == 0  # that is the version to compare with from now on


@pytest.mark.parametrize("newer", ["1.2.3", "1.2.3rc1", "1.10", "2"])
def test_a_newer_version_of_a_release_is_fetched(release, tmp_path, newer):
    fetch(release, tmp_path / "out")
    with_version(release, newer)
    fetch(release, tmp_path / "out")
    kept = tmp_path / "out" / "golden" / MODEL / MANIFEST
    assert kept.read_bytes() == (release / MANIFEST).read_bytes()


def test_a_version_is_remembered_when_its_release_was_gone_meanwhile(release, tmp_path):
    with serve(files_of(release)) as server:
        source = Source.of(server.url)
        fetch_model(MODEL, source, tmp_path / "out")
        del server.files[f"/{MANIFEST}"]
        with pytest.raises(GoneError):
            fetch_model(MODEL, source, tmp_path / "out")
        with_version(release, "1.0")
        server.files.update(files_of(release))
        with pytest.raises(CheckError, match=r"expected version '1\.2\.3'"):
            fetch_model(MODEL, source, tmp_path / "out")


@pytest.mark.parametrize("path", [MANIFEST, f"{MANIFEST}/x.json", "Manifest.json"])
def test_a_release_cannot_list_a_file_in_place_of_its_manifest(release, tmp_path, path):
    manifest = Manifest.from_json((release / MANIFEST).read_text())
    other = ReleasedFile(f"golden/{MODEL}/{path}", 1, "0" * 64)
    fields = {**vars(manifest), "files": (*manifest.files, other)}
    (release / MANIFEST).write_text(Manifest(**fields).to_json())
    with pytest.raises(CheckError, match="expected golden vectors in"):
        fetch(release, tmp_path / "out")
    assert not (tmp_path / "out").exists()
