"""The events of one delivery, oldest first -> what its row, its password and its frozen message must be, and in what they differ.

What a mapping lacks is in no event: it was never recorded, or it was erased with a person. Evidence that cannot be read counts as none;
the chain's own check has found it before.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from hashlib import sha256
from typing import Any, NamedTuple

from sqlalchemy import RowMapping

from distributor.ledger.tables import certificate, delivery, event, handover, outbox, person, plan
from distributor.model.audit_log import ADOPTION, ERASED, PROVED, Link, format_timestamp, parse_timestamp
from distributor.model.people import key_of
from distributor.model.revocation import INCIDENT, REVOKED
from distributor.model.states import RECEIVED, PasswordState, State, Way

Values = dict[str, Any]
_decode = json.JSONDecoder().raw_decode  # half the price of json.loads
_DESTROYED = dict.fromkeys(("password-destroyed", INCIDENT), PasswordState.DESTROYED)
CLOSING = {"revealed": PasswordState.HANDED_OVER, "password-expired": PasswordState.EXPIRED, **_DESTROYED}
_OPEN = frozenset({PasswordState.HELD, PasswordState.READY})
_READY_AGAIN = frozenset({PasswordState.EXPIRED, PasswordState.HANDED_OVER})  # a clock was ahead; its message was certainly not sent
_RECEIVED = frozenset(map(str, RECEIVED))
# states that somebody's words may come with
_ANSWERS = frozenset(map(str, (*RECEIVED, State.QUEUED, State.DEFERRED, State.REJECTED, State.AMBIGUOUS, State.BOUNCED)))
EVENT_COLUMNS = tuple(event.c[name] for name in Link._fields)


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
    erased: bool = False  # its person was erased: nothing is left of what named them
    revoked: bool = False  # by its authority, whose words are noted once but may change later; also where it is good again


CHAIN_CHANGED, RESEALED = "chain-changed", "resealed"  # a later plan had a better chain; the password was sealed to other public keys
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
    elif step.event == "password-ready" and expected.password is not None and expected.password["state"] in _READY_AGAIN:
        expected.password.update(state=PasswordState.READY, closed_at=None, closed_by=None)
        expected.sealed = True
    elif step.event == "clock-corrected" and expected.row.get("state") == State.AMBIGUOUS:
        expected.row["armed_at"] = step.at
    elif step.event == "relocated":
        _relocated(expected, _opened(step.evidence))
    elif step.event == ERASED:
        _erase(expected, step)
    elif step.event == CHAIN_CHANGED:
        _digests(expected, _opened(step.evidence), CHAIN)
    elif step.event == RESEALED and SEALED in expected.digests:
        expected.digests[SEALED] = str(_opened(step.evidence).get("sealed_sha256"))
    elif step.event == PROVED:
        _set_response(expected.row, step, _opened(step.evidence), _opened(step.personal))
    expected.revoked |= step.event == REVOKED


def _erase(expected: ExpectedState, step: Link) -> None:
    _close(expected, step, PasswordState.DESTROYED)
    expected.erased, expected.address, expected.outbox = True, None, None
    expected.digests.pop(LOCATOR, None)
    expected.row |= {"locator": ERASED_LOCATOR, "said": None}


ERASED_LOCATOR = "{}"


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
    if expected.password and (expected.password["state"] in _OPEN or expected.sealed):
        expected.password.update(state=state, closed_at=step.at, closed_by=step.by)
        expected.sealed = "sealed_until" in _opened(step.evidence)  # earlier programs destroyed what expired at once


def _enter(expected: ExpectedState, step: Link, after: str) -> None:
    evidence, personal = _opened(step.evidence), _opened(step.personal)
    (row := expected.row).update(state=after, updated_at=step.at, not_before=None)
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


def _ambiguous(expected: ExpectedState, step: Link, evidence: Values, _personal: Values) -> None:
    """Since when it is unclear; where a restored ledger was taken into use, since that ledger's last event."""
    if ADOPTION in evidence and step.before != State.TRANSMITTING:
        expected.row["armed_at"] = evidence.get("since")


