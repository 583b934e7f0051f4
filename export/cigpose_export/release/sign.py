"""Signs a release with a private key, by OpenSSF's model-signing: the manifest and all files."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from cigpose_export.errors import ReleaseError
from cigpose_export.release.extra import release_extra
from cigpose_runtime.errors import last_line
from cigpose_runtime.releases.check import check_release
from cigpose_runtime.releases.manifest import SIGNATURE


def sign_release(folder: Path, private_key: Path, *, password: str | None) -> Path:
    """Checks the release `folder` and writes its signature anew; returns the path of that.

    private_key: PEM file of an elliptic-curve key (P-256, P-384 or P-521). Raises CigposeError for
    a release that does not pass its check, ReleaseError for a key that cannot be used, InstallError
    without the extra [release].
    """
    with release_extra():
        from model_signing import hashing, signing

    if not private_key.is_file():
        raise ReleaseError(f"{private_key}: expected a private key in PEM, found no file")
    _, errors = check_release(folder)
    if errors:
        raise errors[0]
    folder = folder.absolute()  # model-signing ignores no path that is relative to elsewhere
    signature = folder / SIGNATURE
    with tempfile.TemporaryDirectory(prefix=".cigpose-tools-sign-", dir=folder.parent) as beside:
        made = Path(beside) / SIGNATURE
        try:
            hashed = hashing.Config()  # type: ignore[no-untyped-call]
            config = signing.Config()  # type: ignore[no-untyped-call]
            # model-signing 1.1.1 says that it takes text, and hands it to what takes bytes.
            secret: Any = password.encode() if password else None
            config.use_elliptic_key_signer(private_key=private_key, password=secret)
            config.set_hashing_config(hashed.set_ignored_paths(paths=[signature]))
            config.sign(folder, made)
        except OSError:
            raise
        except Exception as error:  # each kind of key that is not the right one has its own
            raise ReleaseError(
                f"{private_key}: expected an elliptic-curve private key in PEM and its password, "
                f"found otherwise ({last_line(error)}); docs/releasing.md says how one is made"
            ) from error
        made.chmod(0o644)
        made.replace(signature)  # only now does an earlier one go
    return signature
