import hashlib
import io
import random
import re
import signal
import socket
import subprocess
import sys
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import gdown
import pytest
import requests
import torch
from gdown.download import GoogleDriveFileToDownload

from cigpose_export.checkpoints import fetch as fetch_module
from cigpose_export.checkpoints.fetch import fetch, record_sha256
from cigpose_export.checkpoints.synthesize import synthesize
from cigpose_export.cli import main as cli
from cigpose_export.errors import CheckpointError
from cigpose_export.modeling.build import build_reference, load_config
from cigpose_export.project import Project
from cigpose_runtime.errors import DownloadError
from cigpose_runtime.files import file_sha256
from tiny_project import make_tiny_project, tiny_name

NAME = tiny_name()
OTHER_SHA256 = "0123456789abcdef" * 4
CHUNK = 512 * 1024
"""Bytes; gdown keeps whole chunks of what came."""
CUT = CHUNK + 1000
HTML = b"<!DOCTYPE html><html>Sorry, the file has been downloaded too often.</html>"


@dataclass
class Server:
    """What a loopback server gives, how it misbehaves, and what it was asked for."""

    url: str = ""
    body: bytes = b""
    content_type: str = "application/octet-stream"
    status: int = 200
    honours_ranges: bool = True
    cut_after: list[int] = field(default_factory=list)  # bytes, for one response each
    damaged_once: bytes | None = None  # in place of the body, for one response
    linked_etag: str | None = None
    hangs: bool = False  # where it is cut, in place of closing the connection
    asked: list[tuple[str, str | None]] = field(default_factory=list)  # path, Range
    released: threading.Event = field(default_factory=threading.Event)

    @property
    def ranges(self) -> list[str | None]:
        return [range_ for _, range_ in self.asked]


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    state = Server()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answer(self, state)

        def log_message(self, *_arguments: object) -> None: ...

    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state.url = f"http://127.0.0.1:{httpd.server_port}/file.pth"
    thread = threading.Thread(target=httpd.serve_forever, args=(0.01,))
    thread.start()
    yield state
    state.released.set()
    httpd.shutdown()
    httpd.server_close()
    thread.join()


def answer(handler: BaseHTTPRequestHandler, server: Server) -> None:
    range_header = handler.headers.get("Range")
    server.asked.append((handler.path, range_header))
    start = 0
    if range_header and server.honours_ranges:
        start = int(re.fullmatch(r"bytes=(\d+)-", range_header)[1])
    whole, server.damaged_once = server.damaged_once or server.body, None
    body, size = whole[start:], len(whole)
    handler.send_response(206 if start else server.status)
    handler.send_header("Content-Type", server.content_type)
    handler.send_header("Content-Length", str(len(body)))
    handler.send_header("Content-Disposition", 'attachment; filename="model.pth"')
    handler.send_header("ETag", '"one"')
    if server.linked_etag:
        handler.send_header("X-Linked-Etag", f'"{server.linked_etag}"')
    if start:
        handler.send_header("Content-Range", f"bytes {start}-{size - 1}/{size}")
    handler.end_headers()
    cut = server.cut_after.pop(0) if server.cut_after else len(body)
    try:
        handler.wfile.write(body[:cut])
        handler.wfile.flush()
    except (ConnectionResetError, BrokenPipeError):
        return  # gdown asks once without a Range, only to see whether the file is there
    if cut < len(body):
        if server.hangs:
            server.released.wait()
        handler.close_connection = True


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """A checkpoint that fits the tiny variant and is not marked as synthetic."""
    return checkpoint_of(make_tiny_project(tmp_path_factory.mktemp("published")))


@pytest.fixture(scope="module")
def legacy(tmp_path_factory) -> bytes:
    """The same as MMPose's publishing script writes it: without checksums."""
    return checkpoint_of(make_tiny_project(tmp_path_factory.mktemp("legacy")), zipped=False)


def checkpoint_of(project: Project, *, zipped: bool = True) -> bytes:
    (name,) = project.variants
    torch.manual_seed(0)
    model = build_reference(load_config(project.config_path(name)))
    buffer = io.BytesIO()
    content = {"meta": {"epoch": 420}, "state_dict": model.state_dict()}
    torch.save(content, buffer, _use_new_zipfile_serialization=zipped)
    return buffer.getvalue()


@pytest.fixture
def project(tiny_project, server, monkeypatch):
    """The tiny project with its source on the loopback server, and no waits between retries."""
    monkeypatch.setattr(random, "uniform", lambda _low, _high: 0.0)
    set_source(tiny_project, server.url)
    return tiny_project


