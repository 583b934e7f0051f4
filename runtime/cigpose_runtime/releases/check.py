"""Checks a released folder or archive of models, with numpy and onnxruntime alone.

A release is a folder with `manifest.json`, which names every file in it but itself, the sums and
the signature. Nothing in it is believed before the manifest accounts for it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path

from cigpose_runtime.errors import CheckError, CigposeError
from cigpose_runtime.files import file_sha256, read_bytes
from cigpose_runtime.releases.archive import unpacked
from cigpose_runtime.releases.folder import (
    files_in,
    is_carried,
    naming_of,
    not_of_release,
    said_of_carried,
)
from cigpose_runtime.releases.golden_folder import golden_folder
from cigpose_runtime.releases.manifest import (
    MANIFEST,
    MANIFEST_BYTES,
    SIGNATURE,
    SIGNATURE_BYTES,
    SUMS,
    Manifest,
    read_manifest,
    sums_of,
)
from cigpose_runtime.releases.selftest import selftest
from cigpose_runtime.releases.signature import require_signed


def check_release(
    path: Path,
    public_key: Path | None = None,
    *,
    say: Callable[[str], None] = lambda _message: None,
) -> tuple[Manifest, list[CigposeError]]:
    """Checks a released folder, assets or ZIP archive: its manifest, and all that does not hold.

    Given a public key (PEM), the signature is by its owner; everything listed is there and
    unaltered, nothing else is, and the sums say the same; and each model loads and passes its
    selftest. A model runs only if it is unaltered and the signature that was asked for holds.
    say: told what lies beside the release and is no failure, and whether it is signed.
    Raises FileError where there is no folder or file, CheckError for what cannot be gone through: a
    damaged archive or manifest, or names that are not safe to unpack; InstallError where a
    signature is to be verified without cryptography.
    """
    with nullcontext(path) if path.is_dir() else unpacked(path, say) as folder:
        found, errors = files_in(folder)
        manifest = read_manifest(folder)
        if carried := [one for one in not_of_release(found, manifest) if is_carried(one)]:
            say(said_of_carried(carried))
        unsigned: list[CheckError] = []
        if public_key:
            unsigned.extend(_signature_errors(folder, manifest, public_key, say))
        elif (folder / SIGNATURE).exists():
            say("signed, and not verified: --public-key FILE verifies it")
        else:
            say("unsigned: the manifest protects from damage, not from whoever can replace it")
        altered = dict(_differences(folder, found, manifest))
        replayed: list[CigposeError] = []
        if not unsigned:
            for model in sorted(manifest.models.values()):
                if model not in altered:
                    replayed.extend(_model_errors(folder, model))
    return manifest, [*unsigned, *errors, *altered.values(), *replayed]


def _signature_errors(
    folder: Path, manifest: Manifest, public_key: Path, say: Callable[[str], None]
) -> Iterator[CheckError]:
    if not (folder / SIGNATURE).exists():
        yield CheckError(f"{SIGNATURE}: expected a signature, found none; fetch it again")
        return
    signature = read_bytes(folder / SIGNATURE, "a signature", most=SIGNATURE_BYTES)
    digests = {file.path: file.sha256 for file in manifest.files}
    digests[MANIFEST] = file_sha256(folder / MANIFEST)  # the sums follow from it
    try:
        require_signed(signature, digests, public_key)
    except CheckError as error:
        yield error
    else:
        say(f"signed, and verified: by the owner of {public_key}")


def _differences(
    folder: Path, found: set[str], manifest: Manifest
) -> Iterator[tuple[str, CheckError]]:
    """The paths of files that are not as the manifest says, and what is wrong with each."""
    name_of = naming_of(found, manifest)
    listed = {name_of(file.path): file for file in manifest.files}
    for path in sorted(set(listed) - found):
        yield (
            path,
            CheckError(f"{path}: expected a file of the manifest, found none; fetch it again"),
        )
    for path in not_of_release(found, manifest):
        if is_carried(path):
            continue
        yield path, CheckError(f"{path}: expected no such file, the manifest lacks it; remove it")
    for path in sorted(found & set(listed)):
        expected, size = listed[path], (folder / path).stat().st_size
        # What has another size is not hashed: who knows how large it is.
        digest = file_sha256(folder / path) if size == expected.size else None
        if digest != expected.sha256:
            yield (
                path,
                CheckError(
                    f"{path}: expected {expected.size} bytes of sha256 {expected.sha256[:12]}, "
                    f"found {size} of {digest[:12] if digest else 'another'}; fetch it again"
                ),
            )
    sums = sums_of(folder, manifest).encode()
    if SUMS not in found:
        yield (
            SUMS,
            CheckError(f"{SUMS}: expected it beside the manifest, found none; fetch it again"),
        )
    elif read_bytes(folder / SUMS, "the sums of a release", most=MANIFEST_BYTES) != sums:
        yield SUMS, CheckError(f"{SUMS}: expected the sums of the manifest's files; fetch it again")


def _model_errors(folder: Path, model: str) -> Iterator[CigposeError]:
    try:
        with golden_folder(folder / model) as golden:
            replayed, is_released = selftest(folder / model, golden=golden)
    except CigposeError as error:
        yield CheckError(str(error).replace(f"{folder}/", ""))
        return
    if not is_released:
        yield CheckError(f"{model}: expected the bytes that its golden vectors are for")
    if bad := [one for one in replayed if not one.holds]:
        yield CheckError(
            f"{model}: expected PyTorch's outputs to {bad[0].tolerance:.1e}, found them off by "
            f"{bad[0].error:.1e}; try another onnxruntime"
        )
