"""Time stamps (RFC 3161): the request for one, and a token that a time-stamping authority signed (CMS, RFC 5652), verified.

The authority's certificate comes with the token. Who it belongs to is shown; whether that authority is trusted is for a person to decide.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256

from asn1crypto import algos, cms, core, tsp
from asn1crypto import x509 as asn1
from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID

LARGEST = 2**16  # bytes of a token with its certificates
REQUEST_TYPE, REPLY_TYPE = "application/timestamp-query", "application/timestamp-reply"
_HASHES: dict[str, type[hashes.HashAlgorithm]] = {
    "sha1": hashes.SHA1,  # only in the reference to the certificate, where the signature is what counts
    "sha256": hashes.SHA256,
    "sha384": hashes.SHA384,
    "sha512": hashes.SHA512,
}
_SIGNED_BY = frozenset(_HASHES) - {"sha1"}


@dataclass(frozen=True, slots=True)
class TimeStamp:
    """A valid time stamp: when, and whose certificate signed it."""

    at: datetime
    authority: str  # the certificate's subject (RFC 4514)
    certificate: str  # its SHA-256 in hex


class _Reply(core.Sequence):  # type: ignore[misc]  # asn1crypto has no types
    """TimeStampResp of RFC 3161 2.4.2; asn1crypto's requires a token in a refusal too."""

    _fields = [("status", tsp.PKIStatusInfo), ("token", cms.ContentInfo, {"optional": True})]  # noqa: RUF012  asn1crypto's way


class BadToken(ValueError):
    """Why a time stamp does not count."""


def request(message: bytes, nonce: int) -> bytes:
    """A request for a time stamp of a message, with the authority's certificate in the answer (DER)."""
    algorithm = algos.DigestAlgorithm({"algorithm": "sha256"})
    imprint = tsp.MessageImprint({"hash_algorithm": algorithm, "hashed_message": sha256(message).digest()})
    made = tsp.TimeStampReq({"version": 1, "message_imprint": imprint, "nonce": nonce, "cert_req": True})
    return bytes(made.dump())


def token(reply: bytes, message: bytes, nonce: int) -> bytes:
    """The token of a reply to `request` (DER). Raises BadToken where it is none for this message and this request."""
    try:
        found = _Reply.load(reply[: LARGEST + 1], strict=True)
        status, data = str(found["status"]["status"].native), bytes(found["token"].dump())
    except (ValueError, TypeError, KeyError, OverflowError):
        raise BadToken("not an answer of a time-stamping authority") from None
    if status not in {"granted", "granted_with_mods"}:
        raise BadToken(f"the authority answered: {status.replace('_', ' ')}")
    verify(data, message, nonce)
    return data


def verify(data: bytes, message: bytes, nonce: int | None = None) -> TimeStamp:
    """Verify a token for a message: imprint, signed attributes, signature, and what the certificate is for. Raises BadToken."""
    if len(data) > LARGEST:
        raise BadToken("too large for a time stamp")
    try:
        return _verified(data, message, nonce)
    except BadToken:
        raise
    except InvalidSignature:
        raise BadToken("its signature is not valid") from None
    except (ValueError, TypeError, KeyError, IndexError, OverflowError, UnsupportedAlgorithm):
        raise BadToken("it cannot be read") from None


