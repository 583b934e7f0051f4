"""Releases: what is let in, that the same inputs give the same bytes, what the check finds."""

import dataclasses
import hashlib
import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from cigpose_export.errors import ReleaseError
from cigpose_export.release import build as build_module
from cigpose_export.release import verified_models as verified_models_module
from cigpose_export.release.build import ARCHIVE, build_release
from cigpose_export.release.sign import sign_release
from cigpose_runtime import cli
from cigpose_runtime import read_contract as read_contract_of_file
from cigpose_runtime.errors import CheckError, FileError
from cigpose_runtime.releases import check as check_module
from cigpose_runtime.releases.check import check_release
from cigpose_runtime.releases.manifest import MANIFEST, SIGNATURE, SUMS, asset_name, sums_of
from cigpose_runtime.releases.signature import signed_digests
from signing import write_keys
from small_release import contents
from tiny_project import CLONE, keep_receipt

EPOCH = "1700000000"
FLIPS = 20


@pytest.fixture
def models(release_project, tmp_path):
    """A copy of the folder with the verified model, free to be spoilt."""
    shutil.copytree(release_project.artefact_folder("synthetic"), tmp_path / "models")
    return tmp_path / "models"


@pytest.fixture
def release(built, tmp_path):
    """A copy of the release, free to be spoilt."""
    return Path(shutil.copytree(built, tmp_path / "release"))


def problems(path):
    """What the check says, and its exit status as a command."""
    try:
        _, errors = check_release(path)
    except CheckError as error:
        errors = [error]
    assert cli.main(["check", str(path)]) == (1 if errors else 0)
    return [str(error) for error in errors]


def test_a_rehearsal_says_so_everywhere_and_passes_its_check(built):
    assert problems(built) == []
    names = {p.relative_to(built).as_posix() for p in built.rglob("*") if p.is_file()}
    (model,) = (name for name in names if name.endswith(".onnx"))
    assert model.startswith("rehearsal-")
    stem = model.removesuffix(".onnx")
    assert {
        "README.md",
        "LICENSE",
        "NOTICE",
        MANIFEST,
        SUMS,
        ARCHIVE,
        "sbom.cdx.json",
        "parity.html",
        f"{stem}.golden.zip",
        f"parity/{stem}.json",
        f"{stem}.md",
        f"golden/{stem}/golden.json",
    } <= names
    assert any("/" not in name and name.endswith(".whl") for name in names)
    assert any("/" not in name and name.endswith(".tar.gz") for name in names)
    assert json.loads((built / MANIFEST).read_text())["rehearsal"] is True
    for page in ("README.md", f"{stem}.md"):
        assert "A rehearsal." in (built / page).read_text()
    with zipfile.ZipFile(built / ARCHIVE) as archive:
        assert archive.testzip() is None
        assert archive.read(model) == (built / model).read_bytes()


def test_the_sums_are_those_that_sha256sum_checks(built):
    ended = subprocess.run(
        ["sha256sum", "--check", "--quiet", "--strict", SUMS], cwd=built, check=False
    )
    assert ended.returncode == 0


def test_the_bill_of_materials_names_the_pins(built):
    document = json.loads((built / "sbom.cdx.json").read_text())
    assert document["specVersion"] == "1.7"
    found = {(c["name"], c["version"]) for c in document["components"]}
    assert {("torch", "2.13.0"), ("mmpose", "1.3.2"), ("onnxsim", "0.8.1")} <= found


def test_another_folder_umask_and_time_zone_give_the_same_bytes(
    release_project, built, tmp_path, monkeypatch
):
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(release_project.artefact_folder("synthetic"), elsewhere)
    monkeypatch.setenv("SOURCE_DATE_EPOCH", EPOCH)
    monkeypatch.setenv("TZ", "Pacific/Kiritimati")
    monkeypatch.setenv("PYTHONHASHSEED", "7")
    before = os.umask(0o077)
    try:
        build_release(release_project, elsewhere, tmp_path / "again", allow_synthetic=True)
    finally:
        os.umask(before)
    assert (tmp_path / "again" / SUMS).read_text() == (built / SUMS).read_text()


