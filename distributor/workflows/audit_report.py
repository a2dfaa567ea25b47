"""Events of deliveries -> the contents of the audit report: a row for each delivery, exceptions, counts and the days of the roll-out.

Everything is taken from events, never from the rows that cache them, so that a report about a period that has ended stays the same.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from enum import StrEnum
from typing import NamedTuple

from distributor.model.audit_log import Event
from distributor.model.audit_report import DeliveryRecord, PersonRecord
from distributor.model.reminders import UNCOLLECTED_AFTER, UNCONFIRMED_AFTER
from distributor.model.requests import CopyRequest
from distributor.model.revocation import INCIDENT, RELEASED, REVOKED
from distributor.model.states import RECEIVED, PasswordState, RequestState, State, Way

SIGNED_ANSWER = "signed-answer"  # the kind of evidence that proves an installation
MOST_LISTED = 500  # exceptions of a kind; all of them are marked in the table of deliveries
ROLLOUT = ("planned", "accepted", "delivered", "installed")
_SEEN = frozenset({State.DELIVERED, State.INSTALLED})
_ANSWERED = frozenset({State.ACCEPTED, State.REJECTED, State.DEFERRED, State.AMBIGUOUS})
_LATER = frozenset({State.BOUNCED, State.DELIVERED, State.WITHDRAWN})
_OPEN = frozenset({PasswordState.HELD, PasswordState.READY, PasswordState.EXPIRED})
_UNSENT = frozenset({State.WITHDRAWN, State.REJECTED, State.BOUNCED})


class Period(NamedTuple):
    """From `since` to before `until`; None: from the first event, to now."""

    since: datetime | None
    until: datetime | None

    def has(self, moment: datetime) -> bool:
        """Whether a moment lies in it."""
        return (self.since is None or moment >= self.since) and self.is_before_end(moment)

    def is_before_end(self, moment: datetime) -> bool:
        """Whether a moment is not after its end."""
        return self.until is None or moment < self.until


class Proof(StrEnum):
    """How it is known that a certificate was installed."""

    SIGNED = "signed answer"
    SAID = "said in the portal"
    NONE = "no proof"


class Kind(StrEnum):
    """A kind of exception, in the order of the report."""

    AMBIGUOUS = "Sent or not: unknown"
    BOUNCED = "Bounced"
    REJECTED = "Rejected by the server"
    INCIDENT = "Incidents"
    UNUSABLE = "Revoked or expired certificates still in use"
    EXPIRED = "Passwords that expired"
    UNCOLLECTED = "Passwords not collected"
    UNINSTALLED = "Not confirmed as installed"


class Moment(NamedTuple):
    """When something happened, by whose hand, and further words."""

    at: datetime
    by: str
    words: str = ""


@dataclass(slots=True)
class Row:
    """A delivery as the report shows it."""

    address: str | None  # None: erased
    name: str
    id: str
    generation: int
    sha256: str
    serial: str
    not_after: datetime
    planned: Moment
    state: State
    since: datetime  # in this state
    sent: Moment | None = None
    answer: Moment | None = None  # of the server
    later: Moment | None = None  # bounce, proof of delivery, or withdrawal, of which `later_state` is the state
    later_state: str = ""
    way: Way = Way.MAIL
    series: str = ""  # of an old key: which one of how many
    channel: str = ""
    password: PasswordState | None = None
    password_since: datetime | None = None
    handed_over: Moment | None = None
    installed: Moment | None = None
    proof: Proof = Proof.NONE
    revoked: Moment | None = None
    incident: Moment | None = None
    marks: list[Kind] = field(default_factory=list)

    @property
    def mark_words(self) -> list[str]:
        """The exceptions that no other words in the row tell."""
        return [_MARKS[kind] for kind in self.marks if kind in _MARKS]

    @property
    def channel_words(self) -> str:
        """The channel, for people who know no configuration."""
        return _CHANNELS.get(self.channel, self.channel)

    @property
    def password_words(self) -> str:
        """The state of the password, likewise."""
        return PASSWORDS[self.password] if self.password is not None else ""


_CHANNELS = {"reveal": "helpdesk or portal", "letter": "printed letter", "mail": "message to another mailbox"}
_MARKS = {Kind.INCIDENT: "incident", Kind.UNUSABLE: "certificate no longer valid", Kind.UNINSTALLED: "not confirmed"}  # no cell says them
PASSWORDS = {
    PasswordState.HELD: "not available yet",
    PasswordState.READY: "not collected",
    PasswordState.HANDED_OVER: "handed over",
    PasswordState.EXPIRED: "expired",
    PasswordState.DESTROYED: "destroyed",
}


class ReportedException(NamedTuple):
    """One exception: which delivery, when, what happened, and whether a later delivery replaced it."""

    row: Row
    at: datetime
    text: str
    replaced: str


class Group(NamedTuple):
    """The exceptions of a kind: those that are listed, how many there are, and how many of them nothing replaced."""

    kind: Kind
    listed: tuple[ReportedException, ...]
    total: int
    open: int


# --- one delivery ----------------------------------------------------------------------------------------------------


def to_row(person: PersonRecord, record: DeliveryRecord, events: Iterable[Event]) -> Row:
    """A delivery after these events, of which the first is its plan."""
    first, *rest = events
    row = Row(
        address=person.address,
        name=person.name,
        id=record.id,
        generation=record.generation,
        sha256=record.sha256,
        serial=record.serial,
        not_after=record.not_after,
        planned=Moment(first.at, first.by),
        state=State.PLANNED,
        since=first.at,
        way=Way(str(first.evidence.get("way", Way.MAIL))),
        series=str(first.evidence.get("series", "")),
    )
    for event in rest:
        if event.after is not None:
            _enter(row, event, event.after)
        else:
            _note(row, event)
        if event.evidence.get("kind") == SIGNED_ANSWER and row.state is State.INSTALLED:
            row.proof, row.installed = Proof.SIGNED, Moment(event.at, event.by)
    return row


def _enter(row: Row, event: Event, state: State) -> None:
    row.state, row.since = state, event.at
    moment = Moment(event.at, event.by, _words(event))
    if state is State.TRANSMITTING:
        row.sent = moment
    elif state in _ANSWERED:
        row.answer = moment
    elif state in _LATER:
        row.later, row.later_state = moment, state
    if state is State.QUEUED and "channel" in event.evidence:  # its message was made, with a password
        row.channel, row.password, row.password_since = str(event.evidence["channel"]), PasswordState.HELD, event.at
    elif state in RECEIVED and row.password is PasswordState.HELD:
        row.password, row.password_since = PasswordState.READY, event.at
    elif state is State.WITHDRAWN:
        _destroy(row, event)
    if state is State.INSTALLED:
        row.installed, row.proof = moment, Proof.SAID


def _note(row: Row, event: Event) -> None:
    match event.event:
        case "revealed":
            row.password, row.password_since = PasswordState.HANDED_OVER, event.at
            row.handed_over = Moment(event.at, event.by, _hand_over(event))
        case "password-ready":
            row.password, row.password_since, row.handed_over = PasswordState.READY, event.at, None
        case "password-expired":
            row.password, row.password_since = PasswordState.EXPIRED, event.at
        case "password-destroyed":
            _destroy(row, event)
        case name if name == INCIDENT:
            row.incident = Moment(event.at, event.by, _words(event))
            _destroy(row, event)
        case name if name == REVOKED:
            row.revoked = Moment(event.at, event.by, _words(event))
        case name if name == RELEASED:
            row.revoked = None


def _destroy(row: Row, event: Event) -> None:
    """A password that expired is destroyed some days later, and stays one that expired."""
    if row.password in _OPEN and row.password is not PasswordState.EXPIRED:
        row.password, row.password_since = PasswordState.DESTROYED, event.at


def _words(event: Event) -> str:
    return str(event.evidence.get("said") or event.evidence.get("reason") or "")


def _hand_over(event: Event) -> str:
    """To whom, where a message was sent to another mailbox; else the reason that was given."""
    recipient = event.evidence.get("recipient")
    return f"to {recipient}" if recipient else _words(event)


# --- exceptions ------------------------------------------------------------------------------------------------------


def exceptions(rows: list[Row], now: datetime) -> Iterator[tuple[Kind, ReportedException]]:
    """The exceptions among the deliveries of one person."""
    for row in rows:
        for kind, at, text in _of(row, now):
            replaced = _replacement(row, rows, at, same=kind not in {Kind.INCIDENT, Kind.UNUSABLE})
            if kind in {Kind.UNCOLLECTED, Kind.UNINSTALLED, Kind.UNUSABLE} and replaced:
                continue  # what the later delivery waits for is its own exception
            row.marks.append(kind)
            yield kind, ReportedException(row, at, text, replaced)


def _of(row: Row, now: datetime) -> Iterator[tuple[Kind, datetime, str]]:
    answer = row.answer.words if row.answer else ""
    match row.state:
        case State.AMBIGUOUS:
            yield Kind.AMBIGUOUS, row.since, _sentence("It is not known whether the server took the message", answer)
        case State.BOUNCED:
            yield Kind.BOUNCED, row.since, _sentence("The message came back", row.later.words if row.later else "")
        case State.REJECTED:
            yield Kind.REJECTED, row.since, _sentence("The server refused the message", answer)
    if row.incident is not None:
        text = f"The key may be in the wrong hands, recorded by {row.incident.by}"
        yield Kind.INCIDENT, row.incident.at, _sentence(text, row.incident.words)
    if row.state in RECEIVED:
        yield from _of_certificate(row, now)
        yield from _of_password(row, now)


def _of_certificate(row: Row, now: datetime) -> Iterator[tuple[Kind, datetime, str]]:
    """An incident says enough about its certificate."""
    if row.incident is not None:
        return
    if row.revoked is not None:
        yield Kind.UNUSABLE, row.revoked.at, _sentence("The certificate is revoked, and no other was sent since", row.revoked.words)
    elif row.not_after <= now and not row.series:
        yield Kind.UNUSABLE, row.not_after, "The certificate has expired, and no other was sent since."


def _of_password(row: Row, now: datetime) -> Iterator[tuple[Kind, datetime, str]]:
    """Also where nobody has said that the certificate works; what must not be used needs neither."""
    good = row.incident is None and row.revoked is None and row.not_after > now
    since = row.password_since or row.since
    if row.password is PasswordState.EXPIRED:
        yield Kind.EXPIRED, since, "Nobody collected the password in time, so the package cannot be opened."
    elif row.password is PasswordState.READY and good and now - since > UNCOLLECTED_AFTER:
        yield Kind.UNCOLLECTED, since, f"The password has been ready for {_days(now - since)}."
    elif good and row.state is not State.INSTALLED and now - row.since > UNCONFIRMED_AFTER:
        yield Kind.UNINSTALLED, row.since, f"Nobody confirmed for {_days(now - row.since)} that the certificate works."


def _sentence(text: str, words: str) -> str:
    return f"{text}: {words}" if words else f"{text}."


def _days(span: timedelta) -> str:
    return "1 day" if span.days == 1 else f"{span.days} days"


def _replacement(row: Row, rows: list[Row], at: datetime, *, same: bool) -> str:
    """The later delivery that makes up for an exception. `same`: a later generation of the same certificate does."""
    for other in rows:
        if other is row or other.state in _UNSENT:
            continue
        if other.sha256 == row.sha256:
            if same and other.way is row.way and other.generation > row.generation:
                return f"generation {other.generation} is {other.state}"
        elif other.planned.at >= at:
            return f"another certificate is {other.state}"
    return ""


# --- the whole -------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Summary:
    """What is added up while the rows stream; its size does not depend on how many there are."""

    period: Period
    now: datetime  # or the end of the period
    people: int = 0
    deliveries: int = 0
    erased: int = 0  # people
    states: Counter[str] = field(default_factory=Counter)
    passwords: Counter[str] = field(default_factory=Counter)
    proofs: Counter[str] = field(default_factory=Counter)
    days: dict[str, Counter[date]] = field(default_factory=lambda: {name: Counter() for name in ROLLOUT})
    _totals: Counter[Kind] = field(default_factory=Counter)
    _open: Counter[Kind] = field(default_factory=Counter)
    _listed: dict[Kind, list[ReportedException]] = field(default_factory=dict)

    def rows(self, person: PersonRecord) -> list[Row]:
        """A person's deliveries with an event in the period."""
        found: list[Row] = []
        touched: list[Row] = []
        for record in person.deliveries:
            events = [event for event in record.events if self.period.is_before_end(event.at)]
            if not events:
                continue
            self._count_days(events)
            found.append(to_row(person, record, events))
            if any(self.period.has(event.at) for event in events):
                touched.append(found[-1])
        for kind, one in exceptions(found, self.now):
            if one.row in touched:
                self._totals[kind] += 1
                self._open[kind] += not one.replaced
                listed = self._listed.setdefault(kind, [])
                if len(listed) < MOST_LISTED:
                    listed.append(one)
        self._count(person, touched)
        return touched

    def _count(self, person: PersonRecord, rows: list[Row]) -> None:
        self.people += bool(rows)
        self.erased += bool(rows) and person.address is None
        self.deliveries += len(rows)
        for row in rows:
            self.states[row.state] += 1
            if row.password is not None:
                self.passwords[row.password] += 1
            if row.state in RECEIVED:
                self.proofs[row.proof] += 1

    def _count_days(self, events: list[Event]) -> None:
        """The first day on which a delivery came so far; who installed a certificate has received its message."""
        wanted = (None, RECEIVED, _SEEN, {State.INSTALLED})
        for name, states in zip(ROLLOUT, wanted, strict=True):
            first = next((event.at.date() for event in events if states is None or event.after in states), None)
            if first is not None:
                self.days[name][first] += 1

    @property
    def groups(self) -> list[Group]:
        """The exceptions, those that need a person first within each kind."""
        return [
            Group(kind, tuple(sorted(self._listed[kind], key=lambda one: bool(one.replaced))), self._totals[kind], self._open[kind])
            for kind in Kind
            if self._totals[kind]
        ]


def requests_in(period: Period, requests: Iterable[CopyRequest]) -> list[CopyRequest]:
    """Requests made or decided in the period; one that was decided after it was open at its end."""
    found = []
    for one in requests:
        decided = one.decided_at if one.decided_at is not None and period.is_before_end(one.decided_at) else None
        if period.has(one.at) or (decided is not None and period.has(decided)):
            found.append(one if decided is not None else _undecided(one))
    return found


def _undecided(one: CopyRequest) -> CopyRequest:
    return CopyRequest(one.id, one.delivery, one.address, one.name, RequestState.OPEN, one.at, one.reason, one.by)
