"""SMTP signed in with tokens (AUTH XOAUTH2): from Entra's double to the mail server's, several mailboxes, and every way it is refused."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID

from distributor.adapters.transports import smtp
from distributor.clients.app_registration import AppRegistration
from distributor.config.converter import ConfigErrors, structure
from distributor.errors import InvalidInput
from distributor.model.attempts import Accepted, NotSent
from distributor.model.delivery import Account
from distributor.model.secret import Secret
from tests.authority import Authority
from tests.clients.graph_mailbox import cloud
from tests.contracts.oauth_server import SENDER, OAuthServer, app, oauth_server, started
from tests.doubles.graphd import Cloud
from tests.doubles.sink import smtpd

__all__ = ["cloud", "oauth_server"]  # fixtures

# --- it works --------------------------------------------------------------------------------------------------------


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
        == f"localhost:{oauth_server.sink.port} responds, signed in as a@example.org by OAuth; extensions: dsn, smtputf8, 8bitmime, size"
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


# --- what is refused before anything is sent -------------------------------------------------------------------------


GOOD = AppRegistration(tenant="example.org", client_id="id", secret=Secret("x"))


@pytest.mark.parametrize(
    ("settings", "where", "word"),
    [
        ({"oauth": GOOD, "password": Secret("y")}, "transport.oauth", "cannot be combined"),
        ({"oauth": GOOD, "host": "127.0.0.1", "tls": "none"}, "transport.tls", "the token would be sent unencrypted"),
        ({"oauth": AppRegistration(client_id="id", secret=Secret("x"))}, "transport.oauth.tenant", "missing"),
        ({"oauth": AppRegistration()}, "transport.oauth", "no credential is configured"),
        ({"oauth": GOOD, "resource": "outlook"}, "transport.resource", "not an https URL"),
        ({"daily": 0}, "transport.daily", "0 messages a day"),
    ],
)
def test_settings_that_cannot_work_are_told_by_their_key(settings: dict[str, Any], where: str, word: str) -> None:
    with pytest.raises(InvalidInput, match=word) as caught:
        smtp.open(smtp.Settings(**{"host": "smtp.example.org", **settings}))
    assert caught.value.where == where
    assert caught.value.hint


def test_no_accounts_password_travels_in_clear() -> None:
    with pytest.raises(InvalidInput, match="the password would be sent unencrypted"):
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