def test_the_parity_report_says_nothing_of_how_long_one_run_took(release_project, built):
    (verified,) = (release_project.artefact_folder("synthetic") / "parity").glob("*.json")
    (released,) = (built / "parity").glob("*.json")
    before, after = (json.loads(path.read_text()) for path in (verified, released))
    assert before.pop("seconds") > 0
    assert after.pop("seconds") is None
    assert all(cell.pop("milliseconds") > 0 for cell in before["cells"])
    assert {cell.pop("milliseconds") for cell in after["cells"]} == {None}
    assert before == after
    assert "Milliseconds per person" not in (built / "parity.html").read_text()


def build_again(release_project, out):
    folder = release_project.artefact_folder("synthetic")
    build_release(release_project, folder, out, allow_synthetic=True)


@pytest.mark.parametrize("is_linked", [False, True])
def test_a_release_replaces_the_one_before_and_nothing_beside_it(
    release_project, release, monkeypatch, is_linked
):
    monkeypatch.setenv("SOURCE_DATE_EPOCH", EPOCH)
    beside = {
        f".{release.name}.old",
        f".{release.name}.letters",
        ".cigpose-tools-release-build-mine",
    }
    for name in beside:
        (release.parent / name).mkdir()
    killed = release.parent / ".cigpose-tools-release-build-0a_b1c2d"
    (killed / "new").mkdir(parents=True)
    out = release
    if is_linked:
        out = release.parent / "link"
        out.symlink_to(release)
    build_again(release_project, out)
    assert problems(release) == []
    assert {p.name for p in release.parent.iterdir()} == {release.name, *beside, out.name}


@pytest.mark.parametrize(
    "fill",
    [
        lambda out: (out / "novel.txt").write_text("Call me Ishmael."),
        lambda out: (out / "golden" / "notes.txt").write_text("x"),
        lambda out: (out / MANIFEST).unlink(),
        lambda out: (out / "mine").symlink_to("/nowhere"),
        lambda out: (out / "empty").mkdir(),
    ],
)
def test_a_folder_that_holds_more_than_a_release_is_not_replaced(release_project, release, fill):
    fill(release)
    before = contents(release)
    with pytest.raises(ReleaseError, match="expected nothing there, an empty folder or a release"):
        build_again(release_project, release)
    assert contents(release) == before
    assert [p.name for p in release.parent.iterdir()] == [release.name]


def test_what_appears_while_a_release_is_built_is_kept(release_project, release, monkeypatch):
    monkeypatch.setattr(
        build_module, "write_provenance", lambda *_: (release / "new.txt").write_text("x")
    )
    with pytest.raises(ReleaseError, match=r"new\.txt in it"):
        build_again(release_project, release)
    assert (release / "new.txt").read_text() == "x"


def test_a_file_is_not_replaced_by_a_release(release_project, tmp_path):
    (tmp_path / "thesis").write_text("x")
    with pytest.raises(ReleaseError, match="expected nothing there"):
        build_again(release_project, tmp_path / "thesis")
    assert (tmp_path / "thesis").read_text() == "x"


def test_synthetic_weights_are_refused(release_project, models, tmp_path):
    with pytest.raises(ReleaseError, match="expected real weights, found synthetic ones"):
        build_release(release_project, models, tmp_path / "out", allow_synthetic=False)
    assert not (tmp_path / "out").exists()


def spoil_report(models, **changes):
    (path,) = (models / "parity").glob("*.json")
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def append(path):
    with path.open("ab") as file:
        file.write(b"\0")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda m: shutil.rmtree(m / "parity"), "expected a parity report, found none"),
        (
            lambda m: spoil_report(
                m, verdict="failed", failures=[{"stage": "parity", "message": "seeded"}]
            ),
            "expected a model that passed",
        ),
        (lambda m: spoil_report(m, sha256="0" * 64), "expected the bytes that were verified"),
        (lambda m: append(next(m.glob("*.onnx"))), "expected the bytes that were verified"),
        (lambda m: shutil.rmtree(m / "golden"), "expected golden vectors, found none"),
        (lambda m: next(m.glob("*.onnx")).unlink(), "expected exported models, found none"),
        (
            lambda m: spoil_report(m, seconds=0.5),
            "this user's own verification wrote, found others",
        ),
        (lambda m: append(next(m.rglob("input_0.pb"))), "own verification wrote, found others"),
        (lambda m: (next(m.glob("golden/*")) / "more").touch(), "own verification wrote"),
        (lambda m: shutil.rmtree(m / ".export"), "expected the export of this code, config"),
    ],
)
def test_what_verify_has_not_passed_is_refused(release_project, models, tmp_path, spoil, message):
    spoil(models)
    with pytest.raises(ReleaseError, match=message):
        build_release(release_project, models, tmp_path / "out", allow_synthetic=True)
    assert not (tmp_path / "out").exists()


