"""What an incident is told: to the CA, which certificates to revoke; to the person, what happened and what to do."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from distributor.model.audit_log import format_timestamp
from distributor.model.people import escape_unsafe
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


def for_person(address: str, found: Sequence[ExposedCertificate], organisation: str) -> Iterator[str]:
    """What the person is told, to be sent or read out."""
    one = len(found) == 1
    yield f"To {escape_unsafe(address)}:"
    yield f"The private key of your S/MIME certificate{'' if one else 's'} may be in the wrong hands."
    yield f"We have asked for {'it' if one else 'them'} to be revoked. You will get a new certificate with a new key."
    yield "1. Do not open or install a certificate or a password that we sent you before today; delete those messages."
    yield "2. Stop signing and decrypting with the old certificate. Keep it only to read old mail, on a device that you trust."
    yield "3. If a device was lost or stolen, have your administrator wipe it, and change the password of your mailbox."
    yield "4. Tell people who write to you in confidence that mail encrypted to the old certificate may be read by others."
    yield organisation
