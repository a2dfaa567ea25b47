"""Signed mails as people's programs write them: signatures by OpenSSL, and by hand where they must be wrong."""

from __future__ import annotations

import base64
import hashlib
import subprocess
import tempfile
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from asn1crypto import algos, cms, core
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa

from distributor.pki.asn1 import wrap
from tests.authority import Identity
from tests.needs import require

SEQUENCE, SET, EXPLICIT_0, OCTETS = 0x30, 0x31, 0xA0, 0x04
DATA, SIGNED_DATA = "data", "signed_data"


def openssl(identity: Identity, content: bytes, *options: str) -> bytes:
    """SignedData in DER by `openssl cms -sign`."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for file, data in (("key.pem", identity.key_pem()), ("certificate.pem", identity.pem), ("content", content)):
            (folder / file).write_bytes(data)
        command = [require("openssl"), "cms", "-sign", "-binary", "-in", "content", "-signer", "certificate.pem", "-inkey", "key.pem"]
        made = subprocess.run([*command, "-outform", "DER", *options], cwd=folder, capture_output=True, check=True, timeout=60)
    return made.stdout


def proved_by_openssl(proof: bytes, identity: Identity, content: bytes | None) -> bool:
    """Whether OpenSSL verifies SignedData that has neither content nor certificates; without content, only over its attributes."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for file, data in (("proof", proof), ("certificate.pem", identity.pem), ("content", content or b"")):
            (folder / file).write_bytes(data)
        command = [require("openssl"), "cms", "-verify", "-binary", "-inform", "DER", "-in", "proof", "-certfile", "certificate.pem"]
        options = ["-noverify", "-content", "content", *(["-no_content_verify"] if content is None else [])]
        return subprocess.run([*command, *options], cwd=folder, capture_output=True, check=False, timeout=60).returncode == 0


# --- by hand ---------------------------------------------------------------------------------------------------------


def attributes(content: bytes, *, signed_at: datetime | None = None, kind: str = DATA, digest: str = "sha256") -> list[bytes]:
    """Content type, signing time and message digest, each in DER."""
    moment = cms.Time({"utc_time": core.UTCTime(signed_at or datetime.now(UTC))})
    values = [
        ("content_type", cms.ContentType(kind)),
        ("signing_time", moment),
        ("message_digest", core.OctetString(hashlib.new(digest, content).digest())),
    ]
    return [attribute(cms.CMSAttributeType(name).dump(), value.dump()) for name, value in values]


def attribute(kind: bytes, *values: bytes) -> bytes:
    return wrap(SEQUENCE, kind, wrap(SET, *values))


def signer_info(identity: Identity, signed: Iterable[bytes], *, digest: str = "sha256", algorithm: bytes | None = None) -> bytes:
    """A signer's entry over these attributes, which are sorted as DER wants it."""
    body = b"".join(sorted(signed))
    value = _signature(identity, wrap(SET, body), digest)
    name = {rsa.RSAPrivateKey: "rsassa_pkcs1v15", ec.EllipticCurvePrivateKey: f"{digest}_ecdsa", ed25519.Ed25519PrivateKey: "ed25519"}
    kind = next(found for key, found in name.items() if isinstance(identity.key, key))
    return wrap(
        SEQUENCE,
        core.Integer(1).dump(),
        cms.IssuerAndSerialNumber(
            {
                "issuer": cms.Name.load(identity.certificate.issuer.public_bytes()),
                "serial_number": identity.certificate.serial_number,
            }
        ).dump(),
        cms.DigestAlgorithm({"algorithm": digest}).dump(),
        wrap(EXPLICIT_0, body),
        algorithm or wrap(SEQUENCE, algos.SignedDigestAlgorithmId(kind).dump()),
        wrap(OCTETS, value),
    )


def _signature(identity: Identity, signed: bytes, digest: str) -> bytes:
    algorithm: hashes.HashAlgorithm = getattr(hashes, digest.upper())()
    match identity.key:
        case rsa.RSAPrivateKey() as key:
            return key.sign(signed, padding.PKCS1v15(), algorithm)
        case ec.EllipticCurvePrivateKey() as key:
            return key.sign(signed, ec.ECDSA(algorithm))
        case ed25519.Ed25519PrivateKey() as key:
            return key.sign(signed)
        case _:
            raise AssertionError


def signed_data(signers: Sequence[bytes], certificates: Sequence[bytes], *, content: bytes | None = None, kind: str = DATA) -> bytes:
    """SignedData in DER with these entries, valid or not."""
    inside = [] if content is None else [wrap(EXPLICIT_0, wrap(OCTETS, content))]
    body = wrap(
        SEQUENCE,
        core.Integer(1).dump(),
        wrap(SET, cms.DigestAlgorithm({"algorithm": "sha256"}).dump()),
        wrap(SEQUENCE, cms.ContentType(kind).dump(), *inside),
        wrap(EXPLICIT_0, *certificates),
        wrap(SET, *signers),
    )
    return wrap(SEQUENCE, cms.ContentType(SIGNED_DATA).dump(), wrap(EXPLICIT_0, body))


def twin(identity: Identity) -> x509.Certificate:
    """Another certificate with the same key, issuer and serial number."""
    old = identity.certificate
    builder = x509.CertificateBuilder(old.issuer, old.subject, old.public_key(), old.serial_number)
    builder = builder.not_valid_before(old.not_valid_before_utc).not_valid_after(old.not_valid_after_utc)
    key = identity.key
    assert isinstance(key, rsa.RSAPrivateKey)
    return builder.sign(key, hashes.SHA256())


# --- mails -----------------------------------------------------------------------------------------------------------


def text(words: str, *, end: bytes = b"\r\n") -> bytes:
    """A signed content: one text part."""
    return end.join((b"Content-Type: text/plain; charset=utf-8", b"Content-Transfer-Encoding: 8bit", b"", words.encode(), b""))


def header(sender: str = "alice@example.org", **more: str) -> list[str]:
    fields = {"From": sender, "To": "certificates@example.org", "Subject": "Re: your certificate", "Message-ID": "<1@phone>"}
    fields |= {name.replace("_", "-"): value for name, value in more.items()}
    return [*(f"{name}: {value}" for name, value in fields.items()), "MIME-Version: 1.0"]


def detached(content: bytes, cms_: bytes, head: Sequence[str] = (), *, boundary: str = "=_b1", kind: str = "pkcs7-signature") -> bytes:
    """A multipart/signed mail, as Outlook on phones sends it."""
    top = [
        *(head or header()),
        f'Content-Type: multipart/signed; protocol="application/{kind}";\r\n micalg=sha-256; boundary="{boundary}"',
        "",
        "This is a signed message.",
        f"--{boundary}",
    ]
    signature = [
        f"Content-Type: application/{kind}; name=smime.p7s",
        "Content-Transfer-Encoding: base64",
        "Content-Disposition: attachment; filename=smime.p7s",
        "",
        base64.encodebytes(cms_).decode().replace("\n", "\r\n"),
    ]
    lines = (*top, "\0", f"--{boundary}", *signature, f"--{boundary}--", "")
    return "\r\n".join(lines).encode().replace(b"\0", content)


def opaque(cms_: bytes, head: Sequence[str] = (), *, kind: str = "pkcs7-mime; smime-type=signed-data") -> bytes:
    """An application/pkcs7-mime mail."""
    body = base64.encodebytes(cms_).decode().replace("\n", "\r\n")
    lines = (*(head or header()), f"Content-Type: application/{kind}; name=smime.p7m", "Content-Transfer-Encoding: base64", "", body)
    return "\r\n".join(lines).encode()
