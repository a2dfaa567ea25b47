"""SMTP signed in with tokens (AUTH XOAUTH2): from Entra's double to the mail server's, several mailboxes, and every way it is refused."""

from __future__ import annotations

import asyncio
import base64
import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID

from distributor.adapters.transports import smtp
from distributor.clients.app_registration import AppRegistration
from distributor.clients.entra import entra
from distributor.config.converter import ConfigErrors, structure
from distributor.errors import InvalidInput, ServiceUnavailable
from distributor.model.delivery import Accepted, Account, Deferred, NotSent, Outcome
from distributor.model.redaction import REDACTED
from distributor.model.secret import Secret
from tests.authority import Authority
from tests.contracts.test_transports import intent, outbound
from tests.doubles.graphd import Cloud
from tests.doubles.sink import Sink, smtpd

SECRET = "a-secret-of-the-app"
SENDER = "certs@example.org"
OUTLOOK = "https://outlook.office365.com"
PROXIES = ("HTTPS_PROXY", "ALL_PROXY", "https_proxy", "all_proxy")


@pytest.fixture
def cloud(running: Cloud, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cloud]:
    monkeypatch.setenv("SSL_CERT_FILE", str(running.ca))
    for name in PROXIES:
        monkeypatch.delenv(name, raising=False)
    yield running
    assert running.faults() == []


@dataclass
class OAuthServer:
    """A mail server that believes the tokens of a cloud, and an app of it."""

    sink: Sink
    cloud: Cloud
    sign_in: AppRegistration
    rights: Path

    def open(self, *accounts: Account, **more: object) -> smtp.SmtpTransport:
        usual = {"host": "localhost", "port": self.sink.port, "username": SENDER, "oauth": self.sign_in, "connect_timeout": 10.0}
        return smtp.open(smtp.Settings(**{**usual, **more}), accounts)

    def deliver(self, transport: smtp.SmtpTransport, *senders: str | None, messages: int = 1) -> list[Outcome]:
        """So many messages on a connection a sender, all side by side."""

        async def one(sender: str | None, number: int) -> list[Outcome]:
            connection = transport.connection(sender)
            outcomes = [await connection.deliver(outbound(100 * number + n), intent(True)) for n in range(messages)]
            await connection.close()
            return outcomes

        async def go() -> list[Outcome]:
            found = await asyncio.gather(*(one(sender, number) for number, sender in enumerate(senders or (None,))))
            assert await transport.finish() == []
            return [outcome for connection in found for outcome in connection]

        return asyncio.run(go())

    def let_in(self, *mailboxes: str, **more: str) -> None:
        """Whose mailboxes the app may open."""
        key = str(self.cloud.folder / "signing.pub.pem")
        fresh = self.rights.with_suffix(".new")
        fresh.write_text(json.dumps({"key": key, "audience": OUTLOOK, "role": "SMTP.SendAsApp", "mailboxes": mailboxes, **more}))
        fresh.rename(self.rights)

    def attempts(self) -> list[dict[str, Any]]:
        file = Path(f"{self.sink.log}.attempts")
        return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []

    def users(self) -> list[str]:
        return [record["user"] for record in self.sink.stored()]

    @property
    def tokens(self) -> int:
        return self.cloud.counts()["token_requests"]


def app(cloud: Cloud, **more: object) -> AppRegistration:
    given = {"secrets": {SECRET: None}, "outlook_roles": ["SMTP.SendAsApp"], **more}
    return AppRegistration(tenant=cloud.tenant, client_id=cloud.app(**given), secret=Secret(SECRET), login=cloud.login)


@contextmanager
def started(folder: Path, cloud: Cloud, *rules: dict[str, object], options: tuple[str, ...] = ()) -> Iterator[OAuthServer]:
    folder.mkdir(exist_ok=True)
    rights, server = folder / "rights.json", str(cloud.folder / "server.pem")
    with smtpd(folder, *rules, options=("--tls", server, server, "--xoauth2", str(rights), *options)) as sink:
        oauth_server = OAuthServer(sink, cloud, app(cloud), rights)
        oauth_server.let_in(SENDER)
        yield oauth_server


