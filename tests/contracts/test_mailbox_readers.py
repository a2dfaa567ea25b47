"""What every reader of mailboxes promises, of a Dovecot server and of the Graph double; what only one of them has is below."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

import pytest

from distributor.adapters.trackers import imap, sent_items
from distributor.errors import Error, InvalidInput, ServiceUnavailable
from distributor.microsoft.permissions import KEEP_DRAFTS, READ_CONTENT
from distributor.model.issues import Diagnostic
from distributor.model.mailboxes import LARGEST_MAIL, MailBatch, MailboxReader, ReceivedMail
from distributor.model.ports import Tracker
from distributor.model.secret import Secret
from tests.contracts.graph_mailbox import SECRET, spotless
from tests.contracts.test_mailboxes import subjects
from tests.doubles.dovecot import PASSWORD, Dovecot, dovecot
from tests.doubles.graphd import Cloud
from tests.doubles.graphd.caller import Caller, connected

LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)


def mail(number: int, size: int = 10) -> bytes:
    return f"Subject: {number}\r\nMessage-ID: <{number}@x>\r\n\r\n{'x' * size}\r\n".encode()


class Mailbox(Protocol):
    """A mailbox with an Inbox and a folder Done."""

    marked: str  # how `shown` names a handled mail

    def add(self, *mails: bytes) -> None: ...
    def open(self, **changes: object) -> MailboxReader: ...
    def shown(self, folder: str = "INBOX") -> list[tuple[str, bool]]:
        """Every mail of a folder: its mark, if any, and whether it is marked as read."""
        ...


@dataclass
class ImapMailbox:
    server: Dovecot
    user: str
    marked: str = "$Distributor"

    def add(self, *mails: bytes) -> None:
        self.server.add(*mails, user=self.user)

    def open(self, **changes: object) -> MailboxReader:
        given: dict[str, Any] = {"port": self.server.secure_port, "password": Secret(PASSWORD), "timeout": 20.0, **changes}
        return imap.open(imap.Settings("localhost", self.user, **given), "trackers[0]")

    def shown(self, folder: str = "INBOX") -> list[tuple[str, bool]]:
        flags = self.server.flags(folder, self.user)
        return [(self.marked if self.marked in each else "", "\\Seen" in each) for each in flags]


@dataclass
class GraphMailbox:
    cloud: Cloud
    address: str
    app: str
    marked: str = "distributor"

    def add(self, *mails: bytes) -> None:
        for raw in mails:
            self.cloud.deliver(self.address, raw)

    def open(self, **changes: object) -> MailboxReader:
        names = {"tenant": self.cloud.tenant, "client_id": self.app, "secret": Secret(SECRET), "login": self.cloud.login}
        given: dict[str, Any] = {**names, "graph": self.cloud.graph, "mailbox": self.address, **changes}
        return sent_items.open(sent_items.Settings(**given), "trackers[0]")

    def shown(self, folder: str = "INBOX") -> list[tuple[str, bool]]:
        rows = self.cloud.messages(self.address, folder if folder != "INBOX" else "inbox")
        return [(",".join(row["categories"]), row["isRead"]) for row in rows]

    def asked(self, operation: str) -> int:
        return len([one for one in self.cloud.requests(operation) if one["app"] == self.app])


@pytest.fixture(scope="module")
def server() -> Iterator[Dovecot]:
    with dovecot() as running:
        yield running


@pytest.fixture
def by_imap(server: Dovecot, monkeypatch: pytest.MonkeyPatch) -> Mailbox:
    monkeypatch.setenv("SSL_CERT_FILE", str(server.ca))
    found = ImapMailbox(server, f"certs-{uuid.uuid4().hex[:8]}@example.org")
    server.create("Done", found.user)
    return found


@pytest.fixture
def by_graph(running: Cloud, monkeypatch: pytest.MonkeyPatch) -> Iterator[GraphMailbox]:
    monkeypatch.setenv("SSL_CERT_FILE", str(running.ca))
    monkeypatch.setenv("NO_PROXY", "localhost")
    found = GraphMailbox(
        running, f"certs-{uuid.uuid4().hex[:8]}@example.org", running.app(secrets={SECRET: None}, roles=["Mail.ReadWrite"])
    )
    running.mailbox(found.address)
    running.mail_folder(found.address, "Done")
    yield found
    spotless(running)


@pytest.fixture(params=["by_imap", "by_graph"])
def mailbox(request: pytest.FixtureRequest) -> Mailbox:
    found: Mailbox = request.getfixturevalue(request.param)
    return found


def batches(reader: MailboxReader, after: str | None = None, since: datetime = LONG_AGO, most: int = 1000) -> list[MailBatch]:
    async def go() -> list[MailBatch]:
        found = []
        try:
            async for batch in reader.read(after, since):
                found.append(batch)
                if len(found) == most:
                    break
            return found
        finally:
            await reader.close()

    return asyncio.run(go())


def read(mailbox: Mailbox, after: str | None = None, since: datetime = LONG_AGO) -> tuple[list[ReceivedMail], str]:
    """The mails, and the position behind them."""
    found = batches(mailbox.open(), after, since)
    return [one for batch in found for one in batch.mails], found[-1].position if found else after or ""


def mark(mailbox: Mailbox, mails: Sequence[ReceivedMail], **changes: object) -> None:
    async def go() -> None:
        reader = mailbox.open(**changes)
        try:
            await reader.mark(mails)
        finally:
            await reader.close()

    asyncio.run(go())


# --- what every reader promises ----------------------------------------------------------------------------------------


def test_every_mail_is_read_in_order_and_none_is_marked_as_read(mailbox: Mailbox) -> None:
    mailbox.add(*(mail(number) for number in range(1, 24)))
    found, _ = read(mailbox)
    assert [one.raw for one in found] == [mail(number) for number in range(1, 24)]
    assert mailbox.shown() == [("", False)] * 23
    assert all(one.received_at is not None and abs(one.received_at - datetime.now(UTC)) < timedelta(hours=1) for one in found)


def test_batches_are_small(mailbox: Mailbox) -> None:
    mailbox.add(*(mail(number) for number in range(1, 24)))
    assert max(len(batch.mails) for batch in batches(mailbox.open())) <= 10


def test_the_next_reading_goes_on_behind_the_last_mail(mailbox: Mailbox) -> None:
    mailbox.add(mail(1), mail(2))
    _, position = read(mailbox)
    again, position = read(mailbox, position)
    assert again == []
    mailbox.add(mail(3))
    found, position = read(mailbox, position)
    assert subjects(found) == ["3"]
    assert read(mailbox, position)[0] == []


def test_a_reading_that_was_cut_off_goes_on_behind_the_last_batch_and_with_what_came_since(mailbox: Mailbox) -> None:
    mailbox.add(*(mail(number) for number in range(1, 24)))
    (first,) = batches(mailbox.open(), most=1)
    mailbox.add(mail(24))
    found, _ = read(mailbox, first.position)
    assert subjects([*first.mails, *found]) == [str(number) for number in range(1, 25)]


def test_an_unknown_mailbox_is_read_from_a_moment_on(mailbox: Mailbox) -> None:
    mailbox.add(mail(1))
    assert subjects(read(mailbox, since=datetime.now(UTC) - timedelta(days=1))[0]) == ["1"]
    assert read(mailbox, since=datetime.now(UTC) + timedelta(days=2))[0] == []


@pytest.mark.parametrize("position", ["", "0:1", "x", "https://elsewhere.example/v1.0/x?$deltatoken=y", "99999999999:1"])
def test_a_position_that_is_none_counts_as_unknown(mailbox: Mailbox, position: str) -> None:
    mailbox.add(mail(1))
    assert subjects(read(mailbox, position)[0]) == ["1"]


def test_only_the_first_mebibyte_of_a_mail_is_read(mailbox: Mailbox) -> None:
    mailbox.add(mail(1, 3 * LARGEST_MAIL), mail(2))
    found, _ = read(mailbox)
    assert [len(one.raw) for one in found] == [LARGEST_MAIL, len(mail(2))]
    assert found[0].raw == mail(1, 3 * LARGEST_MAIL)[:LARGEST_MAIL]


def test_handled_mails_are_marked_once_and_stay(mailbox: Mailbox) -> None:
    mailbox.add(mail(1), mail(2), mail(3))
    found, position = read(mailbox)
    for _ in range(2):
        mark(mailbox, found[1:2])
    assert mailbox.shown() == [("", False), (mailbox.marked, False), ("", False)]
    assert read(mailbox, position)[0] == []


def test_handled_mails_are_moved_where_a_folder_is_named(mailbox: Mailbox) -> None:
    mailbox.add(mail(1), mail(2))
    found, position = read(mailbox)
    mark(mailbox, found[:1], move_to="Done")
    assert (len(mailbox.shown()), len(mailbox.shown("Done"))) == (1, 1)
    assert read(mailbox, position)[0] == []
    assert subjects(read(mailbox)[0]) == ["2"]


def test_a_folder_that_is_not_there_is_told_and_nothing_is_moved(mailbox: Mailbox) -> None:
    mailbox.add(mail(1))
    found, _ = read(mailbox)
    with pytest.raises(Error) as raised:
        mark(mailbox, found, move_to="Nowhere")
    assert "trackers[0].move_to" in str(raised.value.hint)
    assert mailbox.shown() == [("", False)]


def test_doctor_reads_and_changes_nothing(mailbox: Mailbox) -> None:
    mailbox.add(mail(1))
    (found,) = asyncio.run(mailbox.open(move_to="Done").check())
    assert found.level == "ok"
    (found,) = asyncio.run(mailbox.open(move_to="Nowhere").check())
    assert (found.level, 'no folder "Nowhere"' in found.message) == ("error", True)
    assert mailbox.shown() == [("", False)]


# --- by Graph ----------------------------------------------------------------------------------------------------------


def test_one_kind_looks_messages_up_and_reads_the_inbox(by_graph: GraphMailbox) -> None:
    reader = by_graph.open()
    assert isinstance(reader, Tracker)
    assert isinstance(reader, MailboxReader)
    assert not isinstance(imap.open(imap.Settings("localhost", "x", password=Secret("y")), "trackers[0]"), Tracker)


def test_a_link_that_the_service_forgot_begins_anew(by_graph: GraphMailbox) -> None:
    by_graph.add(mail(1))
    _, position = read(by_graph)
    by_graph.cloud.forget_deltas()
    by_graph.add(mail(2))
    found, position = read(by_graph, position)
    assert subjects(found) == ["1", "2"]
    assert read(by_graph, position)[0] == []


def test_a_service_that_forgets_at_once_is_told(by_graph: GraphMailbox) -> None:
    by_graph.cloud.fault("mailFolder.messagesDelta", "status", status=410, code="SyncStateNotFound")
    with pytest.raises(ServiceUnavailable):
        read(by_graph)


def test_a_mail_that_somebody_read_and_filed_meanwhile_is_no_gap(by_graph: GraphMailbox) -> None:
    by_graph.add(mail(1), mail(2))
    first, second = read(by_graph)[0]
    mark(by_graph, [first], move_to="Done")
    mark(by_graph, [first, second])  # its id is still good
    assert [row["categories"] for row in by_graph.cloud.messages(by_graph.address, "Done")] == [["distributor"]]
    assert subjects(read(by_graph)[0]) == ["2"]


def test_a_mail_that_is_deleted_between_list_and_content_is_left_out(by_graph: GraphMailbox) -> None:
    by_graph.add(mail(1), mail(2))
    by_graph.cloud.fault("message.getContent", "status", status=404, code="ErrorItemNotFound")
    assert len(read(by_graph)[0]) == 1


@pytest.mark.parametrize(("status", "code"), [(400, "ErrorCorruptData"), (410, "ErrorItemNotFound"), (500, "ErrorItemCorrupt")])
def test_a_mail_that_the_service_cannot_read_is_named_and_stops_no_other(by_graph: GraphMailbox, status: int, code: str) -> None:
    by_graph.add(mail(1), mail(2))
    by_graph.cloud.fault("message.getContent", "status", status=status, code=code)
    found, position = read(by_graph)
    assert (len(subjects(found)), [code in one.refused for one in found if not one.raw]) == (1, [True])
    assert read(by_graph, position)[0] == []


def test_a_service_that_can_read_no_mail_is_told(by_graph: GraphMailbox) -> None:
    by_graph.add(mail(1), mail(2))
    by_graph.cloud.fault("message.getContent", "status", status=500, code="ErrorInternalServerError", times=2)
    with pytest.raises(ServiceUnavailable):
        read(by_graph)


@pytest.mark.parametrize("operation", ["mailFolder.messagesDelta", "message.getContent"])
def test_a_busy_service_is_waited_for(by_graph: GraphMailbox, operation: str) -> None:
    by_graph.add(mail(1))
    by_graph.cloud.fault(operation, "429", retry_after=0)
    assert subjects(read(by_graph)[0]) == ["1"]


def test_four_contents_at_a_time(by_graph: GraphMailbox) -> None:
    by_graph.add(*(mail(number) for number in range(12)))
    with by_graph.cloud.during(latency=0.02):
        read(by_graph)
    assert by_graph.cloud.counts()["mailboxes"][by_graph.address]["max_in_flight"] <= 4
    assert by_graph.asked("message.getContent") == 12


@pytest.mark.parametrize("fault", ["html", "garbage", "reset-before"])
def test_a_service_that_answers_something_else_is_told(by_graph: GraphMailbox, fault: str) -> None:
    by_graph.cloud.fault("mailFolder.messagesDelta", fault)
    with pytest.raises(ServiceUnavailable) as raised:
        read(by_graph)
    assert raised.value.hint


def test_an_app_that_may_not_read_mail_is_told_what_it_needs(by_graph: GraphMailbox) -> None:
    by_graph.add(mail(1))
    by_graph.cloud.app(by_graph.app, roles=["Mail.Send"])
    with pytest.raises(ServiceUnavailable) as raised:
        read(by_graph)
    assert raised.value.hint == "the app needs Mail.ReadWrite for this mailbox; `distributor doctor` prints the command"
    (found,) = asyncio.run(by_graph.open().check())
    assert (found.level, "Application Mail.ReadWrite" in str(found.hint)) == ("error", True)


def test_reading_alone_is_enough_where_nothing_is_marked(by_graph: GraphMailbox) -> None:
    by_graph.add(mail(1))
    by_graph.cloud.app(by_graph.app, roles=["Mail.Read"])
    found, _ = read(by_graph)
    mark(by_graph, found, mark=False)
    with pytest.raises(ServiceUnavailable):
        mark(by_graph, found)
    assert by_graph.shown() == [("", False)]
    assert asyncio.run(by_graph.open(mark=False).check()) == [Diagnostic("tracker", "ok", f"{by_graph.address} can be read")]


def test_what_a_table_needs_follows_from_what_it_does() -> None:
    assert sent_items.needs(sent_items.Settings("t", "c")) == (KEEP_DRAFTS,)
    assert sent_items.needs(sent_items.Settings("t", "c", mark=False)) == (READ_CONTENT,)
    assert sent_items.needs(sent_items.Settings("t", "c", mark=False, move_to="Done")) == (KEEP_DRAFTS,)


def test_a_folder_without_a_name_is_refused(by_graph: GraphMailbox) -> None:
    with pytest.raises(InvalidInput):
        by_graph.open(move_to="")


def test_categories_of_others_are_kept(by_graph: GraphMailbox) -> None:
    by_graph.add(mail(1))
    found, _ = read(by_graph)
    with connected(by_graph.cloud, by_graph.cloud.token(by_graph.app)) as http:
        caller = Caller(by_graph.cloud, by_graph.app, by_graph.address, http)
        caller.http.patch(f"/users/{by_graph.address}/messages/{found[0].id}", json={"categories": ["Red"]})
    mark(by_graph, found)
    assert by_graph.shown() == [("Red,distributor", False)]
