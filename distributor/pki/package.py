"""An Identity and a password -> the PKCS#12 that a phone installs, its friendly name and its file name (facts: pkcs12.md B6).

`check_package` looks a last time whether the identity may be sent to the person.
One identity a file: Android installs only the first key. Encryption and MAC of a profile belong together: a phone that cannot read
one of them reports a wrong password.
"""

from __future__ import annotations

import base64
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PrivateFormat, load_der_private_key
from cryptography.hazmat.primitives.serialization.pkcs12 import PBES, serialize_key_and_certificates

from distributor.model.certificates import Identity, ParseProblem
from distributor.model.issues import CheckId, Severity
from distributor.model.people import Address, Person
from distributor.model.secret import Secret
from distributor.pki import asn1, pbe
from distributor.pki.asn1 import Value
from distributor.pki.certificate import Certificate, load
from distributor.pki.checks import check_certificate, check_old
from distributor.pki.keypairs import spki
from distributor.pki.pbe import EncodedPassword, Mac, Scheme

LONGEST_NAME = 64  # characters; more does not fit a phone's line
_WITHDRAW = "run `distributor audit verify`, then `distributor withdraw` and `distributor plan` again"
_HINTS = {
    CheckId.ADDRESS_MISMATCH: _WITHDRAW,
    CheckId.NOT_YET_VALID: "correct this machine's clock, or run `distributor send` on that day",
}
_DECISIVE = frozenset(
    {CheckId.ADDRESS_MISMATCH, CheckId.BAD_ADDRESS, CheckId.NO_ADDRESS, CheckId.EXPIRED, CheckId.NOT_YET_VALID, CheckId.KEY_TYPE}
)


@dataclass(frozen=True, slots=True)
class _Profile:
    rounds: int  # of the encryption; the library's MAC has 2 048 whatever is asked for
    encryption: PBES
    digest: hashes.HashAlgorithm


# iOS up to 17 and Android up to 13 open only 3DES with SHA-1; more than 2 048 rounds would cost time and stop no attacker.
_PHONE = _Profile(2048, PBES.PBESv1SHA1And3KeyTripleDESCBC, hashes.SHA1())  # noqa: S303  see the line above
# Apple's importer knows exactly AES-256 with HMAC-SHA-256, and only since iOS 18; who wants it has a policy about iterations.
_MODERN = _Profile(100_000, PBES.PBESv2SHA256AndAES256CBC, hashes.SHA256())
PROFILES = {"phone": _PHONE, "modern": _MODERN}


Key = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey  # the types that phones install


@dataclass(frozen=True, slots=True)
class PackageContent:
    """What goes into a package: one key with its certificate, and the certificates above it in DER."""

    key: Key
    leaf: x509.Certificate
    chain: tuple[bytes, ...]  # issuer of the leaf first
    der: bytes | None = None  # of the leaf, where `leaf` is a copy that the library can read


def check_package(
    content: PackageContent, certificate_sha256: str, person: Address, now: datetime, *, old: bool = False
) -> ParseProblem | None:
    """Why an identity about to be packaged must not be sent; None where it may. `old`: an old key for old mail, which has expired.

    The last check, where the message is made: between the plan and this moment the ledger, the files or the clock may have changed.
    """
    der = content.der or content.leaf.public_bytes(Encoding.DER)
    if sha256(der).hexdigest() != certificate_sha256:
        return ParseProblem(CheckId.NO_CERTIFICATE, "the certificate is not the one that was planned", _WITHDRAW)
    cert = load(der)
    if isinstance(cert, ParseProblem):
        return cert
    if isinstance(cert.info, ParseProblem):
        return cert.info
    for issue in check_old(cert.info, person) if old else check_certificate(cert.info, person, now):
        if issue.severity is Severity.ERROR and issue.check in _DECISIVE:
            return ParseProblem(issue.check, issue.message, _HINTS.get(issue.check, issue.hint))
    if spki(content.key.public_key()) != cert.public_key:
        return ParseProblem(
            CheckId.KEY_MISMATCH, "the private key does not belong to the certificate", "run `distributor plan` on the file again"
        )
    return None


def build(identity: Identity, password: Secret, profile: str, friendly_name: str, *, include_root: bool = False) -> bytes:
    """The package of an identity. Raises ValueError without a key, or with a type of key that no phone installs."""
    return build_pkcs12(content(identity), password, profile, friendly_name, include_root=include_root)


def content(identity: Identity) -> PackageContent:
    """What goes into an identity's package. Raises ValueError without a key, or with a type of key that no phone installs."""
    leaf = _certificate(identity.leaf)
    return PackageContent(_key(identity), leaf.parsed, identity.chain, leaf.der if leaf.is_copy else None)


def build_pkcs12(what: PackageContent, password: Secret, profile: str, friendly_name: str, *, include_root: bool = False) -> bytes:
    """The package: leaf, intermediates and key, with `include_root` the root too. Raises ValueError for the key of another certificate."""
    chosen = PROFILES[profile]
    how = (
        PrivateFormat.PKCS12.encryption_builder()
        .kdf_rounds(chosen.rounds)
        .key_cert_algorithm(chosen.encryption)
        .hmac_hash(chosen.digest)
        .build(password.reveal().encode("ascii"))
    )
    above = [c for c in map(_certificate, what.chain) if include_root or c.subject != c.issuer]
    package = serialize_key_and_certificates(friendly_name.encode("ascii"), what.key, what.leaf, [c.parsed for c in above], how)
    originals = {c.parsed.public_bytes(Encoding.DER): c.der for c in above if c.is_copy}
    if what.der is not None:
        originals[what.leaf.public_bytes(Encoding.DER)] = what.der
    return _with_originals(package, originals, EncodedPassword.of(password.reveal())) if originals else package


