"""Passwords that leave by letter or by mail: which are ready, their hand-over, and the outcome for the file or the message."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from sqlalchemy import Connection, Select, bindparam, exists, or_, select, type_coerce, update
from sqlalchemy.types import NullType

from distributor.errors import RequestDenied
from distributor.ledger import engine, passwords, queries
from distributor.ledger.message_verification import refuse_changed_people
from distributor.ledger.tables import certificate, delivery, event, handover, person
from distributor.ledger.transaction import NewEvent, WriteTransaction, sanitize
from distributor.model.audit_log import format_timestamp, parse_timestamp
from distributor.model.channels import LettersFile, PasswordMail, PasswordTo, ReadyPassword
from distributor.model.states import RECEIVED, PasswordState

BEGUN, FINISHED = "letters", "letters-finished"  # events of a whole file of letters
MAILED = "password-mailed"
_RECEIVED = [state.value for state in RECEIVED]
_READY = (
    select(
        delivery.c.id,
        *(person.c[name] for name in ("address", "name")),
        delivery.c.language,
        *(person.c[name] for name in ("columns", "alternate_email", "manager")),
        certificate.c.der,
        certificate.c.not_after,
        handover.c.expires_at,
        type_coerce(handover.c.sealed, NullType()).label("sealed"),
    )
    .join(delivery, delivery.c.id == handover.c.delivery)
    .join(person, person.c.id == delivery.c.person)
    .join(certificate, certificate.c.sha256 == delivery.c.certificate)
    .where(
        handover.c.state == PasswordState.READY.value,
        handover.c.channel == bindparam("channel"),
        delivery.c.state.in_(_RECEIVED),
        or_(handover.c.expires_at.is_(None), handover.c.expires_at > bindparam("now")),
    )
    .order_by(person.c.key, certificate.c.not_before, delivery.c.id)
)
_TAKE_BACK = (
    update(handover)
    .where(handover.c.delivery == bindparam("b_id"), handover.c.state == PasswordState.HANDED_OVER.value)
    .values(state=PasswordState.READY.value, sealed=bindparam("b_sealed"), closed_at=None, closed_by=None)
)
_SINCE = select(event.c.event, event.c.after, event.c.evidence).where(event.c.delivery == bindparam("id")).order_by(event.c.seq)
_newer = delivery.alias("newer")
_LATER = (
    select(_newer.c.id)
    .join(
        delivery,
        (delivery.c.person == _newer.c.person)
        & (delivery.c.certificate == _newer.c.certificate)
        & (delivery.c.way == _newer.c.way)
        & (delivery.c.generation < _newer.c.generation),
    )
    .where(delivery.c.id == bindparam("id"))
    .limit(1)
)
_UNANSWERED = (
    select(delivery.c.id, person.c.address)
    .join(delivery, delivery.c.id == handover.c.delivery)
    .join(person, person.c.id == delivery.c.person)
    .where(
        handover.c.state == PasswordState.HANDED_OVER.value,
        handover.c.channel == "mail",
        handover.c.closed_at < bindparam("before"),
        exists().where(event.c.delivery == delivery.c.id, event.c.event == "revealed", event.c.evidence.contains('"channel":"mail"')),
        ~exists().where(event.c.delivery == delivery.c.id, event.c.event == MAILED),
    )
    .order_by(delivery.c.id)
)
_FILES = (
    select(event.c.event, event.c.at, event.c.by, event.c.evidence)
    .where(event.c.delivery.is_(None), event.c.event.in_((BEGUN, FINISHED)))
    .order_by(event.c.seq)
)


@cache
def _frozen(size: int) -> Select[Any]:
    return select(event.c.delivery, event.c.at, event.c.evidence).where(engine.one_of(event.c.delivery, size), queries.freezes())


def ready(connection: Connection, channel: str, plan: str | None, now: str) -> list[ReadyPassword]:
    """Ready passwords of a channel, by address."""
    asked = _READY if plan is None else _READY.where(delivery.c.plan == plan)
    rows = connection.execute(asked, {"channel": channel, "now": now}).all()
    frozen = {id_: (at, json.loads(evidence)) for id_, at, evidence in engine.rows_of(connection, _frozen, [row.id for row in rows])}
    found = []
    for row in rows:
        at, evidence = frozen.get(row.id, (now, {}))
        found.append(
            ReadyPassword(
                delivery=row.id,
                address=row.address,
                name=row.name,
                language=row.language,
                columns=json.loads(row.columns) if row.columns else {},
                alternate_email=row.alternate_email,
                manager=row.manager,
                leaf=row.der,
                not_after=parse_timestamp(row.not_after),
                sender=evidence.get("sender"),
                sent_at=parse_timestamp(at),
                expires_at=None if row.expires_at is None else parse_timestamp(row.expires_at),
                sealed=row.sealed,
            )
        )
    return found


# --- letters ---------------------------------------------------------------------------------------------------------


def hand_over_letters(tx: WriteTransaction, ready: Sequence[ReadyPassword], file: LettersFile, reason: str) -> None:
    """Hand over the passwords of a file, all or none."""
    _hand_over(tx, ready, reason, "letter", {"document_sha256": file.sha256})
    tx.append([NewEvent(None, BEGUN, evidence={"document_sha256": file.sha256, **_place(file)})])


def _place(file: LettersFile) -> dict[str, object]:
    return {"letters": file.letters, "path": file.path, "part": file.part}


def _hand_over(
    tx: WriteTransaction, ready: Sequence[ReadyPassword], reason: str, channel: str, evidence: Mapping[str, object], **personal: object
) -> None:
    """Hand passwords over that were opened before; refused where the ledger has another by now."""
    ids = [one.delivery for one in ready]
    refuse_changed_people(tx, ids)
    found = passwords.hand_over_all(tx, ids, reason, channel, evidence, **personal)
    if changed := next((one for one in ready if found[one.delivery] != one.sealed), None):
        raise RequestDenied("the password has changed meanwhile", where=changed.address, hint="run the command again")


def unfinished_letters(connection: Connection) -> list[LettersFile]:
    """Files that were begun and are not finished, oldest first."""
    files: dict[str, LettersFile] = {}
    for name, at, by, text in connection.execute(_FILES):
        evidence = json.loads(text)
        digest = str(evidence.get("document_sha256"))
        if name == FINISHED:
            files.pop(digest, None)
        else:
            path, part, number = (evidence.get(key) for key in ("path", "part", "letters"))
            files[digest] = LettersFile(digest, str(path), str(part), int(number or 0), parse_timestamp(at), by)
    return list(files.values())


def letter_recipients(connection: Connection, file: LettersFile) -> list[str]:
    """The people of an unfinished file: their passwords were closed with its event, at the same time."""
    asked = select(person.c.address).distinct().select_from(handover).join(delivery, delivery.c.id == handover.c.delivery)
    asked = asked.join(person, person.c.id == delivery.c.person).order_by(person.c.address)
    at = format_timestamp(file.at) if file.at else ""
    closed = (handover.c.state == PasswordState.HANDED_OVER.value) & (handover.c.channel == "letter") & (handover.c.closed_at == at)
    return list(connection.execute(asked.where(closed)).scalars())


def finish_letters(tx: WriteTransaction, file: LettersFile, outcome: str) -> None:
    """Record the outcome for a file."""
    tx.append([NewEvent(None, FINISHED, evidence={"document_sha256": file.sha256, "outcome": outcome})])


# --- mail ------------------------------------------------------------------------------------------------------------


def hand_over_mail(tx: WriteTransaction, one: ReadyPassword, mail: PasswordMail, reason: str) -> None:
    """Hand over a password to its message; refused where the roster names another mailbox by now."""
    evidence = {"message_id": mail.message_id, "to": str(mail.column)}
    column = person.c.manager if mail.column is PasswordTo.MANAGER else person.c.alternate_email
    asked = select(column).join(delivery, delivery.c.person == person.c.id).where(delivery.c.id == one.delivery)
    if tx.connection.execute(asked).scalar_one_or_none() != one.second_address(mail.column):
        raise RequestDenied(f"{mail.column} has changed meanwhile", where=one.address, hint="run the command again")
    _hand_over(tx, [one], reason, "mail", evidence, recipient=mail.to)


def note_mail(tx: WriteTransaction, delivery_id: str, outcome: str, said: str) -> None:
    """Record the server's answer."""
    tx.append([NewEvent(delivery_id, MAILED, evidence={"outcome": outcome}, personal={"said": sanitize(said)})])


