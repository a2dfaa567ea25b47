"""What the events of a delivery say, beside its rows -> which columns were changed by something other than this program."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import timedelta
from hashlib import sha256
from typing import Any, NamedTuple

from sqlalchemy import RowMapping

from distributor.ledger.projection import CHAIN, INPUTS, LOCATOR, SEALED, ExpectedState, fingerprint
from distributor.ledger.tables import certificate, delivery, handover, outbox, person, plan
from distributor.model.audit_log import format_timestamp, parse_timestamp
from distributor.model.people import key_of
from distributor.model.states import RECEIVED, State

LONGEST = 80  # characters shown of a value; a server's words may have two thousand
_GONE = frozenset(str(state) for state in (*RECEIVED, State.BOUNCED))  # messages of these leave the outbox some day
_TABLES = (delivery, plan, person, certificate, handover, outbox)
COLUMNS = [column.label(f"{table.name}_{column.name}") for table in _TABLES for column in table.columns if column.name != "der"]
NAMES = [column.name for column in COLUMNS]


Row = Mapping[str, Any] | RowMapping


class Difference(NamedTuple):
    """A field that was changed, and the words for it."""

    field: str
    words: str


def differences(row: Mapping[str, Any], expected: ExpectedState) -> Iterator[Difference]:
    """Everything in which the rows of a delivery are not what its events tell. `row` has COLUMNS by their NAMES."""
    yield from state_faults(row["delivery_state"], expected)
    yield from _different(row, "delivery_", expected.row, "")
    yield from person_faults(row["person_key"], row["person_address"], expected)
    yield from _different(row, "certificate_", expected.certificate, "certificate's ")
    found = {LOCATOR: row["delivery_locator"], INPUTS: row["plan_inputs"], CHAIN: row["certificate_chain"]}
    yield from digest_faults(expected, found)
    yield from password_faults(row, expected)
    yield from _outbox_row(row, expected)


def state_faults(found: object, expected: ExpectedState) -> Iterator[Difference]:
    """Whether a delivery is where its last event left it."""
    wanted = expected.row.pop("state", None)
    if found != wanted:
        yield Difference("state", f'is "{found}", but its last event says "{wanted}"')


def _different(row: Row, place: str, wanted: Mapping[str, Any], of: str) -> Iterator[Difference]:
    for name, value in wanted.items():
        found = row[place + name]
        if found != value:
            yield Difference(of + name, f"{of}{name} is {shown(found)}, but its events say {shown(value)}")


def digest_faults(expected: ExpectedState, found: Mapping[str, object]) -> Iterator[Difference]:
    """Long values that are not those whose SHA-256 the events tell; `found` has them by the names in `telling`."""
    for name, value in found.items():
        if name in expected.digests and not (isinstance(value, str | bytes) and fingerprint(value) == expected.digests[name]):
            yield Difference(name, f"{name} is not the one that its events tell")


def planned_faults(row: Row, expected: ExpectedState) -> Iterator[Difference]:
    """Whether a delivery still leads to the certificate and the plan that it was planned with. `row` has its columns by their names."""
    yield from _different(row, "", {name: expected.row.get(name) for name in _PLANNED}, "")
    yield from digest_faults(expected, {LOCATOR: row["locator"]})


_PLANNED = ("plan", "certificate", "generation", "language")


def certificate_faults(row: Row, expected: ExpectedState) -> Iterator[Difference]:
    """Whether a certificate's row says what it said when it was planned. `row` has its columns by their names."""
    yield from _different(row, "", expected.certificate, "certificate's ")
    yield from digest_faults(expected, {CHAIN: row["chain"]})


def shown(value: object) -> str:
    """A value in quotes, cut where it is long."""
    if value is None or value == "":
        return "empty" if value is None else '""'
    text = str(value)
    return str(value) if isinstance(value, int) else f'"{text[:LONGEST]}{"..." * (len(text) > LONGEST)}"'


def person_faults(key: str, address: str, expected: ExpectedState) -> Iterator[Difference]:
    """Whether the person is still the one that the delivery was planned for; a later roster may spell the address otherwise."""
    wanted = key if expected.address is None else address_key(expected.address)
    if not key == address_key(address) == wanted:
        yield Difference("person's address", f"person's address is {shown(address)}, but its events say {shown(expected.address or key)}")


def address_key(address: object) -> str:
    """As `Address.key`, also of whatever somebody wrote there instead of an address."""
    return key_of(str(address))


def password_faults(row: Row, expected: ExpectedState) -> Iterator[Difference]:
    """Whether a password is the one that was sealed with its package, and where its events say. `row` has COLUMNS by their NAMES."""
    there = row["handover_delivery"] is not None
    if expected.password is None:
        if there:
            yield Difference("password", "has a password, but its events tell of none")
    elif there:
        yield from _different(row, "handover_", expected.password, "password's ")
        yield from _sealed(row["handover_sealed"], expected)
        until = {"expires_at": _until(expected.ready_at, expected.password.get("lasts", row["handover_lasts"]))}
        yield from _different(row, "handover_", until, "password's ")
    else:
        yield Difference("password", f'has no password, but its events say that one is "{expected.password["state"]}"')


def _sealed(found: object, expected: ExpectedState) -> Iterator[Difference]:
    state = expected.password["state"] if expected.password else None
    if not expected.sealed:
        if found is not None:
            yield Difference("password's sealed", f'password\'s sealed is there still, but its events say that it is "{state}"')
    elif not isinstance(found, bytes):
        yield Difference("password's sealed", f'password\'s sealed is gone, but its events say that it is "{state}"')
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
            yield Difference("message", "has a message in the outbox, but its events tell of none there")
    elif there:
        names = ("person_key", "outbox_sender", "outbox_address", "outbox_message_id", "outbox_message")
        yield from outbox_differences(expected, *(row[name] for name in names))
    elif row["delivery_state"] not in _GONE:
        yield Difference("message", "has no message in the outbox, but its events say that one waits there")


def outbox_differences(  # noqa: PLR0913, PLR0917  a message as it lies in the outbox
    expected: ExpectedState, person_key: str, sender: str, address: str, message_id: str, message: object
) -> Iterator[Difference]:
    """Whether a message is the one that was frozen, and for the person that the delivery was planned for."""
    wanted = dict(expected.outbox or {"sender": None, "message_id": None, "sha256": None})
    digest = wanted.pop("sha256")
    found = {"outbox_sender": sender, "outbox_address": address, "outbox_message_id": message_id}
    yield from _different(found, "outbox_", wanted, "outbox ")
    if not isinstance(message, bytes):
        yield Difference("outbox message", "outbox message is not bytes, as every frozen message is")
    elif sha256(message).hexdigest() != digest:
        yield Difference("outbox message", "outbox message is not the one that was frozen")
    if "address" not in wanted and address_key(address) != person_key:
        yield Difference("outbox address", f"outbox address is {shown(address)}, but its person is {shown(person_key)}")
    frozen_for = wanted.get("address", address)
    if expected.address is not None and address_key(frozen_for) != address_key(expected.address):
        yield Difference("outbox address", f"was planned for {shown(expected.address)}, but its message was frozen for {shown(frozen_for)}")
