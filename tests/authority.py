"""Throw-away certificate authorities and people's certificates, made fresh for a test."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives import serialization as ser
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import pkcs12
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from tests import run

Key = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey
DUAL = ("digital_signature", "key_encipherment")
USAGES = (
    "digital_signature",
    "content_commitment",
    "key_encipherment",
    "data_encipherment",
    "key_agreement",
    "key_cert_sign",
    "crl_sign",
    "encipher_only",
    "decipher_only",
)


@functools.cache
def rsa_key(number: int = 0, bits: int = 2048) -> rsa.RSAPrivateKey:
    """An RSA key; the same number gives the same key within a run, in all its processes, since making one takes long."""

    def make() -> bytes:
        key = rsa.generate_private_key(public_exponent=65537, key_size=bits)
        return key.private_bytes(ser.Encoding.DER, ser.PrivateFormat.PKCS8, ser.NoEncryption())

    found = ser.load_der_private_key(run.made_once(f"rsa-{bits}-{number}.key", make), None, unsafe_skip_rsa_key_validation=True)
    assert isinstance(found, rsa.RSAPrivateKey)
    return found


def own_key(number: int) -> rsa.RSAPrivateKey:
    """One of any number of RSA keys, made at once: two of a growing stock of primes, since making primes takes long."""
    second = (1 + math.isqrt(1 + 8 * number)) // 2
    p, q = _prime(second), _prime(number - second * (second - 1) // 2)
    e, d = 65537, pow(65537, -1, (p - 1) * (q - 1))
    numbers = rsa.RSAPrivateNumbers(p, q, d, d % (p - 1), d % (q - 1), pow(q, -1, p), rsa.RSAPublicNumbers(e, p * q))
    return numbers.private_key(unsafe_skip_rsa_key_validation=True)


@functools.cache
def _prime(number: int) -> int:
    numbers = rsa_key(8000 + number // 2).private_numbers()
    return (numbers.p, numbers.q)[number % 2]


_people: dict[str, int] = {}


def key_of(who: str) -> rsa.RSAPrivateKey:
    """A person's own RSA key, the same within a run: no two people share one."""
    return own_key(_people.setdefault(who.lower(), len(_people)))


def key_usage(names: Iterable[str]) -> x509.KeyUsage:
    """A KeyUsage extension with the named bits."""
    wanted = set(names)
    return x509.KeyUsage(**{name: name in wanted for name in USAGES})


@dataclass(frozen=True)
class Identity:
    """A certificate with its key and the chain above it."""

    key: Key
    certificate: x509.Certificate
    chain: tuple[x509.Certificate, ...] = ()

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(ser.Encoding.PEM)

    @property
    def der(self) -> bytes:
        return self.certificate.public_bytes(ser.Encoding.DER)

    def key_pem(self, password: str | None = None) -> bytes:
        how = ser.BestAvailableEncryption(password.encode()) if password else ser.NoEncryption()
        return self.key.private_bytes(ser.Encoding.PEM, ser.PrivateFormat.PKCS8, how)

    def pfx(self, password: str = "in-comes-a-file", *, rounds: int = 2048, name: str = "as issued") -> bytes:
        """A PFX as a certification authority of today makes it (AES-256, SHA-256)."""
        how = ser.PrivateFormat.PKCS12.encryption_builder().kdf_rounds(rounds).build(password.encode())
        return pkcs12.serialize_key_and_certificates(name.encode(), self.key, self.certificate, self.chain, how)


class Authority:
    """A root and one intermediate below it."""

    def __init__(self, name: str = "Example", now: datetime | None = None) -> None:
        self.now = now or datetime.now(UTC)
        self.root_key, self.issuer_key = rsa_key(9001), rsa_key(9002)
        self.root = self._ca(f"{name} Root", self.root_key, None, 1)
        self.issuer = self._ca(f"{name} Mail CA", self.issuer_key, self.root, 2)

    def _ca(self, name: str, key: Key, issuer: x509.Certificate | None, serial: int) -> x509.Certificate:
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer.subject if issuer else subject)
            .public_key(key.public_key())
            .serial_number(serial)
            .not_valid_before(self.now - timedelta(days=400))
            .not_valid_after(self.now + timedelta(days=3650))
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(key_usage(("key_cert_sign", "crl_sign")), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .sign(self.root_key, hashes.SHA256())
        )

    def issue(  # noqa: PLR0913  each argument is one way in which a certificate can be wrong
        self,
        *addresses: str,
        name: str = "",
        key: Key | None = None,
        days: int = 365,
        starts: timedelta = timedelta(days=-1),
        usage: Sequence[str] | None = DUAL,
        extended: Sequence[x509.ObjectIdentifier] | None = (ExtendedKeyUsageOID.EMAIL_PROTECTION,),
        subject: Sequence[x509.NameAttribute] = (),
        ca: bool = False,
        digest: hashes.HashAlgorithm | None = None,
        names: Sequence[x509.GeneralName] | None = None,
    ) -> Identity:
        """A leaf for these addresses."""
        key = key or key_of(addresses[0] if addresses else name)
        common = name or (addresses[0] if addresses else "No Address")
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common), *subject]))
            .issuer_name(self.issuer.subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(self.now + starts)
            .not_valid_after(self.now + starts + timedelta(days=days))
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self.issuer_key.public_key()), critical=False)
        )
        general = [x509.RFC822Name(a) for a in addresses] if names is None else list(names)
        if general:
            builder = builder.add_extension(x509.SubjectAlternativeName(general), critical=False)
        if usage is not None:
            builder = builder.add_extension(key_usage(usage), critical=True)
        if extended is not None:
            builder = builder.add_extension(x509.ExtendedKeyUsage(extended), critical=False)
        return Identity(key, builder.sign(self.issuer_key, digest or hashes.SHA256()), (self.issuer, self.root))
