"""The public key of a certificate in DER (SubjectPublicKeyInfo, RFC 5280 4.1.2.7) -> its kind and its hash. Loads no cryptography.

The algorithm identifier decides: a key marked for RSASSA-PSS is an RSA key like any other, and yet no mail program can encrypt to it.
"""

from __future__ import annotations

import re
from functools import lru_cache
from hashlib import sha256

from distributor.pki import asn1
from distributor.pki.asn1 import Value, wrap

_BOOLEAN, _BITS, _EXTENSIONS = 0x01, 0x03, 0xA3
_BASIC_CONSTRAINTS, _KEY_USAGE = bytes.fromhex("551d13"), bytes.fromhex("551d0f")
_SIGNS, _ENCIPHERS, _AGREES = 0xC0, 0x20, 0x08  # of the first octet of keyUsage (RFC 5280 4.2.1.3)
_RSA, _EC = "1.2.840.113549.1.1.1", "1.2.840.10045.2.1"
_KINDS = {
    "1.2.840.113549.1.1.7": "rsaes-oaep",
    "1.2.840.113549.1.1.10": "rsassa-pss",
    "1.2.840.10040.4.1": "dsa",
    "1.2.840.10046.2.1": "dh",
    "1.3.132.1.12": "ecdh",
    "1.3.101.110": "x25519",
    "1.3.101.111": "x448",
    "1.3.101.112": "ed25519",
    "1.3.101.113": "ed448",
}
_CURVES = {  # by object identifier: the name, and the octets of a coordinate
    "1.2.840.10045.3.1.7": ("p256", 32),
    "1.3.132.0.34": ("p384", 48),
    "1.3.132.0.35": ("p521", 66),
}
_OTHER_CURVES = {
    "1.2.840.10045.3.1.1": "secp192r1",
    "1.3.132.0.33": "secp224r1",
    "1.3.132.0.10": "secp256k1",
    "1.3.36.3.3.2.8.1.1.7": "brainpoolP256r1",
    "1.3.36.3.3.2.8.1.1.11": "brainpoolP384r1",
    "1.3.36.3.3.2.8.1.1.13": "brainpoolP512r1",
    "1.2.156.10197.1.301": "sm2",
}
_UNCOMPRESSED = b"\x04"
_INSTALLED = re.compile(r"rsa-\d+|ec-p(?:256|384|521)")


def public_key_info(certificate: bytes) -> bytes:
    """The SubjectPublicKeyInfo of a certificate. Raises ValueError where the bytes are no certificate."""
    return tbs_fields(certificate)[5].wanted(asn1.SEQUENCE).whole


@lru_cache(64)  # the names and the key of a certificate are asked for one by one
def tbs_fields(certificate: bytes) -> list[Value]:
    """What its issuer signed, without the version: serial, signature, issuer, validity, subject, key. Raises ValueError."""
    fields = asn1.read(certificate).sequence(3)[0].sequence(6)
    if fields[0].tag == asn1.EXPLICIT_0:  # the version, which the first one leaves out
        fields = fields[1:]
    if len(fields) < 6:  # noqa: PLR2004  see above
        raise ValueError("something is missing")
    return fields


def is_authority(certificate: bytes) -> bool:
    """Whether a certificate's basic constraints make it a CA; False where the bytes are no certificate."""
    try:
        found = _extension(certificate, _BASIC_CONSTRAINTS)
        parts = asn1.read(found).sequence(0) if found is not None else []
    except ValueError:
        return False
    return bool(parts) and parts[0].tag == _BOOLEAN and any(parts[0].content)


def mail_uses(certificate: bytes) -> frozenset[str]:
    """What a mail program may use it for, of "sign" and "encrypt", as `Certificate.usages`; both where it cannot be read."""
    try:
        found = _extension(certificate, _KEY_USAGE)
        for_key = _ENCIPHERS if key_type(public_key_info(certificate)).startswith("rsa-") else _AGREES
        bits = asn1.read(found).wanted(_BITS).content[1:2] if found is not None else b""
    except ValueError:
        return frozenset({"sign", "encrypt"})
    allowed = bits[0] if bits else (0 if found is not None else 0xFF)
    return frozenset(name for name, mask in (("sign", _SIGNS), ("encrypt", for_key)) if allowed & mask)


def _extension(certificate: bytes, wanted: bytes) -> bytes | None:
    """The value of an extension; None where the certificate has none. Raises ValueError."""
    for field in tbs_fields(certificate)[6:]:
        if field.tag == _EXTENSIONS:
            for extension in asn1.read(field.content).sequence(0):
                name, *_critical, octets = extension.sequence(2)
                if name.content == wanted:
                    return octets.octets()
    return None


def key_type(info: bytes) -> str:
    """The type of key in a SubjectPublicKeyInfo: "rsa-2048", "ec-p256", else a name or identifier. Raises ValueError."""
    algorithm, key = asn1.read(info).sequence(2)[:2]
    name, *parameters = algorithm.sequence(1)
    identifier = asn1.dotted(name)
    if identifier == _RSA:
        return _rsa(parameters, _octets(key))
    if identifier == _EC:
        return _elliptic(parameters, _octets(key))
    return _KINDS.get(identifier, identifier)


def is_installed(name: str) -> bool:
    """Whether phones install a key of this kind: plain RSA, or elliptic on one of three named curves."""
    return _INSTALLED.fullmatch(name) is not None


@lru_cache(512)  # the steps of a batch of a plan ask again
def sha256_of(certificate: bytes) -> str | None:
    """The SHA-256 of a certificate's public key, lower-case hex; None where the bytes are no certificate.

    An RSA key whose parameters are absent counts as one with NULL, as RFC 3279 2.3.1 has it: the key pair is the same.
    """
    try:
        info = public_key_info(certificate)
        algorithm, key = asn1.read(info).sequence(2)[:2]
        name, *parameters = algorithm.sequence(1)
        if not parameters and asn1.dotted(name) == _RSA:
            info = wrap(asn1.SEQUENCE, wrap(asn1.SEQUENCE, name.whole, wrap(asn1.NULL)), key.whole)
    except ValueError:
        return None
    return sha256(info).hexdigest()


def _rsa(parameters: list[Value], key: bytes) -> str:
    if [value.whole for value in parameters] not in ([], [wrap(asn1.NULL)]):
        return "rsaencryption-with-parameters"
    modulus = asn1.read(key).sequence(2)[0].wanted(asn1.INTEGER)
    return f"rsa-{int.from_bytes(modulus.content).bit_length()}"


def _elliptic(parameters: list[Value], key: bytes) -> str:
    if len(parameters) != 1 or parameters[0].tag != asn1.OID:
        return "ec-explicit"
    identifier = asn1.dotted(parameters[0])
    if identifier not in _CURVES:
        return f"ec-{_OTHER_CURVES.get(identifier, identifier)}"
    name, size = _CURVES[identifier]
    if key[:1] != _UNCOMPRESSED or len(key) != 1 + 2 * size:
        return "ec-compressed"
    return f"ec-{name}"


def _octets(bits: Value) -> bytes:
    content = bits.wanted(_BITS).content
    if content[:1] != b"\0":
        raise ValueError("an odd number of bits")
    return content[1:]