def test_what_was_exported_from_another_checkpoint_than_the_file_says_is_refused(
    release_project, models, tmp_path
):
    (model,) = models.glob("*.onnx")
    keep_receipt(release_project, model, "0" * 64)
    with pytest.raises(ReleaseError, match="expected the export of this code, config"):
        build_release(release_project, models, tmp_path / "out", allow_synthetic=True)


def test_what_is_edited_while_a_release_is_built_stops_it(
    release_project, models, tmp_path, monkeypatch
):
    notice = release_project.root / "NOTICE"
    before = notice.read_text()
    monkeypatch.setattr(
        build_module,
        "write_bill_of_materials",
        lambda *_, **__: notice.write_text(before + "Later.\n"),
    )
    try:
        with pytest.raises(ReleaseError, match="'NOTICE' changed or not in git"):
            build_release(release_project, models, tmp_path / "out", allow_synthetic=True)
    finally:
        notice.write_text(before)
    assert not (tmp_path / "out").exists()


def test_what_another_user_verified_is_refused(release_project, models, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with pytest.raises(ReleaseError, match="this user's own verification"):
        build_release(release_project, models, tmp_path / "out", allow_synthetic=True)
    assert not (tmp_path / "out").exists()


def flip(path, bit):
    data = bytearray(path.read_bytes())
    data[bit // 8] ^= 1 << bit % 8
    path.write_bytes(data)


def flip_and_name(release, rng):
    files = sorted(p for p in release.rglob("*") if p.is_file() and p.stat().st_size)
    path = files[rng.integers(len(files))]
    flip(path, int(rng.integers(8 * path.stat().st_size)))
    return path.relative_to(release).as_posix()


def is_named(name, found):
    # The sums are wrong, too, when the manifest is; a manifest that cannot be read stops the check.
    return any(problem.startswith(f"{name}:") for problem in found) or (
        name == MANIFEST and any(problem.startswith(SUMS) for problem in found)
    )


@pytest.mark.parametrize("seed", range(FLIPS))
def test_a_flipped_bit_is_found(release, seed):
    name = flip_and_name(release, np.random.default_rng(seed))
    assert is_named(name, problems(release))


@pytest.mark.long
def test_500_flipped_bits_are_found(release):
    rng = np.random.default_rng(500)
    files = {p: p.read_bytes() for p in release.rglob("*") if p.is_file() and p.stat().st_size}
    for _ in range(500):
        path = list(files)[rng.integers(len(files))]
        flip(path, int(rng.integers(8 * len(files[path]))))
        assert is_named(path.relative_to(release).as_posix(), problems(release))
        path.write_bytes(files[path])


@pytest.mark.parametrize("name", [MANIFEST, SUMS, ARCHIVE, "README.md", "parity.html"])
def test_a_missing_file_is_found(release, name):
    (release / name).unlink()
    if name == MANIFEST:
        with pytest.raises(FileError, match="expected the manifest of a release"):
            check_release(release)
    else:
        assert is_named(name, problems(release))


@pytest.mark.parametrize("name", ["extra.txt", "golden/extra.txt", ".hidden"])
def test_an_extra_file_is_found(release, name):
    (release / name).write_text("x")
    assert is_named(name, problems(release))


def edit_manifest(release, edit):
    """With the sums made anew, as somebody would who edits it."""
    document = json.loads((release / MANIFEST).read_text())
    edit(document)
    (release / MANIFEST).write_text(json.dumps(document))


def test_an_edited_manifest_is_found_by_the_sums(release):
    edit_manifest(release, lambda document: document.update(version="9.9.9"))
    assert is_named(SUMS, problems(release))


def test_a_renamed_model_is_found(release):
    (model,) = release.glob("*.onnx")
    model.rename(release / "cigpose-x_coco_384x288.onnx")
    found = problems(release)
    assert is_named("cigpose-x_coco_384x288.onnx", found)
    assert is_named(model.name, found)


def test_a_model_renamed_in_manifest_and_sums_is_found_by_its_vectors(release):
    (model,) = release.glob("*.onnx")
    name = "cigpose-x_coco_384x288"
    model.rename(release / f"{name}.onnx")

    def edit(document):
        for file in document["files"]:
            if file["path"] == model.name:
                file["path"] = f"{name}.onnx"
        document["models"] = {name: f"{name}.onnx"}

    edit_manifest(release, edit)
    _write_sums(release)
    (problem,) = problems(release)
    assert "golden" in problem


def _write_sums(release):
    from cigpose_runtime.releases.manifest import Manifest

    manifest = Manifest.from_json((release / MANIFEST).read_text())
    (release / SUMS).write_text(sums_of(release, manifest))


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda d: d.update(schema_version=2), "schema version 2"),
        (lambda d: d.pop("commit"), "missing or unknown fields 'commit'"),
        (lambda d: d.update(more=1), "missing or unknown fields 'more'"),
        (lambda d: d.update(files={}), "fields of the wrong type"),
        (lambda d: d["files"].append({"path": "x"}), "without path, size and sha256"),
        (lambda d: d["files"].append({**d["files"][0], "path": "../x"}), "a relative path"),
        (lambda d: d["files"].append({**d["files"][0], "path": "/etc/x"}), "a relative path"),
        (lambda d: d["files"].append({**d["files"][0], "path": "a\\b"}), "a relative path"),
        (lambda d: d["files"].append(d["files"][0]), "each name once"),
        (lambda d: d["files"].append({**d["files"][0], "path": "License"}), "each name once"),
        (lambda d: d.update(models={"a": "a.onnx"}), "none of its files"),
    ],
)
def test_a_bad_manifest_is_one_line(release, edit, message):
    edit_manifest(release, edit)
    (problem,) = problems(release)
    assert message in problem
    assert "\n" not in problem