def unanswered_mails(connection: Connection, before: str) -> list[tuple[str, str]]:
    """Hand-overs to messages without an answer."""
    return [(id_, address) for id_, address in connection.execute(_UNANSWERED, {"before": before})]


def take_back(tx: WriteTransaction, one: ReadyPassword, said: str) -> bool:
    """Handed-over -> ready, with the same sealed bytes; whether it did. Not where anything but a delivery followed the hand-over."""
    if _has_moved_on(tx, one.delivery):
        return False
    if not tx.many(_TAKE_BACK, [{"b_id": one.delivery, "b_sealed": one.sealed}]):
        return False
    tx.append([NewEvent(one.delivery, "password-ready", evidence={"why": "its message was not sent"}, personal={"said": sanitize(said)})])
    return True


def _has_moved_on(tx: WriteTransaction, delivery_id: str) -> bool:
    """Whether there is a later generation, or an event after the hand-over that is no delivery of the package."""
    since = list(tx.connection.execute(_SINCE, {"id": delivery_id}))
    while since and since[-1].after in _RECEIVED:
        since.pop()
    last = since[-1] if since else None
    by_mail = last is not None and last.event == "revealed" and json.loads(last.evidence).get("channel") == "mail"
    return not by_mail or tx.connection.execute(_LATER, {"id": delivery_id}).first() is not None
