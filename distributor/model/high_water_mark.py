"""Values and messages about restored and copied ledgers.

A ledger may be older than this host has seen, a fork, or used elsewhere last: every copy has the same id, so a backup, a snapshot or a
replica is recognised by its last event. It may also have been copied to a database that is used instead: its last event says so.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from distributor.model.delivery import LeaseHolder
from distributor.model.states import State

HINT = "put the newest copy back, or adopt this one: `distributor ledger adopt --reason TEXT` (see docs/restore.md#restore-step-by-step)"


@dataclass(frozen=True, slots=True)
class ChainEnd:
    """The last event of a ledger, now or at an earlier time; `at` as in the chain."""

    seq: int
    hash: str
    at: str


@dataclass(frozen=True, slots=True)
class HighWaterMark:
    """The last event of a ledger that this host has seen, and where the ledger was."""

    end: ChainEnd
    place: str


@dataclass(frozen=True, slots=True)
class UnreadableMark:
    """A mark that exists and cannot be read: somebody may have truncated it."""

    path: str
    reason: str


@dataclass(frozen=True, slots=True)
class Machine:
    """A machine as events name it: `host` is name, boot and PID namespace; `id` is empty where none is known."""

    id: str
    host: str

    @property
    def name(self) -> str:
        """Its host name, for messages."""
        return self.host.partition("/")[0] or "a host without a name"

    def is_same(self, other: Machine) -> bool:
        """Whether both are the same machine: the same boot of a kernel (containers have other names), or the same name and id."""
        boot, others = self.host.split("/")[1:2], other.host.split("/")[1:2]
        if boot == others and boot not in ([], ["-"], [""]):
            return True
        return self.name == other.name and (self.id == other.id or not (self.id and other.id))


@dataclass(frozen=True, slots=True)
class RestoredLedger:
    """Why nothing may be sent from a ledger until a person adopts it."""

    kind: str  # older | forked | elsewhere | unknown | renamed | copied
    message: str
    hint: str = HINT


@dataclass(frozen=True, slots=True)
class EventGap:
    """What an adopted ledger may lack: people first planned after `since` are unknown in it. `missing`: number of events, if known."""

    since: datetime
    missing: int | None

    @property
    def message(self) -> str:
        """The warning."""
        number = "events" if self.missing is None else "1 event" if self.missing == 1 else f"{self.missing} events"
        who = f"anyone first planned after {self.since:%Y-%m-%d %H:%M:%S} UTC"
        return f"this ledger was restored and may lack {number}: {who} is missing from it and would get a second message"


LOOK = (
    "before `distributor send`, look for messages after that time in Sent Items or the mail log, and withdraw those deliveries"
    " (see docs/restore.md#restore-step-by-step)"
)


@dataclass(frozen=True, slots=True)
class AdoptionResult:
    """The result of an adoption: the number of deliveries that are ambiguous now, by their state before."""

    unclear: Mapping[State, int]
    gap: EventGap | None = None


@dataclass(frozen=True, slots=True)
class LedgerCopy:
    """A finished copy: where it is, its rows by table, and the last event of both ledgers."""

    source: str
    target: str
    rows: Mapping[str, int]
    end: ChainEnd


class CopyProgress(Protocol):
    """Is told how many rows there are to write and to read back, then how many more are done."""

    def begin(self, rows: int) -> None:
        """The whole number, once."""
        ...

    def step(self, rows: int) -> None:
        """So many more."""
        ...


class Adoptable(Protocol):
    """The ledger's methods for restored copies, and for making one."""

    def restored(self) -> RestoredLedger | None:
        """Why nothing may be sent from this ledger; None where it is the one that was last used here."""
        ...

    def gap(self) -> EventGap | None:
        """What the ledger may lack since its adoption, until a new person is planned."""
        ...

    def adopt(self, reason: str, *, nothing_sent: bool = False) -> AdoptionResult:
        """Take it into use: deliveries that may have been sent meanwhile become ambiguous, unless a person knows that nothing was sent."""
        ...

    def check_copy(self, url: str) -> None:
        """Raise what `copy_to` would raise about the target, or because this ledger may not be copied, without writing anything."""
        ...

    def copy_to(
        self, url: str, alive: Callable[[LeaseHolder], bool | None], progress: CopyProgress, *, analysis: bool = False
    ) -> LedgerCopy:
        """Copy every row into an empty database of the other kind, which is used instead of this one from then on.

        For `analysis` this one stays in use, and nothing can be sent from the copy. Nobody writes meanwhile. Both ledgers end with the same
        event, every table is read back and compared, and the target appears as a whole or not at all. Raises UsageError for a database of
        the same kind, InvalidInput for a target that is not empty or a ledger that must be adopted first, ServiceUnavailable while
        messages are being packed or sent.
        """
        ...