def set_source(project: Project, source: str) -> None:
    manifest = project.manifest_path.read_text("utf-8")
    project.manifest_path.write_text(re.sub('source = ".*"', f'source = "{source}"', manifest))


@pytest.fixture
def dead_url():
    """An address that refuses connections."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{bound.getsockname()[1]}/file.pth"


def fetch_tiny(project: Project, on_bytes=lambda _so_far, _total: None) -> str:
    """Fetches the project's one variant, with its manifest as it now is."""
    (variant,) = Project(project.root).variants.values()
    return fetch(project, variant, on_bytes=on_bytes)


def target(project: Project) -> Path:
    return project.checkpoint_path(NAME, "real")


def recorded(project: Project) -> str | None:
    return Project(project.root).variants[NAME].sha256


def left_in_folder(project: Project) -> list[str]:
    folder = target(project).parent
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def assert_is_one_line(error: object, *parts: str) -> None:
    assert len(str(error).splitlines()) == 1
    for part in parts:
        assert part in str(error)


# A download


def test_a_checkpoint_is_downloaded_with_progress(project, server, published):
    server.body = published
    steps = []
    assert fetch_tiny(project, lambda *step: steps.append(step)) == "fetched"
    assert target(project).read_bytes() == published
    assert left_in_folder(project) == [f"{NAME}.pth"]
    so_far = [step[0] for step in steps]
    assert so_far == sorted(so_far)
    assert len(steps) > 1
    assert steps[-1] == (len(published), len(published))


def test_a_fetch_of_recorded_ones_asks_for_no_other(project, server, published):
    server.body = published
    (variant,) = Project(project.root).variants.values()
    with pytest.raises(CheckpointError, match=r"expected its sha256 .* found none") as raised:
        fetch(project, variant, on_bytes=lambda *_: None, recorded=True)
    assert_is_one_line(raised.value, "make checkpoints", "commit")
    assert (server.asked, left_in_folder(project), recorded(project)) == ([], [], None)


def test_the_first_fetch_records_the_hash_and_keeps_the_rest_of_the_manifest(
    project, server, published
):
    server.body = published
    before = project.manifest_path.read_text("utf-8")
    fetch_tiny(project)
    digest = file_sha256(target(project))
    assert recorded(project) == digest
    assert project.manifest_path.read_text("utf-8") == f'{before}sha256 = "{digest}"\n'


def test_a_hash_is_recorded_in_the_table_of_its_variant(tmp_path):
    manifest = tmp_path / "manifest.toml"
    clone = Project.of_this_clone().manifest_path.read_text("utf-8")
    manifest.write_text(clone)
    record_sha256(manifest, "cigpose-l_coco_256x192", OTHER_SHA256)
    added = f'sha256 = "{OTHER_SHA256}"\n'
    text = manifest.read_text("utf-8")
    assert text.replace(added, "") == clone
    table = text.split("[cigpose-l_coco_256x192]\n")[1].split("\n[")[0]
    assert added in table


def test_a_file_that_is_here_is_not_downloaded_again(project, server, published):
    server.body = published
    fetch_tiny(project)
    asked = list(server.asked)
    assert fetch_tiny(project) == "already here"
    assert server.asked == asked


def test_a_file_put_there_by_hand_is_checked_and_recorded(project, server, published):
    target(project).parent.mkdir()
    target(project).write_bytes(published)
    assert fetch_tiny(project) == "already here"
    assert recorded(project) == file_sha256(target(project))
    assert server.asked == []


# The recorded hash


def test_a_download_with_another_hash_than_recorded_is_refused(project, server, published):
    record_sha256(project.manifest_path, NAME, OTHER_SHA256)
    server.body = published
    with pytest.raises(CheckpointError) as caught:
        fetch_tiny(project)
    found = re.search(r"found ([0-9a-f]{64})", str(caught.value))[1]
    assert found != OTHER_SHA256
    assert_is_one_line(caught.value, OTHER_SHA256, "was not opened")
    assert left_in_folder(project) == []
    assert recorded(project) == OTHER_SHA256


def test_a_file_that_has_changed_is_refused_unopened_and_kept(project, server, monkeypatch):
    record_sha256(project.manifest_path, NAME, OTHER_SHA256)
    target(project).parent.mkdir()
    target(project).write_bytes(b"changed")
    monkeypatch.setattr(fetch_module, "load_checkpoint", lambda *_a, **_k: pytest.fail("opened"))
    with pytest.raises(CheckpointError) as caught:
        fetch_tiny(project)
    assert_is_one_line(caught.value, OTHER_SHA256, file_sha256(target(project)), "delete the file")
    assert target(project).read_bytes() == b"changed"
    assert server.asked == []


