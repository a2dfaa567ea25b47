"""PEM or DER files of an identity (certificate, chain, key, encrypted or not) -> the certificates and keys in them."""

from __future__ import annotations

import binascii
import codecs
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import load_der_private_key, load_pem_private_key

from distributor.model.certificates import ParsedIdentities, ParseProblem
from distributor.model.issues import CheckId
from distributor.model.limits import Limits
from distributor.model.secret import Secret
from distributor.pki import asn1, keypairs, spki, sst
from distributor.pki.asn1 import Unreadable
from distributor.pki.certificate import Certificate, load
from distributor.pki.passwords import spelled
from distributor.pki.pbe import OutOfTime, Scheme, TimeBudget, too_costly

# Dashes end a block, so that no text is read twice, however many blocks begin and never end.
_BLOCK = re.compile(rb"-----BEGIN ([A-Z0-9 ]{1,40})-----[ \t]*+\n?+((?:[^-]++|-(?!----))*+)-----END \1-----")
_CERTIFICATES = frozenset({b"CERTIFICATE", b"X509 CERTIFICATE", b"TRUSTED CERTIFICATE"})
_BOMS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
PKCS8_ENCRYPTED = b"ENCRYPTED PRIVATE KEY"
_PKCS7 = frozenset({b"PKCS7", b"PKCS #7 SIGNED DATA", b"CMS"})


@dataclass(frozen=True, slots=True)
class Block:
    """One BEGIN-END block: its label, its text with both lines, and the octets in it."""

    label: bytes
    text: bytes
    der: bytes

    @property
    def is_key(self) -> bool:
        """Whether it is a private key."""
        return self.label.endswith(b"PRIVATE KEY")

    @property
    def is_certificate(self) -> bool:
        """Whether it is a certificate, or PKCS#7 with certificates."""
        return self.label in _CERTIFICATES or self.label in _PKCS7

    @property
    def encrypted(self) -> bool:
        """Whether it needs a password."""
        return self.label == PKCS8_ENCRYPTED or b"Proc-Type: 4,ENCRYPTED" in self.text


def plain(data: bytes) -> bytes:
    """The text in ASCII, without the byte order mark or UTF-16 of a Windows editor."""
    for bom, encoding in _BOMS:
        if data.startswith(bom):
            return data[len(bom) :].decode(encoding, "replace").encode("utf-8")
    if data[1:2] == b"\0" and data[:1] == b"-":
        return data.decode("utf-16-le", "replace").encode("utf-8")
    return data


def blocks(data: bytes) -> Iterator[Block]:
    """Every PEM block; a DER file is one block, of the kind that its first values show."""
    if data[:1] == b"\x30" and b"-----BEGIN " not in data:
        yield Block(_kind(data), b"", data)
        return
    for found in _BLOCK.finditer(plain(data).replace(b"\r\n", b"\n").replace(b"\r", b"\n")):
        body = found[2].split(b"\n\n", 1)[-1] if b":" in found[2] else found[2]
        try:
            der = binascii.a2b_base64(body)
        except binascii.Error:
            raise Unreadable("a PEM block in the file is damaged") from None
        yield Block(found[1], found[0] + b"\n", der)


def _kind(der: bytes) -> bytes:
    """By its first value: certificates have a sequence in a sequence, keys a version or an algorithm, PKCS#7 its type."""
    if len(der) < 2:  # noqa: PLR2004  tag and length
        return b"CERTIFICATE"
    begin = 2 + (der[1] & 0x7F if der[1] & 0x80 else 0)
    if der[begin : begin + 1] == b"\x02":
        return b"PRIVATE KEY"
    if der[begin : begin + 1] == b"\x30" and der[begin + 2 : begin + 3] == b"\x06":
        return PKCS8_ENCRYPTED
    return b"PKCS7" if der[begin : begin + 1] == b"\x06" else b"CERTIFICATE"


