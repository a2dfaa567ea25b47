"""Certificates of authorities and people, each as odd as a test wants it; all of them have elliptic keys, which are quickly made."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import AuthorityInformationAccessOID, NameOID

from distributor.microsoft.collection import CollectionEntry, members
from distributor.pki.sst import Stored
from tests.authority import key_usage

NOW = datetime(2026, 11, 25, tzinfo=UTC)


@functools.cache
def key(name: str) -> ec.EllipticCurvePrivateKey:
    """A key; the same name gives the same one."""
    return ec.generate_private_key(ec.SECP256R1()) if name else key("nobody")


@dataclass(frozen=True)
class Made:
    """A certificate, and with which key it signs others."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @property
    def der(self) -> bytes:
        return self.certificate.public_bytes(Encoding.DER)

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(Encoding.PEM)


def make(  # noqa: PLR0913  each argument is one way to be odd
    name: str,
    by: Made | None = None,
    *,
    ca: bool = True,
    days: int = 3650,
    starts: int = -100,
    own: str | None = None,
    aia: str | None = None,
    usage: Sequence[str] = ("key_cert_sign", "crl_sign"),
    extended: Sequence[x509.ObjectIdentifier] = (),
) -> Made:
    """A certificate by that name (CN), signed by `by` or by itself, with the key called `own`."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    mine = key(own or name)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(by.certificate.subject if by else subject)
        .public_key(mine.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOW + timedelta(days=starts))
        .not_valid_after(NOW + timedelta(days=days))
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        .add_extension(key_usage(usage), critical=True)
    )
    if extended:
        builder = builder.add_extension(x509.ExtendedKeyUsage(extended), critical=False)
    if aia:
        methods = {AuthorityInformationAccessOID.OCSP: "http://ocsp.example.org", AuthorityInformationAccessOID.CA_ISSUERS: aia}
        access = [x509.AccessDescription(method, x509.UniformResourceIdentifier(place)) for method, place in methods.items()]
        builder = builder.add_extension(x509.AuthorityInformationAccess(access), critical=False)
    return Made(builder.sign(by.key if by else mine, hashes.SHA256()), mine)


def known(*made: Made, source: str = "collection.sst") -> list[CollectionEntry]:
    """What the program knows of them."""
    found, issues = members((source, Stored(one.der)) for one in made)
    assert not issues
    return found
