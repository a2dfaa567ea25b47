"""Certificates and CRLs in DER -> asn1crypto objects that dump exactly the bytes they were loaded from.

asn1crypto takes every header that ends in 0x80 for one of indefinite length, and writes the whole anew when it is dumped (core.py, `dump`):
one certificate in 128 or so, and what it writes need not be what was signed (`ldap:///…` becomes `ldap://…`). The signature is then
checked over other bytes than were signed.
"""

from __future__ import annotations

from asn1crypto import crl, x509


class _KeepsBytes:
    """Dumps what was loaded; not for objects that are changed."""

    _header: bytes
    _contents: bytes
    _trailer: bytes

    def dump(self, force: bool = False) -> bytes:  # noqa: ARG002, FBT001, FBT002  asn1crypto's own signature
        """The bytes it was loaded from."""
        return self._header + self._contents + self._trailer


class _Body(_KeepsBytes, x509.TbsCertificate):  # type: ignore[misc]  # asn1crypto has no types
    """The signed part of a certificate."""


class Certificate(_KeepsBytes, x509.Certificate):  # type: ignore[misc]  # asn1crypto has no types
    """A certificate; `load` is asn1crypto's."""

    _fields = [("tbs_certificate", _Body), *x509.Certificate._fields[1:]]  # noqa: RUF012  asn1crypto's way of declaring fields


class _Listed(_KeepsBytes, crl.TbsCertList):  # type: ignore[misc]  # asn1crypto has no types
    """The signed part of a CRL."""


class CertificateList(_KeepsBytes, crl.CertificateList):  # type: ignore[misc]  # asn1crypto has no types
    """A CRL; `load` is asn1crypto's."""

    _fields = [("tbs_cert_list", _Listed), *crl.CertificateList._fields[1:]]  # noqa: RUF012  asn1crypto's way of declaring fields
