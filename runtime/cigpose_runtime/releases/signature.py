"""What the signature of a release says, once it is verified by a public key.

A signature is a Sigstore bundle with a DSSE envelope, as OpenSSF's model-signing makes it
(github.com/sigstore/model-transparency and secure-systems-lab/dsse, protocol.md of v1.0.0). It is
read here, and not by model-signing, because that verifies whole folders in the form in which they
were signed: no single manifest, no assets without folders.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cigpose_runtime.errors import CheckError, FileError, InstallError, first_line
from cigpose_runtime.files import read_bytes
from cigpose_runtime.releases.manifest import MANIFEST, SIGNATURE

_BUNDLE = "application/vnd.dev.sigstore.bundle.v0.3+json"
_STATEMENT = "application/vnd.in-toto+json"
_PREDICATE = "https://model_signing/signature/v1.0"
_KEY_BYTES = 1 << 16


def signed_digests(signature: bytes, public_key: Path) -> dict[str, str]:
    """The sha256 of each signed file by its path in the release.

    public_key: PEM file of an elliptic-curve key (P-256, P-384 or P-521).
    Raises CheckError unless the signature is by its owner, FileError for a key that is none,
    InstallError without the package cryptography.
    """
    try:
        from cryptography.hazmat.primitives import hashes, serialization
        from cryptography.hazmat.primitives.asymmetric import ec
    except ImportError as error:
        raise InstallError(
            "expected cryptography, by which signatures are verified, found none; "
            "pip install cryptography"
        ) from error
    pem = read_bytes(public_key, "a public key in PEM", most=_KEY_BYTES)
    by_size = {256: hashes.SHA256(), 384: hashes.SHA384(), 521: hashes.SHA512()}
    try:
        key = serialization.load_pem_public_key(pem)
        if not isinstance(key, ec.EllipticCurvePublicKey) or key.key_size not in by_size:
            raise ValueError("a key of another kind")
    except Exception as error:  # each kind of thing that is no key has its own
        raise FileError(
            f"{public_key}: expected a public key in PEM, of an elliptic curve, found otherwise "
            f"({first_line(error)}); give the publisher's"
        ) from error
    form = serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    hint = hashlib.sha256(key.public_bytes(*form)).hexdigest()
    try:
        payload, signed = _envelope(signature, hint)
        head = f"DSSEv1 {len(_STATEMENT)} {_STATEMENT} {len(payload)} "
        key.verify(signed, head.encode() + payload, ec.ECDSA(by_size[key.key_size]))
        statement = json.loads(payload)
        if statement["predicateType"] != _PREDICATE:
            raise ValueError(f"predicate {statement['predicateType']}")
        resources = statement["predicate"]["resources"]
        return {str(one["name"]): str(one["digest"]) for one in resources}
    except Exception as error:  # whatever it is, nothing is verified
        raise CheckError(
            f"{SIGNATURE}: expected a signature of these files by the owner of {public_key}, found "
            f"none such ({first_line(error) or type(error).__name__}); use none of them"
        ) from error


def require_signed(signature: bytes, digests: Mapping[str, str], public_key: Path) -> None:
    """Raises CheckError unless files of these sha256, by path, were signed; as signed_digests."""
    signed = signed_digests(signature, public_key)
    if other := sorted(path for path in digests if signed.get(path) != digests[path]):
        raise CheckError(
            f"{SIGNATURE}: expected a signature of these files by the owner of {public_key}, found "
            f"that others were signed in place of {', '.join(other[:8])}; use none of them"
        )


def require_signed_manifest(signature: bytes, manifest: bytes, public_key: Path) -> None:
    """As require_signed, for a manifest alone: what it lists is signed with it."""
    require_signed(signature, {MANIFEST: hashlib.sha256(manifest).hexdigest()}, public_key)


def _envelope(signature: bytes, hint: str) -> tuple[bytes, bytes]:
    """What was signed, and the signature of it. Raises whatever another document runs into."""
    document: dict[str, Any] = json.loads(signature)
    envelope = document["dsseEnvelope"]
    (one,) = envelope["signatures"]
    material = document["verificationMaterial"]
    if material.get("publicKey") != {"hint": hint}:
        raise ValueError("made with another key")
    payload, signed = (base64.b64decode(text) for text in (envelope["payload"], one["sig"]))
    # Exactly this: no spelling of a signature passes that another reader may take otherwise.
    if document != {
        "mediaType": _BUNDLE,
        "verificationMaterial": {"publicKey": {"hint": hint}, "tlogEntries": []},
        "dsseEnvelope": {
            "payload": base64.b64encode(payload).decode(),
            "payloadType": _STATEMENT,
            "signatures": [{"sig": base64.b64encode(signed).decode(), "keyid": ""}],
        },
    }:
        raise ValueError("a document of another form")
    return payload, signed
