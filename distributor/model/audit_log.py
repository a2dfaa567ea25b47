"""The hash chain of the ledger's events: canonical form, hashes, and the verifier of a ledger or an exported file.

`hash` is the SHA-256 of an event's canonical JSON without `personal`, `salt` and `hash`; `prev` in it is the hash of the event before.
Personal fields enter as `commitment`, the SHA-256 of a random salt and their canonical JSON: erasing them leaves the chain valid.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from typing import NamedTuple, Protocol

from distributor.model.states import ADOPTED, EDGES, State

COPIED = "copied"  # the last event of a ledger that was copied, and of its copy: one of the two may be used from then on
ADOPTION = "adopted"  # the event that takes a restored ledger into use; events that follow from it have its number under this key
ORIGIN = "0" * 64  # the previous hash of the first event
REMINDED, REMINDER_REFUSED = "reminded", "reminder-refused"  # events of reminders
PROVED = "proved"  # the event of a proof that came after a person's word had already made the delivery installed
MOST_FINDINGS = 1000  # of a verification; a chain cut in two would give one for each event after the cut
ERASED = "erased"  # an event whose evidence lists, as `events`, the numbers of earlier events that lost their personal fields
_encode = json.JSONEncoder(ensure_ascii=False, sort_keys=True, separators=(",", ":"), allow_nan=False).encode
_quote = json.encoder.encode_basestring  # the same text as _encode for a string, without building an encoder


def canonical(value: object) -> str:
    """JSON with sorted keys, without white space and unneeded escapes."""
    return _encode(value)


def format_timestamp(moment: datetime) -> str:
    """An aware time as UTC text of fixed width, which sorts by time."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds")[:26] + "Z"


def parse_timestamp(text: str) -> datetime:
    """The aware UTC time of a timestamp."""
    return datetime.fromisoformat(text)


def commit(salt: str, personal: str) -> str:
    """The commitment to personal fields: `salt` in hex, `personal` as canonical JSON."""
    return sha256(bytes.fromhex(salt) + personal.encode(errors="surrogatepass")).hexdigest()


class Link(NamedTuple):
    """One event as it is hashed.

    `evidence` and `personal` are canonical JSON; `personal` and `salt` are None when there is nothing personal (then
    `commitment` is empty) or it was erased.
    """

    seq: int
    at: str
    delivery: str | None
    event: str
    before: str | None
    after: str | None
    by: str
    evidence: str
    personal: str | None
    salt: str | None
    commitment: str
    hash: str


def digest(link: Link, prev: str) -> str:
    """The hash that `link` must have when `prev` is the hash before it."""
    text = (
        f'{{"at":"{link.at}","by":{_quote(link.by)},"commitment":"{link.commitment}","delivery":{quoted(link.delivery)},"event":{_quote(link.event)},'
        f'"evidence":{link.evidence},"from":{quoted(link.before)},"prev":"{prev}","seq":{link.seq},"to":{quoted(link.after)}}}'
    )
    return sha256(text.encode(errors="surrogatepass")).hexdigest()  # a forged file may contain lone surrogates


def fits(link: Link, prev: str) -> bool:
    """Whether an event's hash fits its content and `prev`, the hash before it, and its personal fields fit their commitment."""
    return digest(link, prev) == link.hash and not _personal_faults(link)


def quoted(value: str | None) -> str:
    """A text, or nothing, as canonical JSON."""
    return "null" if value is None else _quote(value)


