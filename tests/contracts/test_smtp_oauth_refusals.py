"""SMTP signed in with tokens, where the mail server or Entra refuses."""

from __future__ import annotations

import asyncio
import base64
from itertools import product
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from distributor.clients.app_registration import AppRegistration
from distributor.clients.entra import entra
from distributor.errors import ServiceUnavailable
from distributor.model.attempts import Accepted, Deferred, NotSent
from distributor.model.redaction import REDACTED
from distributor.model.secret import Secret
from tests.authority import Authority
from tests.clients.graph_mailbox import cloud
from tests.contracts.oauth_server import OUTLOOK, SENDER, OAuthServer, app, oauth_server, started
from tests.doubles.graphd import Cloud
from tests.doubles.sink import smtpd

__all__ = ["cloud", "oauth_server"]  # fixtures

# --- a token that is refused -----------------------------------------------------------------------------------------


def test_a_refused_token_is_replaced_once_and_then_the_job_stops_with_what_to_do(oauth_server: OAuthServer) -> None:
    oauth_server.let_in("else@example.org")
    before, transport = oauth_server.tokens, oauth_server.open()
    (outcome,) = oauth_server.deliver(transport)
    assert isinstance(outcome, NotSent)
    assert isinstance(outcome.fatal, ServiceUnavailable)
    assert "535 5.7.3 Authentication unsuccessful" in outcome.fatal.message
    for word in ("SMTP.SendAsApp", "object ID of its enterprise application", "Add-MailboxPermission", "FullAccess"):
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


# --- Entra -----------------------------------------------------------------------------------------------------------


def test_a_sign_in_that_entra_refuses_stops_the_job_before_the_server_is_asked(oauth_server: OAuthServer) -> None:
    oauth_server.sign_in = AppRegistration(
        tenant=oauth_server.cloud.tenant, client_id=oauth_server.sign_in.client_id, secret=Secret("guessed"), login=oauth_server.cloud.login
    )
    (outcome,) = oauth_server.deliver(oauth_server.open())
    assert isinstance(outcome, NotSent)
    assert str(outcome.fatal) == f"localhost:{oauth_server.cloud.port}: wrong secret (AADSTS7000215)"
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