# Files without checksums of their own


def test_a_file_without_checksums_is_downloaded_twice(project, server, legacy):
    server.body = legacy
    assert fetch_tiny(project) == "fetched"
    assert len(server.asked) == 3  # the file, what is said of its hash, the file
    assert recorded(project) == hashlib.sha256(legacy).hexdigest()
    assert left_in_folder(project) == [f"{NAME}.pth"]


def test_two_downloads_that_differ_are_both_refused(project, server, legacy):
    server.body, server.damaged_once = legacy, flipped(legacy, 8 * len(legacy) - 1)
    assert_refused(project, "expected the same bytes from two downloads")


def test_a_broken_second_download_goes_on_in_the_next_run(project, server, legacy, monkeypatch):
    monkeypatch.setattr(fetch_module, "RETRIES", 0)
    server.body, server.cut_after = legacy, [len(legacy), len(legacy), CUT]
    with pytest.raises(DownloadError, match="run the same command again to go on"):
        fetch_tiny(project)
    assert recorded(project) is None
    assert not target(project).exists()
    server.asked.clear()
    assert fetch_tiny(project) == "fetched"
    assert server.ranges == [None, None, None, f"bytes={CHUNK}-"]
    assert left_in_folder(project) == [f"{NAME}.pth"]


def test_a_hash_in_the_published_name_makes_a_second_download_needless(project, server, legacy):
    server.body = legacy
    publish_as(project, server, f"cigpose-{hashlib.sha256(legacy).hexdigest()[:8]}_20250101.pth")
    assert fetch_tiny(project) == "fetched"
    assert len(server.asked) == 2
    assert recorded(project) == hashlib.sha256(legacy).hexdigest()


def test_a_hash_in_hugging_face_s_header_does_so_too(project, server, legacy):
    server.body, server.linked_etag = legacy, hashlib.sha256(legacy).hexdigest()
    assert fetch_tiny(project) == "fetched"
    assert len(server.asked) == 2


@pytest.mark.parametrize("etag", ["0" * 40, "A" * 64, "none"])
def test_another_etag_is_no_sha256(project, server, legacy, etag):
    server.body, server.linked_etag = legacy, etag
    assert fetch_tiny(project) == "fetched"
    assert len(server.asked) == 3


def test_a_file_without_checksums_put_there_by_hand_is_not_recorded(project, server, legacy):
    target(project).parent.mkdir()
    target(project).write_bytes(legacy)
    state = fetch_tiny(project)
    assert_is_one_line(state, "unchecked", hashlib.sha256(legacy).hexdigest(), "manifest.toml")
    assert recorded(project) is None
    assert server.asked == []


# A flipped bit

PLACES = 200
SMALL = {"state_dict": {"weight": torch.ones(2000)}}


def small_file(*, zipped: bool) -> bytes:
    buffer = io.BytesIO()
    torch.save(SMALL, buffer, _use_new_zipfile_serialization=zipped)
    return buffer.getvalue()


def small_safetensors() -> bytes:
    header = b'{"weight":{"dtype":"F32","shape":[2000],"data_offsets":[0,8000]}}'
    return (
        len(header).to_bytes(8, "little") + header + SMALL["state_dict"]["weight"].numpy().tobytes()
    )


def on_the_server(project, server, good):
    """Where the file has checksums, the copy of the server itself may be damaged."""


def on_the_server_under_its_name(project, server, good):
    publish_as(project, server, f"cigpose-{hashlib.sha256(good).hexdigest()[:8]}_20250101.pth")


def on_the_server_in_lfs(project, server, good):
    server.linked_etag = hashlib.sha256(good).hexdigest()


def on_its_way(project, server, good):
    server.body, server.damaged_once = good, server.body


FLIPPED = {
    "zip": (small_file(zipped=True), on_the_server),
    "legacy, the name has a hash": (small_file(zipped=False), on_the_server_under_its_name),
    "safetensors in Hugging Face's LFS": (small_safetensors(), on_the_server_in_lfs),
    "legacy, nobody says a hash": (small_file(zipped=False), on_its_way),
}


@pytest.mark.parametrize(("good", "place"), FLIPPED.values(), ids=FLIPPED)
def test_a_flipped_bit_in_a_download_is_found_anywhere(project, server, good, place, monkeypatch):
    monkeypatch.setattr(fetch_module, "load_weights", lambda *_: pytest.fail("it was accepted"))
    for at in random.Random(0).sample(range(8 * len(good)), PLACES):
        server.body = flipped(good, at)
        place(project, server, good)
        with pytest.raises(CheckpointError) as caught:
            fetch_tiny(project)
        assert_is_one_line(caught.value)
        assert recorded(project) is None
        assert left_in_folder(project) == []


