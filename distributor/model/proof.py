"""What a look at a chain of events found, and how far the chain goes: what an auditor compares with another copy of it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class VerificationReport:
    """Findings (none: all is well) and where the chain ends, as far as it was followed: number, time (a stamp) and hash of an event."""

    findings: tuple[str, ...]
    events: int
    at: str
    hash: str
    erased: int  # events whose personal fields were erased: nothing can be compared with those
    back: int = 0  # events whose time is earlier than that of the event before, which is no fault
    deliveries: int = 0  # whose rows were compared with their events; a file has none
    notes: tuple[str, ...] = ()  # what could not be looked at, and why
