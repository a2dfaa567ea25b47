"""The fields of a certificate -> what makes it unfit for mail: a person's before it is sent, an authority's, one found published.

Exchange Online and Outlook decide what counts. No network, and no cryptography is loaded.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from distributor.model.certificates import CertificateInfo, ParseProblem
from distributor.model.issues import CheckId, Issue, Severity
from distributor.model.people import Address, BadAddress, escape_unsafe, key_of, parse_address
from distributor.pki.spki import is_installed

if TYPE_CHECKING:
    from distributor.pki.certificate import Certificate

SOON = timedelta(days=30)  # Outlook's warnings begin then (facts: exchange.md 1.5)
SMALLEST_RSA = 2048  # bits, CA/B S/MIME BR 6.1.5
EMAIL_PROTECTION = "1.3.6.1.5.5.7.3.4"
ANY_USE = "2.5.29.37.0"
_NEVER = {ANY_USE: "any use", "1.3.6.1.5.5.7.3.1": "servers", "1.3.6.1.5.5.7.3.3": "signing code", "1.3.6.1.5.5.7.3.8": "time stamps"}
WEAK_HASHES = frozenset({"md2", "md4", "md5", "sha1"})
_KINDS = {  # of keys that look like those that phones install
    "rsassa-pss": "its key is for RSASSA-PSS signatures only (id-RSASSA-PSS): phones do not install it, and nobody can encrypt to it",
    "rsaes-oaep": "its key is for RSAES-OAEP only (id-RSAES-OAEP): phones do not install it, and it cannot sign",
    "ec-explicit": "its EC key has explicit curve parameters instead of a named curve: phones do not install it",
    "ec-compressed": "its EC key is in compressed form: phones do not install it",
    "rsaencryption-with-parameters": "its RSA key has parameters, which are not allowed: programs disagree on how to read it",
}
ORDINARY_KEY = "have one issued for a plain RSA key (rsaEncryption)"
_REISSUE = "have a new certificate issued"
_HIDDEN = "correct the row, or have a new certificate issued: Outlook hides certificates without the primary address"
_ALIKE = "if the certificate is right, use its address in the row: mail servers may distinguish upper and lower case"


# --- predicates --------------------------------------------------------------------------------
# A fault is a check and a text that completes "the certificate ...".

Fault = tuple[CheckId, str]


def validity_fault(cert: CertificateInfo | Certificate, now: datetime) -> Fault | None:
    """Why it is not valid at this time."""
    if cert.not_after <= now:
        return CheckId.EXPIRED, f"expired on {_day(cert.not_after)}"
    if cert.not_before > now:
        return CheckId.NOT_YET_VALID, f"is not valid before {_day(cert.not_before)}"
    return None


def signature_fault(cert: CertificateInfo | Certificate) -> Fault | None:
    """Why its signature could be forged by now."""
    if cert.signature in WEAK_HASHES:
        return CheckId.WEAK_SIGNATURE, f"is signed with {cert.signature.upper()}, which is no longer trusted"
    return None


def allows_mail(uses: frozenset[str] | None, *, any_use: bool) -> bool:
    """Whether an extended key usage allows mail, or there is none. `any_use`: anyExtendedKeyUsage is enough."""
    return uses is None or EMAIL_PROTECTION in uses or (any_use and ANY_USE in uses)


def authority_faults(cert: Certificate, *, root: bool) -> Iterator[Fault]:
    """What makes a CA certificate unfit for mail, but for its validity. A root's own signature does not matter: it carries no trust."""
    if cert.key_usage is not None and "keyCertSign" not in cert.key_usage:
        yield CheckId.KEY_USAGE, "may not sign certificates (key usage)"
    if not root and (fault := signature_fault(cert)):
        yield fault
    if not allows_mail(cert.extended_key_usage, any_use=True):  # Windows nests extended key usages
        yield CheckId.NOT_FOR_MAIL, "is not for mail (extended key usage), nor is any certificate below it"
    if cert.rsa_bits is not None and cert.rsa_bits < SMALLEST_RSA:
        yield CheckId.WEAK_KEY, f"has an RSA key of {cert.rsa_bits} bits; at least {SMALLEST_RSA} are required"


