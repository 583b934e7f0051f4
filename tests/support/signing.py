"""Keys, and signatures by OpenSSF's model-signing."""

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from model_signing import signing

from cigpose_runtime.releases.manifest import SIGNATURE


def write_keys(folder, password=None, curve=ec.SECP256R1):
    """A pair of elliptic-curve keys in PEM; returns the paths, the private one first."""
    key = ec.generate_private_key(curve())
    encryption = (
        serialization.BestAvailableEncryption(password.encode())
        if password
        else serialization.NoEncryption()
    )
    private, public = folder / "key.pem", folder / "key.pub"
    folder.mkdir(exist_ok=True)
    pem, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    private.write_bytes(key.private_bytes(pem, form, encryption))
    public.write_bytes(
        key.public_key().public_bytes(pem, serialization.PublicFormat.SubjectPublicKeyInfo)
    )
    return private, public


def sign(folder, private_key):
    """Signs all that is in a folder."""
    config = signing.Config().use_elliptic_key_signer(private_key=private_key)
    config.sign(folder, folder / SIGNATURE)
