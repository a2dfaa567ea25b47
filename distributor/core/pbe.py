"""Password and algorithm -> keys and plain octets, for the schemes of PKCS#12 files (RFC 7292 appendix B, RFC 8018, RFC 9879)."""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass

from asn1crypto.algos import EncryptionAlgorithm, Pbkdf2Params
from asn1crypto.core import Sequence
from asn1crypto.pkcs12 import MacData
from cryptography.hazmat.decrepit.ciphers.algorithms import TripleDES
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers import Cipher, modes
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.kdf.pbkdf2 import PBKDF2HMAC
from cryptography.hazmat.primitives.padding import PKCS7

KEY, IV, MAC = 1, 2, 3  # what a derivation is for, RFC 7292 B.3
_PBMAC1 = "1.2.840.113549.1.5.14"
_HASHES: dict[str, hashes.HashAlgorithm] = {
    "sha1": hashes.SHA1(),  # noqa: S303  what old files are made with; the password protects, not the hash
    "sha224": hashes.SHA224(),
    "sha256": hashes.SHA256(),
    "sha384": hashes.SHA384(),
    "sha512": hashes.SHA512(),
}
_LARGE_BLOCKS = frozenset({"sha384", "sha512"})  # hashes that work on 128 bytes, the others on 64


class Unsupported(ValueError):
    """A scheme that this program does not read; the text names it."""


@dataclass(frozen=True, slots=True)
class Word:
    """A password as the two families of schemes take it. No password and an empty one differ in PKCS#12's own derivation."""

    bmp: bytes
    utf8: bytes

    @classmethod
    def of(cls, text: str | None) -> Word:
        """None: no password at all."""
        if text is None:
            return cls(b"", b"")
        return cls(text.encode("utf-16-be", "surrogatepass") + b"\0\0", text.encode("utf-8", "surrogatepass"))


def rounds(algorithm: EncryptionAlgorithm) -> int:
    """The iterations that a file asks for before a byte can be read."""
    if algorithm["algorithm"].native == "pbes2":
        return _positive(algorithm["parameters"]["key_derivation_func"]["parameters"]["iteration_count"].native)
    return _positive(algorithm["parameters"]["iterations"].native)


def decrypt(algorithm: EncryptionAlgorithm, word: Word, content: bytes) -> bytes | None:
    """The plain octets; None for an old scheme that only the library knows. Raises ValueError when the password does not fit."""
    name = algorithm["algorithm"].native
    if name == "pkcs12_sha1_tripledes_3key":
        salt, count = algorithm["parameters"]["salt"].native, rounds(algorithm)
        key, iv = (pkcs12_key("sha1", word, salt, count, purpose, size) for purpose, size in ((KEY, 24), (IV, 8)))
        return _cbc(TripleDES(key), iv, content)
    if name != "pbes2":
        return None
    scheme = algorithm["parameters"]["encryption_scheme"]["algorithm"].native
    size = {"aes128_cbc": 16, "aes192_cbc": 24, "aes256_cbc": 32}.get(scheme)
    if size is None:
        return None
    parameters = algorithm["parameters"]["key_derivation_func"]["parameters"]
    return _cbc(AES(pbkdf2(parameters, word, size)), algorithm["parameters"]["encryption_scheme"]["parameters"].native, content)


def pbkdf2(parameters: Pbkdf2Params, word: Word, size: int) -> bytes:
    """A key of `size` bytes by RFC 8018 5.2."""
    prf = parameters["prf"]["algorithm"].native
    if prf not in _HASHES:
        raise Unsupported(f"its key derivation uses {prf}")
    salt = parameters["salt"].chosen.native
    return PBKDF2HMAC(_HASHES[prf], size, salt, _positive(parameters["iteration_count"].native)).derive(word.utf8)


def _cbc(algorithm: AES | TripleDES, iv: bytes, content: bytes) -> bytes:
    decryptor = Cipher(algorithm, modes.CBC(iv)).decryptor()
    unpadder = PKCS7(algorithm.block_size).unpadder()
    return unpadder.update(decryptor.update(content) + decryptor.finalize()) + unpadder.finalize()


