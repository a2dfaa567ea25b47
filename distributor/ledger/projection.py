"""The events of one delivery, oldest first -> what its row, its password and its frozen message must be.

What a mapping lacks is in no event: it was never recorded, or it was erased with a person. Evidence that cannot be read counts as none;
the chain's own check has found it before.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

from distributor.ledger.tables import event
from distributor.model.audit_log import ADOPTION, Link
from distributor.model.certificates import REVOKED
from distributor.model.states import RECEIVED, PasswordState, State

Values = dict[str, Any]
_decode = json.JSONDecoder().raw_decode  # half the price of json.loads
CLOSING = {"revealed": PasswordState.HANDED_OVER, "password-expired": PasswordState.EXPIRED, "password-destroyed": PasswordState.DESTROYED}
_OPEN = frozenset({PasswordState.HELD, PasswordState.READY})
_RECEIVED = frozenset(str(state) for state in RECEIVED)
_ANSWERS = frozenset(
    str(s) for s in (*RECEIVED, State.QUEUED, State.DEFERRED, State.REJECTED, State.AMBIGUOUS, State.BOUNCED)
)  # states that somebody's words may come with


COLUMNS = tuple(event.c[name] for name in Link._fields)


@dataclass(slots=True)
class ExpectedState:
    """What must be, by column. `message` has `sha256` for its bytes; `ready_at`: since when the password's time runs."""

    row: Values = field(default_factory=dict)
    certificate: Values = field(default_factory=dict)
    address: str | None = None  # whom it was planned for
    digests: dict[str, str] = field(default_factory=dict)  # SHA-256 of long values, by what they are called
    password: Values | None = None
    sealed: bool = False  # whether the password's bytes are there
    ready_at: str | None = None
    outbox: Values | None = None
    revoked: bool = False  # by its authority, whose words are noted once but may change later; also where it is good again


LOCATOR, INPUTS, CHAIN, SEALED = "locator", "plan's inputs", "certificate's chain", "password's sealed"
_DIGESTS = {LOCATOR: "locator_sha256", INPUTS: "inputs_sha256", CHAIN: "chain_sha256"}


def fingerprint(value: str | bytes) -> str:
    """The SHA-256 that an event has in place of a long value: lower-case hex, of text in UTF-8."""
    return sha256(value if isinstance(value, bytes) else value.encode(errors="surrogatepass")).hexdigest()


def project(links: Iterable[Link]) -> ExpectedState:
    """The state that the events add up to."""
    expected = ExpectedState()
    for step in links:
        if step.after is None:
            _note(expected, step)
        else:
            _enter(expected, step, step.after)
    if expected.revoked:
        expected.row.pop("said", None)
    return expected


def _note(expected: ExpectedState, step: Link) -> None:
    if step.event in CLOSING:
        _close(expected, step, CLOSING[step.event])
    elif step.event == "password-ready" and expected.password is not None and expected.password["state"] == PasswordState.EXPIRED:
        expected.password.update(state=PasswordState.READY, closed_at=None, closed_by=None)
    elif step.event == "clock-corrected" and expected.row.get("state") == State.AMBIGUOUS:
        expected.row["armed_at"] = step.at
    elif step.event == "relocated":
        _relocated(expected, _opened(step.evidence))
    expected.revoked |= step.event == REVOKED


def _relocated(expected: ExpectedState, evidence: Values) -> None:
    """It was found elsewhere; what waits to be packed goes over to the later plan."""
    expected.digests.pop(LOCATOR, None)
    _digests(expected, evidence, LOCATOR)
    if expected.row.get("state") == State.PLANNED:
        expected.row["plan"] = evidence.get("plan")
        expected.digests.pop(INPUTS, None)
        _digests(expected, evidence, INPUTS)


def _digests(expected: ExpectedState, evidence: Values, *names: str) -> None:
    """What older programs did not record stays unknown."""
    expected.digests |= {name: evidence[_DIGESTS[name]] for name in names if _DIGESTS[name] in evidence}


def _close(expected: ExpectedState, step: Link, state: PasswordState) -> None:
    if expected.password is not None and (expected.password["state"] in _OPEN or expected.sealed):
        expected.password.update(state=state, closed_at=step.at, closed_by=step.by)
        expected.sealed = "sealed_until" in _opened(step.evidence)  # earlier programs destroyed what expired at once


