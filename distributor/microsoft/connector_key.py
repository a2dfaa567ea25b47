"""Reads the public key that Intune's certificate connector exported, and encrypts the passwords of packages to it (facts: intune.md 4)."""

from __future__ import annotations

import base64
import hashlib
import struct
from collections.abc import Callable, Mapping

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key

from distributor.errors import InvalidInput
from distributor.microsoft.pfx_import import Padding
from distributor.model.secret import Secret

_SMALLEST, _BIGGEST = 2048, 8192  # bits
_BLOB = struct.Struct("<4sIIIII")  # BCRYPT_RSAKEY_BLOB: magic, bits, lengths of exponent, modulus and both primes
_EXPORT = "export it on the connector: Export-IntunePublicKey (see docs/intune.md#the-connectors-key)"
_HASHES: Mapping[Padding, Callable[[], hashes.SHA256 | hashes.SHA384 | hashes.SHA512]] = {
    Padding.SHA256: hashes.SHA256,
    Padding.SHA384: hashes.SHA384,
    Padding.SHA512: hashes.SHA512,
}


def parse_key(data: bytes, where: str) -> rsa.RSAPublicKey:
    """The key in an exported file: a CNG blob or PEM. `where`: the setting that names it. Raises InvalidInput."""
    key = _blob(data, where) if data[:4] in {b"RSA1", b"RSA2", b"RSA3"} else _pem(data, where)
    if not _SMALLEST <= key.key_size <= _BIGGEST:
        hint = "make the connector's key with Add-IntuneKspKey, 2048 bits or more"
        raise InvalidInput(f"the key has {key.key_size} bits", where=where, hint=hint)
    return key


def _blob(data: bytes, where: str) -> rsa.RSAPublicKey:
    if data[:4] != b"RSA1":
        hint = f"keep it on the connector; {_EXPORT}"
        raise InvalidInput("this is a private key, which must never leave the connector", where=where, hint=hint)
    try:
        _, _, exponent, modulus, *_ = _BLOB.unpack_from(data)
        parts = struct.unpack(f"{exponent}s{modulus}s", data[_BLOB.size :])
        return rsa.RSAPublicNumbers(*map(int.from_bytes, parts)).public_key()
    except (ValueError, struct.error):
        raise InvalidInput("the exported key is damaged", where=where, hint=_EXPORT) from None


def _pem(data: bytes, where: str) -> rsa.RSAPublicKey:
    text = data.decode("latin-1").removeprefix("\xef\xbb\xbf").strip()
    if "PRIVATE KEY" in text:
        hint = f"keep it on the connector; {_EXPORT}"
        raise InvalidInput("this is a private key, which must never leave the connector", where=where, hint=hint)
    try:
        key = load_pem_public_key(text.encode("latin-1"))
    except (ValueError, UnsupportedAlgorithm):
        raise InvalidInput("neither a CNG key blob nor a public key in PEM", where=where, hint=_EXPORT) from None
    if not isinstance(key, rsa.RSAPublicKey):
        raise InvalidInput("not an RSA key", where=where, hint=_EXPORT)
    return key


def fingerprint(key: rsa.RSAPublicKey) -> str:
    """The SHA-256 of the key (SubjectPublicKeyInfo): lower-case hex."""
    return hashlib.sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).hexdigest()


def longest_password(key: rsa.RSAPublicKey, scheme: Padding) -> int:
    """How many bytes fit into one block."""
    return key.key_size // 8 - 2 * _HASHES[scheme]().digest_size - 2


def encrypt(password: Secret, key: rsa.RSAPublicKey, scheme: Padding) -> str:
    """A password as the connector reads it: base64 of one block. Raises ValueError where it is not ASCII, or too long."""
    chosen = _HASHES[scheme]()
    word = password.reveal().encode("ascii")  # the connector's own tools cut each character to a byte
    sealed = key.encrypt(word, padding.OAEP(mgf=padding.MGF1(chosen), algorithm=chosen, label=None))
    return base64.b64encode(sealed).decode()
