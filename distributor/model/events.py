"""One line of the history, as a person reads it and as an auditor checks it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from distributor.model.states import State


@dataclass(frozen=True, slots=True)
class Event:
    """One line of the history. `evidence` has its personal fields opened, or lacks them when the person was erased."""

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
    """An event as the auditor gets it: the line of `audit export`, enough to check the chain without the ledger."""

    event: Event
    personal: tuple[str, ...] | None  # names in `evidence` that are committed, not hashed in clear; None: erased
    salt: str | None
    commitment: str
    prev: str
    hash: str
