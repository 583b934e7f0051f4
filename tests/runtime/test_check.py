"""Checking releases that are meant to get past the check, to fill memory, or to take for ever."""

import json
import os
import struct
import zipfile
import zlib
from pathlib import Path

import pytest

from cigpose_runtime import cli
from cigpose_runtime.errors import CheckError, CigposeError
from cigpose_runtime.releases import archive as archive_module
from cigpose_runtime.releases.check import check_release
from cigpose_runtime.releases.manifest import (
    MANIFEST,
    MANIFEST_BYTES,
    SUMS,
    Manifest,
    asset_name,
    require_safe_names,
    sums_of,
)
from small_release import make_release

ENTRIES = 65_000


@pytest.fixture
def release(tmp_path):
    make_release(tmp_path / "release")
    return tmp_path / "release"


def problems(path):
    """What the check says; each is one line, and so is what the command says."""
    try:
        _, errors = check_release(path)
    except CigposeError as error:
        errors = [error]
    said = [str(error) for error in errors]
    assert all("\n" not in line for line in said)
    return said


def edit(release, change):
    """Changes the manifest, and the sums with it."""
    document = json.loads((release / MANIFEST).read_text())
    change(document)
    (release / MANIFEST).write_text(json.dumps(document))


# Folders


def test_empty_folders_are_named(release):
    (release / "golden" / "empty").mkdir()
    (problem,) = problems(release)
    assert problem.startswith("golden/empty: expected no empty folder")


def test_folders_that_cannot_be_read_are_named(release, monkeypatch):
    # Told by the system call: the tests may run as root, who can read any.
    scandir = os.scandir

    def refusing(path):
        if str(path).endswith("golden/one"):
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refusing)
    found = problems(release)
    assert any(p.startswith("golden/one: expected a folder to look into") for p in found)


def test_a_pipe_is_named_and_never_opened(release):
    os.mkfifo(release / "golden" / "pipe")
    (problem,) = problems(release)
    assert problem.startswith("golden/pipe: expected a plain file")


def test_a_file_of_another_size_is_not_read(release):
    os.truncate(release / "weights.bin", 1 << 42)  # 4 TB, none of them on disk
    (problem,) = problems(release)
    assert problem.startswith("weights.bin: expected")


@pytest.mark.parametrize("name", [MANIFEST, SUMS])
def test_a_manifest_or_sums_of_any_length_are_not_read(release, name):
    os.truncate(release / name, 1 << 42)
    (problem,) = problems(release)
    assert f"at most {MANIFEST_BYTES} bytes" in problem


def test_names_that_no_encoding_has_are_printed(release, capsys):
    Path(os.fsdecode(os.fsencode(release) + b"/\xff\n\x1b[2J")).touch()
    assert cli.main(["check", str(release)]) == 1
    said = capsys.readouterr().err
    assert "\x1b" not in said
    assert len(said.splitlines()) == 1


def test_what_a_manifest_says_is_printed_as_text(release, capsys):
    edit(release, lambda document: document.update(version="1\x1b]0;x\x07\ud800"))
    manifest = Manifest.from_json((release / MANIFEST).read_text())
    (release / SUMS).write_text(sums_of(release, manifest))
    assert cli.main(["check", str(release)]) == 0
    assert "\x1b" not in capsys.readouterr().out


# Manifests


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d["files"][0].update(size=True), "without path, size and sha256"),
        (lambda d: d["files"][0].update(size=10**30), "without path, size and sha256"),
        (lambda d: d["files"][0].update(path=MANIFEST), "each name once"),
        (lambda d: d["files"][0].update(path="model.SIG"), "each name once"),
        (lambda d: d["files"][0].update(path="README.md/x"), "to be a folder"),
        (lambda d: d["files"][0].update(path="weights.bin."), "a relative path"),
        (lambda d: d["files"][0].update(path="NUL.onnx"), "a relative path"),
        (lambda d: d["files"][0].update(path="golden/com1"), "a relative path"),
        (lambda d: d["files"][0].update(path="x\n"), "a relative path"),
        (lambda d: d.update(models={"weights": "weights.bin"}), "not NAME.onnx"),
        (lambda d: d.update(models={"golden/one/input_0": "golden/one/input_0.pb"}), "not NAME"),
        (lambda d: d.update(models={str(n): "LICENSE" for n in range(501)}), "501 models"),
    ],
)
def test_a_manifest_that_no_build_writes_is_refused(release, change, message):
    edit(release, change)
    (problem,) = problems(release)
    assert message in problem


