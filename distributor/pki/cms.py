"""Verifies the signature of an S/MIME mail: CMS SignedData (RFC 5652, RFC 8551) with one signer and signed attributes. Pure.

Whether the signer's certificate is a good one is not looked at: the caller knows the very certificate that it must be.
`cryptography` makes such signatures but verifies none, so the structure is read here and only the mathematics is the library's.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from asn1crypto import algos, tsp
from asn1crypto import cms as asn1_cms
from cryptography import exceptions, x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa

from distributor.model.certificates import ParseProblem
from distributor.pki import asn1, certificate, spki
from distributor.pki.asn1 import OID, SEQUENCE, SET, Unreadable, Value, wrap

MOST_CERTIFICATES = 20  # in one signature; mail programs send two or three
MOST_ATTRIBUTES = 30  # mail programs send three to six
LARGEST_SIGNER = 8 * 2**10  # bytes of the signer's entry, which the ledger keeps; RSA-4096 with every usual attribute has some 1 500
LARGEST_MODULUS = 16_384  # bits of an RSA key; the time of a verification grows with its square
_DATA, _SIGNED_DATA = "1.2.840.113549.1.7.1", "1.2.840.113549.1.7.2"
_CONTENT_TYPE, _MESSAGE_DIGEST, _SIGNING_TIME = (f"1.2.840.113549.1.9.{last}" for last in (3, 4, 5))
_SIGNING_CERTIFICATE, _SIGNING_CERTIFICATE_V2 = (f"1.2.840.113549.1.9.16.2.{last}" for last in (12, 47))
_KEY_IDENTIFIER = 0x80  # [0], in place of issuer and serial number
_HASHES: Mapping[str, hashes.HashAlgorithm] = {"sha256": hashes.SHA256(), "sha384": hashes.SHA384(), "sha512": hashes.SHA512()}
_DIGESTS = {
    "2.16.840.1.101.3.4.2.1": "sha256",
    "2.16.840.1.101.3.4.2.2": "sha384",
    "2.16.840.1.101.3.4.2.3": "sha512",
    "1.3.14.3.2.26": "sha1",
    "1.2.840.113549.2.5": "md5",
}
_RSA, _PSS, _ECDSA, _ED25519 = "RSA", "RSASSA-PSS", "ECDSA", "Ed25519"
_SIGNATURES = {  # the kind of signature, and its digest where the identifier names one
    "1.2.840.113549.1.1.1": (_RSA, ""),
    "1.2.840.113549.1.1.4": (_RSA, "md5"),
    "1.2.840.113549.1.1.5": (_RSA, "sha1"),
    "1.2.840.113549.1.1.10": (_PSS, ""),
    "1.2.840.113549.1.1.11": (_RSA, "sha256"),
    "1.2.840.113549.1.1.12": (_RSA, "sha384"),
    "1.2.840.113549.1.1.13": (_RSA, "sha512"),
    "1.2.840.10045.2.1": (_ECDSA, ""),
    "1.2.840.10045.4.1": (_ECDSA, "sha1"),
    "1.2.840.10045.4.3.2": (_ECDSA, "sha256"),
    "1.2.840.10045.4.3.3": (_ECDSA, "sha384"),
    "1.2.840.10045.4.3.4": (_ECDSA, "sha512"),
    "1.3.101.112": (_ED25519, "sha512"),
}


@dataclass(frozen=True, slots=True)
class Signature:
    """A signature that fits its content.

    `proof` is the same SignedData without content and certificates, in DER: who has the certificate can verify it over its attributes,
    among them the time and the digest of the content. It holds nothing else about the person.
    """

    content: bytes
    certificate: str  # SHA-256 of the signer's certificate, in hex
    value: str  # SHA-256 of the signature value, in hex
    signed_at: datetime | None  # the signer's clock
    proof: bytes


@dataclass(frozen=True, slots=True)
class InvalidSignature:
    """A signature that proves nothing, and why."""

    reason: str


def verify(data: bytes, detached: bytes | None = None) -> Signature | InvalidSignature:
    """Verify a SignedData in DER or BER over the content in it, or over `detached`. Never raises."""
    try:
        return _verify(data, detached)
    except Unreadable as error:
        return InvalidSignature(str(error))
    except exceptions.InvalidSignature:
        return InvalidSignature("the signature does not match its attributes")
    except (*certificate.UNREADABLE, exceptions.UnsupportedAlgorithm, LookupError, RecursionError):
        return InvalidSignature("it is malformed")


@dataclass(frozen=True, slots=True)
class _Signer:
    """The one SignerInfo."""

    fields: Sequence[Value]  # version, sid, digest algorithm, signed attributes, signature algorithm, signature value
    digest: str
    attributes: Mapping[str, Value]

    @property
    def value(self) -> bytes:
        return self.fields[5].octets()


def _verify(data: bytes, detached: bytes | None) -> Signature:
    # (0) the parts of the SignedData: content, certificates, signers
    kind, wrapped = asn1.read(asn1.to_definite_length(data)).sequence(2)[:2]
    if asn1.dotted(kind) != _SIGNED_DATA:
        raise Unreadable("it is no signature")
    parts = _only(wrapped.wanted(asn1.EXPLICIT_0).parts()).sequence(4)
    content = _content(parts[2], detached)
    certificates = [each.whole for part in parts[3:-1] if part.tag == asn1.EXPLICIT_0 for each in _at_most(part, MOST_CERTIFICATES)]
    # (1) one signer, whose attributes name the content by its digest
    signer = _signer(parts[-1].wanted(SET))
    if _single(signer, _MESSAGE_DIGEST).octets() != hashlib.new(signer.digest, content).digest():
        raise Unreadable("the content was changed")
    if asn1.dotted(_single(signer, _CONTENT_TYPE)) != _DATA:
        raise Unreadable("it is for another type of content")
    # (2) the signer's certificate, and its key over the attributes
    leaf = _certificate(signer, certificates)
    _check_signature(signer, leaf, wrap(SET, signer.fields[3].content))
    _check_named_certificate(signer, leaf)
    # (3) what remains as proof
    return Signature(content, _sha256(leaf), _sha256(signer.value), _signed_at(signer), _proof(signer))


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _only(values: Sequence[Value]) -> Value:
    if len(values) != 1:
        raise ValueError("one value was expected")
    return values[0]


def _at_most(part: Value, most: int) -> Sequence[Value]:
    found = part.parts()
    if len(found) > most:
        raise Unreadable(f"it has more than {most} certificates")
    return found


def _content(encapsulated: Value, detached: bytes | None) -> bytes:
    kind, *inside = encapsulated.sequence(1)
    if asn1.dotted(kind) != _DATA:
        raise Unreadable("it is for another type of content")
    if inside and detached is not None:
        raise Unreadable("it has content of its own besides the signed part of the mail")
    if inside:
        return _only(_only(inside).wanted(asn1.EXPLICIT_0).parts()).octets()
    if detached is None:
        raise Unreadable("it has no content")
    return detached


def _signer(signers: Value) -> _Signer:
    found = signers.parts()
    if len(found) != 1:
        raise Unreadable("nobody signed it" if not found else f"{len(found)} signatures in one, of which one must count")
    if len(found[0].whole) > LARGEST_SIGNER:
        raise Unreadable(f"it is larger than {LARGEST_SIGNER // 1024} KiB")
    fields = found[0].sequence(5)
    if fields[3].tag != asn1.EXPLICIT_0:
        raise Unreadable("it has no signed attributes, so neither time nor type")
    if len(fields) < 6:  # noqa: PLR2004  see _Signer
        raise ValueError("something is missing")
    return _Signer(fields, _strong(_DIGESTS.get(_algorithm(fields[2])[0], "")), _attributes(fields[3]))


def _algorithm(identifier: Value) -> tuple[str, Value | None]:
    """An algorithm's identifier, and its parameters."""
    oid, *parameters = identifier.sequence(1)
    return asn1.dotted(oid), parameters[0] if parameters else None


