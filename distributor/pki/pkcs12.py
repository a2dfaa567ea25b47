"""The bytes of a PFX and passwords -> the identities in it. Estimates what its key derivations take before it decrypts anything.

A private key is never validated in full (40 ms); `keypairs.key_matches` does what is needed in a hundredth of the time.
"""

from __future__ import annotations

import base64
import hmac
import warnings
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from math import inf
from typing import NamedTuple

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding, load_der_private_key
from cryptography.hazmat.primitives.serialization.pkcs12 import load_pkcs12

from distributor.model.certificates import ParsedIdentities, ParseProblem, SourceMaterial
from distributor.model.issues import CheckId
from distributor.model.limits import Limits
from distributor.model.secret import Secret
from distributor.pki import asn1, keypairs, pbe
from distributor.pki.asn1 import Unreadable, Value, to_definite_length, wrap
from distributor.pki.package import Key, PackageContent
from distributor.pki.passwords import candidates, with_octets
from distributor.pki.pbe import EncodedPassword, Mac, OutOfTime, Scheme, TimeBudget

DEEPEST = 4  # bags within bags
LEAST_TRIED = 2  # passwords, though they take more than half of the time
CONVERT = (
    "convert it: `openssl pkcs12 -legacy -in FILE -out all.pem`, `openssl pkcs12 -export -in all.pem -out NEW.pfx`; then remove all.pem"
)
_DATA = bytes.fromhex("2a864886f70d010701")
_ENCRYPTED = bytes.fromhex("2a864886f70d010706")
_X509 = bytes.fromhex("2a864886f70d01091601")
_KEY, _SHROUDED, _CERTIFICATE, _NESTED = (bytes.fromhex(f"2a864886f70d010c0a010{number}") for number in (1, 2, 3, 6))
_SHA1 = wrap(asn1.SEQUENCE, bytes.fromhex("06052b0e03021a0500"))


class WrongPassword(Exception):
    """The password does not open a part of the file."""


class _SafeContents(NamedTuple):
    """A SafeContents (RFC 7292 4): bags in clear, or encrypted octets with their scheme. `whole` is its ContentInfo."""

    whole: bytes
    content: bytes
    scheme: Scheme | None


@dataclass(slots=True)
class _Bags:
    """The bags found so far; shrouded keys are decrypted later, if needed."""

    certificates: list[bytes] = field(default_factory=list)
    keys: list[PrivateKeyTypes] = field(default_factory=list)
    shrouded: list[Value] = field(default_factory=list)


def open_pkcs12(data: bytes, passwords: Sequence[Secret], limits: Limits, expected_sha256: str | None) -> ParsedIdentities:
    """Every identity in a PFX. `expected_sha256`: the SHA-256 of the one leaf to return, if these very bytes were opened before."""
    content, mac = _parse_header(data)
    if mac is None:
        return _refuse(CheckId.NO_MAC, "it has no integrity check (MAC), so anybody could have changed it", CONVERT)
    safes = [_safe(value) for value in asn1.read(to_definite_length(content)).sequence(0)]
    visible = list(_schemes(safes))
    if expected_sha256 is None:
        if costly := pbe.too_costly([mac, *visible], limits):
            return ParsedIdentities(problems=(costly,))
    elif len(passwords) == 1 and passwords[0]:
        try:
            return _open(safes, EncodedPassword.of(passwords[0].reveal()), limits, TimeBudget(inf), expected_sha256)
        except (WrongPassword, ValueError):
            pass  # it may be spelled in another way
    budget = TimeBudget(limits.open_seconds if expected_sha256 is None else inf)
    found = _right(mac, content, passwords, limits.open_seconds - sum(scheme.seconds for scheme in visible), budget)
    if isinstance(found, ParsedIdentities):
        return found
    try:
        for word in with_octets(found):
            with suppress(WrongPassword):
                return _open(safes, word, limits, budget, expected_sha256)
    except OutOfTime:
        problem = pbe.out_of_time(limits)
    else:
        problem = ParseProblem(CheckId.WRONG_PASSWORD, *_no_word(passwords))
    return ParsedIdentities(problems=(problem,))


def _no_word(passwords: Sequence[Secret]) -> tuple[str, str]:
    if not passwords:
        return (
            "the file needs a password, but none was given",
            "add it to the roster, to --passwords, or to a .txt file with the same name beside it",
        )
    many = "wrong password" if len(passwords) == 1 else f"wrong password: none of the {len(passwords)} given opens the file"
    return many, "correct the password in the roster, in --passwords, or in the .txt file beside the file"


