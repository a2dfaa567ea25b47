"""Whether a delivery that went the usual way is what its events tell, by comparing canonical JSON as text: most are, and this is quick.

The usual way: planned, frozen, sent once and accepted; then perhaps delivered, installed, its password revealed. Of any other, and where
anything differs, nothing is said here: `projection` compares it field by field.

A key with its value, in canonical JSON, stands nowhere else in a text: inside of values, quotes are escaped.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from datetime import timedelta
from functools import lru_cache
from hashlib import sha256
from typing import Any, NamedTuple, cast

from distributor.ledger.person_projection import LONGEST_RECORDED, PERSON_FIELDS
from distributor.ledger.projection import fingerprint
from distributor.ledger.tables import certificate, delivery, handover, outbox, person, plan
from distributor.model.audit_log import format_timestamp, parse_timestamp, quoted
from distributor.model.people import key_of
from distributor.model.states import PasswordState, Way

_quote = json.encoder.encode_basestring
_fingerprint = lru_cache(64)(fingerprint)  # of values that many deliveries share


class UsualDelivery(NamedTuple):
    """A delivery with its plan, person, certificate, password and message, in the order of COLUMNS."""

    id: str
    plan: str | None
    generation: int
    language: str
    locator: str
    state: str
    attempt: int
    deferrals: int
    owner: str | None
    armed_at: str | None
    not_before: str | None
    said: str | None
    message_id: str | None
    package_sha256: str | None
    profile: str | None
    updated_at: str
    way: str
    series: str
    predecessor: str | None
    person: str
    inputs: str
    key: str
    address: str
    alternate_email: str
    columns: str
    person_language: str
    manager: str
    name: str
    phone: str
    certificate: str
    serial: str
    issuer: str
    not_after: str
    chain: str
    password: str | None
    channel: str
    sealed: object
    lasts: int | None
    expires_at: str | None
    closed_at: str | None
    closed_by: str | None
    outbox: str | None
    sender: str
    frozen_for: str
    frozen_message_id: str
    message: object


_ABOUT = tuple(sorted(PERSON_FIELDS))  # as canonical JSON has them
_ADDRESS = UsualDelivery._fields.index("address")
_PERSON = slice(_ADDRESS, _ADDRESS + len(_ABOUT))
_TOLD = tuple(f'"{name}":' for name in _ABOUT)  # as `personal_evidence` has them: in full up to so many characters
_LONGEST = tuple(0 if name == "columns" else LONGEST_RECORDED for name in _ABOUT)
_DELIVERY = (
    *("id", "plan", "generation", "language", "locator", "state", "attempt", "deferrals", "owner", "armed_at", "not_before", "said"),
    *("message_id", "package_sha256", "profile", "updated_at", "way", "series", "predecessor", "person"),
)
COLUMNS = (
    *(delivery.c[name] for name in _DELIVERY),
    plan.c.inputs,
    person.c.key,
    *(person.c[name] for name in _ABOUT),
    *(certificate.c[name] for name in ("sha256", "serial", "issuer", "not_after", "chain")),
    *(handover.c[name] for name in ("state", "channel", "sealed", "lasts", "expires_at", "closed_at", "closed_by")),
    *(outbox.c[name] for name in ("delivery", "sender", "address", "message_id", "message")),
)
Step = Sequence[Any]  # an event, in the order of Link
_AT, _EVENT, _BEFORE, _AFTER, _BY, _EVIDENCE, _PERSONAL, _COMMITMENT = 1, 3, 4, 5, 6, 7, 8, 10
_MAIL, _HELD, _READY, _HANDED_OVER = map(str, (Way.MAIL, PasswordState.HELD, PasswordState.READY, PasswordState.HANDED_OVER))
_LATER = frozenset({("accepted", "delivered"), ("accepted", "installed"), ("delivered", "installed")})
_ALONE = frozenset({"reminded", "requested", "bound"})  # notes of what is not in a delivery's rows


def is_as_told(columns: Sequence[Any], steps: Sequence[Step]) -> bool:
    """Whether the rows of a delivery, in COLUMNS, are proved to be what its events tell. False where there is more to it."""
    try:
        return _is_as_told(UsualDelivery._make(columns), steps)
    except (TypeError, AttributeError):  # a value of a type that this program never writes
        return False


def _is_as_told(row: UsualDelivery, steps: Sequence[Step]) -> bool:
    if row.deferrals or row.owner is not None or row.armed_at is not None or row.not_before is not None or not _as_planned(row, steps[0]):
        return False
    if len(steps) == 1:
        unset = row.message_id, row.package_sha256, row.profile, row.said, row.password, row.outbox
        return row.state == "planned" and not row.attempt and row.updated_at == steps[0][_AT] and not any(one is not None for one in unset)
    if not _as_frozen(row, steps[1]):
        return False
    if len(steps) == 2:  # noqa: PLR2004  planned and frozen
        waits = row.state == "queued" and not row.attempt and row.said is None and row.outbox is not None
        return waits and row.updated_at == steps[1][_AT] and row.password == _HELD and row.expires_at is None and _is_sealed(row, steps[1])
    if len(steps) < 5:  # noqa: PLR2004  accepted
        return False
    return _as_sent(row, *steps[2:5]) and _as_received(row, steps[1], steps[4], steps[5:])


def _as_planned(row: UsualDelivery, step: Step) -> bool:
    evidence, personal = step[_EVIDENCE], step[_PERSONAL]
    if (
        step[_BEFORE] is not None
        or personal is None
        or row.way != _MAIL
        or row.series
        or row.plan is None
        or row.inputs is None
        or row.key is None
        or row.certificate is None
        or row.key != key_of(row.address)
    ):
        return False
    address, about = _quote(row.address), cast("tuple[str, ...]", row[_PERSON])
    told = [
        name + (_quote(value) if len(value) <= longest else f'"sha256:{_fingerprint(value)}"')
        for name, longest, value in zip(_TOLD, _LONGEST, about, strict=True)
        if value
    ]
    return (
        evidence.startswith(
            f'{{"certificate_issuer":{_quote(row.issuer)},"certificate_not_after":{_quote(row.not_after)},'
            f'"certificate_serial":{_quote(row.serial)},"certificate_sha256":{_quote(row.certificate)},'
            f'"chain_sha256":"{_fingerprint(row.chain)}","generation":{row.generation},'
            f'"inputs_sha256":"{_fingerprint(row.inputs)}","language":{_quote(row.language)},'
        )
        and f'"locator_sha256":"{sha256(row.locator.encode()).hexdigest()}",' in evidence
        and _ends_as_planned(evidence, f',"plan":{quoted(row.plan)}', row.predecessor)
        and personal.startswith(f'{{"address":{address},')
        and f'"person":{{{",".join(told)}}}' in personal
    )


def _ends_as_planned(evidence: str, plan: str, predecessor: str | None) -> bool:
    """Whether the plan stands there, then the predecessor if there is one; and neither a series nor a way other than by mail."""
    end = plan if predecessor is None else f'{plan},"predecessor":{_quote(predecessor)}'
    if evidence.endswith(end + "}"):
        return True
    return f'{end},"replaces":' in evidence and '"series":' not in evidence and '"way":' not in evidence


def _as_frozen(row: UsualDelivery, step: Step) -> bool:
    evidence = step[_EVIDENCE]
    if step[_BEFORE] != "planned" or step[_AFTER] != "queued" or row.password is None or row.lasts is None or row.message_id is None:
        return False
    if row.outbox is not None and not (
        isinstance(row.message, bytes)
        and f'"letter_sha256":"{fingerprint(row.message)}","message_id":{_quote(row.frozen_message_id)},' in evidence
        and f'"sender":{_quote(row.sender)}' in evidence
        and row.frozen_for == row.address
    ):
        return False
    return (
        step[_PERSONAL] == f'{{"address":{_quote(row.address)}}}'
        and evidence.startswith(f'{{"channel":{_quote(row.channel)},"letter_sha256":')
        and f',"message_id":{_quote(row.message_id)},"package_sha256":{quoted(row.package_sha256)},"password_seconds":{row.lasts},'
        f'"profile":{quoted(row.profile)},'
        in evidence
    )


def _is_sealed(row: UsualDelivery, frozen: Step) -> bool:
    return (
        row.closed_at is row.closed_by is None
        and isinstance(row.sealed, bytes)
        and f'"sealed_sha256":"{sha256(row.sealed).hexdigest()}",' in frozen[_EVIDENCE]
    )


def _as_sent(row: UsualDelivery, claimed: Step, transmitting: Step, accepted: Step) -> bool:
    """Claimed once and accepted; the message has the Message-ID that it was frozen with."""
    return (
        claimed[_BEFORE] == "queued"
        and claimed[_AFTER] == transmitting[_BEFORE] == "claimed"
        and transmitting[_AFTER] == accepted[_BEFORE] == "transmitting"
        and accepted[_AFTER] == "accepted"
        and claimed[_EVIDENCE].startswith(f'{{"attempt":{row.attempt},')
        and '"message_id":' not in transmitting[_EVIDENCE]
    )


def _as_received(row: UsualDelivery, frozen: Step, accepted: Step, later: Iterable[Step]) -> bool:
    said, revealed, last = _response(accepted), None, accepted
    for step in later:
        if step[_AFTER] is not None:
            if (step[_BEFORE], step[_AFTER]) not in _LATER:
                return False
            said, last = _response(step), step
        elif step[_EVENT] == "revealed" and revealed is None:
            revealed = step
        elif step[_EVENT] not in _ALONE:
            return False
    if said is None or row.said is None or said != f'{{"said":{_quote(row.said)}}}':
        return False
    if row.state != last[_AFTER] or row.updated_at != last[_AT] or row.expires_at != _until(accepted[_AT], row.lasts):
        return False
    if revealed is None:
        return row.password == _READY and _is_sealed(row, frozen)
    closed = row.closed_at, row.closed_by
    return row.password == _HANDED_OVER and row.sealed is None and closed == (revealed[_AT], revealed[_BY])


def _response(step: Step) -> str | None:
    """The personal fields of a step whose evidence does not ask for another reading of them."""
    if step[_PERSONAL] is None and not step[_COMMITMENT] and '"owner":' in step[_EVIDENCE] and '"why":' not in step[_EVIDENCE]:
        return '{"said":""}'
    personal: str | None = step[_PERSONAL]
    return personal


@lru_cache(256)
def _until(ready_at: str, lasts: int) -> str:
    return format_timestamp(parse_timestamp(ready_at) + timedelta(seconds=lasts))