def _strong(digest: str) -> str:
    if digest not in _HASHES:
        name = {"sha1": "SHA-1", "md5": "MD5"}.get(digest, "an unknown digest")
        raise Unreadable(f"it was made with {name}; SHA-256, SHA-384 and SHA-512 are accepted")
    return digest


def _attributes(signed: Value) -> dict[str, Value]:
    """The values of each attribute, by its type."""
    found: dict[str, Value] = {}
    for attribute in signed.parts():
        kind, values = attribute.sequence(2)
        name = asn1.dotted(kind.wanted(OID))
        if name in found or len(found) == MOST_ATTRIBUTES:
            raise Unreadable("a signed attribute occurs twice" if name in found else "it has too many signed attributes")
        found[name] = values.wanted(SET)
    return found


def _single(signer: _Signer, name: str) -> Value:
    """The value of an attribute that must be there, with one value."""
    if name not in signer.attributes:
        raise Unreadable("a signed attribute is missing: content type or message digest")
    return _only(signer.attributes[name].parts())


def _certificate(signer: _Signer, certificates: Sequence[bytes]) -> bytes:
    """The certificate that the signer's entry names."""
    sid = signer.fields[1]
    named = {der for der in certificates if der[0] == SEQUENCE and _is_named(sid, der)}
    if len(named) != 1:
        raise Unreadable("several certificates fit the signer" if named else "the signer's certificate is not in it")
    return named.pop()