def _with_originals(package: bytes, originals: Mapping[bytes, bytes], word: EncodedPassword) -> bytes:
    """The package with certificates in place of their copies, encrypted and protected as before."""
    whole = asn1.read(package)
    _version, safe, mac_data = whole.sequence(3)
    content = safe.sequence(2)[1].parts()[0].octets()
    sealed = {}
    for info in asn1.read(content).sequence(1):
        data = info.sequence(2)[1].parts()[0]
        if data.tag == asn1.SEQUENCE:  # EncryptedData: version, then type, algorithm and octets
            algorithm, octets = data.sequence(2)[1].sequence(3)[1:]
            scheme = Scheme.of(algorithm)
            bags = asn1.read(pbe.decrypt(scheme, word, octets.content) or b"")
            sealed[octets.content] = pbe.encrypt(scheme, word, _replaced(bags, originals))
    safes = _replaced(asn1.read(content), sealed)
    mac = Mac.of(mac_data)
    return _replaced(whole, {content: safes, mac.wanted: mac.over(word, safes)})


def _replaced(value: Value, contents: Mapping[bytes, bytes]) -> bytes:
    """The value with other contents in the strings that have one of these."""
    if value.tag & asn1.CONSTRUCTED:
        return asn1.wrap(value.tag, *(_replaced(part, contents) for part in value.parts()))
    return asn1.wrap(value.tag, contents.get(value.content, value.content))


def _key(identity: Identity) -> Key:
    if identity.key is None:
        raise ValueError("the private key is missing")
    der = base64.b64decode(identity.key.reveal())
    # The pair was verified when the file was opened; the library's own check would take 37 ms (facts: pkcs12.md B3).
    key = load_der_private_key(der, None, unsafe_skip_rsa_key_validation=True)
    if not isinstance(key, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey):
        raise ValueError("phones accept only RSA and EC keys")  # noqa: TRY004  a key's kind is data here, no mistake of the caller
    return key


def _certificate(der: bytes) -> Certificate:
    found = load(der)
    if isinstance(found, ParseProblem):
        raise ValueError(found.message)  # noqa: TRY004  the bytes are to blame, not the caller's types
    return found


def usages_of(leaf: x509.Certificate) -> tuple[str, ...]:
    """Of "sign" and "encrypt": what mail programs may use it for."""
    return _certificate(leaf.public_bytes(Encoding.DER)).usages


def only_use(leaf: x509.Certificate) -> str:
    """Its only purpose, "signing" or "encryption"; empty where it is for both."""
    usages = usages_of(leaf)
    return _USES[usages[0]] if len(usages) == 1 else ""


_USES = {"sign": "signing", "encrypt": "encryption"}


def friendly_name(person: Person, issued: datetime, use: str = "") -> str:
    """What the phone shows in its list of certificates: "Alice Example 2026-11", with "signing" or "old 1" behind it, in ASCII."""
    return f"{plain_name(person)} {issued:%Y-%m} {use}".rstrip()


def file_name(person: Person, issued: datetime, serial: str, use: str = "") -> str:
    """The attachment's name in ASCII: "Alice Example SMIME 2026 4f2a90c1.pfx", or "Alice Example SMIME signing 2026 4f2a90c1.pfx".

    It ends with the beginning of the serial number, as the message does: a person may get two certificates of one year for the same use.
    """
    return " ".join([plain_name(person), "SMIME", *([use] if use else []), f"{issued:%Y}", f"{serial[:8]}.pfx"])


_GERMAN = str.maketrans({"ä": "ae", "ö": "oe", "ü": "ue", "Ä": "Ae", "Ö": "Oe", "Ü": "Ue"})
_LATIN = str.maketrans(
    {"ß": "ss", "ẞ": "SS", "æ": "ae", "Æ": "Ae", "œ": "oe", "Œ": "Oe", "ø": "o", "Ø": "O", "ł": "l", "Ł": "L", "đ": "d", "Đ": "D"}
    | {"ð": "d", "Ð": "D", "þ": "th", "Þ": "Th", "\u0131": "i", "ħ": "h", "Ħ": "H", "'": "", "\u2019": "", "\u02bc": ""}
)


def plain_name(person: Person) -> str:
    """The person's name in ASCII letters, digits, hyphens and spaces; from the address where the name cannot be written so."""
    for text in (person.name, person.address.local.replace(".", " ")):
        if found := _ascii(text, german=person.language.lower().split("-")[0] == "de"):
            return found[:LONGEST_NAME].rstrip(" -")
    return "Certificate"


def _ascii(text: str, *, german: bool) -> str:
    text = unicodedata.normalize("NFC", text)
    text = unicodedata.normalize("NFKD", (text.translate(_GERMAN) if german else text).translate(_LATIN))
    bare = "".join(c for c in text if not unicodedata.combining(c))
    if any(not c.isascii() and c.isalnum() for c in bare):
        return ""  # half a name would be worse than the address
    return " ".join(re.sub(r"[^A-Za-z0-9-]+", " ", bare).split()).strip("- ")
