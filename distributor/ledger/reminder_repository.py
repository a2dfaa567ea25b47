"""The part of the Ledger port that serves reminders. What each method promises is said once, in `model/reminders.py`."""

# ruff: noqa: D102  as above

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from typing import TYPE_CHECKING

from distributor.ledger.engine import Database
from distributor.ledger.lazy import late
from distributor.ledger.transaction import Clock, WriteTransaction
from distributor.model.audit_log import format_timestamp

if TYPE_CHECKING:
    from distributor.ledger import reminders
    from distributor.model.reminders import Reminder, ReminderDetails
else:
    (reminders,) = late("reminders")


class SqlReminders:
    """`model.reminders.Reminders` on SQL; each method is one transaction, but for `reminders`, which reads page by page."""

    _database: Database
    _clock: Clock
    _writing: Callable[[], AbstractContextManager[WriteTransaction]]

    def reminders(self, expiring_until: datetime, usages: Callable[[bytes], Collection[str]]) -> Iterator[Reminder]:
        return reminders.reminders(self._database, self._clock, expiring_until, usages)

    def reminder_details(self, deliveries: Sequence[str]) -> dict[str, ReminderDetails]:
        with self._database.reading() as connection:
            return reminders.details(connection, deliveries)

    def record_reminder(self, reminder: Reminder, step: str, message_id: str, sender: str) -> None:
        with self._writing() as tx:
            reminders.record(tx, reminder, _evidence(reminder, step, message_id, sender))

    def refuse_reminder(self, reminder: Reminder, step: str, message_id: str, sender: str, said: str) -> None:
        with self._writing() as tx:
            reminders.refuse(tx, reminder, _evidence(reminder, step, message_id, sender), said)


def _evidence(reminder: Reminder, step: str, message_id: str, sender: str) -> dict[str, object]:
    """The same for a reminder and for the refusal of its message."""
    not_after = format_timestamp(reminder.not_after)
    return {"kind": str(reminder.kind), "step": step, "not_after": not_after, "message_id": message_id, "sender": sender}