def _planned(expected: ExpectedState, step: Link, evidence: Values, personal: Values) -> None:
    if step.before is not None:  # again, in a restored ledger: it was never packed
        expected.row.pop("armed_at", None)
        return
    expected.row |= {name: evidence.get(name) for name in ("plan", "generation", "language")}
    expected.row |= {"certificate": evidence.get("certificate_sha256"), "attempt": 0, "deferrals": 0}
    expected.row |= {"way": evidence.get("way", Way.MAIL), "series": evidence.get("series", ""), "predecessor": evidence.get("predecessor")}
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
    if expected.row.get("way", Way.MAIL) != Way.MAIL:
        return  # nobody is to type its password
    expected.sealed = True
    expected.password = {"state": PasswordState.HELD, "channel": evidence.get("channel"), "closed_at": None, "closed_by": None}
    if "password_seconds" in evidence:
        expected.password["lasts"] = evidence["password_seconds"]
    if "sealed_sha256" in evidence:
        expected.digests[SEALED] = evidence["sealed_sha256"]


def _claimed(expected: ExpectedState, _step: Link, evidence: Values, _personal: Values) -> None:
    expected.row |= {"attempt": evidence.get("attempt"), "owner": evidence.get("owner"), "armed_at": None}


def _transmitting(expected: ExpectedState, step: Link, evidence: Values, _personal: Values) -> None:
    expected.row["armed_at"] = step.at
    if "message_id" in evidence:  # where the message lies at a service that gave it one of its own
        expected.row["message_id"] = evidence["message_id"]


def _deferred(expected: ExpectedState, _step: Link, evidence: Values, _personal: Values) -> None:
    expected.row |= {"deferrals": expected.row.get("deferrals", 0) + 1, "not_before": evidence.get("not_before")}


def _withdrawn(expected: ExpectedState, step: Link, _evidence: Values, _personal: Values) -> None:
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


# --- what the rows are instead ---------------------------------------------------------------------------------------

LONGEST_SHOWN = 80  # characters shown of a value; a server's words may have two thousand
_GONE = frozenset(str(state) for state in (*RECEIVED, State.BOUNCED))  # messages of these leave the outbox some day
_TABLES = (delivery, plan, person, certificate, handover, outbox)
ROW_COLUMNS = [column.label(f"{table.name}_{column.name}") for table in _TABLES for column in table.columns if column.name != "der"]
ROW_NAMES = [column.name for column in ROW_COLUMNS]
Row = Mapping[str, Any] | RowMapping


class Difference(NamedTuple):
    """A field that was changed, and the words for it."""

    field: str
    words: str


def differences(row: Mapping[str, Any], expected: ExpectedState) -> Iterator[Difference]:
    """Everything in which the rows of a delivery are not what its events tell. `row` has ROW_COLUMNS by their ROW_NAMES."""
    yield from state_faults(row["delivery_state"], expected)
    yield from _different(row, "delivery_", expected.row, "")
    yield from address_faults(row["person_key"], row["person_address"], expected)
    yield from _different(row, "certificate_", expected.certificate, "certificate's ")
    found = {LOCATOR: row["delivery_locator"], INPUTS: row["plan_inputs"], CHAIN: row["certificate_chain"]}
    yield from digest_faults(expected, found)
    yield from password_faults(row, expected)
    yield from _outbox_row(row, expected)


def state_faults(found: object, expected: ExpectedState) -> Iterator[Difference]:
    """Whether a delivery is where its last event left it."""
    if found != (wanted := expected.row.pop("state", None)):
        yield Difference("state", f'is "{found}", but its last event in the audit log says "{wanted}"')


def _different(row: Row, place: str, wanted: Mapping[str, Any], of: str) -> Iterator[Difference]:
    for name, value in wanted.items():
        if (found := row[place + name]) != value:
            yield Difference(of + name, f"{of}{name} is {shown(found)}, but the audit log says {shown(value)}")


def digest_faults(expected: ExpectedState, found: Mapping[str, object]) -> Iterator[Difference]:
    """Long values that are not those whose SHA-256 the events tell; `found` has them by their names above."""
    for name, value in found.items():
        if name in expected.digests and not (isinstance(value, str | bytes) and fingerprint(value) == expected.digests[name]):
            yield Difference(name, f"{name} does not match the audit log")


def planned_faults(row: Row, expected: ExpectedState) -> Iterator[Difference]:
    """Whether a delivery still leads to the certificate and the plan that it was planned with. `row` has its columns by their names."""
    yield from _different(row, "", {name: expected.row.get(name) for name in _PLANNED}, "")
    yield from digest_faults(expected, {LOCATOR: row["locator"]})


_PLANNED = ("plan", "certificate", "generation", "language", "way", "series", "predecessor")


