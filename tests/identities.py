"""People's credentials as the program holds them, from the throw-away authority."""

from __future__ import annotations

import base64
import email
import email.policy
import hashlib
from datetime import UTC, datetime
from email.message import EmailMessage

from cryptography.hazmat.primitives import serialization as ser

from distributor.model.attempts import PackedMessage, PackingTask
from distributor.model.certificates import CertificateInfo, FilePart, Identity, Locator, SourceMaterial
from distributor.model.people import Address, Person
from distributor.model.secret import Secret
from tests.authority import Identity as Issued

CAME_WITH = "in-comes-a-file"


def credential(identity: Issued) -> Identity:
    """What opening a file would have found."""
    certificate = identity.certificate
    key = identity.key.private_bytes(ser.Encoding.DER, ser.PrivateFormat.PKCS8, ser.NoEncryption())
    info = plain_facts(
        hashlib.sha256(identity.der).hexdigest(),
        f"{certificate.serial_number:x}",
        certificate.subject.rfc4514_string(),
        certificate.issuer.rfc4514_string(),
        "alice@example.org",
        certificate.not_valid_before_utc,
        certificate.not_valid_after_utc,
    )
    chain = tuple(c.public_bytes(ser.Encoding.DER) for c in identity.chain)
    return Identity(info, identity.der, chain, Secret(base64.b64encode(key).decode()))


def material(identity: Issued, password: str = CAME_WITH) -> SourceMaterial:
    """The file that the person's certificate came in, and a password to try."""
    data = identity.pfx(CAME_WITH)
    part = FilePart("alice.pfx", "/in/alice.pfx", None, hashlib.sha256(data).hexdigest(), data)
    return SourceMaterial("pkcs12", (part,), (Secret(password),))


def todo(identity: Issued, number: int = 0, **columns: str) -> PackingTask:
    """A planned delivery."""
    info = credential(identity).facts
    person = Person(Address("alice", "example.org"), "Alice Example", "en", columns=columns)
    locator = Locator("pkcs12", (("/in/alice.pfx", None, "00"),))
    return PackingTask(
        id=f"d-{number:04}",
        plan="p-1",
        generation=1,
        person=person,
        language="en",
        certificate_sha256=info.sha256,
        certificate_serial=info.serial,
        certificate_issuer=info.issuer,
        certificate_subject=info.subject,
        not_before=info.not_before,
        not_after=info.not_after,
        locator=locator,
    )


def attachment(packed: PackedMessage) -> bytes:
    """The package in a message."""
    message = email.message_from_bytes(packed.message, policy=email.policy.default)
    assert isinstance(message, EmailMessage)
    (part,) = message.iter_attachments()
    found: bytes = part.get_content()
    return found


def plain_facts(  # noqa: PLR0913, PLR0917  what tells one certificate from another
    sha256: str,
    serial: str,
    subject: str,
    issuer: str,
    address: str,
    not_before: datetime = datetime(2026, 1, 1, tzinfo=UTC),
    not_after: datetime = datetime(2028, 1, 1, tzinfo=UTC),
) -> CertificateInfo:
    return CertificateInfo(
        sha256=sha256,
        serial=serial,
        subject=subject,
        issuer=issuer,
        addresses=(address,),
        subject_addresses=(),
        not_before=not_before,
        not_after=not_after,
        key="rsa-2048",
        signature="sha256",
        is_ca=False,
        key_usage=None,
        extended_key_usage=None,
        usages=("sign", "encrypt"),
    )
