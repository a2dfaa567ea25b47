"""The part of the Ledger port that hands passwords over and seals them again.

What each method promises is said once, in `model/channels.py` and `model/resealing.py`.
"""

# ruff: noqa: D102  as above

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from typing import TYPE_CHECKING

from distributor.ledger.engine import Database
from distributor.ledger.lazy import late
from distributor.ledger.transaction import Clock, WriteTransaction
from distributor.model.audit_log import format_timestamp

if TYPE_CHECKING:
    from distributor.ledger import channels, resealing
    from distributor.model.channels import LettersFile, PasswordMail, ReadyPassword
    from distributor.model.delivery import LeaseHolder
    from distributor.model.resealing import ResealedPassword, ResealResult, StoredPassword
else:
    channels, resealing = late("channels resealing")


class SqlPasswordChannels:
    """`model.channels.PasswordChannels` on SQL; each method is one transaction."""

    _database: Database
    _clock: Clock
    _writing: Callable[[], AbstractContextManager[WriteTransaction]]

    def ready_passwords(self, channel: str, plan: str | None = None) -> list[ReadyPassword]:
        with self._database.reading() as connection:
            return channels.ready(connection, channel, plan, self._clock.read(connection))

    def hand_over_letters(self, ready: Sequence[ReadyPassword], file: LettersFile, reason: str) -> None:
        with self._writing() as tx:
            channels.hand_over_letters(tx, ready, file, reason)

    def unfinished_letters(self) -> list[LettersFile]:
        with self._database.reading() as connection:
            return channels.unfinished_letters(connection)

    def letter_recipients(self, file: LettersFile) -> list[str]:
        with self._database.reading() as connection:
            return channels.letter_recipients(connection, file)

    def finish_letters(self, file: LettersFile, outcome: str) -> None:
        with self._writing() as tx:
            channels.finish_letters(tx, file, outcome)

    def hand_over_mail(self, password: ReadyPassword, mail: PasswordMail, reason: str) -> None:
        with self._writing() as tx:
            channels.hand_over_mail(tx, password, mail, reason)

    def note_password_mail(self, delivery: str, outcome: str, said: str) -> None:
        with self._writing() as tx:
            channels.note_mail(tx, delivery, outcome, said)

    def unanswered_mails(self, before: datetime) -> list[tuple[str, str]]:
        with self._database.reading() as connection:
            return channels.unanswered_mails(connection, format_timestamp(before))

    def take_back_mail(self, password: ReadyPassword, said: str) -> bool:
        with self._writing() as tx:
            return channels.take_back(tx, password, said)

    def stored_passwords(self) -> Iterator[StoredPassword]:
        return resealing.stored(self._database)

    def reseal(self, passwords: Sequence[ResealedPassword], recipients: Sequence[str]) -> list[ResealResult]:
        with self._writing() as tx:
            return resealing.reseal(tx, passwords, recipients)

    def senders(self) -> list[LeaseHolder]:
        with self._database.reading() as connection:
            return resealing.senders(connection)
