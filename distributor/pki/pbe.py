"""Password and algorithm -> keys and plain octets, for the schemes of PKCS#12 files (RFC 7292 appendix B, RFC 8018, RFC 9879)."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import ceil
from typing import NamedTuple

from cryptography.hazmat.decrepit.ciphers.algorithms import TripleDES
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers import Cipher, modes
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.kdf.pbkdf2 import PBKDF2HMAC
from cryptography.hazmat.primitives.padding import PKCS7

from distributor.model.certificates import ParseProblem
from distributor.model.issues import CheckId
from distributor.model.limits import Limits
from distributor.pki import asn1
from distributor.pki.asn1 import Unreadable, Value

MOST_SHOWN = 10**12  # iterations that are shown as a number
_ROUNDING = 1e-6  # seconds by which the sum of estimates may be off
_FEWER = "export it again with fewer iterations"
KEY, IV, MAC = 1, 2, 3  # what a derivation is for, RFC 7292 B.3
_PBES2, _PBKDF2, _PBMAC1 = "1.2.840.113549.1.5.13", "1.2.840.113549.1.5.12", "1.2.840.113549.1.5.14"
_TRIPLE_DES = "1.2.840.113549.1.12.1.3"
_PBES1 = ("1.2.840.113549.1.12.1.", "1.2.840.113549.1.5.")
_AES = {"2.16.840.1.101.3.4.1.2": 16, "2.16.840.1.101.3.4.1.22": 24, "2.16.840.1.101.3.4.1.42": 32}
_HASHES: dict[str, hashes.HashAlgorithm] = {
    "sha1": hashes.SHA1(),  # noqa: S303  what old files are made with; the password protects, not the hash
    "sha224": hashes.SHA224(),
    "sha256": hashes.SHA256(),
    "sha384": hashes.SHA384(),
    "sha512": hashes.SHA512(),
}
_DIGESTS = {
    "1.3.14.3.2.26": "sha1",
    "2.16.840.1.101.3.4.2.4": "sha224",
    "2.16.840.1.101.3.4.2.1": "sha256",
    "2.16.840.1.101.3.4.2.2": "sha384",
    "2.16.840.1.101.3.4.2.3": "sha512",
}
_HMACS = {f"1.2.840.113549.2.{number}": name for number, name in enumerate(_HASHES, 7)}
_LARGE_BLOCKS = frozenset({"sha384", "sha512"})  # hashes that work on 128 bytes, the others on 64

# Microseconds for one round of one block, measured on a server core with cryptography 50 and rounded up.
_PKCS12_ROUND = {"sha1": 0.5, "sha224": 0.6, "sha256": 0.6, "sha384": 1.2, "sha512": 1.2}
_PBKDF2_ROUND = {"sha1": 0.25, "sha224": 0.25, "sha256": 0.25, "sha384": 0.8, "sha512": 0.8}
_TRIPLE_DES_ROUND = 3 * _PKCS12_ROUND["sha1"]  # two blocks for the key, one for the IV
_LIBRARY_ROUND = 2 * 0.2  # RC2 and others, which cryptography derives


@dataclass(frozen=True, slots=True)
class EncodedPassword:
    """A password as the two families of schemes encode it. No password and an empty one differ in PKCS#12's own derivation."""

    bmp: bytes
    utf8: bytes

    @classmethod
    def of(cls, text: str | None) -> EncodedPassword:
        """Encode a password; None: no password at all."""
        if text is None:
            return cls(b"", b"")
        return cls(text.encode("utf-16-be", "surrogatepass") + b"\0\0", text.encode("utf-8", "surrogatepass"))

    @property
    def bmp_as_utf8(self) -> bytes:
        """What cryptography must be given so that it derives from `bmp`."""
        return self.bmp[:-2].decode("utf-16-be", "surrogatepass").encode("utf-8", "surrogatepass")


