"""Writes PFX files piece by piece, so that a test decides how each is encoded and with which octets of a password it is protected."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Sequence
from random import Random

from cryptography.hazmat.primitives import serialization as ser
from cryptography.hazmat.primitives.ciphers import Cipher, modes
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.padding import PKCS7

from distributor.pki import asn1, pbe
from distributor.pki.asn1 import EXPLICIT_0, INTEGER, NULL, OCTETS, OID, SEQUENCE, wrap
from distributor.pki.pbe import EncodedPassword
from tests.authority import Identity

Encode = Callable[[bytes], bytes]
DATA, ENCRYPTED = "2a864886f70d010701", "2a864886f70d010706"
SHROUDED, CERTIFICATE, X509 = "2a864886f70d010c0a0102", "2a864886f70d010c0a0103", "2a864886f70d01091601"
SALT = b"salt-of-16-bytes"


def pfx(identity: Identity, word: EncodedPassword, *, encode: Encode = bytes, rounds: int = 1) -> bytes:
    """Both parts in AES-256 with the octets, the MAC with the BMPString of `word`; each layer encoded by `encode` before it is sealed."""
    certificates = [bag(CERTIFICATE, wrap(SEQUENCE, oid(X509), explicit(wrap(OCTETS, der)))) for der in ders(identity)]
    keys = [bag(SHROUDED, shrouded(private_key(identity, encode), word.utf8, rounds))]
    safes = [encrypted(encode(wrap(SEQUENCE, *certificates)), word.utf8, rounds), data(encode(wrap(SEQUENCE, *keys)))]
    return whole(safes, word, encode=encode, rounds=rounds)


def whole(safes: Sequence[bytes], word: EncodedPassword, *, encode: Encode = bytes, rounds: int = 1) -> bytes:
    """A PFX of these ContentInfos with a MAC."""
    content = encode(wrap(SEQUENCE, *safes))
    key = pbe.pkcs12_key("sha256", word, SALT, rounds, pbe.MAC, 32)
    digest = wrap(SEQUENCE, wrap(SEQUENCE, oid("608648016503040201"), wrap(NULL)), wrap(OCTETS, hmac.digest(key, content, "sha256")))
    mac = wrap(SEQUENCE, digest, wrap(OCTETS, SALT), integer(rounds))
    return encode(wrap(SEQUENCE, integer(3), data(content), mac))


def ders(identity: Identity) -> list[bytes]:
    return [one.public_bytes(ser.Encoding.DER) for one in (identity.certificate, *identity.chain)]


def private_key(identity: Identity, encode: Encode = bytes) -> bytes:
    """A PrivateKeyInfo."""
    plain = identity.key.private_bytes(ser.Encoding.DER, ser.PrivateFormat.PKCS8, ser.NoEncryption())
    version, algorithm, key, *_ = asn1.read(plain).parts()
    return encode(wrap(SEQUENCE, version.whole, algorithm.whole, wrap(OCTETS, encode(key.content))))


def encrypted(plain: bytes, octets: bytes, rounds: int = 1) -> bytes:
    """A ContentInfo of encrypted data."""
    algorithm, content = _sealed(plain, octets, rounds)
    info = wrap(SEQUENCE, oid(DATA), algorithm, wrap(0x80, content))
    return wrap(SEQUENCE, oid(ENCRYPTED), explicit(wrap(SEQUENCE, integer(0), info)))


def shrouded(key: bytes, octets: bytes, rounds: int = 1) -> bytes:
    """An EncryptedPrivateKeyInfo."""
    algorithm, content = _sealed(key, octets, rounds)
    return wrap(SEQUENCE, algorithm, wrap(OCTETS, content))


def bag(kind: str, value: bytes) -> bytes:
    return wrap(SEQUENCE, oid(kind), explicit(value))


def data(content: bytes) -> bytes:
    """A ContentInfo of plain data."""
    return wrap(SEQUENCE, oid(DATA), explicit(wrap(OCTETS, content)))


def oid(octets: str) -> bytes:
    return wrap(OID, bytes.fromhex(octets))


def explicit(value: bytes) -> bytes:
    return wrap(EXPLICIT_0, value)


def integer(number: int) -> bytes:
    return wrap(INTEGER, number.to_bytes(number.bit_length() // 8 + 1))


def _sealed(plain: bytes, octets: bytes, rounds: int) -> tuple[bytes, bytes]:
    """AlgorithmIdentifier and ciphertext of PBES2 with AES-256 and HMAC-SHA-256. More than 600 000 rounds are only claimed."""
    prf = wrap(SEQUENCE, oid("2a864886f70d0209"), wrap(NULL))
    kdf = wrap(SEQUENCE, oid("2a864886f70d01050c"), wrap(SEQUENCE, wrap(OCTETS, SALT), integer(rounds), prf))
    cipher = wrap(SEQUENCE, oid("60864801650304012a"), wrap(OCTETS, SALT))
    key = hashlib.pbkdf2_hmac("sha256", octets, SALT, min(rounds, 600_000), 32)
    padder, encryptor = PKCS7(128).padder(), Cipher(AES(key), modes.CBC(SALT)).encryptor()
    content = encryptor.update(padder.update(plain) + padder.finalize()) + encryptor.finalize()
    return wrap(SEQUENCE, oid("2a864886f70d01050d"), wrap(SEQUENCE, kdf, cipher)), content


# --- BER -----------------------------------------------------------------------------------------------------------------------


def in_ber(der: bytes, random: Random) -> bytes:
    """The same value with indefinite lengths, long lengths and octet strings in pieces at random places."""
    return _random(asn1.read(der), random)


def _random(value: asn1.Value, random: Random) -> bytes:
    if value.tag in {OCTETS, 0x80} and random.random() < 0.5:
        return _framed(0x24 if value.tag == OCTETS else 0xA0, _in_pieces(value.content, random, 3), random)
    if not value.tag & 0x20:
        return value.whole
    return _framed(value.tag, b"".join(_random(part, random) for part in value.parts()), random)


def _in_pieces(octets: bytes, random: Random, depth: int) -> bytes:
    """Octet strings that make up these octets, some of them in pieces themselves."""
    pieces = b""
    while octets:
        size = random.randint(1, len(octets) if len(octets) < 9 else max(8, len(octets) // 2))
        piece, octets = octets[:size], octets[size:]
        nested = depth and random.random() < 0.2
        pieces += _framed(0x24, _in_pieces(piece, random, depth - 1), random) if nested else wrap(OCTETS, piece)
    return pieces


def _framed(tag: int, content: bytes, random: Random) -> bytes:
    match random.randrange(3):
        case 0:
            return bytes((tag, 0x80)) + content + b"\0\0"
        case 1:
            return bytes((tag, 0x84)) + len(content).to_bytes(4) + content
        case _:
            return wrap(tag, content)