def encryption_fault(info: CertificateInfo | ParseProblem, now: datetime) -> Fault | None:
    """Why others cannot encrypt to a certificate that is to be published, or was found published."""
    if isinstance(info, ParseProblem):
        return info.check, f"cannot be used: {info.message}"
    if fault := validity_fault(info, now):
        return fault
    if "encrypt" not in info.usages:
        return CheckId.KEY_USAGE, "is for signing only; no one can encrypt to it"
    if not allows_mail(info.extended_key_usage, any_use=False):
        return CheckId.NOT_FOR_MAIL, "is not for mail (extended key usage)"
    return None


def is_for(info: CertificateInfo | ParseProblem, address: str) -> bool:
    """Whether the certificate contains the address, ignoring the case of ASCII letters as mail programs do."""
    return isinstance(info, CertificateInfo) and key_of(address) in {one.key for one in addresses(info)[0]}


# --- a person's certificate --------------------------------------------------------------------------------


def check_certificate(info: CertificateInfo, person: Address | None, now: datetime) -> list[Issue]:
    """Every issue. `person`: to whom it would be sent; None where the certificate itself decides that (`subject_address`)."""
    return [*_time(info, now), *_purpose(info), *_strength(info), *(_addressed(info, person) if person else ())]


_STILL_WRONG = frozenset({CheckId.IS_CA, CheckId.KEY_TYPE, CheckId.ADDRESS_MISMATCH, CheckId.BAD_ADDRESS, CheckId.NO_ADDRESS})


def check_old(info: CertificateInfo, person: Address | None) -> list[Issue]:
    """Every issue of an expired certificate whose key is delivered for old mail: nobody trusts or validates it any more."""
    issues = [*_purpose(info), *_strength(info), *(_addressed(info, person) if person else ())]
    return [issue for issue in issues if issue.severity is Severity.ERROR and issue.check in _STILL_WRONG]


def addresses(info: CertificateInfo) -> tuple[list[Address], list[BadAddress]]:
    """The mail addresses in the certificate, each mailbox once, and the entries that are no valid address.

    Those of the subject count only where the subject alternative names have none at all, good or bad.
    """
    good: dict[str, Address] = {}
    bad = []
    for text in info.addresses or info.subject_addresses:
        match parse_address(text):
            case Address(local="*"):
                bad.append(BadAddress(text, "it stands for a whole domain, not for a person", _REISSUE))
            case Address() as address:
                good.setdefault(address.key, address)
            case BadAddress() as fault:
                bad.append(fault)
    return list(good.values()), bad if info.addresses else []


def subject_address(info: CertificateInfo) -> Address | Issue:
    """The address of the one person that a certificate names, for runs without a roster."""
    good, bad = addresses(info)
    if len(good) == 1:
        return good[0]
    if good:
        names = ", ".join(str(address) for address in good)
        return _error(
            CheckId.SEVERAL_ADDRESSES, f"the certificate has several addresses ({names})", "add the person to a roster (--roster)"
        )
    if bad:
        return _error(
            CheckId.BAD_ADDRESS, f'the certificate\'s address "{escape_unsafe(bad[0].text)}" cannot be used: {bad[0].reason}', _REISSUE
        )
    return _no_address(info)


def _time(info: CertificateInfo, now: datetime) -> Iterator[Issue]:
    if fault := validity_fault(info, now):
        hint = _expired_hint(info) if fault[0] is CheckId.EXPIRED else "run `distributor plan` again then"
        yield _error(fault[0], f"the certificate {fault[1]}", hint)
    elif info.not_after - now < SOON:
        yield _warning(
            CheckId.EXPIRES_SOON,
            f"the certificate expires on {_day(info.not_after)}",
            "renew the certificate soon; Outlook warns during the last 30 days",
        )


def _expired_hint(info: CertificateInfo) -> str:
    return f"{_REISSUE}; to read old mail, deliver this one with --history" if "encrypt" in info.usages else _REISSUE


