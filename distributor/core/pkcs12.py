"""The bytes of a PFX and passwords -> the certificates and keys in it. Looks before it opens: a file says itself how much work it asks for.

A private key is never validated in full (40 ms); `identities.proves` does the same in two.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from asn1crypto.cms import ContentInfo
from asn1crypto.core import ParsableOctetString
from asn1crypto.pkcs12 import AuthenticatedSafe, MacData, Pfx, SafeBag, SafeContents
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding, load_der_private_key
from cryptography.hazmat.primitives.serialization.pkcs12 import load_pkcs12

from distributor.core import identities, pbe
from distributor.core.ber import definite
from distributor.core.credentials import Limits, Opened, Problem
from distributor.core.findings import Check
from distributor.core.pbe import Unsupported, Word
from distributor.core.secret import Secret

DEEPEST = 4  # bags within bags
CONVERT = (
    "convert it: `openssl pkcs12 -legacy -in FILE -out all.pem`, `openssl pkcs12 -export -in all.pem -out NEW.pfx`; then remove all.pem"
)


class Locked(Exception):
    """The password does not open a part of the file."""


@dataclass(slots=True)
class _Pile:
    """What was found so far; shrouded keys wait until they are wanted."""

    certificates: list[bytes] = field(default_factory=list)
    keys: list[PrivateKeyTypes] = field(default_factory=list)
    shrouded: list[SafeBag] = field(default_factory=list)


def open_pkcs12(data: bytes, passwords: Sequence[Secret], limits: Limits, proven: str | None) -> Opened:
    """Every identity in a PFX. `proven`: these very bytes were opened before, only this leaf is wanted, with its key."""
    pfx, content = _look(data)
    mac = pfx["mac_data"]
    if not isinstance(mac, MacData):
        return _refuse(Check.NO_MAC, "it has no integrity check (MAC), so anybody could have changed it", "export it again with a password")
    safes = list(AuthenticatedSafe.load(definite(content), strict=True))
    cost = pbe.mac_rounds(mac) + sum(_rounds(safes))
    if cost > limits.iterations:
        return too_costly(cost, limits)
    words = _words(passwords)
    if proven is None:
        words = _right(mac, content, words, limits)
    for word in words:
        try:
            return _open(safes, word, limits, proven)
        except Locked:
            continue
    return _refuse(Check.WRONG_PASSWORD, *_no_word(passwords))


def too_costly(cost: int, limits: Limits) -> Opened:
    """The refusal of a file that asks for too much work."""
    message = f"opening it takes {cost} iterations of key derivation, {limits.iterations} are allowed"
    return _refuse(
        Check.TOO_COSTLY, message, "export it again with fewer iterations, or raise `limits.iterations` if you trust where it comes from"
    )


def _no_word(passwords: Sequence[Secret]) -> tuple[str, str]:
    if not passwords:
        return (
            "it needs a password and none was given",
            "name it in the roster, in --passwords, or in a .txt file of the same name beside it",
        )
    many = "the password does not open it" if len(passwords) == 1 else f"none of the {len(passwords)} passwords given opens it"
    return many, "correct the password in the roster, in --passwords or in the .txt file beside it"


def _look(data: bytes) -> tuple[Pfx, bytes]:
    """The outermost layer and the octets that the MAC covers."""
    pfx = Pfx.load(definite(data), strict=True)
    if pfx["version"].native != "v3":
        raise Unsupported("it is not PKCS#12 version 3")
    if pfx["auth_safe"]["content_type"].native != "data":
        raise Unsupported("it is protected by a public key, not by a password")
    content = pfx["auth_safe"]["content"]
    return pfx, content.native


def _rounds(safes: Sequence[ContentInfo]) -> Iterator[int]:
    """What each encrypted part asks for, as far as it can be seen from outside."""
    for safe in safes:
        match safe["content_type"].native:
            case "encrypted_data":
                yield pbe.rounds(safe["content"]["encrypted_content_info"]["content_encryption_algorithm"])
            case "data":
                yield from (pbe.rounds(_box(bag)["encryption_algorithm"]) for bag in _flat(_bags(safe)) if _is_shrouded(bag))
            case _:
                raise Unsupported("a part of it is protected by a public key, not by a password")


def _bags(safe: ContentInfo) -> SafeContents:
    return SafeContents.load(definite(safe["content"].native), strict=True)


def _flat(bags: SafeContents, depth: int = DEEPEST) -> Iterator[SafeBag]:
    for bag in bags:
        if bag["bag_id"].native != "safe_contents":
            yield bag
        elif depth:
            yield from _flat(SafeContents.load(definite(bag["bag_value"].untag().dump()), strict=True), depth - 1)
        else:
            raise Unsupported("its bags are nested too deep")


def _is_shrouded(bag: SafeBag) -> bool:
    return bool(bag["bag_id"].native == "pkcs8_shrouded_key_bag")


def _box(bag: SafeBag) -> ParsableOctetString:
    return bag["bag_value"]


def _words(passwords: Sequence[Secret]) -> list[Word]:
    """The passwords to try. Without one, and for an empty one, none and the empty one: programs do not agree which is which."""
    texts: list[str | None] = [secret.reveal() for secret in passwords] or [""]
    empty: list[str | None] = [None] if "" in texts else []
    return [Word.of(text) for text in texts + empty]


def _right(mac: MacData, content: bytes, words: Sequence[Word], limits: Limits) -> list[Word]:
    """The word that made the MAC; no more tries than the limit of iterations pays for."""
    affordable = max(2, limits.iterations // pbe.mac_rounds(mac))
    return [word for word in words[:affordable] if pbe.mac_fits(mac, word, content)][:1]


def _open(safes: Sequence[ContentInfo], word: Word, limits: Limits, proven: str | None) -> Opened:
    pile = _Pile()
    for safe in safes:
        if safe["content_type"].native == "data":
            _sort(_flat(_bags(safe)), pile)
        else:
            _unlock(safe, word, pile, quick=proven is not None)
    hidden = sum(pbe.rounds(_box(bag)["encryption_algorithm"]) for bag in pile.shrouded)
    if hidden > limits.iterations:
        return too_costly(hidden, limits)
    pile.keys.extend(_key(bag, word) for bag in pile.shrouded)
    return identities.pair(pile.certificates, pile.keys, proven)


def _sort(bags: Iterator[SafeBag], pile: _Pile) -> None:
    for bag in bags:
        match bag["bag_id"].native:
            case "cert_bag":
                if bag["bag_value"]["cert_id"].native == "x509":
                    pile.certificates.append(bytes(bag["bag_value"]["cert_value"]))
            case "key_bag":
                pile.keys.append(_load(bag["bag_value"].untag().dump()))
            case "pkcs8_shrouded_key_bag":
                pile.shrouded.append(bag)


def _unlock(safe: ContentInfo, word: Word, pile: _Pile, *, quick: bool) -> None:
    """An encrypted safe's bags. Old schemes are left to the library; 3DES too, for speed, once the file was looked at."""
    info = safe["content"]["encrypted_content_info"]
    algorithm = info["content_encryption_algorithm"]
    if quick and algorithm["algorithm"].native != "pbes2":
        return _by_library(safe, word, pile)
    content = info["encrypted_content"].native
    try:
        plain = pbe.decrypt(algorithm, word, content)
    except Unsupported:
        raise
    except ValueError:
        raise Locked from None
    if plain is None:
        return _by_library(safe, word, pile)
    return _sort(_flat(SafeContents.load(definite(plain), strict=True)), pile)