class ChainVerifier:
    """Verifies a chain from its first event, link by link; `states` has the state of every delivery that it saw."""

    def __init__(self, state_of: Callable[[str], str | None] = lambda _: None) -> None:
        """`state_of`: the state of a delivery before the first event that is verified here."""
        self._state_of = state_of
        self.seq = 0
        self.hash = ORIGIN
        self.at = ""
        self.back = 0  # events whose time is earlier than that of the event before: a clock was set back, which is no fault
        self.states: dict[str, str] = {}
        self.unexplained: set[int] = set()  # events that lost their personal fields
        self.adoptions: set[int] = set()  # events by which a restored ledger was taken into use

    def verify_link(self, link: Link) -> list[str]:
        """The faults of this link as the successor of the one before."""
        faults = []
        if link.seq != self.seq + 1:
            faults.append(f"event {link.seq}: follows event {self.seq}; {_gap(self.seq, link.seq)}")
        if digest(link, self.hash) != link.hash:
            faults.append(f"event {link.seq}: its hash does not match its content and the previous event")
        self.back += link.at < self.at
        faults += _personal_faults(link)
        if link.delivery is not None:
            faults += self._state_faults(link, link.delivery)
        if link.commitment and link.personal is None:
            self.unexplained.add(link.seq)
        if link.event == ERASED:
            self.unexplained.difference_update(erased_events(link.evidence))
        elif link.event == ADOPTION:
            self.adoptions.add(link.seq)
        self.seq, self.hash, self.at = link.seq, link.hash, link.at
        return faults

    def end(self) -> Iterator[str]:
        """The faults of the chain as a whole, after its last link."""
        for seq in sorted(self.unexplained):
            yield f"event {seq}: its personal fields are missing, but no event records their erasure"

    def _state_faults(self, link: Link, delivery: str) -> list[str]:
        before = self.states.get(delivery) or self._state_of(delivery)
        if link.after is None:
            return [f"event {link.seq}: delivery {delivery} was never planned"] if before is None else []
        faults = []
        if link.before != before:
            faults.append(f"event {link.seq}: delivery {delivery} changes from {_named(link.before)}, but its state was {_named(before)}")
        if link.after != link.event or not (link.after in STEPS.get(link.before, ()) or self._adopted(link)):
            faults.append(f"event {link.seq}: delivery {delivery} cannot change from {_named(link.before)} to {_named(link.after)}")
        self.states[delivery] = link.after
        return faults

    def _adopted(self, link: Link) -> bool:
        """Whether the step is one that only a restored ledger takes, and its event names the adoption that it follows from."""
        if link.after not in ADOPTED_STEPS.get(link.before, ()):
            return False
        try:
            evidence = json.loads(link.evidence)
        except (ValueError, RecursionError):
            return False
        return isinstance(evidence, dict) and evidence.get(ADOPTION) in self.adoptions


def erased_events(evidence: str) -> list[int]:
    """The events that an erasure lists; none where the list cannot be read."""
    try:
        events = json.loads(evidence).get("events")
    except (ValueError, AttributeError, RecursionError):
        return []
    return [seq for seq in events if isinstance(seq, int)] if isinstance(events, list) else []


def _named(state: str | None) -> str:
    return "nothing" if state is None else f'"{state}"'


def _gap(before: int, seq: int) -> str:
    if seq <= before:
        return "an event was inserted or repeated"
    return "an event was removed" if seq == before + 2 else f"{seq - before - 1} events were removed"


def _personal_faults(link: Link) -> tuple[str, ...]:
    if link.personal is None or link.salt is None:
        if link.personal is link.salt:
            return ()
        return (f"event {link.seq}: only one of personal fields and salt was erased",)
    try:
        good = commit(link.salt, link.personal) == link.commitment
    except ValueError:
        good = False
    return () if good else (f"event {link.seq}: its personal fields do not match their commitment",)


STEPS: dict[str | None, frozenset[str]] = {None if k is None else str(k): frozenset(map(str, v)) for k, v in EDGES.items()}
ADOPTED_STEPS: dict[str | None, frozenset[str]] = {str(k): frozenset(map(str, v)) for k, v in ADOPTED.items()}


# --- events --------------------------------------------------------------------------------
# Events of the ledger, for `history` and for `audit export`.


@dataclass(frozen=True, slots=True)
class Event:
    """An event of the history. `evidence` includes its personal fields, unless the person was erased."""

    seq: int
    at: datetime
    delivery: str | None
    event: str
    before: State | None
    after: State | None
    by: str
    evidence: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class AuditRecord:
    """An event in `audit export`, with everything that is needed to verify the chain without the ledger."""

    event: Event
    personal: tuple[str, ...] | None  # names in `evidence` that are committed, not hashed in clear; None: erased
    salt: str | None
    commitment: str
    prev: str
    hash: str