def _purpose(info: CertificateInfo) -> Iterator[Issue]:
    if info.is_ca:
        yield _error(CheckId.IS_CA, "this is a CA certificate, not a person's", "export the person's own certificate")
    yield from _extended(info.extended_key_usage)
    if not info.usages:
        yield _error(CheckId.KEY_USAGE, "its key usage allows neither signing nor encrypting mail", _REISSUE)
    elif len(info.usages) == 1:
        other = "encrypting" if info.usages[0] == "sign" else "signing"
        yield _warning(CheckId.KEY_USAGE, f"its key usage does not allow {other} mail", f"send the person's certificate for {other} too")


def _extended(uses: frozenset[str] | None) -> Iterator[Issue]:
    """CA/B S/MIME BR 7.1.2.3: present, with emailProtection, and without uses other than mail."""
    if uses is None:
        yield _error(CheckId.NOT_FOR_MAIL, "its extended key usage is missing; emailProtection is required", _REISSUE)
    elif not allows_mail(uses, any_use=False):
        yield _error(CheckId.NOT_FOR_MAIL, "its extended key usage lacks emailProtection", "have one issued for secure mail")
    elif others := [name for oid, name in _NEVER.items() if oid in uses]:
        message = f"its extended key usage allows {' and '.join(others)}, which mail certificates must not"
        yield _error(CheckId.NOT_FOR_MAIL, message, _REISSUE)


def _strength(info: CertificateInfo) -> Iterator[Issue]:
    kind, _, size = info.key.partition("-")
    if kind == "rsa":
        if int(size) < SMALLEST_RSA:
            yield _error(CheckId.WEAK_KEY, f"its RSA key has {size} bits; at least {SMALLEST_RSA} are required", _REISSUE)
        elif int(size) % 8:
            yield _error(CheckId.WEAK_KEY, f"its RSA key has {size} bits, which is not a multiple of 8", _REISSUE)
    elif is_installed(info.key):
        curve = f"P-{info.key[4:]}"
        yield _warning(
            CheckId.KEY_TYPE,
            f"its key is an EC key ({curve}), which Microsoft does not document for Outlook mobile",
            "test one certificate first, or use RSA",
        )
    else:
        yield _error(CheckId.KEY_TYPE, foreign_key(info.key), ORDINARY_KEY)
    if fault := signature_fault(info):
        yield _error(fault[0], f"it {fault[1]}", _REISSUE)


def foreign_key(kind: str) -> str:
    """Why phones do not install a key of this type."""
    return _KINDS.get(kind, f'its key is of a kind that phones do not install ("{kind}")')


def _addressed(info: CertificateInfo, person: Address) -> Iterator[Issue]:
    good, bad = addresses(info)
    match = next((address for address in good if address.key == person.key), None)
    if match is not None:
        if not info.addresses:
            yield _warning(
                CheckId.NO_ADDRESS,
                f'"{match}" is in the subject only, not in the subject alternative names',
                "Outlook mobile allows that, other mail programs may not: have the next one issued with the address as rfc822Name",
            )
        if match.local != person.local:
            yield _warning(
                CheckId.ADDRESS_CASE,
                f'the certificate writes "{match}"',
                "if the certificate does not appear in Outlook, write both addresses alike: Outlook may compare case",
            )
    elif good:
        names = ", ".join(str(address) for address in good)
        alike = any(str(address).casefold() == str(person).casefold() for address in good)
        yield _error(CheckId.ADDRESS_MISMATCH, f'the certificate is for "{names}", not for "{person}"', _ALIKE if alike else _HIDDEN)
    elif bad:
        yield _error(
            CheckId.BAD_ADDRESS, f'the certificate\'s address "{escape_unsafe(bad[0].text)}" cannot be used: {bad[0].reason}', _REISSUE
        )
    else:
        yield _no_address(info)


def _no_address(info: CertificateInfo) -> Issue:
    if info.subject_addresses:
        text = f'the certificate has no mail address but "{escape_unsafe(info.subject_addresses[0])}" in the subject, which cannot be used'
    else:
        text = "the certificate has no mail address"
    return _error(CheckId.NO_ADDRESS, text, "have one issued with the address as rfc822Name")


def _day(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%d")


def _error(check: CheckId, message: str, hint: str) -> Issue:
    return Issue(Severity.ERROR, check, message, hint)


def _warning(check: CheckId, message: str, hint: str) -> Issue:
    return Issue(Severity.WARNING, check, message, hint)
