"""Fetching from a signed release with its publisher's key; OpenSSF's model-signing signs it."""

import pytest

from cigpose_runtime import cli
from cigpose_runtime.releases.manifest import MANIFEST, SIGNATURE, Manifest
from signing import sign, write_keys
from small_release import contents, make_release

MODEL = "cigpose-m_coco_256x192"
FILES = (f"{MODEL}.onnx", f"golden/{MODEL}/golden.json")
FETCHED = {*FILES, f"golden/{MODEL}/{MANIFEST}"}


def change_manifest(release, **changes):
    manifest = Manifest.from_json((release / MANIFEST).read_text())
    (release / MANIFEST).write_text(Manifest(**{**vars(manifest), **changes}).to_json())


@pytest.fixture(autouse=True)
def _cache(monkeypatch, tmp_path):
    monkeypatch.setenv("CIGPOSE_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def signed(tmp_path):
    """A signed release, and the public key."""
    release = tmp_path / "release"
    make_release(release, names=FILES)
    change_manifest(release, models={MODEL: f"{MODEL}.onnx"})
    private, public = write_keys(tmp_path / "keys")
    sign(release, private)
    return release, public


def test_a_signed_release_is_fetched_with_the_key(signed, tmp_path, monkeypatch):
    release, public = signed
    monkeypatch.setenv("CIGPOSE_PUBLIC_KEY", str(public))
    assert cli.main(["get", MODEL, "--from", str(release), "--out", str(tmp_path / "out")]) == 0
    assert set(contents(tmp_path / "out")) == FETCHED


def test_with_a_key_what_was_fetched_once_needs_no_network(signed, tmp_path):
    release, public = signed
    command = ["get", MODEL, "--from", release.as_uri(), "--public-key", str(public), "--out"]
    assert cli.main([*command, str(tmp_path / "out")]) == 0
    release.rename(tmp_path / "elsewhere")
    assert cli.main([*command, str(tmp_path / "offline")]) == 0
    assert set(contents(tmp_path / "offline")) == FETCHED


@pytest.mark.parametrize("spoil", ["another key", "other manifest", "no signature", "other bytes"])
def test_without_a_sound_signature_nothing_is_fetched_with_a_key(signed, tmp_path, spoil, capsys):
    release, public = signed
    if spoil == "another key":
        _, public = write_keys(tmp_path / "others")
    elif spoil == "other manifest":
        change_manifest(release, version="1.2.4")
    elif spoil == "no signature":
        (release / SIGNATURE).unlink()
    else:
        content = (release / SIGNATURE).read_text()
        (release / SIGNATURE).write_text(content.replace("keyid", "keyId"))
    out = tmp_path / "out"
    command = ["get", MODEL, "--from", str(release), "--out", str(out)]
    assert cli.main([*command, "--public-key", str(public)]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert SIGNATURE in line
    assert not out.exists()
