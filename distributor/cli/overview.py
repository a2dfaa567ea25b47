"""What `status` shows before the deliveries: what needs a person, counts with bars, and both again and again with `--watch`."""

from __future__ import annotations

import sys
import time as clock
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from distributor.cli.render import columns, escape, stdout_line, time, wrapped
from distributor.model.attention import Attention, Need
from distributor.model.states import RECEIVED, State

if TYPE_CHECKING:
    from distributor.model.delivery import DeliveryFilter
    from distributor.model.ports import Ledger

REFRESH = 2.0  # seconds
LONGEST_BAR = 40  # columns
MOVING = (State.PLANNED, State.QUEUED, State.CLAIMED, State.TRANSMITTING)  # without those that wait for a time that a server named
MOST_ROWS = 100  # deliveries that a terminal lists without being asked; more would push the rest off the screen
_RESEND = "`distributor resend {address} --reason TEXT`"
_AFTER_FAILURE = "`distributor history {address}`, then " + _RESEND
WORDS: Mapping[Need, tuple[str, str, str]] = {  # for one, for several, and the next command
    Need.AMBIGUOUS: ("message is ambiguous", "messages are ambiguous", "`distributor resolve`"),
    Need.INCIDENT: (
        "certificate has an incident",
        "certificates have an incident",
        "ask the CA to revoke and reissue, then `distributor plan`",
    ),
    Need.BOUNCED: ("message bounced", "messages bounced", _AFTER_FAILURE),
    Need.REJECTED: ("message was rejected", "messages were rejected", _AFTER_FAILURE),
    Need.REQUEST: ("request waits for a decision", "requests wait for a decision", "`distributor requests`"),
    Need.PASSWORD_EXPIRED: ("password expired before it was collected", "passwords expired before they were collected", _RESEND),
    Need.PASSWORD_EXPIRING: ("password expires within 3 days", "passwords expire within 3 days", "`distributor remind`"),
    Need.CERTIFICATE_EXPIRING: (
        "certificate expired or expires within 30 days",
        "certificates expired or expire within 30 days",
        "`distributor remind`",
    ),
}


def next_command(one: Attention) -> str:
    """The command to run next, with the address where there is one person only."""
    return _in_backticks(one).replace("`", "")


def attention_lines(found: Sequence[Attention]) -> list[str]:
    """A line for each kind of thing that needs a person; commands in backticks, so that a terminal does not break them."""
    return [f"{one.number} {WORDS[one.need][one.number != 1]}{_whose(one)}: {_in_backticks(one)}" for one in found]


def _in_backticks(one: Attention) -> str:
    return WORDS[one.need][2].format(address=escape(one.address) if one.address else "ADDRESS")


def _whose(one: Attention) -> str:
    """The address, unless the next command names it."""
    return f" ({escape(one.address)})" if one.address and "{address}" not in WORDS[one.need][2] else ""


def unlisted(counts: Mapping[str, int]) -> str | None:
    """What a terminal shows instead of a list that would push everything else off the screen; None where it is short, or piped."""
    number = sum(counts.values())
    if number <= MOST_ROWS or not sys.stdout.isatty():
        return None
    return (
        f"{number} deliveries are not listed here: `distributor status --state S` lists those in a state, `distributor status | less` all"
    )


def count_lines(counts: Mapping[str, int]) -> list[str]:
    """Counts by state: one line, or on a terminal a line with a bar for each."""
    if not sys.stdout.isatty():
        return ["   ".join(f"{number} {state}" for state, number in counts.items())]
    largest, digits, name = max(counts.values()), len(str(max(counts.values()))), max(map(len, counts))
    room = min(LONGEST_BAR, columns() - name - digits - 4)
    block = "█" if "utf" in (sys.stdout.encoding or "").lower() else "#"
    return [f"{state:<{name}}  {number:>{digits}}  {block * max(1, round(room * number / largest))}" for state, number in counts.items()]


def show(counts: Mapping[str, int], found: Sequence[Attention], renewed: Mapping[str, int]) -> None:
    """Print what needs a person, then the counts, also of renewed certificates, and an empty line."""
    for line in [*_lines(counts, found), *([renewal_line(renewed)] if renewed else [])]:
        stdout_line(wrapped(line, 2) if sys.stdout.isatty() else line)
    stdout_line()


def renewal_line(renewed: Mapping[str, int]) -> str:
    """How many renewed certificates have reached their people; the others still use the old one."""
    received = sum(renewed.get(state, 0) for state in RECEIVED)
    gone = renewed.get(State.WITHDRAWN, 0)
    total = sum(renewed.values()) - gone
    parts = [f"{received} received", *([f"{installed} confirmed as installed"] if (installed := renewed.get(State.INSTALLED)) else [])]
    left = total - received
    old = f"; {left} still on the old certificate: `distributor status --renewals`" if left else ""
    return f"renewed certificates: {total} ({', '.join(parts)}{old})"


def _lines(counts: Mapping[str, int], found: Sequence[Attention]) -> list[str]:
    needs = attention_lines(found)
    return [*needs, *([""] if needs else []), *count_lines(counts)]


# --- watching --------------------------------------------------------------------------------------------------------


def watch(ledger: Ledger, scope: DeliveryFilter) -> None:
    """Show it every two seconds until nothing is under way; without a terminal, a line for each change."""
    from distributor.cli.progress import Refreshed

    with Refreshed() as screen:
        last = None
        while True:
            counts = {str(state): number for state, number in ledger.counts(scope).items()}
            if screen.is_terminal:
                lines = _lines(counts, ledger.attention(scope)) if counts else ["no deliveries yet"]
                screen.show("\n".join([time(ledger.now()) or "", "", *(wrapped(line, 2) for line in lines)]))
            elif counts != last:
                stdout_line(f"{time(ledger.now())}  {count_lines(counts)[0] if counts else 'no deliveries yet'}")
                sys.stdout.flush()
            last = counts
            if not _is_moving(ledger, scope, counts):
                return
            clock.sleep(REFRESH)


def _is_moving(ledger: Ledger, scope: DeliveryFilter, counts: Mapping[str, int]) -> bool:
    if any(counts.get(state) for state in MOVING):
        return True
    due = ledger.next_due(scope) if counts.get(State.DEFERRED) else None
    return due is not None and due <= ledger.now()
