"""What every reader of mailboxes promises, held against a real server: each mail once, none marked as read, none deleted."""

from __future__ import annotations

import asyncio
import re
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from distributor.adapters.trackers import imap
from distributor.clients.app_registration import AppRegistration
from distributor.errors import Error, InvalidInput, ServiceUnavailable
from distributor.model.issues import Diagnostic
from distributor.model.mailboxes import LARGEST_MAIL, MailboxReader, ReceivedMail
from distributor.model.secret import Secret
from tests.doubles.dovecot import PASSWORD, Dovecot, dovecot
from tests.doubles.graphd import Cloud
from tests.doubles.graphd.tokens import TokenSigner

APP_SECRET = "a-secret-of-the-app"
LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)
KINDS = {"imap"}  # of the trackers; tests/contracts/test_trackers.py has the others


def mail(number: int, size: int = 10) -> bytes:
    return f"Subject: {number}\r\n\r\n{'x' * size}\r\n".encode()


@dataclass
class Mailbox:
    """A user of the server."""

    server: Dovecot
    user: str

    @property
    def settings(self) -> imap.Settings:
        return imap.Settings("localhost", self.user, self.server.secure_port, password=Secret(PASSWORD), timeout=20.0)

    def add(self, *mails: bytes, **more: object) -> None:
        self.server.add(*mails, user=self.user, **more)  # type: ignore[arg-type]

    def open(self, **changes: object) -> MailboxReader:
        return imap.open(replace(self.settings, **changes), "trackers[0]")

    def read(self, after: str | None = None, since: datetime = LONG_AGO, **changes: object) -> list[ReceivedMail]:
        return read(self.open(**changes), after, since)

    def mark(self, mails: Sequence[ReceivedMail], **changes: object) -> None:
        async def go() -> None:
            reader = self.open(**changes)
            try:
                await reader.mark(mails)
            finally:
                await reader.close()

        asyncio.run(go())

    def check(self, **changes: object) -> Diagnostic:
        (found,) = asyncio.run(self.open(**changes).check())
        return found

    def flags(self, folder: str = "INBOX") -> list[set[str]]:
        return [flags - {"\\Recent"} for flags in self.server.flags(folder, self.user)]


def read(reader: MailboxReader, after: str | None = None, since: datetime = LONG_AGO) -> list[ReceivedMail]:
    async def go() -> list[ReceivedMail]:
        try:
            return [found async for batch in reader.read(after, since) for found in batch.mails]
        finally:
            await reader.close()

    return asyncio.run(go())


def subjects(mails: Sequence[ReceivedMail]) -> list[str]:
    return [found[1].decode() for found in (re.match(rb"Subject: (.*)\r\n", each.raw) for each in mails) if found]


@pytest.fixture(scope="module")
def server() -> Iterator[Dovecot]:
    with dovecot() as running:
        yield running


@pytest.fixture
def mailbox(server: Dovecot, monkeypatch: pytest.MonkeyPatch) -> Mailbox:
    monkeypatch.setenv("SSL_CERT_FILE", str(server.ca))
    return Mailbox(server, f"certs-{uuid.uuid4().hex[:8]}@example.org")


def refused(run: Callable[[], object]) -> Error:
    with pytest.raises(Error) as raised:
        run()
    assert raised.value.hint
    assert PASSWORD not in f"{raised.value} {raised.value.hint} {raised.value.__cause__!r} {raised.value.__context__!r}"
    return raised.value


# --- reading -----------------------------------------------------------------------------------------------------------


def test_every_mail_is_read_in_order_and_none_is_marked_as_read(mailbox: Mailbox) -> None:
    mailbox.add(*(mail(number) for number in range(1, 24)))
    found = mailbox.read()
    assert subjects(found) == [str(number) for number in range(1, 24)]
    assert found[0].raw == mail(1)
    assert mailbox.flags() == [set()] * 23


def test_opened_mails_are_read_too(mailbox: Mailbox) -> None:
    mailbox.add(mail(1), flags="\\Seen")
    assert subjects(mailbox.read()) == ["1"]
    assert mailbox.flags() == [{"\\Seen"}]