def _enter(expected: ExpectedState, step: Link, after: str) -> None:
    evidence, personal = _opened(step.evidence), _opened(step.personal)
    row = expected.row
    row["state"], row["updated_at"], row["not_before"] = after, step.at, None
    if after in _STEPS:
        _STEPS[after](expected, step, evidence, personal)
    if step.before is not None and after not in _KEEPING:
        _let_go(row, step.before)
    if after in _ANSWERS or step.before == State.AMBIGUOUS:
        _set_response(row, step, evidence, personal)
    if after in _RECEIVED and expected.password is not None and expected.password["state"] == PasswordState.HELD:
        expected.password["state"], expected.ready_at = PasswordState.READY, step.at


_HOLDING = frozenset({str(State.CLAIMED), str(State.TRANSMITTING), str(State.AMBIGUOUS)})
_KEEPING = _HOLDING | {str(State.PLANNED)}  # an owner of these has a claim, or a packing lease, which no event records


def _let_go(row: Values, before: str) -> None:
    row["owner"] = None
    if before == State.AMBIGUOUS:
        row.pop("armed_at", None)  # evidence leaves it, a person's word does not
    elif before in _HOLDING:
        row["armed_at"] = None


def _opened(text: str | None) -> Values:
    try:
        found = _decode(text)[0] if text else {}
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _set_response(row: Values, step: Link, evidence: Mapping[str, Any], personal: Mapping[str, Any]) -> None:
    """A sender's result sets the response, perhaps to the empty text; a release or a person's decision leaves the one before."""
    if "said" in personal:
        row["said"] = personal["said"]
    elif step.commitment and step.personal is None:
        row.pop("said", None)
    elif "owner" in evidence and "why" not in evidence:
        row["said"] = ""


def _ambiguous(expected: ExpectedState, step: Link, evidence: Values, personal: Values) -> None:
    """Since when it is unclear; where a restored ledger was taken into use, since that ledger's last event."""
    del personal
    if ADOPTION in evidence and step.before != State.TRANSMITTING:
        expected.row["armed_at"] = evidence.get("since")


def _planned(expected: ExpectedState, step: Link, evidence: Values, personal: Values) -> None:
    if step.before is not None:  # again, in a restored ledger: it was never packed
        expected.row.pop("armed_at", None)
        return
    expected.row |= {name: evidence.get(name) for name in ("plan", "generation", "language")}
    expected.row |= {"certificate": evidence.get("certificate_sha256"), "attempt": 0, "deferrals": 0}
    expected.row |= dict.fromkeys(("armed_at", "said", "message_id", "package_sha256", "profile"))
    expected.certificate = {name: evidence.get(f"certificate_{name}") for name in ("serial", "issuer", "not_after")}
    expected.address = personal.get("address")
    _digests(expected, evidence, *_DIGESTS)


def _queued(expected: ExpectedState, step: Link, evidence: Values, personal: Values) -> None:
    if step.before != State.PLANNED:
        return
    expected.row |= {name: evidence.get(name) for name in ("message_id", "package_sha256", "profile")}
    expected.outbox = {"sender": evidence.get("sender"), "message_id": evidence.get("message_id"), "sha256": evidence.get("letter_sha256")}
    if "address" in personal:
        expected.outbox["address"] = personal["address"]
    expected.sealed = True
    expected.password = {"state": PasswordState.HELD, "channel": evidence.get("channel"), "closed_at": None, "closed_by": None}
    if "password_seconds" in evidence:
        expected.password["lasts"] = evidence["password_seconds"]
    if "sealed_sha256" in evidence:
        expected.digests[SEALED] = evidence["sealed_sha256"]


def _claimed(expected: ExpectedState, step: Link, evidence: Values, personal: Values) -> None:
    del step, personal
    expected.row |= {"attempt": evidence.get("attempt"), "owner": evidence.get("owner"), "armed_at": None}


def _transmitting(expected: ExpectedState, step: Link, evidence: Values, personal: Values) -> None:
    del personal
    expected.row["armed_at"] = step.at
    if "message_id" in evidence:  # where the message lies at a service that gave it one of its own
        expected.row["message_id"] = evidence["message_id"]


def _deferred(expected: ExpectedState, step: Link, evidence: Values, personal: Values) -> None:
    del step, personal
    expected.row |= {"deferrals": expected.row.get("deferrals", 0) + 1, "not_before": evidence.get("not_before")}


def _withdrawn(expected: ExpectedState, step: Link, evidence: Values, personal: Values) -> None:
    del evidence, personal
    expected.outbox = None
    _close(expected, step, PasswordState.DESTROYED)


_STEPS: dict[str, Callable[[ExpectedState, Link, Values, Values], None]] = {
    "planned": _planned,
    "queued": _queued,
    "claimed": _claimed,
    "transmitting": _transmitting,
    "ambiguous": _ambiguous,
    "deferred": _deferred,
    "withdrawn": _withdrawn,
}