def test_a_link_is_no_file_of_a_release(release):
    (release / "README.md").unlink()
    (release / "README.md").symlink_to("/etc/hostname")
    (problem,) = problems(release)
    assert problem.startswith("README.md: expected a plain file")


def zipped(release, *, change=lambda _archive: None):
    path = release.parent / "release.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(release.rglob("*")):
            if file.is_file():
                archive.write(file, file.relative_to(release).as_posix())
        change(archive)
    return path


def test_an_archive_of_a_release_is_checked_as_its_folder(release):
    assert problems(zipped(release)) == []


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda z: z.writestr("../evil.txt", "x"), "expected a relative path"),
        (lambda z: z.writestr("/evil.txt", "x"), "expected a relative path"),
        (lambda z: z.writestr("readme.md", "x"), "expected each name once"),
        (lambda z: z.writestr("README.md", "x"), "expected each name once"),
        (lambda z: z.writestr("extra.txt", "x"), "the manifest lacks it"),
        (lambda z: z.writestr("bomb.bin", bytes(1 << 22)), "the manifest lacks it"),
    ],
)
def test_a_dangerous_archive_is_one_line(release, change, message):
    path = zipped(release, change=change)
    (problem,) = problems(path)
    assert message in problem
    assert not (release.parent / "evil.txt").exists()


@pytest.mark.parametrize("keep", [0, 100, -100])
def test_a_cut_archive_is_one_line(release, keep):
    path = zipped(release)
    path.write_bytes(path.read_bytes()[:keep])
    (problem,) = problems(path)
    assert "found no archive" in problem


def test_no_path_is_bad_input(tmp_path):
    assert cli.main(["check", str(tmp_path / "nothing")]) == 2


# Signatures


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    return write_keys(tmp_path_factory.mktemp("keys"))


@pytest.fixture(scope="module")
def signed_once(built, keys, tmp_path_factory):
    folder = Path(shutil.copytree(built, tmp_path_factory.mktemp("signed") / "release"))
    sign_release(folder, keys[0], password=None)
    return folder


@pytest.fixture
def signed(signed_once, tmp_path):
    return Path(shutil.copytree(signed_once, tmp_path / "signed"))


def signature_problems(release, public_key):
    manifest, errors = check_release(release, public_key)
    assert manifest.models
    return [str(error) for error in errors]


def test_a_signed_release_is_verified_with_the_public_key(signed, keys):
    assert signature_problems(signed, keys[1]) == []
    assert signature_problems(zipped(signed), keys[1]) == []
    command = [sys.executable, "-m", "cigpose_export.cli.main", "release", "check", str(signed)]
    ended = subprocess.run(
        [*command, "--public-key", str(keys[1])], capture_output=True, text=True, check=True
    )
    assert f"signed, and verified: by the owner of {keys[1]}" in ended.stdout