@pytest.mark.parametrize(
    "text", ["[" * 100_000, '{"a":' * 100_000, "1" * 10_000, "NaN", '"\\ud800"']
)
def test_json_of_any_depth_is_one_line(release, text):
    (release / MANIFEST).write_text(text)
    (problem,) = problems(release)
    assert "expected the manifest of a release" in problem


def test_names_are_compared_in_one_pass():
    require_safe_names([f"{'x' * 150}/{n}" for n in range(100_000)])


# Archives


def zipped(release, change=lambda _archive: None, **options):
    path = release.parent / "release.zip"
    with zipfile.ZipFile(path, "w", **options) as archive:
        for file in sorted(release.rglob("*")):
            if file.is_file():
                archive.write(file, file.relative_to(release).as_posix())
        change(archive)
    return path


def test_an_archive_of_a_release_passes(release):
    assert problems(zipped(release, compression=zipfile.ZIP_DEFLATED)) == []


def test_folders_may_have_entries_of_their_own(release):
    assert problems(zipped(release, lambda archive: archive.writestr("golden/", ""))) == []


def packed(release, names_of):
    """An archive of the release, each file under the names that are given for it."""
    path = release.parent / "release.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(release.rglob("*")):
            inside = file.relative_to(release).as_posix() + "/" * file.is_dir()
            if (name := names_of(inside)) is not None:
                archive.writestr(name, b"" if file.is_dir() else file.read_bytes())
    return path


@pytest.mark.parametrize("top", ["", "models-1.2.3/", "CIGPose models (1)/"])
def test_archives_with_entries_for_folders_and_one_folder_around_all_pass(release, top):
    path = packed(release, lambda name: top + name)
    with zipfile.ZipFile(path, "a") as archive:
        if top:
            archive.writestr(top, "")
        archive.writestr("__MACOSX/._models", "x")
    assert problems(path) == []


@pytest.mark.parametrize("top", ["../", "/", "./", "a/b/", "C:\\x/"])
def test_a_folder_around_all_that_leads_elsewhere_is_refused(release, top):
    (problem,) = problems(packed(release, lambda name: top + name))
    assert "expected it in the archive, found none" in problem


def test_an_archive_of_flat_assets_passes(release):
    flat = packed(release, lambda name: None if name.endswith("/") else asset_name(name))
    assert problems(flat) == []


@pytest.mark.parametrize("name", ["../photo.jpg", "/.DS_Store", "golden/../../photo.png"])
def test_a_picture_elsewhere_in_an_archive_is_refused(release, name):
    (problem,) = problems(zipped(release, lambda archive: archive.writestr(name, "")))
    assert "expected a relative path" in problem


CARRIED = [
    ".gitattributes",
    ".git/config",
    ".cache/huggingface/download/one.metadata",
    ".DS_Store",
    "golden/.DS_Store",
    "golden/Thumbs.db",
    "._weights.bin",
    "annotated/photo.jpg",
    "clip.mp4",
]


@pytest.mark.parametrize("is_zipped", [False, True], ids=["folder", "archive"])
def test_what_transports_add_is_named_and_no_failure(release, capsys, is_zipped):
    for name in CARRIED:
        (release / name).parent.mkdir(parents=True, exist_ok=True)
        (release / name).write_text("x")
    (release / ".git" / "empty").mkdir()
    (release / ".git" / "link").symlink_to("/nowhere")
    path = packed(release, lambda name: None if name.endswith("link") else name)
    assert cli.main(["check", str(path if is_zipped else release)]) == 0
    said = [line for line in capsys.readouterr().out.splitlines() if "not looked at" in line]
    assert len(said) == 1
    assert "'.DS_Store'" in said[0]
    assert "'annotated/photo.jpg'" in said[0] or "more" in said[0]