def certificate_faults(row: Row, expected: ExpectedState) -> Iterator[Difference]:
    """Whether a certificate's row says what it said when it was planned. `row` has its columns by their names."""
    yield from _different(row, "", expected.certificate, "certificate's ")
    yield from digest_faults(expected, {CHAIN: row["chain"]})


def shown(value: object) -> str:
    """A value in quotes, cut where it is long."""
    if value is None or value == "":
        return "empty" if value is None else '""'
    text = str(value)
    return str(value) if isinstance(value, int) else f'"{text[:LONGEST_SHOWN]}{"..." * (len(text) > LONGEST_SHOWN)}"'


def address_faults(key: str, address: str, expected: ExpectedState) -> Iterator[Difference]:
    """Whether the person is still the one that the delivery was planned for; a later roster may spell the address otherwise."""
    wanted = key if expected.address is None else address_key(expected.address)
    if not key == address_key(address) == wanted:
        yield Difference(
            "person's address", f"person's address is {shown(address)}, but the audit log says {shown(expected.address or key)}"
        )


def address_key(address: object) -> str:
    """As `Address.key`, also of whatever somebody wrote there instead of an address."""
    return key_of(str(address))


def password_faults(row: Row, expected: ExpectedState) -> Iterator[Difference]:
    """Whether a password is the one that was sealed with its package, and where its events say. `row` as in `differences`."""
    there = row["handover_delivery"] is not None
    if expected.password is None:
        if there:
            yield Difference("password", "has a password, but the audit log has none")
    elif there:
        yield from _different(row, "handover_", expected.password, "password's ")
        yield from _sealed(row["handover_sealed"], expected)
        until = {"expires_at": _until(expected.ready_at, expected.password.get("lasts", row["handover_lasts"]))}
        yield from _different(row, "handover_", until, "password's ")
    else:
        yield Difference("password", f'has no password, but the audit log says it is "{expected.password["state"]}"')


def _sealed(found: object, expected: ExpectedState) -> Iterator[Difference]:
    state = expected.password["state"] if expected.password else None
    if not expected.sealed:
        if found is not None:
            yield Difference("password's sealed", f'sealed password still exists, but the audit log says it is "{state}"')
    elif not isinstance(found, bytes):
        yield Difference("password's sealed", f'sealed password is missing, but the audit log says it is "{state}"')
    else:
        yield from digest_faults(expected, {SEALED: found})


def _until(ready_at: str | None, lasts: object) -> str | None:
    if ready_at is None or not isinstance(lasts, int):
        return None
    try:
        return format_timestamp(parse_timestamp(ready_at) + timedelta(seconds=lasts))
    except (ValueError, OverflowError):  # a time or duration that this program never writes
        return None


def _outbox_row(row: Mapping[str, Any], expected: ExpectedState) -> Iterator[Difference]:
    there = row["outbox_delivery"] is not None
    if expected.outbox is None:
        if there:
            yield Difference("message", "has a message in the outbox, but the audit log has none")
    elif there:
        names = ("person_key", "outbox_sender", "outbox_address", "outbox_message_id", "outbox_message")
        yield from outbox_differences(expected, *(row[name] for name in names))
    elif row["delivery_state"] not in _GONE:
        yield Difference("message", "has no message in the outbox, but the audit log has one")


def outbox_differences(  # noqa: PLR0913, PLR0917  a message as it lies in the outbox
    expected: ExpectedState, person_key: str, sender: str, address: str, message_id: str, message: object
) -> Iterator[Difference]:
    """Whether a message is the one that was frozen, and for the person that the delivery was planned for."""
    wanted = dict(expected.outbox or {"sender": None, "message_id": None, "sha256": None})
    digest = wanted.pop("sha256")
    found = {"outbox_sender": sender, "outbox_address": address, "outbox_message_id": message_id}
    yield from _different(found, "outbox_", wanted, "outbox ")
    if not isinstance(message, bytes):
        yield Difference("outbox message", "outbox message is not bytes")
    elif sha256(message).hexdigest() != digest:
        yield Difference("outbox message", "outbox message does not match the audit log")
    if "address" not in wanted and address_key(address) != person_key:
        yield Difference("outbox address", f"outbox address is {shown(address)}, but the person is {shown(person_key)}")
    frozen_for = wanted.get("address", address)
    if expected.address is not None and address_key(frozen_for) != address_key(expected.address):
        yield Difference("outbox address", f"was planned for {shown(expected.address)}, but its message is for {shown(frozen_for)}")