@pytest.mark.parametrize("is_zipped", [False, True], ids=["folder", "archive"])
def test_check_says_in_one_line_what_the_signature_is_worth(
    built, signed_once, keys, tmp_path, is_zipped, capsys
):
    for source, options, said in [
        (built, [], "unsigned: "),
        (signed_once, [], "signed, and not verified: --public-key FILE"),
        (signed_once, ["--public-key", str(keys[1])], "signed, and verified: by the owner"),
    ]:
        folder = Path(shutil.copytree(source, tmp_path / said.partition(":")[0]))
        path = zipped(folder) if is_zipped else folder
        assert cli.main(["check", str(path), *options]) == 0
        lines = list(capsys.readouterr().out.splitlines())
        assert [line for line in lines if line.startswith(("signed", "unsigned"))] == lines[:1]
        assert lines[0].startswith(said)


def test_a_signature_may_be_required(built, signed_once, keys, monkeypatch, capsys):
    required = ["check", "--require-signature"]
    assert cli.main([*required, str(signed_once)]) == 2
    assert "expected a public key to verify a signature by" in capsys.readouterr().err
    monkeypatch.setenv("CIGPOSE_PUBLIC_KEY", str(keys[1]))
    assert cli.main([*required, str(signed_once)]) == 0
    assert cli.main([*required, str(built)]) == 1
    assert "expected a signature, found none" in capsys.readouterr().err


def test_a_signature_holds_for_flat_assets_and_beside_what_transports_add(signed, keys, tmp_path):
    (signed / ".gitattributes").write_text("x")
    (signed / ".git").mkdir()
    (signed / "photo.jpg").write_text("x")
    assert signature_problems(signed, keys[1]) == []
    flat = tmp_path / "flat"
    flat.mkdir()
    for path, content in contents(signed).items():
        (flat / asset_name(path)).write_bytes(content)
    assert signature_problems(flat, keys[1]) == []


@pytest.mark.parametrize("curve", [ec.SECP384R1, ec.SECP521R1])
def test_keys_of_larger_curves_sign_and_verify(release, tmp_path, curve):
    private, public = write_keys(tmp_path / "large", curve=curve)
    sign_release(release, private, password=None)
    assert signature_problems(release, public) == []


def test_our_own_reading_of_a_signature_agrees_with_model_signing(signed_once, keys):
    from model_signing import verifying

    config = verifying.Config().use_elliptic_key_verifier(public_key=keys[1])
    config.verify(signed_once, signed_once / SIGNATURE)
    signed = signed_digests((signed_once / SIGNATURE).read_bytes(), keys[1])
    files = contents(signed_once)
    del files[SIGNATURE]
    assert signed == {path: hashlib.sha256(files[path]).hexdigest() for path in files}


def test_a_release_may_be_named_from_where_one_stands(release, keys, monkeypatch):
    monkeypatch.chdir(release.parent)
    sign_release(Path(release.name), keys[0], password=None)
    assert signature_problems(Path(release.name), keys[1]) == []
    monkeypatch.chdir(release)
    assert signature_problems(Path(), keys[1]) == []


def test_the_wrong_key_is_named(signed, tmp_path):
    _, other = write_keys(tmp_path / "other")
    (problem,) = signature_problems(signed, other)
    assert problem.startswith(f"{SIGNATURE}: expected a signature of these files by the owner of")
    assert cli.main(["check", str(signed), "--public-key", str(other)]) == 1


def test_a_signature_that_only_says_that_it_is_by_the_key_is_refused(release, keys, tmp_path):
    """Made with another key, under the fingerprint of the right one."""
    private, _ = write_keys(tmp_path / "other")
    sign_release(release, private, password=None)
    document = json.loads((release / SIGNATURE).read_text())
    fingerprint = hashlib.sha256(keys[1].read_bytes()).hexdigest()
    document["verificationMaterial"]["publicKey"]["hint"] = fingerprint
    (release / SIGNATURE).write_text(json.dumps(document))
    (problem,) = signature_problems(release, keys[1])
    assert "found none such (InvalidSignature)" in problem