def flipped(data: bytes, bit: int) -> bytes:
    damaged = bytearray(data)
    damaged[bit // 8] ^= 1 << bit % 8
    return bytes(damaged)


def publish_as(project: Project, server: Server, name: str) -> None:
    set_source(project, server.url.replace("file.pth", name))


# What comes is something else


def test_an_error_page_is_refused_and_leaves_nothing(project, server):
    server.body, server.content_type = HTML, "text/html"
    with pytest.raises(CheckpointError) as caught:
        fetch_tiny(project)
    assert_is_one_line(caught.value, "an HTML or XML page")
    assert caught.value.exit_status == 2
    assert left_in_folder(project) == []
    assert recorded(project) is None


def assert_refused(project, message):
    with pytest.raises(CheckpointError) as caught:
        fetch_tiny(project)
    assert_is_one_line(caught.value, message)
    assert left_in_folder(project) == []
    assert recorded(project) is None


def test_the_checkpoint_of_another_variant_is_refused_and_not_recorded(project, server, tmp_path):
    server.body = checkpoint_of(make_tiny_project(tmp_path / "crowdpose", "crowdpose"))
    assert_refused(project, "expects 17 keypoints, the weights have 14")


def test_a_synthetic_checkpoint_is_no_published_one(project, server):
    synthesize(project, project.variants[NAME])
    server.body = project.checkpoint_path(NAME, "synthetic").read_bytes()
    assert_refused(project, "expected published weights, found synthetic ones")


# Failures


def test_without_a_server_a_fetch_fails_with_one_line(project, dead_url):
    set_source(project, dead_url)
    with pytest.raises(DownloadError) as caught:
        fetch_tiny(project)
    assert_is_one_line(caught.value, NAME, dead_url, "run the same command")
    assert caught.value.exit_status == 1
    assert left_in_folder(project) == []
    assert recorded(project) is None


@pytest.mark.parametrize("status", [403, 404, 500])
def test_an_error_status_is_a_fetch_error(project, server, status):
    server.status, server.body = status, HTML
    with pytest.raises(DownloadError) as caught:
        fetch_tiny(project)
    assert_is_one_line(caught.value, str(status))
    assert left_in_folder(project) == []


@pytest.mark.parametrize("source", ["no url", "ftp://127.0.0.1/file.pth", "gdrive"])
def test_a_source_that_is_no_address_is_a_fetch_error(project, source):
    set_source(project, source)
    with pytest.raises(DownloadError) as caught:
        fetch_tiny(project)
    assert_is_one_line(caught.value, repr(source)[1:-1])


def test_a_connection_that_breaks_is_taken_up_again_in_the_same_run(project, server, published):
    server.body, server.cut_after = published, [CUT]
    assert fetch_tiny(project) == "fetched"
    assert target(project).read_bytes() == published
    assert server.ranges == [None, f"bytes={CHUNK}-"]


def test_a_second_run_goes_on_where_the_first_one_ended(project, server, published, monkeypatch):
    monkeypatch.setattr(fetch_module, "RETRIES", 0)
    server.body, server.cut_after = published, [CUT]
    with pytest.raises(DownloadError, match="run the same command again to go on") as caught:
        fetch_tiny(project)
    assert_is_one_line(caught.value)
    assert not target(project).exists()
    assert recorded(project) is None

    server.asked.clear()
    steps = []
    assert fetch_tiny(project, lambda *step: steps.append(step)) == "fetched"
    assert server.ranges == [None, f"bytes={CHUNK}-"]
    assert steps[0][0] > CHUNK
    assert steps[-1] == (len(published), len(published))
    assert target(project).read_bytes() == published
    assert left_in_folder(project) == [f"{NAME}.pth"]


def test_a_server_without_ranges_gets_a_way_out(project, server, published, monkeypatch):
    monkeypatch.setattr(fetch_module, "RETRIES", 0)
    server.body, server.cut_after, server.honours_ranges = published, [CUT], False
    with pytest.raises(DownloadError):
        fetch_tiny(project)
    with pytest.raises(DownloadError) as caught:
        fetch_tiny(project)
    assert_is_one_line(caught.value, "did not honor the requested byte range")
    pattern = Path(re.search(r"deleting (\S+\.part) ", str(caught.value))[1])
    for part in pattern.parent.glob(pattern.name):
        part.unlink()
    assert fetch_tiny(project) == "fetched"
    assert target(project).read_bytes() == published


FETCH_IN_A_PROCESS = """\
import sys
from pathlib import Path
from cigpose_export.checkpoints.fetch import fetch
from cigpose_export.project import Project
project = Project(Path(sys.argv[1]))
fetch(project, *project.variants.values(), on_bytes=lambda *step: print(*step, flush=True))
"""


def test_a_killed_process_leaves_no_checkpoint_and_the_next_goes_on(
    project, server, published, tmp_path
):
    server.body, server.cut_after, server.hangs = published, [CUT], True
    with subprocess.Popen(
        [sys.executable, "-c", FETCH_IN_A_PROCESS, str(project.root)],
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        so_far, total = map(int, process.stdout.readline().split())
        process.kill()
    assert process.returncode == -signal.SIGKILL
    assert 0 < so_far < total == len(published)
    assert not target(project).exists()
    assert recorded(project) is None

    server.asked.clear()
    server.released.set()
    assert fetch_tiny(project) == "fetched"
    assert server.ranges == [None, f"bytes={so_far}-"]
    assert target(project).read_bytes() == published
    assert left_in_folder(project) == [f"{NAME}.pth"]


# Google Drive


def test_a_file_on_google_drive_is_found_behind_its_warning_page(
    project, server, published, monkeypatch, tmp_path
):
    """Large files come after a page that asks whether to go on without a virus scan."""
    form = (
        '<form id="download-form" action="https://drive.usercontent.google.com/download">'
        '<input type="hidden" name="id" value="ID"><input type="hidden" name="confirm" value="t">'
        "</form>"
    )
    original = requests.Session.get

    def redirected(session, url, **options):
        if url == "https://drive.google.com/uc?id=ID":
            page = requests.Response()
            page.status_code, page._content, page.url = 200, form.encode(), url
            page.headers["Content-Type"] = "text/html; charset=utf-8"
            session.cookies.set("visited", "yes", domain="drive.google.com")
            return page
        host = "https://drive.usercontent.google.com"
        assert url.startswith(host)
        return original(session, url.replace(host, server.url.removesuffix("/file.pth")), **options)

    cookies = tmp_path / "home" / ".cache" / "gdown" / "cookies.txt"
    monkeypatch.setattr(sys.modules["gdown.download"], "DEFAULT_COOKIES_FILE", str(cookies))
    monkeypatch.setattr(requests.Session, "get", redirected)
    server.body = published
    set_source(project, "gdrive:ID")
    assert fetch_tiny(project) == "fetched"
    assert server.asked == [("/download?id=ID&confirm=t", None)]
    assert target(project).read_bytes() == published
    assert not (tmp_path / "home").exists()


def test_the_name_on_google_drive_says_the_hash(project, server, legacy, monkeypatch):
    digest = hashlib.sha256(legacy).hexdigest()
    asked = []

    def download(*, id, skip_download=False, output=None, **_options):
        asked.append((id, skip_download))
        if skip_download:
            name = f"cigpose-{digest[:8]}_20250101.pth"
            return GoogleDriveFileToDownload(id=id, path=name, local_path=name)
        Path(output).write_bytes(server.body)
        return output

    monkeypatch.setattr(gdown, "download", download)
    set_source(project, "gdrive:ID")
    server.body = flipped(legacy, 8 * len(legacy) - 1)
    target(project).parent.mkdir()
    with pytest.raises(CheckpointError, match=f"begins with {digest[:8]}, as gdrive:ID says"):
        fetch_tiny(project)
    server.body = legacy
    assert fetch_tiny(project) == "fetched"
    assert asked == 2 * [("ID", False), ("ID", True)]
    assert recorded(project) == digest


# The command


def run_command(project: Project, *arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        cli.main(["--project", str(project.root), "checkpoints", "fetch", *arguments])
    return ended.value.code or 0


def test_the_command_fetches(project, server, published, monkeypatch, capsys):
    server.body = published
    assert run_command(project, NAME) == 0
    assert capsys.readouterr().out.splitlines()[-1] == f"{NAME}: fetched"
    assert target(project).read_bytes() == published


def test_the_command_says_which_download_failed_and_exits_1(project, dead_url, monkeypatch, capsys):
    set_source(project, dead_url)
    assert run_command(project, "--all") == 1
    errors = capsys.readouterr().err
    assert f"cigpose-tools: error: {NAME}: cannot download" in errors
    assert "Traceback" not in errors
