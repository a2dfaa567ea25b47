"""What a plain RSA certificate for signing and encrypting says, where a test does not care how it was made."""

from __future__ import annotations

from datetime import UTC, datetime

from distributor.model.certificates import CertificateInfo


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