def to_binary(data: bytes) -> bytes:
    """The octets of a PFX that is text: in PEM (certtool), or base64 alone (a secret of Azure Key Vault). Anything else as it is."""
    if data[:1] == b"\x30":
        return data
    from distributor.pki import pem  # noqa: PLC0415  few files are text

    text = pem.plain(data)
    try:
        if b"-----BEGIN " in text:
            return next((block.der for block in pem.blocks(text) if block.label == b"PKCS12"), data)
        found = base64.b64decode(b"".join(text.split()), validate=True)
    except ValueError:
        return data
    return found if found[:1] == b"\x30" else data


# --- structure -------------------------------------------------------------------------------------------------------


def _parse_header(data: bytes) -> tuple[bytes, Mac | None]:
    """The octets that the MAC covers, and the MAC."""
    version, safes, *mac = asn1.read(to_definite_length(data)).sequence(2)
    if version.number() != 3:  # noqa: PLR2004  the only one there is (RFC 7292 4)
        raise Unreadable("it is not PKCS#12 version 3")
    kind, content = _content_info(safes)
    if kind != _DATA:
        raise Unreadable("it is protected by a public key, not by a password")
    return content.octets(), Mac.of(mac[0]) if mac else None


def _content_info(value: Value) -> tuple[bytes, Value]:
    kind, wrapped = value.sequence(2)[:2]
    return kind.wanted(asn1.OID).content, _only(wrapped.wanted(asn1.EXPLICIT_0))


def _only(value: Value) -> Value:
    parts = value.parts()
    if len(parts) != 1:
        raise ValueError("one value was expected")
    return parts[0]


def _safe(value: Value) -> _SafeContents:
    kind, content = _content_info(value)
    if kind == _DATA:
        return _SafeContents(value.whole, content.octets(), None)
    if kind != _ENCRYPTED:
        raise Unreadable("a part of it is protected by a public key, not by a password")
    algorithm, sealed = content.sequence(2)[1].sequence(3)[1:3]
    return _SafeContents(value.whole, sealed.wanted(0x80).content, Scheme.of(algorithm))


def _schemes(safes: Sequence[_SafeContents]) -> Iterator[Scheme]:
    """The encryption of each part that is visible before decryption."""
    for safe in safes:
        if safe.scheme is not None:
            yield safe.scheme
        else:
            yield from (_shroud(bag)[0] for kind, bag in _bags(safe.content) if kind == _SHROUDED)


def _bags(content: bytes, depth: int = DEEPEST) -> Iterator[tuple[bytes, Value]]:
    """Kind and content of every bag, of those within bags too."""
    if not depth:
        raise Unreadable("its bags are nested too deep")
    for bag in asn1.read(to_definite_length(content)).sequence(0):
        kind, wrapped = bag.sequence(2)[:2]
        value = _only(wrapped.wanted(asn1.EXPLICIT_0))
        if kind.content == _NESTED:
            yield from _bags(value.whole, depth - 1)
        else:
            yield kind.wanted(asn1.OID).content, value


def _shroud(value: Value) -> tuple[Scheme, bytes]:
    """EncryptedPrivateKeyInfo."""
    algorithm, content = value.sequence(2)[:2]
    return Scheme.of(algorithm), content.octets()


# --- decryption -------------------------------------------------------------------------------------------------------


def _right(mac: Mac, content: bytes, passwords: Sequence[Secret], seconds: float, budget: TimeBudget) -> EncodedPassword | ParsedIdentities:
    """The password that made the MAC, or why there is none. `seconds`: what the rest of the file leaves of its time."""
    words = candidates(passwords)
    fast = int(seconds / 2 / mac.seconds)  # half of the time: the estimate is that of a fast, idle machine
    affordable = max(1, fast, min(LEAST_TRIED, int(seconds / mac.seconds)))
    for word in words[:affordable]:
        budget.spend(mac.seconds)
        if mac.fits(word, content):
            return word
    if affordable < len(passwords):
        message = f"none of the first {affordable} of {len(passwords)} passwords opens it; each takes {mac.seconds:.2g} s"
        return _refuse(CheckId.WRONG_PASSWORD, message, "give its own password, in the roster or in a .txt file of the same name beside it")
    return _refuse(CheckId.WRONG_PASSWORD, *_no_word(passwords))


