"""The events of one delivery, oldest first -> what its row, its password and its frozen letter must be.

What a mapping lacks, no event tells: it was never written down, or it was erased with a person. Evidence that cannot be read tells nothing;
the chain's own check has found it before.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from distributor.core.chain import ADOPTION
from distributor.core.publishing import REVOKED
from distributor.core.states import RECEIVED, PasswordState, State
from distributor.ledger.tables import event

Values = dict[str, Any]
_decode = json.JSONDecoder().raw_decode  # half the price of json.loads
CLOSING = {"revealed": PasswordState.HANDED_OVER, "password-expired": PasswordState.EXPIRED, "password-destroyed": PasswordState.DESTROYED}
_OPEN = frozenset({PasswordState.HELD, PasswordState.READY})
_RECEIVED = frozenset(str(state) for state in RECEIVED)
_ANSWERS = frozenset(
    str(s) for s in (*RECEIVED, State.QUEUED, State.DEFERRED, State.REJECTED, State.AMBIGUOUS, State.BOUNCED)
)  # states that somebody's words may come with


class Step(NamedTuple):
    """What counts of an event; `evidence` and `personal` are JSON."""

    delivery: str
    at: str
    event: str
    before: str | None
    after: str | None
    by: str
    evidence: str
    personal: str | None
    commitment: str


COLUMNS = tuple(event.c[name] for name in Step._fields)


@dataclass(slots=True)
class Told:
    """What must be, by column. `letter` has `sha256` for its bytes; `ready_at`: since when the password's time runs."""

    row: Values = field(default_factory=dict)
    certificate: Values = field(default_factory=dict)
    owner: Values = field(default_factory=dict)
    address: str | None = None  # whom it was planned for
    password: Values | None = None
    ready_at: str | None = None
    letter: Values | None = None
    revoked: bool = False  # by its authority, whose words are noted once but may change later; also where it is good again


def fold(steps: Iterable[Step]) -> Told:
    """Everything that the events tell."""
    told = Told()
    for step in steps:
        if step.after is None:
            _note(told, step)
        else:
            _enter(told, step, step.after)
    if told.revoked:
        told.row.pop("said", None)
    return told


def _note(told: Told, step: Step) -> None:
    if step.event in CLOSING:
        _close(told, step, CLOSING[step.event])
    elif step.event == "relocated" and told.row.get("state") == State.PLANNED:  # what waits to be packed goes over to the later plan
        told.row["plan"] = _opened(step.evidence).get("plan")
    told.revoked |= step.event == REVOKED


def _close(told: Told, step: Step, state: PasswordState) -> None:
    if told.password is not None and told.password["state"] in _OPEN:
        told.password.update(state=state, closed_at=step.at, closed_by=step.by)


def _enter(told: Told, step: Step, after: str) -> None:
    evidence, personal = _opened(step.evidence), _opened(step.personal)
    row = told.row
    row["state"], row["updated_at"], row["not_before"] = after, step.at, None
    if after in _STEPS:
        _STEPS[after](told, step, evidence, personal)
    if step.before is not None and after not in _KEEPING:
        _let_go(row, step.before)
    if after in _ANSWERS or step.before == State.AMBIGUOUS:
        _say(row, step, evidence, personal)
    if after in _RECEIVED and told.password is not None and told.password["state"] == PasswordState.HELD:
        told.password["state"], told.ready_at = PasswordState.READY, step.at


_HOLDING = frozenset({str(State.CLAIMED), str(State.TRANSMITTING), str(State.AMBIGUOUS)})
_KEEPING = _HOLDING | {str(State.PLANNED)}  # an owner of these is one of a claim, or of a loan, of which no event tells


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


def _say(row: Values, step: Step, evidence: Mapping[str, Any], personal: Mapping[str, Any]) -> None:
    """A sender's settlement says something or the empty text; giving back and a person's word leave what was said before."""
    if "said" in personal:
        row["said"] = personal["said"]
    elif step.commitment and step.personal is None:
        row.pop("said", None)
    elif "owner" in evidence and "why" not in evidence:
        row["said"] = ""


def _ambiguous(told: Told, step: Step, evidence: Values, personal: Values) -> None:
    """Since when it is unclear; where a restored ledger was taken into use, since that ledger's last event."""
    del personal
    if ADOPTION in evidence and step.before != State.TRANSMITTING:
        told.row["armed_at"] = evidence.get("since")


def _planned(told: Told, step: Step, evidence: Values, personal: Values) -> None:
    if step.before is not None:  # again, in a restored ledger: it was never packed
        told.row.pop("armed_at", None)
        return
    told.row |= {name: evidence.get(name) for name in ("plan", "generation", "language")}
    told.row |= {"certificate": evidence.get("certificate_sha256"), "attempt": 0, "deferrals": 0}
    told.row |= dict.fromkeys(("armed_at", "said", "message_id", "package_sha256", "profile"))
    told.certificate = {name: evidence.get(f"certificate_{name}") for name in ("serial", "issuer", "not_after")}
    told.address = personal.get("address")


def _queued(told: Told, step: Step, evidence: Values, personal: Values) -> None:
    if step.before != State.PLANNED:
        return
    told.row |= {name: evidence.get(name) for name in ("message_id", "package_sha256", "profile")}
    told.letter = {"sender": evidence.get("sender"), "message_id": evidence.get("message_id"), "sha256": evidence.get("letter_sha256")}
    if "address" in personal:
        told.letter["address"] = personal["address"]
    told.password = {"state": PasswordState.HELD, "channel": evidence.get("channel"), "closed_at": None, "closed_by": None}


def _claimed(told: Told, step: Step, evidence: Values, personal: Values) -> None:
    del step, personal
    told.row |= {"attempt": evidence.get("attempt"), "owner": evidence.get("owner"), "armed_at": None}
    told.owner = {"host": evidence.get("host"), "pid": evidence.get("pid")}


def _transmitting(told: Told, step: Step, evidence: Values, personal: Values) -> None:
    del personal
    told.row["armed_at"] = step.at
    if "message_id" in evidence:  # where the letter lies at a service that gave it one of its own
        told.row["message_id"] = evidence["message_id"]


def _deferred(told: Told, step: Step, evidence: Values, personal: Values) -> None:
    del step, personal
    told.row |= {"deferrals": told.row.get("deferrals", 0) + 1, "not_before": evidence.get("not_before")}


def _withdrawn(told: Told, step: Step, evidence: Values, personal: Values) -> None:
    del evidence, personal
    told.letter = None
    _close(told, step, PasswordState.DESTROYED)


_STEPS: dict[str, Callable[[Told, Step, Values, Values], None]] = {
    "planned": _planned,
    "queued": _queued,
    "claimed": _claimed,
    "transmitting": _transmitting,
    "ambiguous": _ambiguous,
    "deferred": _deferred,
    "withdrawn": _withdrawn,
}
