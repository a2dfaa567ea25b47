"""What is about to be packaged, and whom it was planned for -> why it must not leave. The last look at key, certificate and address.

Asked where the letter is made: between the plan and this moment the ledger, the files or the clock may have changed.
"""

from __future__ import annotations

from datetime import datetime
from hashlib import sha256

from cryptography.hazmat.primitives.serialization import Encoding

from distributor.model.certificates import Facts, Problem
from distributor.model.issues import Check, Severity
from distributor.model.people import Address
from distributor.pki import certificate, checks, keypairs
from distributor.pki.package import Content

_WITHDRAW = "see `distributor audit verify`, then take it back with `distributor withdraw` and run `distributor plan` again"
_HINTS = {
    Check.ADDRESS_MISMATCH: _WITHDRAW,
    Check.NOT_YET_VALID: "correct this machine's clock, or run `distributor send` then",
}
_DECISIVE = frozenset({Check.ADDRESS_MISMATCH, Check.BAD_ADDRESS, Check.NO_ADDRESS, Check.EXPIRED, Check.NOT_YET_VALID, Check.KEY_TYPE})


def against(content: Content, certificate_sha256: str, person: Address, now: datetime) -> Problem | None:
    """What speaks against it; nothing where it may be sent."""
    der = content.leaf.public_bytes(Encoding.DER)
    if sha256(der).hexdigest() != certificate_sha256:
        return Problem(Check.NO_CERTIFICATE, "it holds another certificate than the one that was planned", _WITHDRAW)
    facts = certificate.facts(content.leaf, der)
    if isinstance(facts, Problem):
        return facts
    return _by_facts(facts, person, now) or _by_key(content)


def _by_facts(facts: Facts, person: Address, now: datetime) -> Problem | None:
    """What preflight says of address, time and kind of key."""
    for issue in checks.examine(facts, person, now):
        if issue.severity is Severity.ERROR and issue.check in _DECISIVE:
            return Problem(issue.check, issue.message, _HINTS.get(issue.check, issue.hint))
    return None


def _by_key(content: Content) -> Problem | None:
    if keypairs.spki(content.key.public_key()) != keypairs.public(content.leaf):
        return Problem(Check.KEY_MISMATCH, "the private key does not belong to the certificate", "run `distributor plan` on the file again")
    return None