# --- proof --------------------------------------------------------------------------------
# The result of verifying a chain of events, with its last event, which an auditor compares with another copy.


@dataclass(frozen=True, slots=True)
class VerificationReport:
    """Findings (none: all is well), and the number, time and hash of the last event that was verified."""

    findings: tuple[str, ...]
    events: int
    at: str
    hash: str
    erased: int  # events whose personal fields were erased, so that rows cannot be compared with them
    back: int = 0  # events whose time is earlier than that of the event before, which is no fault
    deliveries: int = 0  # deliveries whose rows were compared with their events; 0 for a file
    notes: tuple[str, ...] = ()  # what could not be checked, and why
    checkpoints: int = 0  # the ledger's own that match its events


class SeenEvent(NamedTuple):
    """What observers see of an event."""

    seq: int
    at: str
    event: str
    hash: str


class ChainObserver(Protocol):
    """Looks at each event of a chain while it is verified."""

    @property
    def waits(self) -> bool:
        """Whether it needs further events."""
        ...

    def step(self, seen: SeenEvent | Link, /) -> Iterable[str]:
        """The findings about an event, each in one line."""
        ...

    def end(self, last: int) -> Iterable[str]:
        """The findings about the whole chain, whose last event has the number `last`."""
        ...


# --- export comparison --------------------------------------------------------------------------------
# Compares a chain with an earlier export that it must begin with: finds events that were rewritten, removed or cut off since.
#
# An edited ledger whose every hash was computed anew has a valid chain; only an export kept elsewhere has the old hashes.


class ExportComparison:
    """Compares event by event. `earlier`: the export's events, and faults of the file as text between them."""

    def __init__(self, name: str, earlier: Iterator[Link | str]) -> None:
        self.name = name  # of the export, for people
        self.events = 0  # how many events of the export the chain has unchanged
        self._earlier = earlier
        self._waiting: Link | None = None
        self._forked = False

    @property
    def waits(self) -> bool:
        """Whether it needs further events; not when the chain differs."""
        return not self._forked

    def step(self, link: SeenEvent | Link, /) -> Iterator[str]:
        """The differences to the export's event of the same number."""
        if self._forked:
            return
        yield from self._missing(link.seq)
        theirs = self._waiting
        if theirs is None or theirs.seq != link.seq:
            return
        self._waiting = None
        if theirs.hash == link.hash:
            self.events += 1
            return
        self._forked = True
        yield f"event {link.seq}: is {_described(link)}, but {self.name} has {_described(theirs)}; events before it are identical"

    def end(self, last: int) -> Iterator[str]:
        """Events that the export has after the chain's last event, number `last`."""
        if self._forked:
            return
        first = until = 0
        while (theirs := (yield from self._read())) is not None:
            first, until, self._waiting = first or theirs.seq, theirs.seq, None
        if first:
            yield f"event {last}: is the last one, but {self.name} continues with {_numbers(first, until)}: the end was removed"

    def _missing(self, seq: int) -> Iterator[str]:
        """Read the export up to the first event that is not before `seq`; earlier ones are missing in the chain."""
        first = until = 0
        while (theirs := (yield from self._read())) is not None and theirs.seq < seq:
            first, until, self._waiting = first or theirs.seq, theirs.seq, None
        if first:
            yield f"event {seq}: {_numbers(first, until)} of {self.name} should come before it and were removed"

    def _read(self) -> Generator[str, None, Link | None]:
        """The export's next event; yields faults of the file before it."""
        while self._waiting is None:
            found = next(self._earlier, None)
            if found is None:
                return None
            if isinstance(found, str):
                yield f"{self.name}: {found}"
            else:
                self._waiting = found
        return self._waiting


def _described(link: SeenEvent | Link) -> str:
    return f'"{link.event[:40]}" of {link.at[:40]} (hash {link.hash[:12]})'


def _numbers(first: int, last: int) -> str:
    return f"event {first}" if first == last else f"events {first} to {last}"
