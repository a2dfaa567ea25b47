"""A PKCS#12 reader that knows what a phone of 2020 knows: 3DES and SHA-1. Its own code from RFC 7292, so that it can disagree.

It stands for iOS up to 17 and Android up to 13, which call everything else a wrong password.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass

from cryptography.hazmat.decrepit.ciphers.algorithms import TripleDES
from cryptography.hazmat.primitives.ciphers import Cipher, modes

SEQUENCE, SET, OCTETS, OID, INTEGER, NULL, BMP = 0x30, 0x31, 0x04, 0x06, 0x02, 0x05, 0x1E
DATA, ENCRYPTED = bytes.fromhex("2a864886f70d010701"), bytes.fromhex("2a864886f70d010706")
SHA1, PBE_3DES = bytes.fromhex("2b0e03021a"), bytes.fromhex("2a864886f70d010c0103")
SHROUDED_KEY, CERTIFICATE = bytes.fromhex("2a864886f70d010c0a0102"), bytes.fromhex("2a864886f70d010c0a0103")
X509_TYPE = bytes.fromhex("2a864886f70d01091601")
FRIENDLY_NAME, LOCAL_KEY_ID = bytes.fromhex("2a864886f70d010914"), bytes.fromhex("2a864886f70d010915")


class WrongPasswordError(Exception):
    """What an old phone says, whatever the reason is."""


@dataclass(frozen=True)
class Bag:
    """A key (PKCS#8 DER) or a certificate (DER) with its name and number."""

    kind: str
    content: bytes
    friendly_name: str | None
    local_key_id: bytes | None


@dataclass(frozen=True)
class Node:
    """A DER element."""

    tag: int
    value: bytes
    whole: bytes

    @property
    def children(self) -> list[Node]:
        found, rest = [], self.value
        while rest:
            node, rest = read(rest)
            found.append(node)
        return found

    @property
    def number(self) -> int:
        return int.from_bytes(self.value, "big")


def read(data: bytes) -> tuple[Node, bytes]:
    """The first element and what follows; definite lengths in their shortest form only."""
    tag, length, start = data[0], data[1], 2
    if length & 0x80:
        start += length & 0x7F
        length = int.from_bytes(data[2:start], "big")
        if start == 2 or length < 0x80 or data[2] == 0:
            raise WrongPasswordError("a length that is not DER")
    end = start + length
    if end > len(data):
        raise WrongPasswordError("cut short")
    return Node(tag, data[start:end], data[:end]), data[end:]


def install(pfx: bytes, password: str) -> list[Bag]:
    """Every bag of the file, or WrongPasswordError."""
    try:
        return _install(pfx, password)
    except (IndexError, ValueError) as error:
        raise WrongPasswordError(str(error)) from error


def _install(pfx: bytes, password: str) -> list[Bag]:
    outer, rest = read(pfx)
    version, auth_safe, mac = outer.children
    kind, explicit = auth_safe.children
    if rest or version.number != 3 or kind.value != DATA:
        raise WrongPasswordError("not a PKCS#12 with a password")
    content = read(explicit.value)[0].value
    _check_mac(mac, content, password)
    return [bag for info in read(content)[0].children for bag in _safe(info, password)]


def _check_mac(mac: Node, content: bytes, password: str) -> None:
    digest_info, salt, iterations = mac.children
    algorithm, digest = digest_info.children
    if algorithm.children[0].value != SHA1:
        raise WrongPasswordError("a digest of tomorrow")
    key = derive(password, salt.value, iterations.number, 3, 20)
    if not hmac.compare_digest(hmac.new(key, content, "sha1").digest(), digest.value):
        raise WrongPasswordError("the MAC differs")


def _safe(info: Node, password: str) -> list[Bag]:
    kind, explicit = info.children
    inner = read(explicit.value)[0]
    if kind.value == DATA:
        contents = inner.value
    elif kind.value == ENCRYPTED:
        content_type, algorithm, encrypted = inner.children[1].children
        if content_type.value != DATA:
            raise WrongPasswordError("not data inside")
        contents = decrypt(algorithm, encrypted.value, password)
    else:
        raise WrongPasswordError("a safe of another kind")
    return [_bag(bag, password) for bag in read(contents)[0].children]


def _bag(bag: Node, password: str) -> Bag:
    kind, explicit, *attributes = bag.children
    inner = read(explicit.value)[0]
    named = {a.children[0].value: a.children[1].children[0].value for group in attributes for a in group.children}
    name = named[FRIENDLY_NAME].decode("utf-16-be") if FRIENDLY_NAME in named else None
    if kind.value == SHROUDED_KEY:
        algorithm, encrypted = inner.children
        return Bag("key", decrypt(algorithm, encrypted.value, password), name, named.get(LOCAL_KEY_ID))
    if kind.value == CERTIFICATE and inner.children[0].value == X509_TYPE:
        return Bag("certificate", read(inner.children[1].value)[0].value, name, named.get(LOCAL_KEY_ID))
    raise WrongPasswordError("a bag of another kind")


def decrypt(algorithm: Node, data: bytes, password: str) -> bytes:
    """pbeWithSHAAnd3-KeyTripleDES-CBC."""
    oid, parameters = algorithm.children
    if oid.value != PBE_3DES:
        raise WrongPasswordError("an encryption of tomorrow")
    salt, iterations = parameters.children
    key = derive(password, salt.value, iterations.number, 1, 24)
    iv = derive(password, salt.value, iterations.number, 2, 8)
    cipher = Cipher(TripleDES(key), modes.CBC(iv)).decryptor()
    plain = cipher.update(data) + cipher.finalize()
    pad = plain[-1]
    if not 1 <= pad <= 8 or plain[-pad:] != bytes([pad]) * pad:
        raise WrongPasswordError("padding")
    return plain[:-pad]


def derive(password: str, salt: bytes, iterations: int, purpose: int, length: int, digest: str = "sha1") -> bytes:  # noqa: PLR0913, PLR0917
    """RFC 7292 appendix B.2."""
    block, size = hashlib.new(digest).block_size, hashlib.new(digest).digest_size
    text = password.encode("utf-16-be") + b"\0\0"
    filled = bytearray(_fill(salt, block) + _fill(text, block))
    out = b""
    while len(out) < length:
        a = bytes([purpose]) * block + bytes(filled)
        for _ in range(iterations):
            a = hashlib.new(digest, a).digest()
        out += a
        addend = int.from_bytes((a * (block // size + 1))[:block], "big") + 1
        for start in range(0, len(filled), block):
            summed = (int.from_bytes(filled[start : start + block], "big") + addend) % (1 << 8 * block)
            filled[start : start + block] = summed.to_bytes(block, "big")
    return out[:length]


def _fill(text: bytes, block: int) -> bytes:
    return (text * (-(-block // len(text)) + 1))[: -(-len(text) // block) * block] if text else b""