def test_the_next_reading_goes_on_behind_the_last_mail(mailbox: Mailbox) -> None:
    mailbox.add(mail(1), mail(2))
    last = mailbox.read()[-1].id
    assert mailbox.read(last) == []
    mailbox.add(mail(3))
    assert subjects(mailbox.read(last)) == ["3"]


def test_mails_that_were_moved_away_are_no_gap(mailbox: Mailbox) -> None:
    mailbox.server.create("Done", mailbox.user)
    mailbox.add(mail(1), mail(2), mail(3))
    first, second, third = mailbox.read()
    mailbox.mark([first, third], move_to="Done")
    assert mailbox.read(third.id) == []
    assert subjects(mailbox.read(first.id)) == subjects([second])


def test_an_unknown_mailbox_is_read_from_a_day_on(mailbox: Mailbox) -> None:
    now = datetime.now(UTC)
    mailbox.add(mail(1), at=now - timedelta(days=40))
    mailbox.add(mail(2), at=now - timedelta(days=3))
    found = mailbox.read(since=now - timedelta(days=30))
    assert subjects(found) == ["2"]
    assert found[0].received_at == (now - timedelta(days=3)).replace(microsecond=0)


def test_a_folder_that_was_made_again_is_read_from_the_beginning(mailbox: Mailbox) -> None:
    mailbox.server.create("Requests", mailbox.user)
    mailbox.add(mail(1), mail(2), folder="Requests")
    last = mailbox.read(folder="Requests")[-1].id
    mailbox.server.recreate("Requests", mailbox.user)
    mailbox.add(mail(3), folder="Requests")
    assert subjects(mailbox.read(last, folder="Requests")) == ["3"]


@pytest.mark.parametrize("position", ["", "0:1", "x", "1:2:3", "99999999999:1"])
def test_a_position_that_is_none_counts_as_unknown(mailbox: Mailbox, position: str) -> None:
    mailbox.add(mail(1))
    assert subjects(mailbox.read(position)) == ["1"]


def test_only_the_first_mebibyte_of_a_mail_is_fetched(mailbox: Mailbox) -> None:
    mailbox.add(mail(1, 3 * LARGEST_MAIL), mail(2))
    found = mailbox.read()
    assert [len(each.raw) for each in found] == [LARGEST_MAIL, len(mail(2))]
    assert found[0].raw == mail(1, 3 * LARGEST_MAIL)[:LARGEST_MAIL]


def test_a_mail_that_the_server_cannot_read_is_named_and_stops_no_other(mailbox: Mailbox) -> None:
    mailbox.add(*(mail(number) for number in range(1, 5)))
    second = next(file for file in mailbox.server.folder.glob(f"mail/{mailbox.user}/Maildir/*/*") if b"Subject: 2" in file.read_bytes())
    second.chmod(0)  # Dovecot hangs up when it cannot open a mail
    found = mailbox.read()
    assert subjects(found) == ["1", "3", "4"]
    assert [one.refused for one in found if one.refused] == ["UID 2: the connection was cut at FETCH"]
    position = found[0].id
    assert subjects(mailbox.read(position)) == ["3", "4"]


def test_mails_of_which_the_server_can_read_none_are_read_again(mailbox: Mailbox) -> None:
    mailbox.add(mail(1), mail(2))
    for file in mailbox.server.folder.glob(f"mail/{mailbox.user}/Maildir/*/*,*"):
        file.chmod(0)
    assert "FETCH" in str(refused(mailbox.read))


def test_mails_whose_bytes_look_like_protocol_are_taken_as_they_are(mailbox: Mailbox) -> None:
    raw = b'Subject: 1\r\n\r\n) FLAGS (\\Deleted) UID 77 INTERNALDATE "1-Jan-2020 00:00:00 +0000" {3}\r\n\xff\x00A1 OK\r\n'.replace(
        b"\x00", b""
    )
    mailbox.add(raw, mail(2))
    assert [each.raw for each in mailbox.read()] == [raw, mail(2)]


# --- marking -----------------------------------------------------------------------------------------------------------


