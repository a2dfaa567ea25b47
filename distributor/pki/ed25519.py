"""Ed25519 (RFC 8032) keys that sign checkpoints: made, kept as PEM (PKCS#8), and used."""

from __future__ import annotations

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key

from distributor.errors import InvalidInput
from distributor.model.secret import Secret


class SigningKey:
    """A private key, read from PEM. Raises InvalidInput for anything else; `where` is the key of the configuration that names it."""

    def __init__(self, pem: Secret, where: str) -> None:
        hint = "use the file that `distributor init` or `distributor audit key` made, or make one: openssl genpkey -algorithm ed25519"
        try:
            key = load_pem_private_key(pem.reveal().encode(), None)
        except (ValueError, TypeError, UnsupportedAlgorithm):  # TypeError: it has a passphrase
            raise InvalidInput("not a private key in PEM without a passphrase", where=where, hint=hint) from None
        if not isinstance(key, Ed25519PrivateKey):
            raise InvalidInput("not an Ed25519 key", where=where, hint=hint)
        self._key = key

    @property
    def public(self) -> bytes:
        """The 32 bytes of the public key."""
        return self._key.public_key().public_bytes_raw()

    def sign(self, message: bytes) -> bytes:
        """The signature, 64 bytes."""
        return self._key.sign(message)


def make_key() -> Secret:
    """A new private key in PEM (PKCS#8, not encrypted)."""
    return Secret(Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode())


def verify(public: bytes, signature: bytes, message: bytes) -> bool:
    """Whether the owner of a public key signed a message."""
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True
