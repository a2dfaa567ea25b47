"""What an incident is told: to the CA, which certificates to revoke; to the person, what happened and what to do."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from distributor.model.audit_log import format_timestamp
from distributor.model.people import Helpdesk, escape_unsafe
from distributor.model.requests import ExposedDelivery
from distributor.model.states import State

KEY_COMPROMISE = "keyCompromise"  # the reason code 1 of RFC 5280 5.3.1
_NOT_LEFT = frozenset({State.PLANNED, State.QUEUED, State.DEFERRED, State.CLAIMED, State.REJECTED, State.WITHDRAWN})


@dataclass(frozen=True, slots=True)
class ExposedCertificate:
    """A certificate to revoke. `accepted_at`: when a server first took a message with its key; `left`: whether one may have left."""

    sha256: str
    serial: str
    issuer: str
    subject: str
    not_after: datetime
    accepted_at: datetime | None
    revealed_at: datetime | None
    left: bool


def has_left(delivery: ExposedDelivery) -> bool:
    """Whether its message is with the recipient, or may be."""
    return delivery.accepted_at is not None or delivery.state not in _NOT_LEFT


def certificates(deliveries: Sequence[ExposedDelivery]) -> list[ExposedCertificate]:
    """The certificates of some deliveries, each once, in the order in which they were planned first."""
    by_hash: dict[str, list[ExposedDelivery]] = {}
    for delivery in deliveries:
        by_hash.setdefault(delivery.sha256, []).append(delivery)
    return [_certificate(same) for same in by_hash.values()]


def _certificate(same: Sequence[ExposedDelivery]) -> ExposedCertificate:
    accepted = [one.accepted_at for one in same if one.accepted_at is not None]
    revealed = [one.revealed_at for one in same if one.revealed_at is not None]
    first = same[0]
    times = first.not_after, min(accepted, default=None), min(revealed, default=None)
    return ExposedCertificate(first.sha256, first.serial, first.issuer, first.subject, *times, any(map(has_left, same)))


def for_ca(found: Sequence[ExposedCertificate]) -> Iterator[str]:
    """A line for each certificate, for the CA's revocation form or ticket."""
    yield "To the CA: please revoke. Times are UTC; a time of acceptance means that a mail server took a message with the key."
    for one in found:
        accepted = _time(one.accepted_at) or ("unknown" if one.left else "never")
        yield (
            f'serial={one.serial} issuer="{escape_unsafe(one.issuer)}" sha256={one.sha256} not_after={_time(one.not_after)} '
            f"accepted={accepted} password_revealed={_time(one.revealed_at) or 'never'} reason={KEY_COMPROMISE}"
        )


def _time(moment: datetime | None) -> str | None:
    return None if moment is None else f"{format_timestamp(moment)[:19]}Z"


@dataclass(frozen=True, slots=True)
class PersonText:
    """What the text for a person is about."""

    address: str
    name: str
    language: str
    certificates: tuple[ExposedCertificate, ...]


class FileRenderer(Protocol):
    """Renders several templates with the same values."""

    def render_files(self, language: str, names: tuple[str, ...], values: Mapping[str, object]) -> tuple[str, ...]:
        """The text of each file. Raises InvalidInput naming the template's file and line."""
        ...


@dataclass(frozen=True, slots=True)
class PersonTexts:
    """Renders what a person is told, to be sent or read out, in the person's language."""

    words: FileRenderer
    organisation: str
    contact: str
    helpdesk: Helpdesk = field(default_factory=Helpdesk)

    def __call__(self, job: PersonText) -> str:
        """The text. Raises InvalidInput for a template that cannot be rendered."""
        values: dict[str, object] = {
            "organisation": {"name": self.organisation},
            "person": {"name": job.name, "address": job.address},
            "certificates": [{"serial": one.serial, "not_after": one.not_after} for one in job.certificates],
            "contact": self.contact,
            "helpdesk": self.helpdesk,
        }
        (text,) = self.words.render_files(job.language, ("body.txt",), values)
        return text
