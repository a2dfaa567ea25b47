"""A file of certificates (PEM with any number of them, DER, PKCS#7, a store) -> the certificates in it, in DER and in its order.

Private keys beside them are skipped. A PFX is refused: it needs a password.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, pkcs7

from distributor.pki import asn1, ber, pem, sst
from distributor.pki.pbe import Unsupported

EXTENSIONS = frozenset({".cer", ".crt", ".der", ".p7b", ".p7c", ".pem", ".spc"})  # of the files that are read in a folder
_SIGNED = "1.2.840.113549.1.7.2"


class NotCertificates(ValueError):
    """The bytes are no file of certificates; the message says why."""


class Empty(NotCertificates):
    """PEM without a certificate in it, such as a private key."""


def read(data: bytes) -> tuple[sst.Stored, ...]:
    """Every certificate in a file, with the names that a store gives them. Raises NotCertificates."""
    if data.startswith(sst.MAGIC):
        try:
            return sst.read(data).stored
        except sst.Malformed as fault:
            raise NotCertificates(f"a damaged collection, {fault}") from None
    found = tuple(map(sst.Stored, _ders(data)))
    if not found:
        raise Empty("there is no certificate in it")
    return found


def _ders(data: bytes) -> Iterator[bytes]:
    data = pem.plain(data)
    if b"-----BEGIN " not in data:
        yield from _binary(data)
        return
    try:
        for block in pem.blocks(data):
            yield from _block(block)
    except Unsupported as fault:
        raise NotCertificates(str(fault)) from None


def _block(block: pem.Block) -> Iterator[bytes]:
    if block.label in {b"PKCS7", b"CMS"}:
        yield from _signed(block.der)
    elif block.label == b"TRUSTED CERTIFICATE":
        yield _first(block.der)
    elif block.is_certificate:
        yield block.der


def _binary(data: bytes) -> Iterator[bytes]:
    """DER or BER: a certificate begins with a sequence, signed data with its type, a PFX with its version."""
    try:
        parts = asn1.read(ber.to_definite_length(data)).sequence(2)
        kind = asn1.dotted(parts[0]) if parts[0].tag == asn1.OID else ""
    except ValueError:
        raise NotCertificates("neither PEM nor DER, or damaged") from None
    if parts[0].tag == asn1.INTEGER:
        raise NotCertificates("it contains private keys and needs a password")
    if kind == _SIGNED:
        yield from _signed(data)
    elif kind:
        raise NotCertificates("a PKCS#7 file of another kind than certificates")
    else:
        yield data


def _signed(data: bytes) -> Iterator[bytes]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # BER instead of DER is no reason to refuse
            found = pkcs7.load_der_pkcs7_certificates(ber.to_definite_length(data))
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise NotCertificates("a damaged PKCS#7 file, or one without certificates") from None
    yield from (one.public_bytes(Encoding.DER) for one in found)


def _first(data: bytes) -> bytes:
    """OpenSSL's trusted certificate without what it is trusted for."""
    try:
        return asn1.Value(data, asn1.SEQUENCE, 0, 0, len(data)).parts()[0].whole
    except (ValueError, IndexError):
        raise NotCertificates("a damaged certificate in it") from None