def _verified(data: bytes, message: bytes, nonce: int | None) -> TimeStamp:
    signed = cms.ContentInfo.load(data, strict=True)["content"]
    inner = signed["encap_content_info"]
    if inner["content_type"].native != "tst_info" or len(signed["signer_infos"]) != 1:
        raise BadToken("not a time stamp with one signature")
    content = bytes(inner["content"].contents if not isinstance(inner["content"], core.OctetString) else inner["content"].native)
    info, signer = tsp.TSTInfo.load(content, strict=True), signed["signer_infos"][0]
    imprint = info["message_imprint"]
    if imprint["hash_algorithm"]["algorithm"].native != "sha256" or imprint["hashed_message"].native != sha256(message).digest():
        raise BadToken("it is of another text")
    if nonce is not None and info["nonce"].native != nonce:
        raise BadToken("it is the answer to another request")
    der = _certificate(signed["certificates"], signer["sid"])
    _check_attributes(signer, content, der)
    certificate = x509.load_der_x509_certificate(der)
    _check_signature(signer, certificate)
    at: datetime = info["gen_time"].native
    usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage) if _has_usage(certificate) else None
    if usage is None or list(usage.value) != [ExtendedKeyUsageOID.TIME_STAMPING]:
        raise BadToken("the certificate that signed it is not one for time stamps")
    if not certificate.not_valid_before_utc <= at <= certificate.not_valid_after_utc:
        raise BadToken("the certificate that signed it was not valid at that time")
    return TimeStamp(at, certificate.subject.rfc4514_string(), sha256(der).hexdigest())


def _has_usage(certificate: x509.Certificate) -> bool:
    return any(extension.oid == x509.ExtendedKeyUsage.oid for extension in certificate.extensions)


def _certificate(certificates: Sequence[cms.CertificateChoices], sid: cms.SignerIdentifier) -> bytes:
    for choice in certificates:
        found: asn1.Certificate = choice.chosen
        if sid.name == "issuer_and_serial_number":
            same = found.issuer.dump() == sid.chosen["issuer"].dump() and found.serial_number == sid.chosen["serial_number"].native
        else:
            same = found.key_identifier == sid.chosen.native
        if same:
            return bytes(found.dump())
    raise BadToken("the certificate that signed it is missing")


def _check_attributes(signer: cms.SignerInfo, content: bytes, der: bytes) -> None:
    """That the signed attributes are those of this content and this certificate (RFC 5652 5.4, RFC 5035)."""
    values = {attribute["type"].native: attribute["values"][0] for attribute in signer["signed_attrs"]}
    if values["content_type"].native != "tst_info":
        raise BadToken("what was signed is no time stamp")
    if values["message_digest"].native != _digest(signer["digest_algorithm"]["algorithm"].native, content, _SIGNED_BY):
        raise BadToken("its content was changed")
    if "signing_certificate_v2" in values:
        named = values["signing_certificate_v2"]["certs"][0]
        algorithm = named["hash_algorithm"]["algorithm"].native
    else:
        named, algorithm = values["signing_certificate"]["certs"][0], "sha1"
    if named["cert_hash"].native != _digest(algorithm, der, frozenset(_HASHES)):
        raise BadToken("it was signed for another certificate")


def _digest(algorithm: str, data: bytes, allowed: frozenset[str]) -> bytes:
    if algorithm not in allowed:
        raise BadToken(f"{algorithm} is not supported")
    digest = hashes.Hash(_HASHES[algorithm]())
    digest.update(data)
    return digest.finalize()


def _check_signature(signer: cms.SignerInfo, certificate: x509.Certificate) -> None:
    """Raises InvalidSignature, or BadToken for an algorithm that is not supported."""
    algorithm, signature = signer["signature_algorithm"], signer["signature"].native
    name = algorithm.signature_algo
    text = b"\x31" + bytes(signer["signed_attrs"].dump())[1:]  # signed as a SET, stored with an implicit tag
    hashed = signer["digest_algorithm"]["algorithm"].native
    if hashed not in _SIGNED_BY:
        raise BadToken(f"{hashed} is not supported")
    made = _HASHES[hashed]()
    match certificate.public_key():
        case rsa.RSAPublicKey() as key if name == "rsassa_pkcs1v15":
            key.verify(signature, text, padding.PKCS1v15(), made)
        case rsa.RSAPublicKey() as key if name == "rsassa_pss":
            key.verify(signature, text, padding.PSS(padding.MGF1(made), padding.PSS.AUTO), made)
        case ec.EllipticCurvePublicKey() as key if name == "ecdsa":
            key.verify(signature, text, ec.ECDSA(made))
        case ed25519.Ed25519PublicKey() as key if name == "ed25519":
            key.verify(signature, text)
        case _:
            raise BadToken(f"{name} is not supported")