def _is_named(sid: Value, der: bytes) -> bool:
    if sid.tag == _KEY_IDENTIFIER:
        read = certificate.load(der)
        if isinstance(read, ParseProblem):
            return False
        try:
            extension = read.parsed.extensions.get_extension_for_class(x509.SubjectKeyIdentifier)
        except x509.ExtensionNotFound:  # old roots have none
            return False
        return extension.value.digest == sid.content
    issuer, serial = sid.sequence(2)
    fields = spki.tbs_fields(der)
    return (issuer.whole, serial.whole) == (fields[2].whole, fields[0].whole)


def _check_signature(signer: _Signer, leaf: bytes, signed: bytes) -> None:
    """Raises Unreadable or the library's InvalidSignature. `signed`: the attributes as they are signed, as a SET."""
    oid, parameters = _algorithm(signer.fields[4])
    kind, digest = _SIGNATURES.get(oid, ("", ""))
    if not kind:
        raise Unreadable("it was made with an unknown algorithm")
    read = certificate.load(leaf)
    if isinstance(read, ParseProblem):
        raise Unreadable("the signer's certificate cannot be read")
    key = read.parsed.public_key()
    algorithm = _HASHES[signer.digest if kind == _PSS else _strong(digest or signer.digest)]
    match key:
        case rsa.RSAPublicKey() if kind in {_RSA, _PSS} and key.key_size <= LARGEST_MODULUS:
            if kind == _RSA:
                key.verify(signer.value, signed, padding.PKCS1v15(), algorithm)
            else:
                scheme, algorithm = _pss(parameters)
                key.verify(signer.value, signed, scheme, algorithm)
        case ec.EllipticCurvePublicKey() if kind == _ECDSA:
            key.verify(signer.value, signed, ec.ECDSA(algorithm))
        case ed25519.Ed25519PublicKey() if kind == _ED25519:
            key.verify(signer.value, signed)
        case _:
            raise Unreadable("its algorithm does not suit the certificate's key")


def _pss(parameters: Value | None) -> tuple[padding.PSS, hashes.HashAlgorithm]:
    """The padding and the digest that RSASSA-PSS-params name (RFC 4055 3.1); without them, SHA-1."""
    read = algos.RSASSAPSSParams.load(parameters.whole if parameters is not None else wrap(SEQUENCE))
    mask = read["mask_gen_algorithm"]
    if mask["algorithm"].native != "mgf1" or read["trailer_field"].native != "trailer_field_bc":
        raise Unreadable("it was made with an unknown algorithm")
    digest, of_mask = (_HASHES[_strong(each["algorithm"].native)] for each in (read["hash_algorithm"], mask["parameters"]))
    return padding.PSS(padding.MGF1(of_mask), read["salt_length"].native), digest


def _check_named_certificate(signer: _Signer, leaf: bytes) -> None:
    """Where the signed attributes name the certificate (RFC 5035), it must be this one: what stands outside them may be exchanged."""
    for name, kind, usual in (
        (_SIGNING_CERTIFICATE, tsp.SigningCertificate, "sha1"),
        (_SIGNING_CERTIFICATE_V2, tsp.SigningCertificateV2, "sha256"),
    ):
        if name in signer.attributes:
            first = kind.load(_single(signer, name).whole)["certs"][0]
            digest = usual if name == _SIGNING_CERTIFICATE else first["hash_algorithm"]["algorithm"].native
            if hashlib.new(digest, leaf, usedforsecurity=False).digest() != first["cert_hash"].native:
                raise Unreadable("it names another certificate than the one that came with it")


def _signed_at(signer: _Signer) -> datetime | None:
    if _SIGNING_TIME not in signer.attributes:
        return None
    found = asn1_cms.Time.load(_single(signer, _SIGNING_TIME).whole).native
    if not isinstance(found, datetime) or found.tzinfo is None:  # the year 0, and local times
        raise Unreadable("its signing time is malformed")
    return found.astimezone(UTC)


def _proof(signer: _Signer) -> bytes:
    version, _, algorithm = signer.fields[:3]
    entry = wrap(SEQUENCE, *(field.whole for field in signer.fields[:6]))
    content = wrap(SEQUENCE, _identifier(_DATA))
    signed = wrap(SEQUENCE, version.whole, wrap(SET, algorithm.whole), content, wrap(SET, entry))
    return wrap(SEQUENCE, _identifier(_SIGNED_DATA), wrap(asn1.EXPLICIT_0, signed))


def _identifier(dotted: str) -> bytes:
    found: bytes = asn1_cms.ContentType(dotted).dump()
    return found