def open_pem(files: Sequence[bytes], passwords: Sequence[Secret], limits: Limits, expected_sha256: str | None) -> ParsedIdentities:
    """Every identity in the files together."""
    found = [block for data in files for block in blocks(data)]
    if not found:
        raise Unreadable("no certificate or key found")
    if costly := too_costly([scheme for block in found if (scheme := scheme_of(block)) is not None], limits):
        return ParsedIdentities(problems=(costly,))
    ders = list(dict.fromkeys(der for block in found for der in _block(block)))
    try:
        keys = _keys(found, passwords, TimeBudget(limits.open_seconds))
    except Unreadable:
        if refused := keypairs.key_types(ders):
            return refused
        raise
    if isinstance(keys, ParseProblem):
        # An encrypted key of a kind that cannot be read looks like one whose password is wrong.
        return keypairs.key_types(ders) or ParsedIdentities(problems=(keys,))
    return keypairs.match_identities(ders, keys, expected_sha256)


def _keys(found: Sequence[Block], passwords: Sequence[Secret], budget: TimeBudget) -> list[PrivateKeyTypes] | ParseProblem:
    keys = []
    for block in (block for block in found if block.is_key):
        match _key(block, passwords, budget):
            case ParseProblem() as problem:
                return problem
            case key:
                keys.append(key)
    return keys


def scheme_of(block: Block) -> Scheme | None:
    """The encryption of a PKCS#8 key; None where it is not encrypted, or in OpenSSL's old way, which has one iteration."""
    return Scheme.of(asn1.read(block.der).sequence(2)[0]) if block.label == PKCS8_ENCRYPTED else None


def _key(block: Block, passwords: Sequence[Secret], budget: TimeBudget) -> PrivateKeyTypes | ParseProblem:
    if block.label == b"OPENSSH PRIVATE KEY":
        raise Unreadable("the key is in OpenSSH format")
    if not block.encrypted:
        return load_key(block, None)
    if not passwords:
        return ParseProblem(
            CheckId.WRONG_PASSWORD, "the key needs a password, but none was given", "add it to the roster or to --passwords"
        )
    scheme = scheme_of(block)
    seconds = scheme.seconds if scheme else 0.0
    for number, text in enumerate(spelled([secret.reveal() for secret in passwords])):
        try:
            budget.spend(seconds)
            return load_key(block, Secret(text))
        except Unreadable:
            continue
        except OutOfTime:
            if number < len(passwords):
                message = f"none of the first {number} of {len(passwords)} passwords opens the key; each takes {seconds:.2g} s"
                return ParseProblem(CheckId.WRONG_PASSWORD, message, "give its own password in the roster, or in a .txt file beside it")
            break
    return ParseProblem(CheckId.WRONG_PASSWORD, "wrong password for the key", "correct the password in the roster or in --passwords")


def load_key(block: Block, secret: Secret | None) -> PrivateKeyTypes:
    """The key in a block. Raises Unreadable when it cannot be read, with this password."""
    word = secret.reveal().encode() if secret is not None and secret else None
    try:
        if block.text:
            return load_pem_private_key(block.text, word, unsafe_skip_rsa_key_validation=True)
        return load_der_private_key(block.der, word, unsafe_skip_rsa_key_validation=True)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise Unreadable("cannot read the private key") from None


# --- bundle --------------------------------------------------------------------------------
# A file of certificates (PEM with any number of them, DER, PKCS#7, a store) -> the certificates in it, in DER and in its order.
#
# Private keys beside them are skipped. A PFX is refused: it needs a password.


EXTENSIONS = frozenset({".cer", ".crt", ".der", ".p7b", ".p7c", ".pem", ".spc"})  # of the files that are read in a folder
_SIGNED = "1.2.840.113549.1.7.2"


class Empty(Unreadable):
    """PEM without a certificate in it, such as a private key."""


def read(data: bytes) -> tuple[sst.Stored, ...]:
    """Every certificate in a file, with the names that a store gives them. Raises Unreadable."""
    if data.startswith(sst.MAGIC):
        try:
            return sst.read(data).stored
        except Unreadable as fault:
            raise Unreadable(f"a damaged collection, {fault}") from None
    found = tuple(map(sst.Stored, _bundle_ders(data)))
    if not found:
        raise Empty("no certificate found")
    return found


def authorities(data: bytes) -> tuple[bytes, ...]:
    """The CA certificates of a file that has nothing else in it; empty for any other file. Quick, and loads no certificate."""
    try:
        found = list(blocks(data))
        ders = tuple(der for block in found for der in _block(block))
    except (ValueError, IndexError):
        return ()
    return ders if all(block.is_certificate for block in found) and all(map(spki.is_authority, ders)) else ()


