"""A ledger beside what this host remembers of it -> whether it is older, a fork, or was last used on another machine.

Every copy of a ledger bears the same id, so that a backup, a snapshot or a replica is recognised by its last event.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from distributor.model.states import State

HINT = "put the newest copy back, or take this one into use: distributor ledger adopt --reason TEXT (see docs/restore.md)"


@dataclass(frozen=True, slots=True)
class ChainEnd:
    """An event that a ledger ends with, or did; `at` as in the chain."""

    seq: int
    hash: str
    at: str


@dataclass(frozen=True, slots=True)
class HighWaterMark:
    """The last event of a ledger that this host has seen, and where the ledger lay."""

    end: ChainEnd
    place: str


@dataclass(frozen=True, slots=True)
class UnreadableMark:
    """A mark that is there and says nothing: somebody may have cut it."""

    path: str
    reason: str


@dataclass(frozen=True, slots=True)
class Machine:
    """A machine as events name it: `host` is name, boot and process namespace; `id` is empty where none is known."""

    id: str
    host: str

    @property
    def name(self) -> str:
        """For people."""
        return self.host.partition("/")[0] or "a host without a name"

    def is_same(self, other: Machine) -> bool:
        """Whether both are one machine: the same boot of a kernel (containers have names of their own), or name and id are equal."""
        boot, others = self.host.split("/")[1:2], other.host.split("/")[1:2]
        if boot == others and boot not in ([], ["-"], [""]):
            return True
        return self.name == other.name and (self.id == other.id or not (self.id and other.id))


@dataclass(frozen=True, slots=True)
class RestoredLedger:
    """Why nothing may be sent from a ledger until a person says so."""

    kind: str  # older | forked | elsewhere | unknown | renamed
    message: str
    hint: str = HINT


@dataclass(frozen=True, slots=True)
class EventGap:
    """What a ledger that was taken into use may lack: who was planned after `since` is not known in it. `missing`: events, if known."""

    since: datetime
    missing: int | None

    @property
    def message(self) -> str:
        """For people."""
        number = "events" if self.missing is None else "1 event" if self.missing == 1 else f"{self.missing} events"
        who = f"whoever was first planned after {self.since:%Y-%m-%d %H:%M:%S} UTC"
        return f"this ledger was restored and may lack {number}: {who} is not known here and would get a second message"


LOOK = (
    "before `distributor send`, look for messages after that time in Sent Items or the mail log, and withdraw whoever has one"
    " (see docs/restore.md)"
)


@dataclass(frozen=True, slots=True)
class AdoptionResult:
    """What taking a ledger into use came to: deliveries that are ambiguous now, by the state they were in."""

    unclear: Mapping[State, int]
    gap: EventGap | None = None


class Adoptable(Protocol):
    """The part of a ledger that is about having been restored."""

    def restored(self) -> RestoredLedger | None:
        """What speaks against sending from this ledger; None where it is the one that was last used here."""
        ...

    def gap(self) -> EventGap | None:
        """What the ledger may lack since it was taken into use, until somebody new is planned."""
        ...

    def adopt(self, reason: str, *, nothing_sent: bool = False) -> AdoptionResult:
        """Take it into use: what may have been sent meanwhile becomes ambiguous, unless a person knows that nothing was."""
        ...


def older_copy(end: ChainEnd, mark: HighWaterMark) -> RestoredLedger:
    """The ledger lacks events that this host has seen."""
    return RestoredLedger(
        "older", f"this ledger is older than what this host knows of it: {_ends(end)}, this host has seen {_event(mark.end)}"
    )


def forked_copy(end: ChainEnd, mark: HighWaterMark) -> RestoredLedger:
    """Another event stands in the place of one that this host has seen."""
    message = f"this ledger is not the one that was last used here: {_ends(end)}"
    return RestoredLedger(
        "forked", f"{message}, but its event {mark.end.seq} is not the one that this host has seen ({_time(mark.end.at)})"
    )


def used_elsewhere(end: ChainEnd, sent: ChainEnd, machine: Machine, use: str = "send") -> RestoredLedger:
    """Another machine used it last: to send, or to plan what it may send as well."""
    message = f"this ledger was last used to {use} on another machine ({machine.name}, event {sent.seq} of {_time(sent.at)}); {_ends(end)}"
    return RestoredLedger("elsewhere", message)


def unreadable_mark(end: ChainEnd, mark: UnreadableMark) -> RestoredLedger:
    """The mark cannot be read."""
    message = f"what this host knew of this ledger cannot be read ({mark.path}: {mark.reason}), so it may be an older copy; {_ends(end)}"
    return RestoredLedger("unknown", message)


def changed_identity(end: ChainEnd, fault: str) -> RestoredLedger:
    """It cannot be found among what this host remembers: somebody changed its name."""
    hint = "put a copy in its place that `distributor audit verify` finds whole (see docs/restore.md)"
    return RestoredLedger("renamed", f"this ledger was changed from outside: {fault}; {_ends(end)}", hint)


def missing_ledger(mark: HighWaterMark, file: str) -> tuple[str, str]:
    """No ledger lies where one lay: what is said, and the way out. `file`: where it is remembered."""
    hint = (
        f"put it back, or restore a backup (docs/restore.md); only where it is given up for good, move {file} away, then `distributor init`"
    )
    return f"there is no ledger, but one lay here up to {_event(mark.end)}", hint


def _ends(end: ChainEnd) -> str:
    return f"it ends with {_event(end)}" if end.seq else "it is empty"


def _event(end: ChainEnd) -> str:
    return f"event {end.seq} of {_time(end.at)}"


def _time(at: str) -> str:
    try:
        return f"{datetime.fromisoformat(at):%Y-%m-%d %H:%M:%S} UTC"
    except ValueError:
        return "an unknown time"