def pkcs12_key(digest: str, word: Word, salt: bytes, count: int, purpose: int, size: int) -> bytes:  # noqa: PLR0913, PLR0917  as in the standard
    """A key of `size` bytes by RFC 7292 B.2."""
    block = 128 if digest in _LARGE_BLOCKS else 64
    make = getattr(hashlib, digest)
    mixed = _fill(salt, block) + _fill(word.bmp, block)
    found = b""
    while True:
        part: bytes = make(bytes([purpose]) * block + mixed).digest()
        for _ in range(count - 1):
            part = make(part).digest()
        found += part
        if len(found) >= size:
            return found[:size]
        mixed = _stir(mixed, _fill(part, block)[:block], block)


def _fill(text: bytes, block: int) -> bytes:
    """The text repeated up to a whole number of blocks; nothing stays nothing."""
    size = -(-len(text) // block) * block
    return (text * (size // len(text) + 1))[:size] if text else b""


def _stir(mixed: bytes, part: bytes, block: int) -> bytes:
    add, modulus = int.from_bytes(part) + 1, 1 << (8 * block)
    pieces = (int.from_bytes(mixed[i : i + block]) for i in range(0, len(mixed), block))
    return b"".join(((piece + add) % modulus).to_bytes(block) for piece in pieces)


# --- the MAC over a whole file -------------------------------------------------------------------------------------


class _Pbmac1(Sequence):  # type: ignore[misc]  # asn1crypto has no types
    _fields = [("key_derivation_func", EncryptionAlgorithm), ("scheme", EncryptionAlgorithm)]  # noqa: RUF012  asn1crypto's way


def mac_rounds(mac: MacData) -> int:
    """The iterations of the MAC's key derivation."""
    parameters = _pbmac1(mac)
    return _positive(mac["iterations"].native if parameters is None else parameters["iteration_count"].native)


def mac_fits(mac: MacData, word: Word, content: bytes) -> bool:
    """Whether this password made the MAC over `content`, compared in constant time."""
    wanted: bytes = mac["mac"]["digest"].native
    parameters = _pbmac1(mac)
    if parameters is None:
        digest = mac["mac"]["digest_algorithm"]["algorithm"].native
        if digest not in _HASHES:
            raise Unsupported(f"its integrity check uses {digest}")
        key = pkcs12_key(digest, word, mac["mac_salt"].native, mac_rounds(mac), MAC, _HASHES[digest].digest_size)
    else:
        digest = parameters["prf"]["algorithm"].native
        key = pbkdf2(parameters, word, _pbmac1_size(parameters))
    return hmac.compare_digest(hmac.digest(key, content, digest), wanted)


def _pbmac1_size(parameters: Pbkdf2Params) -> int:
    size = parameters["key_length"].native
    if not isinstance(size, int) or not 20 <= size <= 64:  # noqa: PLR2004  RFC 9879 section 4: at least 20; CVE-2025-11187 for the upper bound
        raise Unsupported("its PBMAC1 key has an odd length")
    return size


def _pbmac1(mac: MacData) -> Pbkdf2Params | None:
    algorithm = mac["mac"]["digest_algorithm"]
    if algorithm["algorithm"].dotted != _PBMAC1:
        return None
    kdf, scheme = (Sequence.load(part) for part in _pair(algorithm["parameters"].dump()))
    parameters = Pbkdf2Params.load(kdf[1].dump())
    prf = f"1.2.840.113549.2.{_HMACS.get(parameters['prf']['algorithm'].native, 0)}"
    if kdf[0].native != "1.2.840.113549.1.5.12" or scheme[0].native != prf:
        raise Unsupported("its PBMAC1 mixes algorithms")
    return parameters


_HMACS = {"sha1": 7, "sha224": 8, "sha256": 9, "sha384": 10, "sha512": 11}


def _pair(der: bytes) -> tuple[bytes, bytes]:
    sequence = Sequence.load(der)
    return sequence[0].dump(), sequence[1].dump()


def _positive(count: object) -> int:
    if not isinstance(count, int) or count < 1:
        raise Unsupported(f"its key derivation has {count} iterations")
    return count