@pytest.fixture
def oauth_server(tmp_path: Path, cloud: Cloud) -> Iterator[OAuthServer]:
    with started(tmp_path, cloud) as opened:
        yield opened


# --- it works ------------------------------------------------------------------------------------------------------


def test_a_token_carries_messages_over_tls(oauth_server: OAuthServer) -> None:
    assert [type(outcome) for outcome in oauth_server.deliver(oauth_server.open(), messages=2)] == [Accepted, Accepted]
    assert [(record["tls"], record["user"]) for record in oauth_server.sink.stored()] == [(True, SENDER)] * 2
    assert [attempt["good"] for attempt in oauth_server.attempts()] == [True]


def test_implicit_tls_takes_tokens_too(tmp_path: Path, cloud: Cloud) -> None:
    with started(tmp_path, cloud, options=("--implicit",)) as oauth_server:
        assert isinstance(oauth_server.deliver(oauth_server.open(tls="implicit"))[0], Accepted)


def test_a_token_is_fetched_once_for_all_connections_of_a_run(oauth_server: OAuthServer) -> None:
    before = oauth_server.tokens
    assert {type(outcome) for outcome in oauth_server.deliver(oauth_server.open(), *[None] * 8)} == {Accepted}
    assert oauth_server.tokens == before + 1
    assert len({attempt["token"] for attempt in oauth_server.attempts()}) == 1


def test_each_sender_signs_in_to_its_own_mailbox(oauth_server: OAuthServer) -> None:
    oauth_server.let_in("a@example.org", "login-of-b@example.org")
    transport = oauth_server.open(Account("a@example.org"), Account("b@example.org", "login-of-b@example.org"))
    assert {type(outcome) for outcome in oauth_server.deliver(transport, "a@example.org", "b@example.org")} == {Accepted}
    assert sorted(oauth_server.users()) == ["a@example.org", "login-of-b@example.org"]


def test_a_sender_without_an_account_is_its_own_name(oauth_server: OAuthServer) -> None:
    assert isinstance(oauth_server.deliver(oauth_server.open(username=None), SENDER)[0], Accepted)
    assert oauth_server.users() == [SENDER]


def test_without_any_name_nobody_is_asked(oauth_server: OAuthServer) -> None:
    before = oauth_server.tokens
    (outcome,) = oauth_server.deliver(oauth_server.open(username=None))
    assert isinstance(outcome, NotSent)
    assert str(outcome.fatal) == "transport.username: missing"
    assert oauth_server.tokens == before


def test_senders_sign_in_with_their_passwords_where_there_are_no_tokens(tmp_path: Path, cloud: Cloud) -> None:
    server = str(cloud.folder / "server.pem")
    with smtpd(tmp_path, options=("--tls", server, server, "--auth", "b:of b")) as sink:
        settings = smtp.Settings("localhost", sink.port, username="a", password=Secret("of a"))
        transport = smtp.open(settings, [Account("a@example.org", "a", Secret("of a")), Account("b@example.org", "b", Secret("of b"))])
        oauth_server = OAuthServer(sink, cloud, AppRegistration(), tmp_path)
        good, bad = oauth_server.deliver(transport, "b@example.org", "a@example.org")
        assert isinstance(good, Accepted)
        assert isinstance(bad, NotSent)
        assert oauth_server.users() == ["b"]


def test_doctor_says_as_whom_one_is_signed_in(oauth_server: OAuthServer) -> None:
    oauth_server.let_in("a@example.org")
    transport = oauth_server.open(Account("a@example.org"), Account("b@example.org"))
    good, bad = asyncio.run(transport.check())
    assert (good.level, bad.level) == ("ok", "error")
    assert (
        good.message
        == f"localhost:{oauth_server.sink.port} answers, signed in as a@example.org by OAuth; offers dsn, smtputf8, 8bitmime, size"
    )
    assert "Add-MailboxPermission" in str(bad.hint)


def test_a_transport_has_a_rate_and_a_daily_limit_and_no_tracker(oauth_server: OAuthServer) -> None:
    transport = oauth_server.open(daily=10_000, per_minute=30.0, connections=3)
    assert (transport.max_connections, transport.per_minute, transport.daily) == (3, 30.0, 10_000)
    assert transport.tracker() is None  # type: ignore[func-returns-value]