@pytest.mark.parametrize("name", [MANIFEST, SUMS, "README.md", "cigpose_models.zip"])
def test_the_signature_covers_every_file(signed, keys, name):
    flip(signed / name, 4)
    found = signature_problems_of_any(signed, keys[1])
    assert is_named(name, found) or is_named(SIGNATURE, found)


def signature_problems_of_any(release, public_key):
    try:
        return signature_problems(release, public_key)
    except CheckError as error:
        return [str(error)]


def test_manifest_and_sums_made_anew_are_found_by_the_signature(signed, keys):
    """What somebody could do who has no key."""
    (signed / "README.md").write_text("other")
    content = (signed / "README.md").read_bytes()

    def edit(document):
        (entry,) = (one for one in document["files"] if one["path"] == "README.md")
        entry.update(size=len(content), sha256=hashlib.sha256(content).hexdigest())

    edit_manifest(signed, edit)
    _write_sums(signed)
    assert problems(signed) == []
    (problem,) = signature_problems(signed, keys[1])
    assert problem.startswith(SIGNATURE)
    assert "README.md" in problem


@pytest.mark.parametrize("seed", range(5))
def test_a_flipped_bit_of_the_signature_is_found(signed, keys, seed):
    rng = np.random.default_rng(seed)
    flip(signed / SIGNATURE, int(rng.integers(8 * (signed / SIGNATURE).stat().st_size)))
    (problem,) = signature_problems(signed, keys[1])
    assert problem.startswith(SIGNATURE)


@pytest.mark.parametrize("length", [None, 1 << 42], ids=["none", "4 TB"])
def test_with_a_key_too_sums_that_are_missing_or_endless_are_one_line(signed, keys, length):
    if length:
        os.truncate(signed / SUMS, length)
    else:
        (signed / SUMS).unlink()
    try:
        _, errors = check_release(signed, keys[1])
    except FileError as error:
        errors = [error]
    (problem,) = map(str, errors)
    assert SUMS in problem


def test_a_signature_that_is_asked_for_has_to_be_there(release, keys):
    (problem,) = signature_problems(release, keys[1])
    assert problem.startswith(f"{SIGNATURE}: expected a signature, found none")


def test_a_signature_stays_until_the_new_one_is_whole(signed, keys, tmp_path):
    before = contents(signed)
    bad = tmp_path / "bad.pem"
    bad.write_text("-----BEGIN PRIVATE KEY-----\n")
    with pytest.raises(ReleaseError, match="expected an elliptic-curve private key"):
        sign_release(signed, bad, password=None)
    assert contents(signed) == before
    sign_release(signed, keys[0], password=None)
    assert signature_problems(signed, keys[1]) == []
    assert sorted(p.name for p in tmp_path.iterdir()) == ["bad.pem", "signed"]


@pytest.mark.parametrize("kind", [rsa.generate_private_key, ed25519.Ed25519PrivateKey.generate])
def test_a_key_of_another_kind_is_one_line(release, tmp_path, kind):
    key = kind(65537, 2048) if kind is rsa.generate_private_key else kind()
    pem, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    path = tmp_path / "other.pem"
    path.write_bytes(key.private_bytes(pem, form, serialization.NoEncryption()))
    with pytest.raises(ReleaseError, match="expected an elliptic-curve private key") as caught:
        sign_release(release, path, password=None)
    assert "\n" not in str(caught.value)


def test_no_model_runs_before_the_signature_holds(signed, tmp_path, monkeypatch):
    ran = []
    monkeypatch.setattr(check_module, "selftest", lambda path, **_: ran.append(path) or ([], True))
    _, other = write_keys(tmp_path / "other")
    (problem,) = signature_problems(signed, other)
    assert problem.startswith(SIGNATURE)
    assert ran == []


def test_a_password_opens_the_key(release, tmp_path):
    private, public = write_keys(tmp_path / "locked", password="open sesame")
    with pytest.raises(ReleaseError, match="expected an elliptic-curve private key") as caught:
        sign_release(release, private, password="wrong")
    assert "wrong" not in str(caught.value)
    assert not (release / SIGNATURE).exists()
    sign_release(release, private, password="open sesame")
    assert signature_problems(release, public) == []


