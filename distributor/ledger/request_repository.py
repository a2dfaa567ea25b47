"""The part of the Ledger port for requests, accounts, sessions, mailboxes, incidents, exports, and what portal and report ask.

What each method promises is said once, in `model/requests.py`, `model/mailboxes.py` and `model/audit_report.py`.
"""

# ruff: noqa: D102  as above

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Self

from distributor.ledger import queries
from distributor.ledger.engine import Database
from distributor.ledger.lazy import late
from distributor.ledger.transaction import Clock, NewEvent, WriteTransaction, ledger_identity
from distributor.model.audit_log import format_timestamp

if TYPE_CHECKING:
    from distributor.ledger import (
        accounts,
        attention,
        eligibility,
        forgetting,
        incidents,
        mailbox_positions,
        notices,
        portal_queries,
        report_queries,
        request_verification,
        requests,
    )
    from distributor.model.attention import Attention
    from distributor.model.audit_report import PersonRecord
    from distributor.model.certificates import Locator
    from distributor.model.delivery import Delivery, DeliveryFilter, DeliveryRequest
    from distributor.model.mailboxes import DeliveryNotice, FurtherMessage, RecordedNotice
    from distributor.model.requests import CopyRequest, DayCount, ErasedPerson, ExposedDelivery, RequestLimits, SignInAccount, StoredSession
    from distributor.model.states import RequestState, State
else:
    accounts, eligibility, forgetting, incidents = late("accounts eligibility forgetting incidents")
    attention, mailbox_positions, notices = late("attention mailbox_positions notices")
    portal_queries, report_queries = late("portal_queries report_queries")
    request_verification, requests = late("request_verification requests")


class SqlRequests:
    """What `SqlLedger` is besides deliveries."""

    _database: Database
    _by: str
    _clock: Clock
    _writing: Callable[[], AbstractContextManager[WriteTransaction]]

    def acting_as(self, by: str) -> Self:
        other = copy.copy(self)
        other._by = by  # noqa: SLF001  of the same class
        return other

    # requests
    def ask(self, delivery: str, reason: str, *, limits: RequestLimits, approve: bool = False) -> CopyRequest:
        with self._writing() as tx:
            return requests.ask(tx, delivery, reason, limits, approve=approve)

    def requests(self, states: Collection[RequestState] = (), address: str | None = None) -> list[CopyRequest]:
        with self._database.reading() as connection:
            return requests.find(connection, states, address)

    def decide(self, request: str, reason: str, *, approve: bool) -> CopyRequest:
        with self._writing() as tx:
            if approve:
                request_verification.refuse_changed_request(tx.connection, request)
            return requests.decide(tx, request, reason, approve=approve)

    def unplanned(self) -> list[CopyRequest]:
        with self._database.reading() as connection:
            return requests.unplanned(connection)

    def planned(self, request: str, delivery: str) -> None:
        with self._writing() as tx:
            requests.planned(tx, request, delivery)

    def regenerate(
        self,
        delivery: str,
        reason: str,
        draft: DeliveryRequest | None = None,
        place: tuple[str, Locator] | None = None,
        asked: str | None = None,
    ) -> Delivery:
        with self._writing() as tx:
            if asked is not None:
                request_verification.refuse_changed_request(tx.connection, asked)
            new = eligibility.regenerate(tx, delivery, reason, draft, place)
            if asked is not None:
                requests.planned(tx, asked, new)
            return queries.by_ids(tx.connection, [new])[new]

    # accounts
    def person_of(self, account: SignInAccount) -> str | None:
        with self._database.reading() as connection:
            return accounts.person_of(connection, account)

    def bind(self, account: SignInAccount, address: str, how: str) -> None:
        with self._writing() as tx:
            accounts.bind(tx, account, address, how)

    def with_column(self, column: str, value: str) -> list[str]:
        with self._database.reading() as connection:
            return accounts.with_column(connection, column, value)

    # sessions: no part of the audit log, so the head of the chain is not locked
    def read_session(self, token: str) -> StoredSession | None:
        with self._database.reading() as connection:
            return accounts.read_session(connection, token)

    def write_session(self, session: StoredSession) -> None:
        with self._database.writing() as connection:
            accounts.write_session(connection, session)

    def touch_session(self, token: str, seen: datetime) -> None:
        with self._database.writing() as connection:
            accounts.touch_session(connection, token, seen)

    def end_sessions(self, tokens: Sequence[str] = (), *, before: datetime | None = None, idle_since: datetime | None = None) -> int:
        with self._database.writing() as connection:
            return accounts.end_sessions(connection, tokens, before, idle_since)

    # mailboxes that are read; likewise
    def mailbox_position(self, mailbox: str) -> str | None:
        with self._database.reading() as connection:
            return mailbox_positions.read(connection, mailbox)

    def write_mailbox_position(self, mailbox: str, position: str) -> None:
        with self._database.writing() as connection:
            mailbox_positions.write(connection, mailbox, position)

    # what received mails tell of deliveries
    def with_message_ids(self, message_ids: Collection[str]) -> list[Delivery]:
        with self._database.reading() as connection:
            return notices.with_message_ids(connection, message_ids)

    def further_messages(self, address: str, message_ids: Collection[str]) -> list[FurtherMessage]:
        with self._database.reading() as connection:
            return notices.further_messages(connection, address, message_ids)

    def record_notice(self, notice: DeliveryNotice) -> RecordedNotice:
        with self._writing() as tx:
            return notices.record(tx, notice)

    # incidents
    def incident(self, address: str, reason: str) -> list[ExposedDelivery]:
        with self._writing() as tx:
            return incidents.record(tx, address, reason)

    # erasures
    def erasable(self, address: str) -> ErasedPerson:
        with self._database.reading() as connection:
            return forgetting.preview(connection, address)

    def forget(self, address: str, reason: str) -> ErasedPerson:
        with self._writing() as tx:
            found = forgetting.forget(tx, address, reason)
        return replace(found, compacted=self._database.compact())

    # exports
    def note_export(self, form: str) -> None:
        with self._writing() as tx:
            tx.append([NewEvent(None, "exported", evidence={"format": form})])

    def ledger_name(self) -> str:
        with self._database.reading() as connection:
            return ledger_identity(connection).name

    def reported_people(self, last: int) -> Iterator[PersonRecord]:
        return report_queries.people(self._database, last)

    # what needs a person
    def attention(self, scope: DeliveryFilter) -> list[Attention]:
        with self._database.reading() as connection:
            return attention.find(connection, scope, self._clock.read(connection))

    def ready_channels(self, scope: DeliveryFilter) -> frozenset[str]:
        with self._database.reading() as connection:
            return attention.ready_channels(connection, scope)

    # the portal's queries
    def timeline(self, since: datetime) -> list[DayCount]:
        with self._database.reading() as connection:
            return portal_queries.timeline(connection, format_timestamp(since))

    def confirm(self, delivery: str, evidence: Mapping[str, object]) -> None:
        with self._writing() as tx:
            portal_queries.confirm(tx, delivery, evidence)

    def search(self, text: str, limit: int) -> list[tuple[str, str]]:
        with self._database.reading() as connection:
            return portal_queries.search(connection, text, limit)

    def newest(self, states: Collection[State], limit: int, before: str | None = None) -> list[Delivery]:
        with self._database.reading() as connection:
            return portal_queries.newest(connection, states, limit, before)
