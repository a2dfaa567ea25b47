"""The text of `certificate` (PEM in any order, or an armoured PFX) -> a key and its certificate, or what is wrong with them.

Everything is checked here, so that no certificate is sent that Entra would refuse.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding, load_der_private_key, load_pem_private_key, pkcs12

from distributor.errors import InvalidInput
from distributor.model.secret import Secret
from distributor.pki import pem
from distributor.pki.asn1 import Unreadable

_PFX = b"PKCS12"  # the armour's label (config/secrets.py)
_VERSION_3 = b"\x02\x01\x03"  # the first value of a PFX
_RENEW = "create a new one and register it with the app (see docs/exchange-online.md#1-a-mailbox-and-an-app)"
_WHOLE = "name a file with the app's certificate and its private key: PEM (both in one file) or PFX"


@dataclass(frozen=True)
class SigningKey:
    """The app's key, and the certificate that is registered in Entra."""

    key: RSAPrivateKey
    certificate: x509.Certificate

    @property
    def pem(self) -> str:
        """The certificate's text."""
        return self.certificate.public_bytes(Encoding.PEM).decode()


def load_signing_key(text: Secret, password: Secret | None, now: datetime) -> SigningKey:
    """The key and its certificate. Raises InvalidInput; its `where` is the key below the table: `certificate` or `certificate_password`."""
    try:
        blocks = list(pem.blocks(text.reveal().encode()))
    except Unreadable:
        raise InvalidInput("a PEM block in the file is damaged", where="certificate", hint=_WHOLE) from None
    found, certificates = _pfx(blocks, password) if any(block.label == _PFX for block in blocks) else _pem(blocks, password)
    if found is None:
        raise InvalidInput("no private key found", where="certificate", hint=_WHOLE)
    if not certificates:
        raise InvalidInput("no certificate found", where="certificate", hint=_WHOLE)
    return _fit(found, certificates, now)


def _fit(key: PrivateKeyTypes, certificates: Iterable[x509.Certificate], now: datetime) -> SigningKey:
    if not isinstance(key, RSAPrivateKey):
        raise InvalidInput("not an RSA key; Entra accepts no other kind", where="certificate", hint=_RENEW)
    own = next((each for each in certificates if each.public_key() == key.public_key()), None)
    if own is None:
        raise InvalidInput("the certificate does not match the private key", where="certificate", hint=_WHOLE)
    if own.not_valid_after_utc <= now:
        raise InvalidInput(f"the certificate expired on {own.not_valid_after_utc:%Y-%m-%d}", where="certificate", hint=_RENEW)
    if own.not_valid_before_utc > now:
        raise InvalidInput(
            f"the certificate is not valid before {own.not_valid_before_utc:%Y-%m-%d}",
            where="certificate",
            hint="check this machine's clock, or wait",
        )
    return SigningKey(key, own)


# --- PEM -----------------------------------------------------------------------------------------------------------


def _pem(blocks: Iterable[pem.Block], password: Secret | None) -> tuple[PrivateKeyTypes | None, list[x509.Certificate]]:
    key, certificates = None, []
    for block in blocks:
        if block.is_key:
            key = _key(block, password)
        elif block.is_certificate:
            certificates.append(_certificate(block))
    return key, certificates


def _certificate(block: pem.Block) -> x509.Certificate:
    try:
        return x509.load_der_x509_certificate(block.der)
    except ValueError:
        raise InvalidInput("cannot read a certificate in the file", where="certificate", hint=_WHOLE) from None


def _key(block: pem.Block, password: Secret | None) -> PrivateKeyTypes:
    if block.encrypted and not password:
        raise _wants_password("its key")
    word = password.reveal().encode() if password is not None and block.encrypted else None
    try:
        return load_pem_private_key(block.text, word) if block.text else load_der_private_key(block.der, word)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        if block.encrypted:
            raise _wrong_password("its key") from None
        raise InvalidInput("cannot read the private key", where="certificate", hint=_WHOLE) from None


# --- PFX -----------------------------------------------------------------------------------------------------------


def _pfx(blocks: Iterable[pem.Block], password: Secret | None) -> tuple[PrivateKeyTypes | None, list[x509.Certificate]]:
    der = next(block.der for block in blocks if block.label == _PFX)
    if der[_content(der) :][:3] != _VERSION_3:
        raise InvalidInput("neither PEM nor PFX", where="certificate", hint=_WHOLE)
    for word in _words(password):
        try:
            key, certificate, others = pkcs12.load_key_and_certificates(der, word)
        except (ValueError, TypeError, UnsupportedAlgorithm):
            continue
        return key, [each for each in (certificate, *others) if each is not None]
    raise _wrong_password("the PFX") if password else _wants_password("the PFX")


def _content(der: bytes) -> int:
    """Where the content of the outer sequence begins; 0x80 is an indefinite length (BER)."""
    return 2 + (der[1] & 0x7F if der[1] & 0x80 else 0)


def _words(password: Secret | None) -> Iterator[bytes | None]:
    """No password and an empty one differ in a PFX, but look alike to whoever made it; both are tried."""
    if password:
        yield password.reveal().encode()
    else:
        yield from (None, b"")


def _wants_password(what: str) -> InvalidInput:
    return InvalidInput(f"{what} needs a password", where="certificate_password", hint="set `certificate_password` beside the certificate")


def _wrong_password(what: str) -> InvalidInput:
    return InvalidInput(f"wrong password for {what}", where="certificate_password", hint="correct the secret in `certificate_password`")
