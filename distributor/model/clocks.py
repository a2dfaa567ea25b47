"""How far ahead a time may lie before it was written by a clock that was wrong. Pure.

A lease or a waiting time that lies further ahead than this program ever grants was written by a clock that was ahead then, or is read
by one that is behind now. Either way it counts as over: waiting for years helps nobody.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from enum import Enum

TOLERANCE = timedelta(minutes=5)  # between clocks that are kept by NTP; more is said
LONGEST_LEASE = timedelta(hours=1)  # longer ones are cut to this
LONGEST_DELAY = timedelta(hours=24)  # of a message that a server put off; longer ones are cut to this
LONGEST_GAP = timedelta(days=2)  # between two events; after more the clock may have jumped
SECOND_SIGN = timedelta(hours=6)  # after a jump, how much later the clock must still agree
LONGEST_WAIT = timedelta(days=62)  # for a second sign: what is used once a month is in use


def bounded_lease(lease: timedelta) -> timedelta:
    """A lease, cut to the longest."""
    return min(lease, LONGEST_LEASE)


def is_due(not_before: datetime | None, now: datetime) -> bool:
    """Whether a message that was put off may be sent."""
    return not_before is None or not_before <= now or is_implausible(not_before, now, LONGEST_DELAY)


def is_implausible(until: datetime, now: datetime, longest: timedelta) -> bool:
    """Whether a time lies further ahead than anybody can have meant."""
    return until > now + longest + TOLERANCE


class Passed(Enum):
    """Whether time has really passed."""

    YES = "yes"
    WAIT = "wait"  # for a second sign
    JUMPED = "jumped"  # as far as can be told now


def has_passed(now: datetime, last_event: datetime, earlier: datetime | None, sign: datetime | None) -> Passed:
    """Whether time has really passed, so that what is over may be destroyed or withdrawn.

    `last_event`: when the last event was written; `earlier`: the last one that is at least `SECOND_SIGN` old; `sign`: when a command last
    noted a jump. Time between events that follow each other closely has passed. After a jump it has when a later command, some hours on
    by the clock, finds it so again.
    """
    if sign is not None and sign - TOLERANCE <= last_event <= sign + LONGEST_GAP and sign - TOLERANCE <= now <= sign + LONGEST_WAIT:
        return Passed.YES if now >= sign + SECOND_SIGN else Passed.WAIT
    return Passed.YES if earlier is None or now - SECOND_SIGN <= earlier + LONGEST_GAP else Passed.JUMPED