@pytest.mark.parametrize("name", ["other.onnx", "other-1-py3-none-any.whl", "a.zip", "a.tar.gz"])
def test_what_somebody_may_use_is_a_failure_where_the_manifest_lacks_it(release, name):
    (release / name).write_text("x")
    (problem,) = problems(release)
    assert problem.startswith(f"{name}: expected no such file")


@pytest.mark.parametrize("name", ["../evil/", "/evil/", "golden/../../evil/"])
def test_an_entry_for_a_folder_elsewhere_is_refused(release, name):
    (problem,) = problems(zipped(release, lambda archive: archive.writestr(name, "")))
    assert "expected a relative path" in problem


def test_an_archive_of_65000_entries_is_refused_before_they_are_read(release, monkeypatch):
    path = zipped(release)
    content = path.read_bytes()
    *_, size, start, _ = struct.unpack("<IHHHHIIH", content[-22:])
    entries = content[start : start + size] * (ENTRIES // 7)
    end = struct.pack("<IHHHHIIH", 0x06054B50, 0, 0, *[ENTRIES] * 2, len(entries), start, 0)
    path.write_bytes(content[:start] + entries + end)
    monkeypatch.setattr(archive_module, "_extract", lambda *_: pytest.fail("it was read"))
    (problem,) = problems(path)
    assert "a list of entries of more than" in problem


def test_an_archive_that_lies_about_sizes_is_not_unpacked(release, monkeypatch):
    """Its manifest has 100 bytes, it says; they inflate to 50 MB."""
    path = release.parent / "lying.zip"
    pieces = []
    squeezed = zlib.compressobj(9, zlib.DEFLATED, -15)
    bomb = squeezed.compress(bytes(50_000_000)) + squeezed.flush()
    name = MANIFEST.encode()
    sizes = (0, len(bomb), 100)  # CRC, packed, unpacked
    local = struct.pack("<IHHHHHIIIHH", 0x04034B50, 20, 0, 8, 0, 33, *sizes, len(name), 0)
    pieces += [local, name, bomb]
    offset = sum(map(len, pieces))
    entry = struct.pack(
        "<IHHHHHHIIIHHHHHII", 0x02014B50, 20, 20, 0, 8, 0, 33, *sizes, len(name), *[0] * 6
    )
    end = struct.pack("<IHHHHIIH", 0x06054B50, 0, 0, 1, 1, len(entry) + len(name), offset, 0)
    path.write_bytes(b"".join([*pieces, entry, name, end]))
    monkeypatch.setattr(zipfile, "_get_decompressor", _counting(zipfile._get_decompressor))
    (problem,) = problems(path)
    assert "expected a sound ZIP archive" in problem
    assert _Counted.largest <= 1 << 21


class _Counted:
    """A decompressor that remembers how much it gave at once."""

    largest = 0

    def __init__(self, inner):
        self._inner = inner

    def decompress(self, *arguments):
        content = self._inner.decompress(*arguments)
        type(self).largest = max(self.largest, len(content))
        return content

    def __getattr__(self, name):
        return getattr(self._inner, name)


def _counting(make):
    return lambda method: _Counted(make(method))


def test_an_archive_that_holds_100_times_its_size_is_refused(release):
    (release / "weights.bin").write_bytes(bytes(20_000_000))
    edit(release, lambda d: d["files"][-1].update(size=20_000_000))
    (problem,) = problems(zipped(release, compression=zipfile.ZIP_DEFLATED))
    assert "release.zip: expected at most" in problem
    assert "when unpacked" in problem


@pytest.mark.parametrize("method", [zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2])
def test_methods_that_may_take_gigabytes_are_refused(release, method):
    (problem,) = problems(zipped(release, compression=method))
    assert "expected it stored or deflated" in problem


def test_an_archive_without_a_manifest_is_refused(release):
    (release / MANIFEST).unlink()
    with pytest.raises(CheckError, match="expected it in the archive, found none"):
        check_release(zipped(release))