def older_copy(end: ChainEnd, mark: HighWaterMark) -> RestoredLedger:
    """The ledger lacks events that this host has seen."""
    return RestoredLedger(
        "older", f"this ledger is older than the one last used on this machine: {_ends(end)}, that one had {_event(mark.end)}"
    )


def forked_copy(end: ChainEnd, mark: HighWaterMark) -> RestoredLedger:
    """The ledger has another event in the place of one that this host has seen."""
    message = f"this ledger is not the one last used on this machine: {_ends(end)}"
    return RestoredLedger(
        "forked", f"{message}, but its event {mark.end.seq} differs from the one recorded on this machine ({_time(mark.end.at)})"
    )


def used_elsewhere(end: ChainEnd, sent: ChainEnd, machine: Machine, use: str = "send") -> RestoredLedger:
    """Another machine used the ledger last, to send or to plan."""
    message = f"this ledger was last used to {use} on another machine ({machine.name}, event {sent.seq} of {_time(sent.at)}); {_ends(end)}"
    return RestoredLedger("elsewhere", message)


def unreadable_mark(end: ChainEnd, mark: UnreadableMark) -> RestoredLedger:
    """The mark cannot be read."""
    message = f"cannot read this machine's record of this ledger ({mark.path}: {mark.reason}), so it may be an older copy; {_ends(end)}"
    return RestoredLedger("unknown", message)


def changed_identity(end: ChainEnd, fault: str) -> RestoredLedger:
    """Somebody changed the ledger's id, so its mark cannot be found."""
    hint = "replace it with a copy that passes `distributor audit verify` (see docs/restore.md#restore-step-by-step)"
    return RestoredLedger("renamed", f"this ledger was modified outside distributor: {fault}; {_ends(end)}", hint)


def copied_ledger(end: ChainEnd, to: str, source: str, *, analysis: bool) -> RestoredLedger:
    """The ledger's last event says that its copy in another database is used instead; or it is itself a copy that is not to be used."""
    if analysis:
        message = f"this is a copy for analysis of {source}, which is still in use; {_ends(end)}"
        hint = "use that one; or adopt this one, and never send from that one again: `distributor ledger adopt --reason TEXT`"
    else:
        message = f"this ledger was copied to {to}, which is used instead since {_event(end)}"
        hint = (
            "set `ledger.url` to that database; if the copy does not exist, run the same `distributor ledger copy` again,"
            " or use this ledger: `distributor ledger adopt --nothing-sent --reason TEXT`"
        )
    return RestoredLedger("copied", message, f"{hint} (see docs/deploy.md#from-sqlite-to-postgresql-and-back)")


def missing_ledger(mark: HighWaterMark, file: str) -> tuple[str, str]:
    """The message and the hint where a remembered ledger is missing. `file`: the mark's file."""
    hint = (
        "put it back, or restore a backup (see docs/restore.md#an-empty-or-missing-ledger);"
        f" to give it up for good, move {file} away, then run `distributor init`"
    )
    return f"no ledger found, but there was one here up to {_event(mark.end)}", hint


def _ends(end: ChainEnd) -> str:
    return f"it ends with {_event(end)}" if end.seq else "it is empty"


def _event(end: ChainEnd) -> str:
    return f"event {end.seq} of {_time(end.at)}"


def _time(at: str) -> str:
    try:
        return f"{datetime.fromisoformat(at):%Y-%m-%d %H:%M:%S} UTC"
    except ValueError:
        return "an unknown time"
