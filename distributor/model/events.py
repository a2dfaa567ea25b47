"""Events of the ledger, for `history` and for `audit export`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from distributor.model.states import State


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