def _open(
    safes: Sequence[_SafeContents], word: EncodedPassword, limits: Limits, budget: TimeBudget, expected_sha256: str | None
) -> ParsedIdentities:
    bags = _Bags()
    try:
        for safe in safes:
            budget.spend(safe.scheme.seconds if safe.scheme else 0)
            _unlock(safe, word, bags, quick=expected_sha256 is not None)
        sealed = [safe.scheme for safe in safes if safe.scheme is not None]
        if expected_sha256 is None and (costly := pbe.too_costly([*sealed, *(_shroud(bag)[0] for bag in bags.shrouded)], limits)):
            return ParsedIdentities(problems=(costly,))
        bags.keys.extend(_key(bag, word, budget) for bag in bags.shrouded)
    except Unreadable:
        if refused := keypairs.key_types(bags.certificates):
            return refused
        raise
    return keypairs.match_identities(bags.certificates, bags.keys, expected_sha256)


def _unlock(safe: _SafeContents, word: EncodedPassword, bags: _Bags, *, quick: bool) -> None:
    """Decrypt a safe's bags. Old schemes are left to cryptography; so is 3DES, for speed, once the file was checked."""
    if safe.scheme is None:
        _sort(safe.content, bags)
    elif (quick and not safe.scheme.is_modern) or (plain := _plain(safe.scheme, word, safe.content)) is None:
        _by_library(safe.whole, word, bags, modern=safe.scheme.is_modern)
    else:
        _sort(plain, bags)


def _plain(scheme: Scheme, word: EncodedPassword, content: bytes) -> bytes | None:
    try:
        plain = pbe.decrypt(scheme, word, content)
    except ValueError:
        raise WrongPassword from None
    if plain is not None and plain[:1] != b"\x30":  # a wrong password leaves a padding that looks right once in 256 times
        raise WrongPassword
    return plain


def _sort(content: bytes, bags: _Bags) -> None:
    for kind, value in _bags(content):
        if kind == _CERTIFICATE:
            name, wrapped = value.sequence(2)[:2]
            if name.content == _X509:
                bags.certificates.append(_only(wrapped.wanted(asn1.EXPLICIT_0)).octets())
        elif kind == _KEY:
            bags.keys.append(_load(value.whole))
        elif kind == _SHROUDED:
            bags.shrouded.append(value)


def _by_library(safe: bytes, word: EncodedPassword, bags: _Bags, *, modern: bool) -> None:
    """Decrypt a safe in a new file of its own, whose quick MAC shows cryptography which form of an empty password is meant."""
    given = word.utf8 if modern else word.bmp_as_utf8
    if modern and given:  # cryptography makes the BMPString of the MAC from the octets
        word = EncodedPassword.of(given.decode("utf-8", "replace"))
    content = wrap(asn1.SEQUENCE, safe)
    digest = hmac.digest(pbe.pkcs12_key("sha1", word, b"12345678", 1, pbe.MAC, 20), content, "sha1")
    info = wrap(asn1.SEQUENCE, _SHA1, wrap(asn1.OCTETS, digest))
    mac = wrap(asn1.SEQUENCE, info, wrap(asn1.OCTETS, b"12345678"))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = load_pkcs12(wrap(asn1.SEQUENCE, wrap(asn1.INTEGER, b"\3"), _data(content), mac), given or None)
    except UnsupportedAlgorithm:
        raise Unreadable("it uses an old encryption that cannot be read here") from None
    except ValueError as error:
        if "password" in str(error).lower():
            raise WrongPassword from None
        raise Unreadable("it uses an old encryption that cannot be read here") from None
    chosen = [found.cert] if found.cert else []
    bags.certificates.extend(entry.certificate.public_bytes(Encoding.DER) for entry in [*chosen, *found.additional_certs])
    if found.key is not None:
        bags.keys.append(found.key)


def _data(content: bytes) -> bytes:
    """ContentInfo of plain data."""
    return wrap(asn1.SEQUENCE, wrap(asn1.OID, _DATA), wrap(asn1.EXPLICIT_0, wrap(asn1.OCTETS, content)))