def _by_library(safe: ContentInfo, word: Word, pile: _Pile) -> None:
    """A safe on its own, in a new file with a quick MAC that tells the library which form of an empty password is meant."""
    content = AuthenticatedSafe([safe]).dump()
    key = pbe.pkcs12_key("sha1", word, b"12345678", 1, pbe.MAC, 20)
    digest = {"digest_algorithm": {"algorithm": "sha1"}, "digest": hmac.digest(key, content, "sha1")}
    mac = {"mac": digest, "mac_salt": b"12345678", "iterations": 1}
    file = Pfx({"version": "v3", "auth_safe": {"content_type": "data", "content": content}, "mac_data": mac}).dump()
    try:
        found = load_pkcs12(file, word.utf8 or None)
    except UnsupportedAlgorithm as error:
        raise Unsupported(f"it uses an old encryption that cannot be read here ({error})") from None
    except ValueError as error:
        if "password" in str(error).lower():
            raise Locked from None
        raise Unsupported("it uses an old encryption that cannot be read here") from None
    chosen = [found.cert] if found.cert else []
    pile.certificates.extend(entry.certificate.public_bytes(Encoding.DER) for entry in [*chosen, *found.additional_certs])
    if found.key is not None:
        pile.keys.append(found.key)


def _key(bag: SafeBag, word: Word) -> PrivateKeyTypes:
    der = bag["bag_value"].untag().dump()
    if word.utf8:
        try:
            return load_der_private_key(der, word.utf8, unsafe_skip_rsa_key_validation=True)
        except (ValueError, TypeError):
            pass  # the library tells neither a wrong password nor an unknown scheme from a broken key: look ourselves
    algorithm, content = _box(bag)["encryption_algorithm"], _box(bag)["encrypted_data"].native
    try:
        plain = pbe.decrypt(algorithm, word, content)
    except Unsupported:
        raise
    except ValueError:
        raise Locked from None
    if plain is None:
        return _key_by_library(bag, word)
    return _load(plain)


def _key_by_library(bag: SafeBag, word: Word) -> PrivateKeyTypes:
    pile = _Pile()
    content = SafeContents([bag]).dump()
    _by_library(ContentInfo({"content_type": "data", "content": content}), word, pile)
    if not pile.keys:
        raise Locked
    return pile.keys[0]


def _load(plain: bytes) -> PrivateKeyTypes:
    try:
        return load_der_private_key(plain, None, unsafe_skip_rsa_key_validation=True)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise Unsupported("a private key in it cannot be read") from None


def _refuse(check: Check, message: str, hint: str) -> Opened:
    return Opened(problems=(Problem(check, message, hint),))