class Derivation(NamedTuple):
    """The PBKDF2 parameters of a file."""

    salt: bytes
    rounds: int
    size: int | None
    prf: str

    def seconds(self, size: int) -> float:
        """About how long it takes to derive `size` bytes."""
        return self.rounds * -(-size // _HASHES[self.prf].digest_size) * _PBKDF2_ROUND[self.prf] / 1e6


class Scheme(NamedTuple):
    """The encryption scheme of a file. `derivation` and `iv` are set for PBES2 only."""

    name: str
    salt: bytes
    rounds: int
    derivation: Derivation | None = None
    cipher: str = ""
    iv: bytes = b""

    @classmethod
    def of(cls, algorithm: Value) -> Scheme:
        """From an AlgorithmIdentifier."""
        return _scheme(algorithm.whole)

    @property
    def seconds(self) -> float:
        """About how long its key derivation takes."""
        if self.derivation is None:
            return self.rounds * (_TRIPLE_DES_ROUND if self.name == _TRIPLE_DES else _LIBRARY_ROUND) / 1e6
        return self.derivation.seconds(_AES.get(self.cipher, 32))

    @property
    def is_modern(self) -> bool:
        """Whether it is PBES2."""
        return self.derivation is not None


@lru_cache(16)  # the estimate, the check and the decryption of a part ask for its scheme
def _scheme(whole: bytes) -> Scheme:
    name, parameters = _algorithm(asn1.read(whole))
    if name == _PBES2:
        kdf, cipher = parameters.sequence(2)[:2]
        derivation = _derivation(kdf)
        cipher_name, iv = _algorithm(cipher)
        return Scheme(name, derivation.salt, derivation.rounds, derivation, cipher_name, iv.content)
    if not name.startswith(_PBES1):
        raise Unreadable(f"it uses an encryption that is not known here ({name})")
    salt, count = parameters.sequence(2)[:2]
    return Scheme(name, salt.octets(), _positive(count.number()))


def decrypt(scheme: Scheme, word: EncodedPassword, content: bytes) -> bytes | None:
    """The decrypted octets; None for a scheme that only cryptography knows. Raises ValueError for a wrong password."""
    found = _cipher(scheme, word)
    return None if found is None else _cbc(*found, content)


def encrypt(scheme: Scheme, word: EncodedPassword, plain: bytes) -> bytes:
    """The encrypted octets. Raises ValueError for a scheme that only cryptography knows."""
    found = _cipher(scheme, word)
    if found is None:
        raise ValueError("an unknown scheme")
    algorithm, iv = found
    padder, encryptor = PKCS7(algorithm.block_size).padder(), Cipher(algorithm, modes.CBC(iv)).encryptor()
    return encryptor.update(padder.update(plain) + padder.finalize()) + encryptor.finalize()


def _cipher(scheme: Scheme, word: EncodedPassword) -> tuple[AES | TripleDES, bytes] | None:
    """The cipher with its key, and the IV."""
    if scheme.name == _TRIPLE_DES:
        key, iv = (pkcs12_key("sha1", word, scheme.salt, scheme.rounds, purpose, size) for purpose, size in ((KEY, 24), (IV, 8)))
        return TripleDES(key), iv
    size = _AES.get(scheme.cipher)
    if scheme.derivation is None or size is None:
        return None
    return AES(pbkdf2(scheme.derivation, word, size)), scheme.iv


def pbkdf2(derivation: Derivation, word: EncodedPassword, size: int) -> bytes:
    """A key of `size` bytes by RFC 8018 5.2."""
    return PBKDF2HMAC(_HASHES[derivation.prf], size, derivation.salt, derivation.rounds).derive(word.utf8)


def _cbc(algorithm: AES | TripleDES, iv: bytes, content: bytes) -> bytes:
    decryptor = Cipher(algorithm, modes.CBC(iv)).decryptor()
    unpadder = PKCS7(algorithm.block_size).unpadder()
    return unpadder.update(decryptor.update(content) + decryptor.finalize()) + unpadder.finalize()


def pkcs12_key(digest: str, word: EncodedPassword, salt: bytes, count: int, purpose: int, size: int) -> bytes:  # noqa: PLR0913, PLR0917  as in the standard
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
    """The text repeated up to a whole number of blocks; an empty text stays empty."""
    size = -(-len(text) // block) * block
    return (text * (size // len(text) + 1))[:size] if text else b""


def _stir(mixed: bytes, part: bytes, block: int) -> bytes:
    add, modulus = int.from_bytes(part) + 1, 1 << (8 * block)
    pieces = (int.from_bytes(mixed[i : i + block]) for i in range(0, len(mixed), block))
    return b"".join(((piece + add) % modulus).to_bytes(block) for piece in pieces)


# --- the MAC over a whole file -------------------------------------------------------------------------------------


class Mac(NamedTuple):
    """A file's integrity check."""

    digest: str
    wanted: bytes
    salt: bytes
    rounds: int
    derivation: Derivation | None  # PBMAC1 only

    @classmethod
    def of(cls, value: Value) -> Mac:
        """From MacData."""
        info, salt, *count = value.sequence(2)
        algorithm, wanted = info.sequence(2)[:2]
        name, parameters = _algorithm(algorithm)
        if name == _PBMAC1:
            derivation = _pbmac1(parameters)
            return cls(derivation.prf, wanted.octets(), derivation.salt, derivation.rounds, derivation)
        if name not in _DIGESTS:
            raise Unreadable(f"its integrity check uses a hash that is not known here ({name})")
        return cls(_DIGESTS[name], wanted.octets(), salt.octets(), _positive(count[0].number() if count else 1), None)

    @property
    def seconds(self) -> float:
        """About how long it takes to try a password."""
        if self.derivation is None:
            return self.rounds * _PKCS12_ROUND[self.digest] / 1e6
        return self.derivation.seconds(self.derivation.size or 0)

    def fits(self, word: EncodedPassword, content: bytes) -> bool:
        """Whether this password made the MAC over `content`, compared in constant time."""
        return hmac.compare_digest(self.over(word, content), self.wanted)

    def over(self, word: EncodedPassword, content: bytes) -> bytes:
        """The MAC of `content`, made in the same way."""
        if self.derivation is None:
            key = pkcs12_key(self.digest, word, self.salt, self.rounds, MAC, _HASHES[self.digest].digest_size)
        else:
            key = pbkdf2(self.derivation, word, self.derivation.size or 0)
        return hmac.digest(key, content, self.digest)


def _pbmac1(parameters: Value) -> Derivation:
    kdf, scheme = parameters.sequence(2)[:2]
    derivation = _derivation(kdf)
    if _HMACS.get(_algorithm(scheme)[0]) != derivation.prf:
        raise Unreadable("its PBMAC1 mixes algorithms")
    if derivation.size is None or not 20 <= derivation.size <= 64:  # noqa: PLR2004  RFC 9879: at least 20; CVE-2025-11187 for the upper bound
        raise Unreadable("its PBMAC1 key has an odd length")
    return derivation


def _derivation(kdf: Value) -> Derivation:
    name, parameters = _algorithm(kdf)
    if name != _PBKDF2:
        raise Unreadable(f"it uses a key derivation that is not known here ({name})")
    salt, count, *rest = parameters.sequence(2)
    size = rest.pop(0).number() if rest and rest[0].tag == asn1.INTEGER else None
    prf = _algorithm(rest[0])[0] if rest else "1.2.840.113549.2.7"
    if prf not in _HMACS:
        raise Unreadable(f"its key derivation uses a hash that is not known here ({prf})")
    return Derivation(salt.octets(), _positive(count.number()), size, _HMACS[prf])


def _algorithm(value: Value) -> tuple[str, Value]:
    """Name and parameters; the value itself where there are none."""
    name, *parameters = value.sequence(1)
    return _dotted(name.wanted(asn1.OID).whole), parameters[0] if parameters else value


@lru_cache(64)
def _dotted(whole: bytes) -> str:
    return asn1.dotted(asn1.read(whole))


def _positive(count: int) -> int:
    if count < 1:
        raise Unreadable("its key derivation has fewer than 1 iterations")
    return count


class OutOfTime(Exception):
    """The key derivations of a file take longer than they may."""


class TimeBudget:
    """The seconds that a file's key derivations may still take, whatever passwords and forms of them are tried."""

    def __init__(self, seconds: float) -> None:
        self._left = seconds

    def spend(self, seconds: float) -> None:
        """Take the estimated time of a derivation before it begins. Raises OutOfTime where less is left."""
        self._left -= seconds
        if self._left < -_ROUNDING:
            raise OutOfTime


def out_of_time(limits: Limits) -> ParseProblem:
    """The problem of a file whose parts are not protected by a form of its password that could be tried in time."""
    message = f"none of the forms of its password that could be tried in {limits.open_seconds:g} s opens its content"
    return ParseProblem(CheckId.TOO_COSTLY, message, f"{_FEWER}, or raise `limits.open_seconds` if you trust its origin")


def too_costly(derivations: Sequence[Mac | Scheme], limits: Limits) -> ParseProblem | None:
    """The problem of a file whose key derivations take too many iterations, or too long together."""
    most = max((one.rounds for one in derivations), default=0)
    if most > limits.iterations:
        shown = most if most <= MOST_SHOWN else f"more than {MOST_SHOWN}"  # a file can name a number of a thousand digits
        message = f"a key derivation in it has {shown} iterations, {limits.iterations} are allowed"
        return ParseProblem(CheckId.TOO_COSTLY, message, f"{_FEWER}, or raise `limits.iterations` if you trust its origin")
    seconds = sum(one.seconds for one in derivations)
    if seconds > limits.open_seconds:
        message = f"opening it takes about {ceil(seconds)} s, {limits.open_seconds:g} s are allowed"
        return ParseProblem(CheckId.TOO_COSTLY, message, f"{_FEWER}, or raise `limits.open_seconds` if you trust its origin")
    return None
