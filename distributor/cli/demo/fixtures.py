"""The demo's throw-away certification authority, five people's certificates, a mail server, and what a phone reads of a package."""

from __future__ import annotations

import csv
import io
import os
import secrets
import socket
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from email import message_from_bytes
from email.policy import default
from pathlib import Path

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import Envelope
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import PrivateFormat
from cryptography.hazmat.primitives.serialization.pkcs12 import load_pkcs12, serialize_key_and_certificates
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from distributor.errors import InvalidInput
from distributor.files import atomic

YEAR = timedelta(days=365)


@contextmanager
def state(keep: Path | None, folder: Path) -> Iterator[None]:
    """A state folder of the demo's own, so that this user's remembers no ledger that is deleted at the end."""
    old = os.environ.get("STATE_DIRECTORY")
    if keep is None:
        os.environ["STATE_DIRECTORY"] = str(folder / ".state")
    try:
        yield
    finally:
        if old is not None:
            os.environ["STATE_DIRECTORY"] = old
        elif keep is None:
            del os.environ["STATE_DIRECTORY"]


@dataclass(frozen=True, slots=True)
class DemoPerson:
    """A person of the demo. `certified` is the address in the certificate."""

    address: str
    name: str
    language: str
    certified: str

    @property
    def stem(self) -> str:
        """The name of the person's files without their extension."""
        return self.address.partition("@")[0]


DEMO_PEOPLE = (
    DemoPerson("alice@example.org", "Alice Example", "en", "alice@example.org"),
    DemoPerson("bernd@example.org", "Bernd Beispiel", "de", "bernd@example.org"),
    DemoPerson("chloe@example.org", "Chloé Exemple", "fr", "chloe@example.org"),
    DemoPerson("dana@example.org", "Dana Example", "en", "dana.miller@example.org"),  # married; her certificate has the old name
    DemoPerson("emil@example.org", "Emil Österreicher", "de-AT", "emil@example.org"),
)


@dataclass(frozen=True, slots=True)
class _Signer:
    certificate: x509.Certificate
    key: rsa.RSAPrivateKey


def certificates(folder: Path, now: datetime) -> None:
    """Write a PFX for each person to `folder`/certificates, and `passwords.csv` and `people.csv` beside it."""
    root = _authority("Example Root CA", None, now)
    issuer = _authority("Example Mail CA", root, now)
    (folder / "certificates").mkdir(mode=0o700)
    passwords = {person.stem: secrets.token_urlsafe(12) for person in DEMO_PEOPLE}
    for person in DEMO_PEOPLE:
        data = _pfx(person, passwords[person.stem], (issuer, root), now)
        atomic.write_new(folder / "certificates" / f"{person.stem}.pfx", data)
    _table(folder / "passwords.csv", ("file", "password"), [(f"{stem}.pfx", password) for stem, password in passwords.items()])
    rows = [(p.address, p.name, p.language, f"certificates/{p.stem}.pfx") for p in DEMO_PEOPLE]
    _table(folder / "people.csv", ("email", "name", "language", "file"), rows)


def _table(path: Path, header: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> None:
    text = io.StringIO(newline="")
    csv.writer(text).writerows([header, *rows])
    atomic.write_new(path, text.getvalue().encode())


def _builder(name: str, key: rsa.RSAPrivateKey, issuer: x509.Name | None, now: datetime) -> x509.CertificateBuilder:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name), x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Example AG")])
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer or subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _authority(name: str, above: _Signer | None, now: datetime) -> _Signer:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    builder = (
        _builder(name, key, above.certificate.subject if above else None, now)
        .not_valid_after(now + 10 * YEAR)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
    )
    return _Signer(builder.sign(above.key if above else key, hashes.SHA256()), key)


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=not signs_certificates,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _pfx(person: DemoPerson, password: str, above: tuple[_Signer, _Signer], now: datetime) -> bytes:
    issuer, root = above
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    leaf = (
        _builder(person.name, key, issuer.certificate.subject, now)
        .not_valid_after(now + 2 * YEAR)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION]), critical=False)
        .add_extension(x509.SubjectAlternativeName([x509.RFC822Name(person.certified)]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.key.public_key()), critical=False)
        .sign(issuer.key, hashes.SHA256())
    )
    how = PrivateFormat.PKCS12.encryption_builder().kdf_rounds(10_000).build(password.encode())
    return serialize_key_and_certificates(person.name.encode(), key, leaf, [issuer.certificate, root.certificate], how)


@dataclass(slots=True)
class DemoMailServer:
    """Accepts every message and keeps it, by recipient."""

    messages: dict[str, bytes]

    async def handle_DATA(self, _server: object, _session: object, envelope: Envelope) -> str:  # noqa: N802  aiosmtpd's name
        """Keep the message and accept it."""
        for address in envelope.rcpt_tos:
            self.messages[address] = bytes(envelope.original_content or b"")
        return f"250 2.0.0 queued as {len(self.messages):04X}"


@contextmanager
def server() -> Iterator[tuple[DemoMailServer, int]]:
    """A running mail server on a free port of this machine, and its port."""
    received = DemoMailServer({})
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    controller = Controller(received, hostname="127.0.0.1", port=port)
    controller.start()
    try:
        yield received, port
    finally:
        controller.stop()


# --- open package --------------------------------------------------------------------------------
#
# Opens a message's attachment as a phone would, for the demo: with the cryptography library, not with our own reader.


def open_package(message: bytes, password: str) -> dict[str, str]:
    """The contents of the package, by name. Raises InvalidInput when there is none, or it does not open."""
    attachment = next(message_from_bytes(message, policy=default).iter_attachments(), None)
    if attachment is None:
        raise InvalidInput("the message has no attachment", where="demo", hint="please report this")
    data = attachment.get_content()
    try:
        package = load_pkcs12(data, password.encode())
    except ValueError:
        raise InvalidInput("the attachment does not open with the password", where="demo", hint="please report this") from None
    if package.cert is None or not isinstance(package.key, RSAPrivateKey):
        raise InvalidInput("the package holds no certificate with its key", where="demo", hint="please report this")
    certificate = package.cert.certificate
    return {
        "file": f"{attachment.get_filename()}, {len(data)} bytes",
        "belongs to": certificate.subject.rfc4514_string(),
        "issued by": certificate.issuer.rfc4514_string(),
        "valid until": f"{certificate.not_valid_after_utc:%Y-%m-%d}",
        "key": f"RSA, {package.key.key_size} bits, fits the certificate: {'yes' if _fits(package.key, certificate.public_key()) else 'no'}",
        "with it": ", ".join(other.certificate.subject.rfc4514_string() for other in package.additional_certs),
    }


def _fits(key: RSAPrivateKey, public: object) -> bool:
    return key.public_key() == public