def test_doctor_warns_where_the_service_keeps_copies(
    tmp_path: Path, authority: Authority, cloud: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The name leads to the double; its certificate bears it."""
    names = [x509.DNSName("smtp.office365.com")]
    found = authority.issue(name="smtp.office365.com", names=names, extended=(ExtendedKeyUsageOID.SERVER_AUTH,))
    chain = b"".join(each.public_bytes(Encoding.PEM) for each in found.chain)
    (tmp_path / "server.pem").write_bytes(found.key_pem() + found.pem + chain)
    (tmp_path / "trust.pem").write_bytes(chain + cloud.ca.read_bytes())
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "trust.pem"))
    real = socket.getaddrinfo
    monkeypatch.setattr(socket, "getaddrinfo", lambda host, *a, **k: real("127.0.0.1" if host == "smtp.office365.com" else host, *a, **k))
    server, rights = str(tmp_path / "server.pem"), tmp_path / "rights.json"
    with smtpd(tmp_path, options=("--tls", server, server, "--xoauth2", str(rights))) as sink:
        oauth_server = OAuthServer(sink, cloud, app(cloud), rights)
        oauth_server.let_in(SENDER)
        good, warning = asyncio.run(oauth_server.open(host="smtp.office365.com").check())
    assert (good.level, warning.level) == ("ok", "warning")
    assert "Sent Items" in warning.message
    assert "New-RetentionPolicyTag" in str(warning.hint)


# --- a token that is refused ---------------------------------------------------------------------------------------


def test_a_refused_token_is_replaced_once_and_then_the_job_stops_with_what_to_do(oauth_server: OAuthServer) -> None:
    oauth_server.let_in("else@example.org")
    before, transport = oauth_server.tokens, oauth_server.open()
    (outcome,) = oauth_server.deliver(transport)
    assert isinstance(outcome, NotSent)
    assert isinstance(outcome.fatal, ServiceUnavailable)
    assert "535 5.7.3 Authentication unsuccessful" in outcome.fatal.message
    for word in ("SMTP.SendAsApp", "object ID of its Enterprise application", "Add-MailboxPermission", "FullAccess"):
        assert word in str(outcome.fatal.hint)
    assert (oauth_server.tokens, len(oauth_server.attempts())) == (before + 2, 2)
    assert len({attempt["token"] for attempt in oauth_server.attempts()}) == 2


def test_a_token_that_was_refused_although_fresh_is_not_replaced_again(oauth_server: OAuthServer) -> None:
    oauth_server.let_in("else@example.org")
    transport = oauth_server.open()
    oauth_server.deliver(transport)
    before, attempts = oauth_server.tokens, len(oauth_server.attempts())
    (outcome,) = oauth_server.deliver(transport)
    assert isinstance(outcome, NotSent)
    assert (oauth_server.tokens, len(oauth_server.attempts())) == (before, attempts + 1)


def test_eight_connections_whose_token_is_refused_fetch_one_other(oauth_server: OAuthServer) -> None:
    oauth_server.let_in("else@example.org")
    before = oauth_server.tokens
    outcomes = oauth_server.deliver(oauth_server.open(), *[None] * 8)
    assert all(isinstance(outcome, NotSent) and outcome.fatal for outcome in outcomes)
    assert oauth_server.tokens == before + 2


def test_a_fresh_token_helps_where_the_kept_one_was_made_before_the_consent(oauth_server: OAuthServer) -> None:
    oauth_server.cloud.app(oauth_server.sign_in.client_id, outlook_roles=[])
    asyncio.run(entra(oauth_server.sign_in).token(OUTLOOK))
    oauth_server.cloud.app(oauth_server.sign_in.client_id, outlook_roles=["SMTP.SendAsApp"])
    assert isinstance(oauth_server.deliver(oauth_server.open())[0], Accepted)
    assert [attempt["good"] for attempt in oauth_server.attempts()] == [False, True]


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("535 5.7.139 Authentication unsuccessful, SmtpClientAuthentication is disabled for the Tenant. Visit x", "Set-CASMailbox"),
        ("535 5.7.139 Authentication unsuccessful, SmtpClientAuthentication is disabled for the Mailbox.", "Set-CASMailbox"),
        (
            "535 5.7.139 Authentication unsuccessful, the user credentials were incorrect or did not meet the criteria.",
            "conditional access",
        ),
        ("535 5.7.139 Authentication unsuccessful, user is locked by your organization's security defaults policy.", "conditional access"),
        ("504 5.7.4 Unrecognized authentication type", "transport.host"),
    ],
)
def test_a_refusal_by_policy_stops_the_job_with_the_switch_to_turn_and_no_second_token(
    tmp_path: Path, cloud: Cloud, text: str, word: str
) -> None:
    with started(tmp_path, cloud, {"verb": "AUTH", "do": "reply", "text": text}) as oauth_server:
        before = oauth_server.tokens
        (outcome,) = oauth_server.deliver(oauth_server.open())
        assert isinstance(outcome, NotSent)
        assert outcome.fatal is not None
        assert text in outcome.fatal.message
        assert word in str(outcome.fatal.hint)
        assert "transport.password" not in str(outcome.fatal.hint)
        assert oauth_server.tokens == before + 1


@pytest.mark.parametrize(
    ("verb", "text", "word"),
    [
        ("MAIL", "530 5.7.57 Client not authenticated to send mail", "SMTP.SendAsApp"),
        ("MAIL", "530 5.7.0 Must issue a STARTTLS command first", "starttls"),
        ("DOT", "554 5.2.252 SendAsDenied; certs@example.org not allowed to send as a@example.org", "-Trustee OBJECT_ID"),
        ("DOT", "550 5.7.60 SMTP; Client does not have permissions to send as this sender", "-Trustee OBJECT_ID"),
    ],
)
def test_a_refusal_of_the_job_on_the_way_is_told_as_for_an_app(tmp_path: Path, cloud: Cloud, verb: str, text: str, word: str) -> None:
    with started(tmp_path, cloud, {"verb": verb, "do": "reply", "text": text}) as oauth_server:
        (outcome,) = oauth_server.deliver(oauth_server.open())
        assert isinstance(outcome, NotSent)
        assert outcome.fatal is not None
        assert word in str(outcome.fatal.hint)


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("535 5.7.139 Authentication unsuccessful, SmtpClientAuthentication is disabled for the Tenant.", "Set-CASMailbox"),
        ("535 5.7.139 Authentication unsuccessful, user is locked by your organization's security defaults policy.", "transport.oauth"),
        ("535 5.7.139 Authentication unsuccessful, the request did not meet the criteria to be authenticated", "transport.oauth"),
        ("550 5.7.30 Basic authentication is not supported for Client Submission.", "transport.oauth"),
        ("535 5.7.3 Authentication unsuccessful", "transport.password"),
    ],
)
def test_a_password_that_is_refused_is_told_what_to_do_instead(tmp_path: Path, cloud: Cloud, text: str, word: str) -> None:
    with started(tmp_path, cloud, {"verb": "AUTH", "do": "reply", "text": text}, options=("--auth", "me:word")) as oauth_server:
        (outcome,) = oauth_server.deliver(oauth_server.open(oauth=None, password=Secret("word")))
        assert isinstance(outcome, NotSent)
        assert outcome.fatal is not None
        assert word in str(outcome.fatal.hint)


def test_too_many_connections_at_sign_in_ask_for_one_less(tmp_path: Path, cloud: Cloud) -> None:
    text = "432 4.3.2 Concurrent connections limit exceeded"
    with started(tmp_path, cloud, {"verb": "AUTH", "do": "reply", "text": text, "nth": [1]}) as oauth_server:
        assert oauth_server.deliver(oauth_server.open(), messages=2)[0] == NotSent(text, throttled=True)


@pytest.mark.parametrize("text", ["454 4.7.0 Temporary authentication failure", "421 4.3.2 Service not available"])
def test_later_at_sign_in_is_tried_again(tmp_path: Path, cloud: Cloud, text: str) -> None:
    with started(tmp_path, cloud, {"verb": "AUTH", "do": "reply", "text": text, "nth": [1]}) as oauth_server:
        first, second = oauth_server.deliver(oauth_server.open(), messages=2)
        assert isinstance(first, NotSent | Deferred)
        assert getattr(first, "fatal", None) is None
        assert isinstance(second, Accepted)


@pytest.mark.parametrize("do", ["drop", "reset", "silence", "megabyte"])
def test_a_line_that_breaks_at_sign_in_leaves_the_message_unsent(tmp_path: Path, cloud: Cloud, do: str) -> None:
    with started(tmp_path, cloud, {"verb": "AUTH", "do": do, "nth": [1]}) as oauth_server:
        (outcome,) = oauth_server.deliver(oauth_server.open(connect_timeout=1.0))
        assert isinstance(outcome, NotSent)
        assert oauth_server.sink.stored() == []


def test_a_server_without_xoauth2_gets_no_token(tmp_path: Path, cloud: Cloud) -> None:
    server = str(cloud.folder / "server.pem")
    with smtpd(tmp_path, options=("--tls", server, server, "--auth", "me:word")) as sink:
        oauth_server = OAuthServer(sink, cloud, app(cloud), tmp_path / "rights.json")
        (outcome,) = oauth_server.deliver(oauth_server.open())
    assert isinstance(outcome, NotSent)
    assert str(outcome.fatal) == f"localhost:{sink.port}: the server does not offer AUTH XOAUTH2"
    assert "smtp.office365.com" in str(outcome.fatal.hint if outcome.fatal else "")


def test_a_server_without_starttls_gets_no_token(tmp_path: Path, cloud: Cloud) -> None:
    rights = tmp_path / "rights.json"
    with smtpd(tmp_path, options=("--xoauth2", str(rights))) as sink:
        oauth_server = OAuthServer(sink, cloud, app(cloud), rights)
        oauth_server.let_in(SENDER)
        (outcome,) = oauth_server.deliver(oauth_server.open())
        assert isinstance(outcome, NotSent)
        assert "does not offer STARTTLS" in str(outcome.fatal)
        assert oauth_server.attempts() == []


def test_a_server_whose_certificate_nobody_vouches_for_gets_no_token(
    oauth_server: OAuthServer, authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    transport = oauth_server.open()
    oauth_server.deliver(transport)
    (tmp_path / "other.pem").write_bytes(authority.root.public_bytes(Encoding.PEM))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "other.pem"))
    before = len(oauth_server.attempts())
    (outcome,) = oauth_server.deliver(oauth_server.open())
    assert isinstance(outcome, NotSent)
    assert "the certificate is not trusted" in str(outcome.fatal)
    assert len(oauth_server.attempts()) == before


# --- Entra ---------------------------------------------------------------------------------------------------------


def test_a_sign_in_that_entra_refuses_stops_the_job_before_the_server_is_asked(oauth_server: OAuthServer) -> None:
    oauth_server.sign_in = AppRegistration(
        tenant=oauth_server.cloud.tenant, client_id=oauth_server.sign_in.client_id, secret=Secret("guessed"), login=oauth_server.cloud.login
    )
    (outcome,) = oauth_server.deliver(oauth_server.open())
    assert isinstance(outcome, NotSent)
    assert str(outcome.fatal) == f"localhost:{oauth_server.cloud.port}: the secret is wrong (AADSTS7000215)"
    assert "transport.oauth.secret" in str(outcome.fatal.hint if outcome.fatal else "")
    assert oauth_server.attempts() == []
    (diagnostic,) = asyncio.run(oauth_server.open().check())
    assert (diagnostic.level, diagnostic.message) == ("error", str(outcome.fatal))


def test_an_entra_that_does_not_answer_stops_a_run_that_has_not_begun_and_not_one_that_has(oauth_server: OAuthServer) -> None:
    oauth_server.cloud.fault("token", "reset-before")
    (outcome,) = oauth_server.deliver(oauth_server.open())
    assert isinstance(outcome, NotSent)
    assert isinstance(outcome.fatal, ServiceUnavailable)
    transport = oauth_server.open()
    with oauth_server.cloud.during(token_seconds=20):  # too short to be kept
        assert isinstance(oauth_server.deliver(transport)[0], Accepted)
    oauth_server.cloud.fault("token", "reset-before")
    (outcome,) = oauth_server.deliver(transport)
    assert isinstance(outcome, NotSent)
    assert outcome.fatal is None
    assert isinstance(oauth_server.deliver(transport)[0], Accepted)


def test_no_token_and_no_password_is_in_what_is_kept_or_told(tmp_path: Path, cloud: Cloud) -> None:
    """A server that repeats what it was sent is quoted without it, whether it refuses the sign-in or what comes after."""
    for secret, verb in product(("token", "password"), ("AUTH", "MAIL")):
        with started(tmp_path / f"{secret}-{verb}", cloud, options=("--auth", f"{SENDER}:hunter2-hunter2")) as oauth_server:
            sent = "TOKEN" if secret == "token" else "hunter2-hunter2"
            oauth_server.sink.rules({"verb": verb, "do": "reply", "text": f"535 5.7.8 not {sent} nor SIGN_IN"})
            how = {"oauth": oauth_server.sign_in} if secret == "token" else {"oauth": None, "password": Secret(sent)}
            transport = oauth_server.open(**how)
            (outcome,) = oauth_server.deliver(transport)
            assert isinstance(outcome, NotSent)
            echoed = "".join([repr(outcome), str(outcome.fatal), repr(transport.__dict__), *map(repr, asyncio.run(transport.check()))])
            assert f"535 5.7.8 not {REDACTED} nor AUTH " in echoed
            assert echoed.count("eyJ") == 0  # how a token begins
            proofs = (b"hunter2-hunter2", f"\0{SENDER}\0hunter2-hunter2".encode(), f"user={SENDER}\x01auth=Bearer ey".encode())
            assert [part for proof in proofs if (part := base64.b64encode(proof).decode()[-16:-4]) in echoed] == []
            assert "hunter2" not in echoed


# --- what is refused before anything is sent -----------------------------------------------------------------------

GOOD = AppRegistration(tenant="example.org", client_id="id", secret=Secret("x"))


@pytest.mark.parametrize(
    ("settings", "where", "word"),
    [
        ({"oauth": GOOD, "password": Secret("y")}, "transport.oauth", "exclude each other"),
        ({"oauth": GOOD, "host": "127.0.0.1", "tls": "none"}, "transport.tls", "the token would travel in clear"),
        ({"oauth": AppRegistration(client_id="id", secret=Secret("x"))}, "transport.oauth.tenant", "missing"),
        ({"oauth": AppRegistration()}, "transport.oauth", "nothing to sign in with"),
        ({"oauth": GOOD, "resource": "outlook"}, "transport.resource", "no service"),
        ({"daily": 0}, "transport.daily", "0 messages a day"),
    ],
)
def test_settings_that_cannot_work_are_told_by_their_key(settings: dict[str, Any], where: str, word: str) -> None:
    with pytest.raises(InvalidInput, match=word) as caught:
        smtp.open(smtp.Settings(**{"host": "smtp.example.org", **settings}))
    assert caught.value.where == where
    assert caught.value.hint


def test_no_accounts_password_travels_in_clear() -> None:
    with pytest.raises(InvalidInput, match="the password would travel in clear"):
        smtp.open(smtp.Settings("127.0.0.1", tls="none"), [Account("a@example.org", "a", Secret("x"))])


def test_a_sign_in_is_read_from_the_configuration(tmp_path: Path) -> None:
    (tmp_path / "word").write_text("of the app", encoding="utf-8")
    table = {"host": "smtp.office365.com", "daily": 10_000, "oauth": {"tenant": "t", "client_id": "c", "secret": "file:word"}}
    made = structure(smtp.Settings, table, "transport", tmp_path, lambda reference: reference.resolve("x"))
    assert made.oauth == AppRegistration(tenant="t", client_id="c", secret=Secret("of the app"))
    assert made.daily == 10_000
    with pytest.raises(ConfigErrors) as caught:
        structure(smtp.Settings, {**table, "oauth": {"tenant": 5, "secret": "literal"}}, "transport", tmp_path)
    assert {fault.key for fault in caught.value.faults} == {"transport.oauth.tenant", "transport.oauth.secret"}
