"""A mail that asks for another copy becomes one request, however often it is read; strangers, programs and old mails change nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import pytest

from distributor.errors import ServiceUnavailable
from distributor.mail.notices import NoticeRules
from distributor.model.delivery import Delivery, DeliveryFilter
from distributor.model.issues import Diagnostic
from distributor.model.mailboxes import MailBatch, MailboxReader, ReceivedMail
from distributor.model.notices import Notice
from distributor.model.ports import Ledger
from distributor.model.requests import RequestLimits
from distributor.model.states import RequestState
from distributor.workers.pool import CallFactory, Workers
from distributor.workflows.mail_reader import reader
from distributor.workflows.mailboxes import BY_MAIL, MailboxContext, MailPolicy, read_mailboxes
from distributor.workflows.notices import LeftAlone, MailboxReport
from tests.workflows import outbox

RULES = NoticeRules(frozenset({outbox.SENDER}), frozenset({"send again"}), "mx.example.org")
POLICY = MailPolicy(by_mail=True, automatic=False, limits=RequestLimits(3, 3))


class Folder:
    """A mailbox in memory; `mark` fails where it is told to."""

    name = "imap://certs@localhost/INBOX"

    def __init__(self, *mails: bytes, received: datetime | None = None) -> None:
        self.mails = list(mails)
        self.received = received or datetime.now(UTC)
        self.marked: list[bytes] = []
        self.fails_to_mark = False
        self.closed = 0

    async def read(self, after: str | None, since: datetime) -> AsyncIterator[MailBatch]:
        assert since < self.received or self.received.year < 2026
        for number, raw in enumerate(self.mails):
            if number >= int(after or 0):
                yield MailBatch((ReceivedMail(str(number + 1), raw, self.received),), str(number + 1))

    async def mark(self, handled: Sequence[ReceivedMail]) -> None:
        if self.fails_to_mark:
            raise ServiceUnavailable("no such folder", where="localhost", hint="create it")
        self.marked += [mail.raw for mail in handled]

    async def check(self) -> list[Diagnostic]:
        return []

    async def close(self) -> None:
        self.closed += 1


@pytest.fixture(scope="module")
def pool() -> Iterator[Workers[bytes, Notice]]:
    workers: Workers[bytes, Notice] = Workers(CallFactory(reader, (RULES,)), 1, 20.0, 2**30)
    with workers as running:
        yield running


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    found = outbox.new_ledger(tmp_path / "distributor.db")
    outbox.queue(found, 2)
    yield found
    assert found.verify() == []
    found.close()


def delivery(ledger: Ledger, person: str = "p1") -> Delivery:
    return list(ledger.deliveries(DeliveryFilter(addresses=frozenset({f"{person}@example.org"}))))[-1]


def mail(  # noqa: PLR0913  what a mail may have otherwise
    number: int = 1, person: str = "p1", *, answers: str = "", to: str = outbox.SENDER, days: float = 0, dmarc: str = "pass"
) -> bytes:
    sent = format_datetime(datetime.now(UTC) - timedelta(days=days))
    return (
        f"Authentication-Results: mx.example.org; dmarc={dmarc} header.from=example.org\r\nFrom: {person}@example.org\r\nTo: {to}\r\n"
        f"Subject: send again\r\nMessage-ID: <{number}@phone>\r\nIn-Reply-To: {answers}\r\nDate: {sent}\r\n\r\n"
    ).encode()


def read(ledger: Ledger, pool: Workers[bytes, Notice], *readers: MailboxReader, policy: MailPolicy = POLICY) -> MailboxReport:
    return asyncio.run(read_mailboxes(MailboxContext(ledger, pool, policy, asyncio.to_thread), readers))


def reasons(report: MailboxReport) -> list[str]:
    return [left.reason for left in report.left]


def test_a_mail_to_the_request_address_becomes_a_request(ledger: Ledger, pool: Workers[bytes, Notice]) -> None:
    folder = Folder(mail())
    report = read(ledger, pool, folder)
    (request,) = ledger.requests()
    assert report.asked == [request]
    assert (request.delivery, request.state, request.by, request.reason) == (
        delivery(ledger).id,
        RequestState.OPEN,
        BY_MAIL,
        "by mail <1@phone>",
    )
    assert (report.read, report.unmatched, report.left, report.errors) == (1, 0, [], [])
    assert (folder.marked, folder.closed) == (folder.mails, 1)


def test_a_reply_is_about_the_message_it_answers(ledger: Ledger, pool: Workers[bytes, Notice]) -> None:
    first = delivery(ledger)
    assert first.message_id is not None
    report = read(ledger, pool, Folder(mail(answers=f"<x@y> {first.message_id}", to="elsewhere@example.org")))
    assert [request.delivery for request in report.asked] == [first.id]


def test_a_reply_to_somebody_elses_message_asks_for_nothing(ledger: Ledger, pool: Workers[bytes, Notice]) -> None:
    other = delivery(ledger, "p2").message_id
    assert other is not None
    report = read(ledger, pool, Folder(mail(answers=other, to="elsewhere@example.org")))
    assert (reasons(report), report.unmatched) == (["nobody with this address was sent this message"], 1)
    assert ledger.requests() == []


def test_the_policy_may_approve_at_once(ledger: Ledger, pool: Workers[bytes, Notice]) -> None:
    report = read(ledger, pool, Folder(mail()), policy=replace(POLICY, automatic=True))
    assert [request.state for request in report.asked] == [RequestState.APPROVED]


# --- who is not believed -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (mail(dmarc="fail"), "not authenticated: dmarc=fail"),
        (mail(person="stranger"), "nobody with this address was sent this message"),
        (mail(days=8), "older than 7 days"),
    ],
)
def test_what_is_not_believed_changes_nothing_and_stays_in_the_mailbox(
    ledger: Ledger, pool: Workers[bytes, Notice], raw: bytes, reason: str
) -> None:
    before, folder = ledger.position(), Folder(raw)
    report = read(ledger, pool, folder)
    assert (reasons(report), report.unmatched, report.asked) == ([reason], 1, [])
    assert (folder.marked, ledger.position()) == ([], before)


def test_a_mail_that_came_long_ago_is_not_believed_whatever_its_date(ledger: Ledger, pool: Workers[bytes, Notice]) -> None:
    assert reasons(read(ledger, pool, Folder(mail(), received=datetime(2025, 1, 1, tzinfo=UTC)))) == ["older than 7 days"]


def test_requests_by_mail_are_off_unless_they_are_switched_on(ledger: Ledger, pool: Workers[bytes, Notice]) -> None:
    report = read(ledger, pool, Folder(mail()), policy=replace(POLICY, by_mail=False))
    assert reasons(report) == ["requests by mail are switched off ([requests] by_mail)"]
    assert ledger.requests() == []


def test_other_mails_are_read_and_left_where_they_are(ledger: Ledger, pool: Workers[bytes, Notice]) -> None:
    folder = Folder(b"Subject: hello\r\n\r\nhow are you?", b"Auto-Submitted: auto-replied\r\n" + mail(), b"")
    report = read(ledger, pool, folder)
    assert (report.read, report.unmatched, report.left, folder.marked) == (3, 0, [], [])


def test_a_person_may_ask_only_so_often(ledger: Ledger, pool: Workers[bytes, Notice]) -> None:
    folder = Folder()
    for number in range(1, 4):
        folder.mails.append(mail(number))
        (request,) = read(ledger, pool, folder).asked
        ledger.decide(request.id, "no", approve=False)
    folder.mails.append(mail(4))
    report = read(ledger, pool, folder)
    assert report.asked == []
    (left,) = report.left
    assert (left.message_id, left.address) == ("<4@phone>", "p1@example.org")
    assert len(ledger.requests()) == 3


def test_a_second_mail_while_a_request_waits_makes_no_second_request(ledger: Ledger, pool: Workers[bytes, Notice]) -> None:
    report = read(ledger, pool, Folder(mail(1), mail(2)))
    (request,) = ledger.requests()
    assert report.asked == [request]
    assert report.left == [LeftAlone("<2@phone>", "p1@example.org", f"request {request.id} for the same certificate is not fulfilled yet")]


# --- each mail once ----------------------------------------------------------------------------------------------------


def test_a_second_run_reads_nothing_again(ledger: Ledger, pool: Workers[bytes, Notice]) -> None:
    folder = Folder(mail(), b"")
    read(ledger, pool, folder)
    before = ledger.position()
    assert read(ledger, pool, folder) == MailboxReport()
    assert ledger.position() == before
    assert ledger.mailbox_position(folder.name) == "2"


def test_a_mail_that_is_read_again_asks_no_second_time(ledger: Ledger, pool: Workers[bytes, Notice]) -> None:
    folder = Folder(mail())
    (request,) = read(ledger, pool, folder).asked
    ledger.decide(request.id, "no", approve=False)
    ledger.write_mailbox_position(folder.name, "0")  # as if the folder had been made again
    report = read(ledger, pool, folder)
    assert (report.read, report.asked, report.left) == (1, [], [])
    assert len(ledger.requests()) == 1


def test_a_mailbox_that_fails_is_told_and_read_again_from_there(ledger: Ledger, pool: Workers[bytes, Notice]) -> None:
    folder, other = Folder(mail()), Folder(mail(2, "p2"))
    other.name = "imap://other@localhost/INBOX"
    folder.fails_to_mark = True
    report = read(ledger, pool, folder, other)
    assert [error.message for error in report.errors] == ["no such folder"]
    assert sorted(request.address for request in report.asked) == ["p1@example.org", "p2@example.org"]
    assert (ledger.mailbox_position(folder.name), ledger.mailbox_position(other.name)) == (None, "1")
    folder.fails_to_mark = False
    report = read(ledger, pool, folder)
    assert (report.asked, report.errors, len(folder.marked), len(ledger.requests())) == ([], [], 1, 2)


def test_a_mail_that_ends_its_process_costs_only_itself(ledger: Ledger) -> None:
    workers: Workers[bytes, Notice] = Workers(CallFactory(_crashing, ()), 1, 20.0, 2**30)
    with workers as pool:
        report = read(ledger, pool, Folder(b"crash", mail()))
    (reason,) = reasons(report)
    assert reason.startswith("parsing it failed (crash), received 20")
    assert reason.endswith(" UTC")
    assert [request.address for request in report.asked] == ["p1@example.org"]


def _crashing() -> _Crashing:
    return _Crashing()


class _Crashing:
    """The reader, as if one mail could end its process."""

    def __call__(self, raw: bytes) -> Notice:
        if raw == b"crash":
            import os  # noqa: PLC0415

            os._exit(1)
        return reader(RULES)(raw)
