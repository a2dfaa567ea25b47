"""The result of verifying a chain of events, with its last event, which an auditor compares with another copy."""

from __future__ import annotations

from dataclasses import dataclass


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
