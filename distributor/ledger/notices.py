"""Received mails about deliveries: the deliveries that they are about, and what they tell, once for each."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from typing import Any

from sqlalchemy import Connection, Select, bindparam, select

from distributor.ledger import transitions
from distributor.ledger.queries import DELIVERIES, to_delivery
from distributor.ledger.tables import delivery, event, person
from distributor.ledger.transaction import NewEvent, WriteTransaction, sanitize
from distributor.model.audit_log import REMINDED
from distributor.model.delivery import Delivery
from distributor.model.mailboxes import NOTED, DeliveryNotice, FurtherMessage, NoticeOutcome, RecordedNotice
from distributor.model.states import OBSERVED, State, allowed

MOST = 50  # Message-IDs of one mail
MOST_TOLD = 100  # events by notices of one delivery, after which nothing is noted any more: its recipient can forge any number of them
_WITH_IDS: Select[Any] = DELIVERIES.where(delivery.c.message_id.in_(bindparam("ids", expanding=True))).order_by(delivery.c.id)
_MESSAGES = (
    select(event.c.delivery, event.c.event, event.c.evidence)
    .join(delivery, delivery.c.id == event.c.delivery)
    .join(person, person.c.id == delivery.c.person)
    .where(person.c.key == bindparam("address"))
    .where(event.c.event.in_((State.QUEUED.value, State.TRANSMITTING.value, REMINDED, "revealed")))
    .order_by(event.c.seq)
)
_TOLD = select(event.c.evidence).where(
    event.c.delivery == bindparam("id"),
    event.c.event.in_((NOTED, State.BOUNCED.value, State.DELIVERED.value, State.INSTALLED.value)),
)


def with_message_ids(connection: Connection, message_ids: Collection[str]) -> list[Delivery]:
    """Deliveries by Message-ID, oldest first."""
    ids = list(message_ids)[:MOST]
    return [to_delivery(row) for row in connection.execute(_WITH_IDS, {"ids": ids})] if ids else []


def further_messages(connection: Connection, address: str, message_ids: Collection[str]) -> list[FurtherMessage]:
    """Reminders, password messages and earlier Message-IDs of a person's deliveries; only that person's events are read."""
    wanted = frozenset(message_ids)
    rows = connection.execute(_MESSAGES, {"address": address}) if wanted else ()
    return [FurtherMessage(id_, name) for id_, name, evidence in rows if json.loads(evidence).get("message_id") in wanted]


def record(tx: WriteTransaction, notice: DeliveryNotice) -> RecordedNotice:
    """Move a delivery, or note what was told. Raises RequestDenied for an unknown delivery."""
    row = transitions.row(tx, notice.delivery)
    before = State(row["state"])
    evidence = {key: sanitize(value) if isinstance(value, str) else value for key, value in notice.evidence.items()}
    evidence = {"attempt": row["attempt"], **evidence}  # a message that was sent again may fail again in the same way
    told = [json.loads(text) for text in tx.connection.execute(_TOLD, {"id": notice.delivery}).scalars()]
    if any(_is_same(one, evidence) for one in told):
        return RecordedNotice(NoticeOutcome.KNOWN, before)
    if notice.state is not None and before is State.TRANSMITTING:
        return RecordedNotice(NoticeOutcome.TOO_EARLY, before)
    said = sanitize(notice.said)
    personal = {"said": said, **{key: sanitize(str(value)) for key, value in notice.personal.items()}}
    if notice.state is None or before not in OBSERVED or not allowed(before, notice.state):
        if len(told) >= MOST_TOLD:
            return RecordedNotice(NoticeOutcome.KNOWN, before)
        tx.append([NewEvent(notice.delivery, NOTED, evidence=evidence, personal=personal)])
        return RecordedNotice(NoticeOutcome.NOTED, before)
    columns = {"owner": None, "lease_until": None, "not_before": None, "said": said}
    transitions.apply_transitions(tx, [transitions.Transition(row, notice.state, columns, evidence, personal)])
    return RecordedNotice(NoticeOutcome.MOVED, before)


def _is_same(one: Mapping[str, object], other: Mapping[str, object]) -> bool:
    """Whether two events have the same mail, or mails that say the same, such as a copy in a second mailbox."""
    return one.get("mail_sha256") == other["mail_sha256"] or {**one, "mail_sha256": ""} == {**other, "mail_sha256": ""}
