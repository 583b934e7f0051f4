"""Checks a released folder or archive of models, with numpy and onnxruntime alone.

A release is a folder with `manifest.json`, which names every file in it but itself, the sums and
the signature. Nothing in it is believed before the manifest accounts for it.
"""

from __future__ import annotations

import stat
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from cigpose_runtime.errors import CheckError, CigposeError, FileError, InstallError, first_line
from cigpose_runtime.files import file_sha256, open_file, read_bytes
from cigpose_runtime.releases.golden import selftest
from cigpose_runtime.releases.manifest import (
    MANIFEST,
    SIGNATURE,
    SUMS,
    UNLISTED,
    Manifest,
    require_safe_names,
    sums_of,
)

_CHUNK_BYTES = 1 << 20


def check_release(
    path: Path, public_key: Path | None = None
) -> tuple[Manifest, list[CigposeError]]:
    """Checks a released folder or ZIP archive: its manifest, and all that does not hold.

    Everything listed is there and unaltered, nothing else is, the sums say the same, each model
    loads and passes its selftest, and, given a public key (PEM), the signature is by its owner.
    Raises FileError where there is no folder or file, CheckError for what cannot be gone through: a
    damaged archive or manifest, or names that are not safe to unpack; InstallError where a
    signature is to be verified without model-signing.
    """
    with _unpacked(path) as folder:
        content = read_bytes(folder / MANIFEST, "the manifest of a release")
        manifest = Manifest.from_json(content.decode("utf-8", "replace"))
        errors: list[CigposeError] = list(_differences(folder, manifest))
        broken = {str(error).partition(":")[0] for error in errors}
        for name, model in sorted(manifest.models.items()):
            if model not in broken:
                errors.extend(_model_errors(folder, name, model))
        if public_key is not None:
            errors.extend(_signature_errors(folder, public_key))
    return manifest, errors


def _signature_errors(folder: Path, public_key: Path) -> Iterator[CheckError]:
    try:
        from model_signing import verifying
    except ImportError as error:
        raise InstallError(
            "expected model-signing, by which signatures are verified, found none; "
            "pip install model-signing pyopenssl"
        ) from error
    with open_file(public_key, "a public key in PEM"):
        pass
    if not (folder / SIGNATURE).exists():
        yield CheckError(f"{SIGNATURE}: expected a signature, found none; fetch it again")
        return
    try:
        config = verifying.Config()  # type: ignore[no-untyped-call]
        config.use_elliptic_key_verifier(public_key=public_key)
    except Exception as error:
        raise FileError(
            f"{public_key}: expected a public key in PEM, found otherwise ({first_line(error)}); "
            "give the publisher's"
        ) from error
    try:
        config.verify(folder.absolute(), folder.absolute() / SIGNATURE)
    except Exception as error:  # noqa: BLE001 - nor here; whatever it is, nothing is verified
        yield CheckError(
            f"{SIGNATURE}: expected a signature of these files by the owner of {public_key}, found "
            f"none such ({first_line(error)}); use none of them"
        )


def _differences(folder: Path, manifest: Manifest) -> Iterator[CheckError]:
    here = set(_files_in(folder))
    listed = {file.path: file for file in manifest.files}
    for path in sorted(set(listed) - here):
        yield CheckError(f"{path}: expected a file of the manifest, found none; fetch it again")
    for path in sorted(here - set(listed) - UNLISTED):
        yield CheckError(f"{path}: expected no such file, the manifest lacks it; remove it")
    for path in sorted(here & set(listed)):
        size, digest = (folder / path).stat().st_size, file_sha256(folder / path)
        if (size, digest) != (listed[path].size, listed[path].sha256):
            yield CheckError(
                f"{path}: expected {listed[path].size} bytes of sha256 {listed[path].sha256[:12]}, "
                f"found {size} of {digest[:12]}; fetch it again"
            )
    if SUMS not in here:
        yield CheckError(f"{SUMS}: expected it beside the manifest, found none; fetch it again")
    elif (folder / SUMS).read_bytes() != sums_of(folder, manifest).encode():
        yield CheckError(f"{SUMS}: expected the sums of the manifest's files; fetch it again")


def _model_errors(folder: Path, name: str, model: str) -> Iterator[CigposeError]:
    try:
        replayed, is_released = selftest(folder / model)
    except CigposeError as error:
        yield CheckError(str(error).replace(f"{folder}/", ""))
        return
    if PurePosixPath(model).stem != name:
        yield CheckError(f"{model}: expected the model {name}, found a file of another name")
    if not is_released:
        yield CheckError(f"{model}: expected the bytes that its golden vectors are for")
    if bad := [one for one in replayed if not one.holds]:
        yield CheckError(
            f"{model}: expected PyTorch's outputs to {bad[0].tolerance:.1e}, found them off by "
            f"{bad[0].error:.1e}; try another onnxruntime"
        )


def _files_in(folder: Path) -> Iterator[str]:
    for path in folder.rglob("*"):
        if path.is_symlink() or not path.is_dir():
            yield path.relative_to(folder).as_posix()


@contextmanager
def _unpacked(path: Path) -> Iterator[Path]:
    """The folder itself, or an archive's content for as long as the block runs."""
    if path.is_dir():
        for found in path.rglob("*"):
            if not stat.S_ISREG(mode := found.lstat().st_mode) and not stat.S_ISDIR(mode):
                name = found.relative_to(path).as_posix()
                raise CheckError(
                    f"{name}: expected a plain file, found a link or device; remove it"
                )
        yield path
        return
    with open_file(path, "a released folder or ZIP archive") as file:
        try:
            archive = zipfile.ZipFile(file)
        except (zipfile.BadZipFile, ValueError) as error:
            raise CheckError(
                f"{path}: expected a released folder or ZIP archive, found no archive ({error}); "
                "fetch it again"
            ) from error
        with archive, tempfile.TemporaryDirectory(prefix="cigpose-release-") as folder:
            _extract(archive, Path(folder))
            yield Path(folder)


def _extract(archive: zipfile.ZipFile, folder: Path) -> None:
    entries = archive.infolist()
    require_safe_names([entry.filename for entry in entries])
    manifest = next((entry for entry in entries if entry.filename == MANIFEST), None)
    if manifest is None or manifest.file_size > _CHUNK_BYTES:
        raise CheckError(f"{MANIFEST}: expected it in the archive, found none; fetch it again")
    try:
        sizes = {
            file.path: file.size
            for file in Manifest.from_json(archive.read(manifest).decode("utf-8", "replace")).files
        }
        for entry in entries:
            if entry.file_size > sizes.get(entry.filename, _CHUNK_BYTES):
                raise CheckError(
                    f"{entry.filename}: expected at most the manifest's "
                    f"{sizes.get(entry.filename, _CHUNK_BYTES)} bytes, found {entry.file_size}; "
                    "fetch the archive again"
                )
            archive.extract(entry, folder)  # reads no more than file_size, and checks the CRC
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError) as error:
        raise CheckError(
            f"expected a sound ZIP archive, found a damaged one ({error}); fetch it again"
        ) from error
