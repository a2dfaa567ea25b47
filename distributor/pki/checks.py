"""What a certificate says, for whom it is and the time -> what Exchange Online and Outlook will object to. Asks no network."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

from distributor.model.certificates import Facts
from distributor.model.issues import Check, Issue, Severity
from distributor.model.people import Address, BadAddress, parse_address, printable
from distributor.pki.spki import is_installed

SOON = timedelta(days=30)  # Outlook's warnings begin then (facts: exchange.md 1.5)
SMALLEST_RSA = 2048  # bits, CA/B S/MIME BR 6.1.5
EMAIL_PROTECTION = "1.3.6.1.5.5.7.3.4"
ANY_USE = "2.5.29.37.0"
_NEVER = {ANY_USE: "any use", "1.3.6.1.5.5.7.3.1": "servers", "1.3.6.1.5.5.7.3.3": "signing code", "1.3.6.1.5.5.7.3.8": "time stamps"}
WEAK_HASHES = frozenset({"md2", "md4", "md5", "sha1"})
_KINDS = {  # of keys that look like those that phones install
    "rsassa-pss": "its key is for RSASSA-PSS signatures only (id-RSASSA-PSS): phones do not install it, and nobody can encrypt to it",
    "rsaes-oaep": "its key is for RSAES-OAEP only (id-RSAES-OAEP): phones do not install it, and it cannot sign",
    "ec-explicit": "its elliptic key spells its curve out in numbers instead of naming it: phones do not install it",
    "ec-compressed": "its elliptic key is written in compressed form: phones do not install it",
    "rsaencryption-with-parameters": "its RSA key comes with parameters, where there must be none: programs do not agree what it is",
}
ORDINARY_KEY = "have one issued for an ordinary RSA key (rsaEncryption)"
_REISSUE = "have a new certificate issued"
_HIDDEN = "Outlook hides a certificate without the primary address in it; correct the row or have a new certificate issued"
_ALIKE = "a mail server may tell these letters apart; if the certificate is right, write its address in the row"


def examine(facts: Facts, person: Address | None, now: datetime) -> list[Issue]:
    """Every objection. `person`: to whom it would be sent; None where the certificate itself is to say it (`owner`)."""
    return [*_time(facts, now), *_purpose(facts), *_strength(facts), *(_addressed(facts, person) if person else ())]


def addresses(facts: Facts) -> tuple[list[Address], list[BadAddress]]:
    """The mail addresses in the certificate, each mailbox once, and what is written there but is none."""
    good: dict[str, Address] = {}
    bad = []
    for text in facts.addresses:
        match parse_address(text):
            case Address() as address:
                good.setdefault(address.key, address)
            case BadAddress() as fault:
                bad.append(fault)
    return list(good.values()), bad


def owner(facts: Facts) -> Address | Issue:
    """The one person a certificate names, where no roster says who is meant."""
    good, bad = addresses(facts)
    if len(good) == 1:
        return good[0]
    if good:
        names = ", ".join(str(address) for address in good)
        return _error(Check.SEVERAL_ADDRESSES, f"the certificate has several addresses ({names})", "name the person in a roster (--roster)")
    if bad:
        return _error(Check.BAD_ADDRESS, f'the certificate\'s address "{printable(bad[0].text)}" cannot be used: {bad[0].reason}', _REISSUE)
    return _no_address(facts)


def _time(facts: Facts, now: datetime) -> Iterator[Issue]:
    if facts.not_after <= now:
        yield _error(Check.EXPIRED, f"the certificate expired on {_day(facts.not_after)}", _REISSUE)
    elif facts.not_before > now:
        yield _error(Check.NOT_YET_VALID, f"the certificate is valid from {_day(facts.not_before)} on", "plan it again then")
    elif facts.not_after - now < SOON:
        yield _warning(
            Check.EXPIRES_SOON,
            f"the certificate expires on {_day(facts.not_after)}",
            "renew it soon; Outlook warns during the last 30 days",
        )


def _purpose(facts: Facts) -> Iterator[Issue]:
    if facts.is_ca:
        yield _error(Check.IS_CA, "this is the certificate of an authority, not of a person", "export the person's own certificate")
    yield from _extended(facts.extended_key_usage)
    if not facts.usages:
        yield _error(Check.KEY_USAGE, "its key usage allows neither signing nor encrypting mail", _REISSUE)
    elif len(facts.usages) == 1:
        other = "encrypting" if facts.usages[0] == "sign" else "signing"
        yield _warning(Check.KEY_USAGE, f"its key usage does not allow {other} mail", f"send the person's certificate for {other} too")


def _extended(uses: frozenset[str] | None) -> Iterator[Issue]:
    """CA/B S/MIME BR 7.1.2.3: present, with emailProtection, and nothing that makes more than mail of it."""
    if uses is None:
        yield _error(Check.NOT_FOR_MAIL, "it has no extended key usage; emailProtection is wanted", _REISSUE)
    elif EMAIL_PROTECTION not in uses:
        yield _error(Check.NOT_FOR_MAIL, "its extended key usage does not hold emailProtection", "have one issued for secure mail")
    elif others := [name for oid, name in _NEVER.items() if oid in uses]:
        message = f"its extended key usage allows {' and '.join(others)}, which mail certificates must not"
        yield _error(Check.NOT_FOR_MAIL, message, _REISSUE)


def _strength(facts: Facts) -> Iterator[Issue]:
    kind, _, size = facts.key.partition("-")
    if kind == "rsa":
        if int(size) < SMALLEST_RSA:
            yield _error(Check.WEAK_KEY, f"its RSA key has {size} bits; at least {SMALLEST_RSA} are wanted", _REISSUE)
        elif int(size) % 8:
            yield _error(Check.WEAK_KEY, f"its RSA key has {size} bits, which is no multiple of 8", _REISSUE)
    elif is_installed(facts.key):
        curve = f"P-{facts.key[4:]}"
        yield _warning(
            Check.KEY_TYPE,
            f"its key is elliptic ({curve}); Microsoft says nothing about Outlook mobile and such keys",
            "try one first, or use RSA",
        )
    else:
        yield _error(Check.KEY_TYPE, foreign_key(facts.key), ORDINARY_KEY)
    if facts.signature in WEAK_HASHES:
        yield _error(Check.WEAK_SIGNATURE, f"it is signed with {facts.signature.upper()}, which is no longer trusted", _REISSUE)


def foreign_key(kind: str) -> str:
    """Why phones take no key of this kind."""
    return _KINDS.get(kind, f'its key is of a kind that phones do not install ("{kind}")')


def _addressed(facts: Facts, person: Address) -> Iterator[Issue]:
    good, bad = addresses(facts)
    match = next((address for address in good if address.key == person.key), None)
    if match is not None:
        if match.local != person.local:
            yield _warning(
                Check.ADDRESS_CASE,
                f'the certificate writes "{match}"',
                "Outlook may compare letter by letter; write it alike if it does not appear",
            )
    elif good:
        names = ", ".join(str(address) for address in good)
        alike = any(str(address).casefold() == str(person).casefold() for address in good)
        yield _error(Check.ADDRESS_MISMATCH, f'the certificate is for "{names}", not for "{person}"', _ALIKE if alike else _HIDDEN)
    elif bad:
        yield _error(Check.BAD_ADDRESS, f'the certificate\'s address "{printable(bad[0].text)}" cannot be used: {bad[0].reason}', _REISSUE)
    else:
        yield _no_address(facts)


def _no_address(facts: Facts) -> Issue:
    if facts.subject_addresses:
        text = f'"{printable(facts.subject_addresses[0])}" stands in the subject only, not among the subject alternative names'
    else:
        text = "the certificate holds no mail address"
    return _error(Check.NO_ADDRESS, text, "have one issued with the address as rfc822Name")


def _day(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%d")


def _error(check: Check, message: str, hint: str) -> Issue:
    return Issue(Severity.ERROR, check, message, hint)


def _warning(check: Check, message: str, hint: str) -> Issue:
    return Issue(Severity.WARNING, check, message, hint)
