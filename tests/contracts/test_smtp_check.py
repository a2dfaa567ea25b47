"""What `doctor` says of an app that sends by SMTP: its permissions at Exchange Online, its mailboxes and the clock."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from distributor.clients.app_registration import AppRegistration
from distributor.microsoft.powershell import command
from distributor.model.delivery import Account
from distributor.model.issues import Diagnostic
from distributor.model.secret import Secret
from tests.clients.graph_mailbox import PROXIES
from tests.contracts.oauth_server import SECRET, SENDER, OAuthServer, app, started
from tests.doubles.graphd import Cloud, graphd

SWITCHED_OFF = "535 5.7.139 Authentication unsuccessful, SmtpClientAuthentication is disabled for the Mailbox."
OFF = {"verb": "AUTH", "do": "reply", "text": SWITCHED_OFF}


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    with graphd(tmp_path_factory.mktemp("graphd")) as cloud:
        yield cloud


@pytest.fixture
def cloud(running: Cloud, monkeypatch: pytest.MonkeyPatch) -> Cloud:
    monkeypatch.setenv("SSL_CERT_FILE", str(running.ca))
    for name in PROXIES:
        monkeypatch.delenv(name, raising=False)
    return running


def bad(post: OAuthServer, *accounts: Account) -> list[Diagnostic]:
    return [diagnostic for diagnostic in asyncio.run(post.open(*accounts).check()) if diagnostic.level != "ok"]


def commands(diagnostic: Diagnostic) -> list[str]:
    return [line for each in (diagnostic.hint or "").splitlines() if (line := command(each)) is not None]


def with_app(post: OAuthServer, **given: Any) -> AppRegistration:  # noqa: ANN401  what an app has
    post.sign_in = app(post.cloud, **given)
    return post.sign_in


def test_an_app_with_the_one_permission_is_good(tmp_path: Path, cloud: Cloud) -> None:
    with started(tmp_path, cloud) as post:
        assert bad(post) == []


def test_an_app_without_the_permission_gets_the_line_that_grants_it(tmp_path: Path, cloud: Cloud) -> None:
    with started(tmp_path, cloud) as post:
        who = with_app(post, outlook_roles=[])
        lacking = next(diagnostic for diagnostic in bad(post) if "lacks SMTP.SendAsApp" in diagnostic.message)
    (line,) = commands(lacking)
    assert lacking.level == "error"
    assert f"appId eq '{who.client_id}'" in line
    assert "00000002-0000-0ff1-ce00-000000000000" in line
    assert "'SMTP.SendAsApp'" in line


@pytest.mark.parametrize("more", ["full_access_as_app", "IMAP.AccessAsApp", "POP.AccessAsApp", "Mail.ReadWrite"])
def test_what_smtp_does_not_need_is_more_than_enough(tmp_path: Path, cloud: Cloud, more: str) -> None:
    with started(tmp_path, cloud) as post:
        with_app(post, outlook_roles=["SMTP.SendAsApp", more])
        (diagnostic,) = bad(post)
    assert (diagnostic.level, f"permissions not needed for SMTP: {more}" in diagnostic.message) == ("warning", True)
    assert ("every mailbox" in diagnostic.message) == (more in {"full_access_as_app", "Mail.ReadWrite"})
    (line,) = commands(diagnostic)
    assert f"'{more}'" in line
    assert "Remove-MgServicePrincipalAppRoleAssignment" in line


def test_a_mailbox_that_is_shut_is_opened_by_a_line_with_the_real_ids(tmp_path: Path, cloud: Cloud) -> None:
    with started(tmp_path, cloud) as post:
        post.let_in("else@example.org")
        (diagnostic,) = bad(post)
        (line,) = commands(diagnostic)
        assert f"$id = 'sp-{post.sign_in.client_id}'" in line
    assert f"Add-MailboxPermission -Identity '{SENDER}' -User $id -AccessRights FullAccess" in line


def test_a_mailbox_whose_smtp_is_off_is_switched_on(tmp_path: Path, cloud: Cloud) -> None:
    with started(tmp_path, cloud, OFF) as post:
        (diagnostic,) = bad(post)
    assert commands(diagnostic)[0].endswith(f"Set-CASMailbox -Identity '{SENDER}' -SmtpClientAuthenticationDisabled $false")


def test_a_secret_that_is_wrong_gets_the_line_that_makes_one(tmp_path: Path, cloud: Cloud) -> None:
    with started(tmp_path, cloud) as post:
        post.sign_in = AppRegistration(cloud.tenant, post.sign_in.client_id, secret=Secret(f"not {SECRET}"), login=cloud.login)
        (diagnostic,) = bad(post)
    assert "AADSTS7000215" in diagnostic.message
    assert "Add-MgApplicationPassword" in commands(diagnostic)[0]


@pytest.mark.parametrize(("ahead", "level"), [(40, "warning"), (400, "error")])
def test_a_clock_that_is_wrong_is_seen_by_the_tokens_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ahead: float, level: str) -> None:
    with graphd(tmp_path / "cloud") as cloud:
        monkeypatch.setenv("SSL_CERT_FILE", str(cloud.ca))
        cloud.set(sign_in_clock="real")
        cloud.advance(ahead)
        with started(tmp_path / "smtp", cloud) as post:
            found = [diagnostic for diagnostic in bad(post) if "clock" in diagnostic.message]
    assert [(diagnostic.level, "behind the service's" in diagnostic.message) for diagnostic in found] == [(level, True)]