def _key(bag: Value, word: EncodedPassword, budget: TimeBudget) -> PrivateKeyTypes:
    scheme, content = _shroud(bag)
    budget.spend(scheme.seconds)
    if given := word.utf8 if scheme.is_modern else word.bmp_as_utf8:
        try:
            return load_der_private_key(bag.whole, given, unsafe_skip_rsa_key_validation=True)
        except (ValueError, TypeError, UnsupportedAlgorithm):
            pass  # the library raises the same for a wrong password, an unknown scheme and a broken key: decrypt here
    plain = _plain(scheme, word, content)
    return _key_by_library(bag, word, modern=scheme.is_modern) if plain is None else _load(plain)


def _key_by_library(bag: Value, word: EncodedPassword, *, modern: bool) -> PrivateKeyTypes:
    found = _Bags()
    bags = wrap(asn1.SEQUENCE, wrap(asn1.SEQUENCE, wrap(asn1.OID, _SHROUDED), wrap(asn1.EXPLICIT_0, bag.whole)))
    _by_library(_data(bags), word, found, modern=modern)
    if not found.keys:
        raise WrongPassword
    return found.keys[0]


def _load(plain: bytes) -> PrivateKeyTypes:
    try:
        return load_der_private_key(plain, None, unsafe_skip_rsa_key_validation=True)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        pass
    try:
        return load_der_private_key(_key_in_der(plain), None, unsafe_skip_rsa_key_validation=True)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise Unreadable("a private key in it cannot be read") from None


def _key_in_der(plain: bytes) -> bytes:
    """A PrivateKeyInfo in BER, and the key in its octet string, in definite lengths. Raises ValueError for something else."""
    version, algorithm, key, *more = asn1.read(to_definite_length(plain)).sequence(3)
    inner = wrap(asn1.OCTETS, to_definite_length(key.octets()))
    return wrap(asn1.SEQUENCE, version.whole, algorithm.whole, inner, *(value.whole for value in more))


def _refuse(check: CheckId, message: str, hint: str) -> ParsedIdentities:
    return ParsedIdentities(problems=(ParseProblem(check, message, hint),))


# --- reopening --------------------------------------------------------------------------------
# A file that `plan` opened before -> the PackageContent of one leaf, without checking the rest of the file again.
#
# A fast path beside `parse_material` for the common file: PKCS#12 with one shrouded key. The bytes are known by their hash, so their
# iterations, MAC and certificates were checked by `plan`. For anything unusual it returns None: then `parse_material` reads all of it.


_REOPENING_DATA = bytes.fromhex("2a864886f70d010701")
_SHROUDED_KEY = bytes.fromhex("2a864886f70d010c0a0102")


def load_known_key(material: SourceMaterial, leaf: bytes, chain: tuple[bytes, ...]) -> PackageContent | None:
    """Leaf and chain as the ledger has them, with the leaf's key; None when the fast path does not apply."""
    try:
        certificate = x509.load_der_x509_certificate(leaf)
    except ValueError:
        return None
    key = _reopening_key(material, certificate)
    return None if key is None else PackageContent(key, certificate, chain)


def _reopening_key(material: SourceMaterial, leaf: x509.Certificate) -> Key | None:
    try:
        shrouded = list(_shrouded(material.parts[0].data)) if material.form == "pkcs12" else []
    except (ValueError, IndexError):
        return None
    if len(shrouded) != 1:
        return None
    for password in material.passwords:
        try:
            # `plan` verified that it belongs to the leaf; the library's own check would take 37 ms (facts: pkcs12.md B3).
            key = load_der_private_key(shrouded[0], password.reveal().encode(), unsafe_skip_rsa_key_validation=True)
        except (ValueError, TypeError, UnsupportedAlgorithm):
            continue
        if isinstance(key, Key) and key.public_key() == leaf.public_key():
            return key
    return None


def _shrouded(data: bytes) -> Iterator[bytes]:
    """The encrypted keys of a PFX in DER (RFC 7292 4): in its plain safes, not inside other bags."""
    _version, auth_safe, *_mac = asn1.read(data).sequence(2)
    for info in asn1.read(_content(auth_safe)).sequence(0):
        if _kind(info) == _REOPENING_DATA:
            for bag in asn1.read(_content(info)).sequence(0):
                if _kind(bag) == _SHROUDED_KEY:
                    yield bag.parts()[1].content


def _kind(value: Value) -> bytes:
    return value.sequence(2)[0].content


def _content(info: Value) -> bytes:
    """The octets in a ContentInfo of type data."""
    kind, explicit = info.sequence(2)
    if kind.content != _REOPENING_DATA:
        raise ValueError("not data")
    return asn1.read(explicit.wanted(asn1.EXPLICIT_0).content).octets()
