"""A certificate, whose it should be and the time -> why others cannot encrypt by it: for what is published and for what is found."""

from __future__ import annotations

from datetime import datetime

from distributor.model.certificates import Facts, Problem
from distributor.model.issues import Check
from distributor.model.people import key_of
from distributor.pki import certificate
from distributor.pki.checks import EMAIL_PROTECTION, addresses


def against(leaf: bytes, now: datetime) -> tuple[Check, str] | None:
    """What speaks against it; nothing where it is good. The words begin with the certificate and go on after "and"."""
    facts = _facts(leaf)
    if isinstance(facts, Problem):
        return facts.check, f"the certificate cannot be used: {facts.message}"
    if facts.not_after <= now:
        return Check.EXPIRED, f"the certificate expired on {facts.not_after:%Y-%m-%d}"
    if facts.not_before > now:
        return Check.NOT_YET_VALID, f"the certificate is valid from {facts.not_before:%Y-%m-%d} on"
    if "encrypt" not in facts.usages:
        return Check.KEY_USAGE, "the certificate is for signing only, nobody can encrypt to it"
    if facts.extended_key_usage is not None and EMAIL_PROTECTION not in facts.extended_key_usage:
        return Check.NOT_FOR_MAIL, "the certificate is not for mail by its extended key usage"
    return None


def is_of(leaf: bytes, address: str) -> bool:
    """Whether it holds the address, which mail programs look for; A to Z are the same as a to z."""
    facts = _facts(leaf)
    return isinstance(facts, Facts) and key_of(address) in {one.key for one in addresses(facts)[0]}


def _facts(leaf: bytes) -> Facts | Problem:
    found = certificate.load(leaf)
    return found if isinstance(found, Problem) else certificate.facts(found, leaf)