@pytest.mark.parametrize("content", [None, b"", b"-----BEGIN CERTIFICATE-----\n"])
def test_a_key_that_is_none_is_one_line(release, tmp_path, content):
    path = tmp_path / "key.pem"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ReleaseError, match="expected a") as caught:
        sign_release(release, path, password=None)
    assert "\n" not in str(caught.value)
    if content is not None:
        (release / SIGNATURE).write_text("{}")
        with pytest.raises(FileError, match="expected a public key in PEM"):
            check_release(release, path)


def test_a_spoilt_release_is_not_signed(release, keys):
    flip(release / "README.md", 0)
    with pytest.raises(CheckError, match=r"README\.md"):
        sign_release(release, keys[0], password=None)
    assert not (release / SIGNATURE).exists()


@pytest.mark.long
@pytest.mark.timeout(900)
def test_the_printed_commands_run_a_model_where_there_is_only_pip(built, tmp_path):
    folder = Path(shutil.copytree(built, tmp_path / "release"))
    shutil.copy(
        CLONE / "verify" / "cigpose_verify" / "cases" / "photographs" / "astronaut.jpg", tmp_path
    )
    text = (folder / "README.md").read_text()
    commands = [line[2:] for line in text.splitlines() if line.startswith("$ ")]
    assert [command.split()[0] for command in commands] == [
        "sha256sum",
        "pip",
        "cigpose-runtime",
        "cigpose-runtime",
    ]
    subprocess.run([sys.executable, "-m", "venv", str(tmp_path / "venv")], check=True)
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "VIRTUAL_ENV")}
    environment["PATH"] = f"{tmp_path / 'venv' / 'bin'}{os.pathsep}{environment['PATH']}"
    for command in commands:
        ended = subprocess.run(
            command.replace("photo.jpg", "../astronaut.jpg").replace("annotated/", "../annotated/"),
            shell=True,
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert ended.returncode == 0, command + ended.stderr
    assert (tmp_path / "annotated" / "astronaut.jpg").is_file()


# Other weights under a published name


PUBLISHED, OTHER = "a" * 64, "b" * 64


def release_of(release_project, models, out, monkeypatch, *, recorded, **options):
    """Builds a release of a model that says its weights are real and of the checkpoint OTHER.

    recorded: the sha256 that the manifest of checkpoints has.
    """
    (variant,) = release_project.variants.values()
    variants = {variant.name: dataclasses.replace(variant, sha256=recorded)}
    project = dataclasses.replace(release_project)
    project.__dict__["variants"] = variants

    def read_contract(path):
        contract = read_contract_of_file(path)
        source = dataclasses.replace(contract.source_checkpoint, sha256=OTHER)
        return dataclasses.replace(contract, weights="real", source_checkpoint=source)

    monkeypatch.setattr(verified_models_module, "read_contract", read_contract)
    keep_receipt(release_project, models / f"{variant.name}.onnx", OTHER)
    monkeypatch.setenv("SOURCE_DATE_EPOCH", EPOCH)
    build_release(project, models, out, allow_synthetic=False, **options)
    return variant.name


@pytest.mark.parametrize("recorded", [PUBLISHED, None], ids=["another hash", "no hash"])
def test_weights_that_are_not_the_published_ones_are_refused(
    release_project, models, tmp_path, monkeypatch, recorded
):
    with pytest.raises(ReleaseError, match="expected the weights of the published checkpoint"):
        release_of(release_project, models, tmp_path / "out", monkeypatch, recorded=recorded)
    assert not (tmp_path / "out").exists()


def test_own_weights_are_named_so_and_carry_no_published_figure(
    release_project, models, tmp_path, monkeypatch
):
    out = tmp_path / "out"
    name = release_of(
        release_project, models, out, monkeypatch, recorded=PUBLISHED, own_weights=True
    )
    assert problems(out) == []
    assert [path.name for path in out.glob("*.onnx")] == [f"own-weights-{name}.onnx"]
    for page in ("README.md", f"own-weights-{name}.md"):
        text = (out / page).read_text()
        assert "Other weights than the published ones." in text
        assert "As published" not in text
        assert "50.0" not in text  # the published AP of this project's manifest


def test_the_published_weights_keep_name_and_figure(release_project, models, tmp_path, monkeypatch):
    out = tmp_path / "out"
    name = release_of(release_project, models, out, monkeypatch, recorded=OTHER)
    assert "AP 50.0" in (out / f"{name}.md").read_text()
    assert "Other weights" not in (out / "README.md").read_text()
