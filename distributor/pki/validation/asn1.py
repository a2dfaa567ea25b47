"""Certificates and CRLs in DER -> asn1crypto's objects that stay the bytes they were, whatever is read from them.

asn1crypto takes every header that ends in 0x80 for one of indefinite length, and writes the whole anew when it is dumped (core.py, `dump`):
one certificate in 128 or so, and what it writes need not be what was signed (`ldap:///…` becomes `ldap://…`). A signature is then sought
over bytes that nobody signed.
"""

from __future__ import annotations

from asn1crypto import crl, x509


class _AsItCame:
    """What is dumped is what was loaded; never for an object that somebody changes."""

    _header: bytes
    _contents: bytes
    _trailer: bytes

    def dump(self, force: bool = False) -> bytes:  # noqa: ARG002, FBT001, FBT002  asn1crypto's own signature
        """The bytes it was loaded from."""
        return self._header + self._contents + self._trailer


class _Body(_AsItCame, x509.TbsCertificate):  # type: ignore[misc]  # asn1crypto has no types
    """What is signed of a certificate."""


class Certificate(_AsItCame, x509.Certificate):  # type: ignore[misc]  # asn1crypto has no types
    """A certificate; `load` is asn1crypto's."""

    _fields = [("tbs_certificate", _Body), *x509.Certificate._fields[1:]]  # noqa: RUF012  how asn1crypto is told


class _Listed(_AsItCame, crl.TbsCertList):  # type: ignore[misc]  # asn1crypto has no types
    """What is signed of a CRL."""


class CertificateList(_AsItCame, crl.CertificateList):  # type: ignore[misc]  # asn1crypto has no types
    """A CRL; `load` is asn1crypto's."""

    _fields = [("tbs_cert_list", _Listed), *crl.CertificateList._fields[1:]]  # noqa: RUF012  how asn1crypto is told