def _bundle_ders(data: bytes) -> Iterator[bytes]:
    data = plain(data)
    if b"-----BEGIN " not in data:
        yield from _binary(data)
        return
    for block in blocks(data):
        yield from _block(block)


def _block(block: Block) -> Iterator[bytes]:
    if block.label in _PKCS7 or (block.is_certificate and _kind(block.der) == b"PKCS7"):  # some authorities write BEGIN CERTIFICATE over it
        yield from _signed(block.der)
    elif block.label == b"TRUSTED CERTIFICATE":
        yield _first(block.der)
    elif block.is_certificate:
        yield block.der


def _binary(data: bytes) -> Iterator[bytes]:
    """DER or BER: a certificate begins with a sequence, signed data with its type, a PFX with its version."""
    try:
        parts = asn1.read(asn1.to_definite_length(data)).sequence(2)
        kind = asn1.dotted(parts[0]) if parts[0].tag == asn1.OID else ""
    except ValueError:
        raise Unreadable("neither PEM nor DER, or damaged") from None
    if parts[0].tag == asn1.INTEGER:
        raise Unreadable("the file contains private keys and needs a password")
    if kind == _SIGNED:
        yield from _signed(data)
    elif kind:
        raise Unreadable("a PKCS#7 file that does not contain certificates")
    else:
        yield data


def _signed(data: bytes) -> list[bytes]:
    """The certificates in PKCS#7 signed data (RFC 5652 5.1)."""
    try:
        content = asn1.read(asn1.to_definite_length(data)).sequence(2)[1].wanted(asn1.EXPLICIT_0).parts()[0]
        within = next(part for part in content.sequence(4)[3:] if part.tag == asn1.EXPLICIT_0)
        return [one.whole for one in within.parts() if one.tag == asn1.SEQUENCE]
    except (ValueError, IndexError, StopIteration):
        raise Unreadable("a damaged PKCS#7 file, or one without certificates") from None


def _first(data: bytes) -> bytes:
    """OpenSSL's trusted certificate without what it is trusted for."""
    try:
        return asn1.Value(data, asn1.SEQUENCE, 0, 0, len(data)).parts()[0].whole
    except (ValueError, IndexError):
        raise Unreadable("a damaged certificate in it") from None


# --- unpaired files --------------------------------------------------------------------------------
# A PEM or DER file without a partner of the same name -> its public key, by which certificate and key files are paired.
#
# Runs in a child process: a hostile file decides how long it takes.


@dataclass(frozen=True, slots=True)
class UnpairedFile:
    """A file of certificates, or of a key with the passwords to try."""

    data: bytes
    passwords: tuple[Secret, ...] = ()


@dataclass(frozen=True, slots=True)
class KeyFingerprint:
    """The public key (SubjectPublicKeyInfo in DER) of the key, else of the first certificate that is no CA's; `authority`: all are CAs'."""

    public: bytes | None = None
    authority: bool = False


def fingerprints(loose: UnpairedFile, limits: Limits) -> KeyFingerprint:
    """The fingerprint of a file; empty where it cannot be read."""
    try:
        found = list(blocks(loose.data))
        key = next((block for block in found if block.is_key), None)
        if key is not None:
            return KeyFingerprint(_public_key(key, loose.passwords, limits))
        return _of_certificates([der for block in found for der in _block(block)])
    except (ValueError, IndexError):
        return KeyFingerprint()


def _public_key(key: Block, passwords: Sequence[Secret], limits: Limits) -> bytes | None:
    """The key's, if a password decrypts it and all attempts together stay within the limits."""
    candidates: Sequence[Secret | None] = passwords if key.encrypted else (None,)
    scheme = scheme_of(key)
    if scheme and (scheme.rounds > limits.iterations or scheme.seconds * len(candidates) > limits.open_seconds):
        return None
    for secret in candidates:
        try:
            return keypairs.spki(load_key(key, secret).public_key())
        except Unreadable:
            continue
    return None


def _of_certificates(ders: Sequence[bytes]) -> KeyFingerprint:
    found = [one for one in map(load, ders[: keypairs.MOST]) if isinstance(one, Certificate)]
    if not found:
        return KeyFingerprint()
    leaf = next((one for one in found if not one.is_ca), found[0])  # PKCS#7 has them in any order
    return KeyFingerprint(leaf.public_key, len(found) == len(ders) and leaf.is_ca)
