"""What `doctor` finds out about an app whose rights Exchange grants (RBAC for Applications): nothing of them is in its token."""

from __future__ import annotations

import asyncio
import base64
import json
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pytest

from distributor.adapters.transports.graph.check import examine
from distributor.clients.app_registration import AccessToken, AppRegistration
from distributor.clients.graph import HttpResponse
from distributor.microsoft.permissions import MailboxDenied
from distributor.microsoft.powershell import command
from distributor.model.issues import Diagnostic
from distributor.model.secret import Secret

SENDER = "certificates@example.org"
SEND, WRITE, READ = "Mail.Send", "Mail.ReadWrite", "Mail.Read"
END = datetime(2026, 11, 25, 13, tzinfo=UTC)


def jwt(**claims: object) -> Secret:
    middle = base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")
    return Secret(f"eyJ.{middle}.x")


@dataclass
class Exchange:
    """A mailbox and the service before it, with the roles that Exchange grants: it judges a right before it reads a message."""

    roles: frozenset[str]
    answer: HttpResponse | None = None  # to a message that is none, in place of its own
    name: str = SENDER
    root: str = "https://graph.microsoft.com"
    where: str = "graph.microsoft.com"
    skew: timedelta | None = None
    asked: list[str] = field(default_factory=list)

    async def token(self) -> AccessToken:
        return AccessToken(jwt(oid="object-1"), frozenset(), frozenset(), END)

    async def ask(self, method: str, path: str, *, content: bytes | None = None, **_: object) -> HttpResponse:
        self.asked.append(f"{method} {path}")
        wanted = {"sendMail": {SEND}, "messages": {WRITE}}.get(path, {READ, WRITE})
        if not wanted & self.roles:
            return HttpResponse(403, "ErrorAccessDenied", "403 ErrorAccessDenied")
        if method == "GET":
            return HttpResponse(200, "", "200 OK", {"value": []})
        assert content == b"!"  # nothing that could become a message
        return self.answer or HttpResponse(400, "ErrorMimeContentInvalidBase64String", "400 ErrorMimeContentInvalidBase64String")


def found(exchange: Exchange) -> list[Diagnostic]:
    who = AppRegistration(tenant="t", client_id="app-1", secret=Secret("s"))
    return asyncio.run(examine(exchange, who, [exchange], save_copy=True))  # type: ignore[arg-type,list-item]  as both


def bad(exchange: Exchange) -> list[Diagnostic]:
    return [diagnostic for diagnostic in found(exchange) if diagnostic.level != "ok"]


def test_an_app_that_may_send_and_keep_drafts_is_good() -> None:
    exchange = Exchange(frozenset({SEND, WRITE}))
    assert bad(exchange) == []
    assert f"can send from {SENDER}" in found(exchange)[0].message


def test_an_app_that_may_send_and_only_read_is_told_that_it_keeps_no_drafts() -> None:
    (diagnostic,) = bad(Exchange(frozenset({SEND, READ})))
    assert (diagnostic.level, "without Mail.ReadWrite" in diagnostic.message) == ("warning", True)
    assert isinstance(diagnostic, MailboxDenied)
    (line,) = [each for each in map(command, (diagnostic.hint or "").splitlines()) if each]
    assert "$id = 'object-1'" in line
    assert f"$names = '{SENDER}'" in line


@pytest.mark.parametrize("roles", [{WRITE}, {READ}, set()])
def test_an_app_that_may_not_send_is_told_so(roles: set[str]) -> None:
    (diagnostic,) = bad(Exchange(frozenset(roles)))
    assert (diagnostic.level, diagnostic.message) == ("error", f"{SENDER}: the app is not allowed to send from it")


@pytest.mark.parametrize("roles", [{SEND, WRITE}, {SEND, READ}])
def test_an_answer_that_tells_neither_proves_nothing_and_is_not_called_good(roles: set[str]) -> None:
    diagnostics = bad(Exchange(frozenset(roles), answer=HttpResponse(202, "", "202 Accepted")))
    assert [diagnostic.level for diagnostic in diagnostics] == ["warning"]
    assert "could not check whether" in diagnostics[0].message


def test_an_app_that_the_service_holds_back_is_told_to_come_again() -> None:
    busy = HttpResponse(429, "ApplicationThrottled", "429 ApplicationThrottled", retry_after=timedelta(seconds=30))
    (diagnostic,) = bad(Exchange(frozenset({SEND, WRITE}), answer=busy))
    assert "throttles the app for 30 s" in diagnostic.message


def test_whose_mailboxes_exchange_opens_is_said_to_be_out_of_sight() -> None:
    (diagnostic,) = [diagnostic for diagnostic in found(Exchange(frozenset({SEND, WRITE}))) if diagnostic.hint]
    assert (diagnostic.level, "not visible in a token" in diagnostic.message) == ("ok", True)
    assert "Test-ServicePrincipalAuthorization -Identity 'object-1'" in (diagnostic.hint or "")


# --- what a token tells ----------------------------------------------------------------------------------------------


def token(secret: Secret) -> AccessToken:
    return AccessToken(secret, frozenset(), frozenset(), END)


@pytest.mark.parametrize("text", ["opaque", "a.b.c", "a.W10.c", "a.e30.c"])
def test_an_opaque_token_tells_nothing(text: str) -> None:
    seen = token(Secret(text))
    assert (seen.holder, seen.readable, seen.skew) == ("", False, None)


def test_a_token_tells_who_holds_it_and_by_how_much_the_clocks_differ() -> None:
    seen = token(jwt(oid="object-1", exp=int(END.timestamp()) + 90))
    assert (seen.holder, seen.readable, seen.skew) == ("object-1", True, timedelta(seconds=90))