def test_handled_mails_get_a_keyword_and_stay(mailbox: Mailbox) -> None:
    mailbox.add(mail(1), mail(2), mail(3))
    mailbox.mark(mailbox.read()[1:2])
    assert mailbox.flags() == [set(), {"$Distributor"}, set()]


def test_handled_mails_are_moved_where_a_folder_is_named(mailbox: Mailbox) -> None:
    mailbox.server.create('"Erledigt &- &ANw-ber"', mailbox.user)  # in modified UTF-7 (RFC 3501 5.1.3)
    mailbox.add(mail(1), mail(2))
    mailbox.mark(mailbox.read()[:1], move_to="Erledigt & Über")
    assert subjects(mailbox.read()) == ["2"]
    assert subjects(mailbox.read(folder="Erledigt & Über")) == ["1"]


@pytest.mark.parametrize("move_to", [None, "Done"])
def test_what_somebody_marked_as_deleted_is_not_removed(mailbox: Mailbox, move_to: str | None) -> None:
    mailbox.server.create("Done", mailbox.user)
    mailbox.add(mail(1), flags="\\Deleted")
    mailbox.add(mail(2))
    mailbox.mark(mailbox.read()[1:], move_to=move_to)
    assert "\\Deleted" in mailbox.flags()[0]


def test_marks_of_a_folder_that_was_made_again_meet_no_other_mail(mailbox: Mailbox) -> None:
    mailbox.server.create("Requests", mailbox.user)
    mailbox.add(mail(1), folder="Requests")
    found = mailbox.read(folder="Requests")
    mailbox.server.recreate("Requests", mailbox.user)
    mailbox.add(mail(2), folder="Requests")
    mailbox.mark(found, folder="Requests")
    assert mailbox.flags("Requests") == [set()]


# --- connecting --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("tls", "secure"), [("implicit", True), ("starttls", False), ("none", False)])
def test_each_way_of_encryption_reads_the_same(mailbox: Mailbox, tls: str, secure: bool) -> None:  # noqa: FBT001  a case
    mailbox.add(mail(1))
    port = mailbox.server.secure_port if secure else mailbox.server.port
    assert subjects(mailbox.read(tls=tls, port=port)) == ["1"]


def test_a_wrong_password_is_told_without_it(mailbox: Mailbox) -> None:
    error = refused(lambda: mailbox.read(password=Secret("not-the-password")))
    assert isinstance(error, ServiceUnavailable)
    assert error.exit_code == 4
    assert str(error).startswith(f"localhost:{mailbox.server.secure_port}: sign-in was refused: ")
    assert error.hint == "check `username` and `password`"
    assert "not-the-password" not in str(error)


