"""Limits of plausible times, to detect a clock that is or was wrong. Pure.

A lease or a waiting time further ahead than this program ever grants was written by a clock that was ahead, or is read by one that is
behind. Either way it counts as over, instead of waiting for years.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from enum import Enum

TOLERANCE = timedelta(minutes=5)  # between clocks that NTP keeps; a larger difference is reported
LONGEST_LEASE = timedelta(hours=1)  # longer ones are cut to this
LONGEST_DELAY = timedelta(hours=24)  # of a deferred message; longer ones are cut to this
LONGEST_GAP = timedelta(days=2)  # between two events; after more the clock may have jumped
SECOND_SIGN = timedelta(hours=6)  # after a jump, how much later a command must find the clock still so
LONGEST_WAIT = timedelta(days=62)  # for that second sign; long enough for a ledger that is used once a month


def bounded_lease(lease: timedelta) -> timedelta:
    """The lease, cut to LONGEST_LEASE."""
    return min(lease, LONGEST_LEASE)


def is_due(not_before: datetime | None, now: datetime) -> bool:
    """Whether a deferred message may be sent."""
    return not_before is None or not_before <= now or is_implausible(not_before, now, LONGEST_DELAY)


def is_implausible(until: datetime, now: datetime, longest: timedelta) -> bool:
    """Whether a time is further ahead than `longest` and TOLERANCE, so that a wrong clock wrote it."""
    return until > now + longest + TOLERANCE


class Passed(Enum):
    """Whether time has really passed, or the clock has jumped."""

    YES = "yes"
    WAIT = "wait"  # for a second sign
    JUMPED = "jumped"  # as far as is known now


def has_passed(now: datetime, last_event: datetime, earlier: datetime | None, sign: datetime | None) -> Passed:
    """Whether time has really passed, so that expired passwords may be destroyed and expired certificates withdrawn.

    `last_event`: time of the last event; `earlier`: of the last one that is at least `SECOND_SIGN` old; `sign`: when a command last
    noted a jump. Time between events that follow each other closely has passed. After a jump it has passed when another command,
    `SECOND_SIGN` later by the clock, finds it so again.
    """
    if sign is not None and sign - TOLERANCE <= last_event <= sign + LONGEST_GAP and sign - TOLERANCE <= now <= sign + LONGEST_WAIT:
        return Passed.YES if now >= sign + SECOND_SIGN else Passed.WAIT
    return Passed.YES if earlier is None or now - SECOND_SIGN <= earlier + LONGEST_GAP else Passed.JUMPED
