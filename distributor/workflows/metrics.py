"""Figures -> the text format of Prometheus (version 0.0.4). Names and units follow its conventions; no label names a person."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime

from distributor.model.attention import Need
from distributor.model.metrics import LedgerFigures, MailboxLimits, Verification
from distributor.model.states import PasswordState, State, Way

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
Sample = tuple[Mapping[str, str], float]


def exposition(found: LedgerFigures, mailboxes: Sequence[MailboxLimits], verified: Verification | None, versions: Mapping[str, str]) -> str:
    """All metrics, each with its help and type. What is not known is left out."""
    return "".join(
        line
        for name, kind, meaning, samples in (*_ledger(found), *_mailboxes(mailboxes), *_proof(found, verified), *_program(versions))
        for line in _metric(f"distributor_{name}", kind, meaning, samples)
    )


Metric = tuple[str, str, str, Iterable[Sample]]


def _ledger(found: LedgerFigures) -> Iterator[Metric]:
    deliveries = [({"state": state, "way": way}, found.deliveries.get((state, way), 0)) for state in State for way in Way]
    yield "deliveries", "gauge", "Deliveries by state, and by mail or Intune.", deliveries
    ages = [({"state": state}, (found.now - since).total_seconds()) for state, since in found.oldest.items()]
    yield "oldest_delivery_seconds", "gauge", "How long the longest in a state has been in it.", ages
    passwords = [({"state": state}, found.passwords.get(state, 0)) for state in PasswordState]
    yield "passwords", "gauge", "Passwords by state.", passwords
    expiring = [({"days": str(days)}, number) for days, number in found.expiring.items()]
    yield "certificates_expiring", "gauge", "Certificates with a person that expire within so many days and were not renewed.", expiring
    needed = {one.need: one.number for one in found.attention}
    yield "attention", "gauge", "What needs a person, as status says.", [({"need": need}, needed.get(need, 0)) for need in Need]


def _mailboxes(mailboxes: Sequence[MailboxLimits]) -> Iterator[Metric]:
    def of(values: Mapping[str, float | None]) -> list[Sample]:
        return [({"sender": sender}, value) for sender, value in values.items() if value is not None]

    minute, day = {one.sender: one.last_minute for one in mailboxes}, {one.sender: one.last_day for one in mailboxes}
    rate, quota = {one.sender: one.per_minute for one in mailboxes}, {one.sender: one.daily for one in mailboxes}
    left = {one.sender: None if one.daily is None else max(0, one.daily - one.last_day) for one in mailboxes}
    yield "sent_last_minute", "gauge", "Messages that left in the last 60 seconds.", of(minute)
    yield "sent_last_day", "gauge", "Messages that left in the last 24 hours.", of(day)
    yield (
        "rate_limit_per_minute",
        "gauge",
        "Messages that the mailbox may send in a minute.",
        of(rate),
    )
    yield "quota_per_day", "gauge", "Messages that the mailbox may send in 24 hours.", of(quota)
    yield "quota_left", "gauge", "Messages that the mailbox may still send now.", of(left)


def _proof(found: LedgerFigures, verified: Verification | None) -> Iterator[Metric]:
    yield "events_total", "counter", "Events of the audit log.", [({}, found.events)]
    yield "last_event_timestamp_seconds", "gauge", "When the last event was written.", _at(found.last_event)
    covered, made = found.checkpoint or (None, None)
    yield "checkpoint_events", "gauge", "Events that the last signed checkpoint covers.", [] if covered is None else [({}, covered)]
    yield "checkpoint_timestamp_seconds", "gauge", "When it was made.", _at(made)
    intact: list[Sample] = [] if verified is None else [({}, float(verified.intact))]
    yield "audit_intact", "gauge", "Whether the last audit verify on this machine found nothing: 1 or 0.", intact
    yield "audit_verified_events", "gauge", "Events that it verified.", [] if verified is None else [({}, verified.events)]
    yield "audit_verified_timestamp_seconds", "gauge", "When it ran.", _at(None if verified is None else verified.at)


def _program(versions: Mapping[str, str]) -> Iterator[Metric]:
    yield "build_info", "gauge", "Versions; always 1.", [(versions, 1)]


def _at(moment: datetime | None) -> list[Sample]:
    return [] if moment is None else [({}, moment.timestamp())]


def _metric(name: str, kind: str, meaning: str, samples: Iterable[Sample]) -> Iterator[str]:
    lines = [f"{name}{_labels(labels)} {_number(value)}\n" for labels, value in samples]
    if lines:
        yield f"# HELP {name} {meaning}\n# TYPE {name} {kind}\n"
        yield from lines


def _labels(labels: Mapping[str, str]) -> str:
    inner = ",".join(f'{name}="{_escaped(value)}"' for name, value in labels.items())
    return f"{{{inner}}}" if inner else ""


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else f"{value:.3f}"