def test_a_certificate_of_an_unknown_issuer_is_refused(mailbox: Mailbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SSL_CERT_FILE")
    assert "the certificate is not trusted" in str(refused(mailbox.read))


def test_a_certificate_of_another_host_is_refused(mailbox: Mailbox) -> None:
    assert "the certificate is not trusted" in str(refused(lambda: mailbox.read(host="127.0.0.2")))


def test_nothing_listens_there(mailbox: Mailbox) -> None:
    error = refused(lambda: mailbox.read(port=1))
    assert (error.message, error.exit_code) == ("connection refused", 4)


def test_a_server_that_does_not_speak_tls_is_named(mailbox: Mailbox) -> None:
    assert refused(lambda: mailbox.read(port=mailbox.server.port)).exit_code == 4


def test_folders_that_are_not_there_are_told(mailbox: Mailbox) -> None:
    mailbox.add(mail(1))
    assert refused(lambda: mailbox.read(folder="Nowhere")).hint == "correct `trackers[0].folder`"
    found = mailbox.read()
    assert refused(lambda: mailbox.mark(found, move_to="Nowhere")).hint == "create the folder, or correct `trackers[0].move_to`"
    assert subjects(mailbox.read()) == ["1"]


def test_a_server_that_cannot_move_deletes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    with dovecot(extra="imap_capability = IMAP4rev1 UIDPLUS") as server:
        monkeypatch.setenv("SSL_CERT_FILE", str(server.ca))
        mailbox = Mailbox(server, "certs@example.org")
        server.create("Done", mailbox.user)
        mailbox.add(mail(1))
        found = mailbox.read()
        assert "cannot move mails" in str(refused(lambda: mailbox.mark(found, move_to="Done")))
        assert mailbox.flags() == [set()]
        assert mailbox.check(move_to="Done").level == "error"


# --- tokens ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def by_token(running: Cloud, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Mailbox, AppRegistration]]:
    """A mailbox that is opened with tokens of the Entra double, by an app whose id is the mailbox's name."""
    public = (running.folder / "signing.pub.pem").read_bytes()
    with dovecot(keys={TokenSigner(b"", public).key_id: public}) as server:
        trusted = tmp_path / "trusted.pem"
        trusted.write_bytes(server.ca.read_bytes() + Path(running.ca).read_bytes())
        monkeypatch.setenv("SSL_CERT_FILE", str(trusted))
        monkeypatch.setenv("NO_PROXY", "localhost")
        app = running.app(secrets={APP_SECRET: None}, outlook_roles=["IMAP.AccessAsApp"])
        yield Mailbox(server, app), AppRegistration(running.tenant, app, secret=Secret(APP_SECRET), login=running.login)


def test_a_token_opens_the_mailbox(by_token: tuple[Mailbox, AppRegistration]) -> None:
    mailbox, sign_in = by_token
    mailbox.add(mail(1))
    assert subjects(mailbox.read(password=None, oauth=sign_in)) == ["1"]


def test_a_token_that_is_refused_is_told_without_it(by_token: tuple[Mailbox, AppRegistration]) -> None:
    mailbox, sign_in = by_token
    error = refused(lambda: mailbox.read(username="another@example.org", password=None, oauth=sign_in))
    assert "IMAP.AccessAsApp" in str(error.hint)
    assert "eyJ" not in str(error)  # how every token begins
    assert refused(lambda: mailbox.read(password=None, oauth=replace(sign_in, secret=Secret("not-the-secret")))).exit_code == 4


# --- doctor ------------------------------------------------------------------------------------------------------------


def test_doctor_signs_in_and_looks_for_the_folders(mailbox: Mailbox) -> None:
    mailbox.server.create("Done", mailbox.user)
    assert mailbox.check() == Diagnostic("tracker", "ok", f"{mailbox.user} can be read")
    assert mailbox.check(move_to="Done") == Diagnostic("tracker", "ok", f'{mailbox.user} can be read; handled mails go to "Done"')
    assert mailbox.check(move_to="Nowhere").message == f'{mailbox.user} has no folder "Nowhere"'
    assert mailbox.check(password=Secret("not-the-password")).level == "error"


# --- settings ----------------------------------------------------------------------------------------------------------

OAUTH = AppRegistration(tenant="example.org", client_id="0f1269f4", secret=Secret("a secret of the app"))


@pytest.mark.parametrize(
    ("changes", "where"),
    [
        ({"port": 0}, "port"),
        ({"tls": "ssl"}, "tls"),
        ({"tls": "starttls", "port": 993}, "tls"),
        ({"tls": "none", "host": "mail.example.org"}, "tls"),
        ({"username": ""}, "username"),
        ({"password": None}, "password"),
        ({"oauth": OAUTH}, "password"),
        ({"password": None, "oauth": OAUTH, "tls": "none"}, "tls"),
        ({"password": None, "oauth": replace(OAUTH, tenant="")}, "oauth.tenant"),
        ({"folder": ""}, "folder"),
        ({"move_to": "a\nb"}, "move_to"),
        ({"move_to": "INBOX"}, "move_to"),
        ({"timeout": 0.0}, "timeout"),
    ],
)
def test_settings_that_cannot_work_are_refused_before_anything_connects(changes: dict[str, object], where: str) -> None:
    usual = imap.Settings("localhost", "certs@example.org", password=Secret(PASSWORD))
    error = refused(lambda: imap.open(replace(usual, **changes), "trackers[0]"))
    assert isinstance(error, InvalidInput)
    assert error.where == f"trackers[0].{where}"


def test_a_mailbox_that_was_never_opened_closes() -> None:
    asyncio.run(imap.open(imap.Settings("localhost", "x", password=Secret("y")), "trackers[0]").close())
