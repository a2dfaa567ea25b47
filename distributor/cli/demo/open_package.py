"""Opens a message's attachment as a phone would, for the demo: with the cryptography library, not with our own reader."""

from __future__ import annotations

from email import message_from_bytes
from email.policy import default

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization.pkcs12 import load_pkcs12

from distributor.errors import InvalidInput


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
