"""Graph without the permission to write drafts, what `doctor` finds there, and the settings that are refused."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from distributor.adapters.transports import graph
from distributor.adapters.transports.graph import GraphTransport, Settings
from distributor.errors import InvalidInput
from distributor.model.attempts import Accepted, Ambiguous, NotSent, OutboundMessage, Outcome
from distributor.model.issues import Diagnostic
from distributor.model.ports import CommitIntent
from distributor.model.secret import Secret
from tests.contracts.graph_mailbox import CREATE, ROLES, GraphMailbox, IntentRecorder, mailbox_at, spotless
from tests.doubles.graphd import Cloud, graphd

# --- an app that may only send ---------------------------------------------------------------------------------------


@pytest.fixture
def sender_only(running: Cloud, monkeypatch: pytest.MonkeyPatch) -> Iterator[GraphMailbox]:
    yield mailbox_at(running, monkeypatch, roles=["Mail.Send"])
    spotless(running)


def ended(
    transport: GraphTransport, *outgoing: OutboundMessage, record_intent: CommitIntent | None = None
) -> tuple[list[Outcome], list[Diagnostic]]:
    async def go() -> tuple[list[Outcome], list[Diagnostic]]:
        connection = transport.connection()
        outcomes = [await connection.deliver(message, record_intent or IntentRecorder()) for message in outgoing]
        return outcomes, await transport.finish()

    return asyncio.run(go())


def test_without_drafts_messages_go_at_once_and_the_run_says_what_that_costs(sender_only: GraphMailbox) -> None:
    mailbox, record_intent = sender_only, IntentRecorder()
    outcomes, diagnostics = ended(mailbox.open(), mailbox.outbound(1), mailbox.outbound(2), record_intent=record_intent)
    assert [type(outcome) for outcome in outcomes] == [Accepted, Accepted]
    assert (record_intent.handles, mailbox.asked()) == ([None, None], [CREATE, "user.sendMail", "user.sendMail"])
    assert [mailbox.cloud.bytes_of(record) for record in mailbox.left()] == [mailbox.outbound(1).message, mailbox.outbound(2).message]
    (diagnostic,) = diagnostics
    assert (diagnostic.level, diagnostic.message.partition(": ")[2]) == (
        "warning",
        "2 messages sent by sendMail without Mail.ReadWrite; if a response is lost, its message cannot be looked up",
    )


@pytest.mark.parametrize(("do", "left"), [("504-after", 1), ("504-before", 0), ("reset-after", 1), ("silence-after", 1), ("html", 0)])
def test_without_drafts_a_lost_answer_is_ambiguous(sender_only: GraphMailbox, do: str, left: int) -> None:
    sender_only.cloud.fault("user.sendMail", do)
    assert isinstance(sender_only.once(), Ambiguous)
    assert len(sender_only.left()) == left


def test_without_any_permission_both_are_named(sender_only: GraphMailbox) -> None:
    sender_only.cloud.app(sender_only.app, roles=[])
    outcome = sender_only.once()
    assert isinstance(outcome, NotSent)
    assert outcome.fatal is not None
    assert all(role in (outcome.fatal.hint or "") for role in ROLES)
    assert sender_only.left() == []


# --- doctor ----------------------------------------------------------------------------------------------------------


def test_doctor_shows_how_to_narrow_an_app_that_may_use_every_mailbox(mailbox: GraphMailbox) -> None:
    good, wide = mailbox.check()
    assert (good.level, wide.level) == ("ok", "warning")
    assert mailbox.app in good.message
    assert mailbox.cloud.tenant in good.message
    assert mailbox.address in good.message
    assert wide.message.startswith("Mail.ReadWrite and Mail.Send: granted for every mailbox of the tenant")
    first, second = (line for line in (wide.hint or "").splitlines() if line.startswith("  "))
    assert "two hours after InScope was True" in (wide.hint or "")
    assert [word for word in ("Connect-ExchangeOnline", "Connect-MgGraph", "Remove-Mg") if word in first] == ["Connect-ExchangeOnline"]
    assert f"$names = '{mailbox.address}'; $filter = " in first
    assert "Get-MgServicePrincipalAppRoleAssignment" in second
    assert f"appId eq '{mailbox.app}'" in second


def doctor(mailbox: GraphMailbox, **changes: object) -> list[tuple[str, str]]:
    """What is not good, but for the breadth of what was granted."""
    return [
        (diagnostic.level, f"{diagnostic.message} | {diagnostic.hint}")
        for diagnostic in mailbox.check(**changes)
        if diagnostic.level != "ok" and "every mailbox of the tenant" not in diagnostic.message
    ]


@pytest.mark.parametrize(
    ("app", "level", "words"),
    [
        ({"roles": ["Mail.Send"]}, "warning", "without Mail.ReadWrite messages are sent by sendMail"),
        ({"roles": ["Mail.Send", "Mail.Read"]}, "warning", "without Mail.ReadWrite"),
        ({"roles": ["Mail.ReadWrite"]}, "error", "the app is not allowed to send from it"),
        ({"roles": []}, "error", "the app is not allowed to send from it"),
        ({"mailboxes": ["another@example.org"]}, "error", "Access to OData is disabled"),
        ({"roles": [*ROLES, "Files.ReadWrite.All"]}, "warning", "permissions not needed: Files.ReadWrite.All"),
        ({"secrets": {"another": None}}, "error", "transport.secret"),
    ],
)
def test_doctor_says_what_is_wrong_with_the_permissions(mailbox: GraphMailbox, app: dict[str, Any], level: str, words: str) -> None:
    mailbox.cloud.app(mailbox.app, **app)
    found = doctor(mailbox)
    assert [one[0] for one in found if words in one[1]] == [level]
    assert all("None" not in one[1] for one in found)


def test_doctor_sends_nothing(mailbox: GraphMailbox) -> None:
    mailbox.cloud.app(mailbox.app, roles=["Mail.ReadWrite"])
    mailbox.check()
    assert (mailbox.left(), mailbox.lying("drafts"), mailbox.lying("sentitems")) == ([], [], [])


@pytest.mark.parametrize(
    ("fault", "level", "words"),
    [
        ({"do": "429", "retry_after": 30}, "warning", "throttles the app for 30 s"),
        ({"do": "status", "status": 404, "code": "MailboxNotEnabledForRESTAPI"}, "error", "licence"),
        ({"do": "status", "status": 404, "code": "ErrorInvalidUser"}, "error", "user principal name"),
        ({"do": "504-before"}, "error", "504"),
        ({"do": "reset-before"}, "error", "check the network"),
    ],
)
def test_doctor_says_what_is_wrong_with_the_mailbox(mailbox: GraphMailbox, fault: dict[str, Any], level: str, words: str) -> None:
    mailbox.cloud.fault("mailFolder.listMessages", **fault)
    ((found, text),) = doctor(mailbox)
    assert (found, words in text) == (level, True)


def test_doctor_says_where_copies_stay_in_spite_of_the_configuration(mailbox: GraphMailbox) -> None:
    mailbox.cloud.app(mailbox.app, roles=["Mail.Send"])
    ((_, text),) = doctor(mailbox, save_copy=False)
    assert "`save_copy = false` has no effect" in text


@pytest.mark.parametrize(("ahead", "level"), [(40, "warning"), (320, "error")])
def test_doctor_says_that_the_clock_is_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ahead: float, level: str) -> None:
    with graphd(tmp_path) as cloud:
        mailbox = mailbox_at(cloud, monkeypatch)
        cloud.set(sign_in_clock="real")
        cloud.advance(ahead)
        ((found, text),) = doctor(mailbox)
    assert (found, "behind the service's" in text) == (level, True)


# --- settings --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "where"),
    [
        ({"connections": 5}, "transport.connections"),
        ({"connections": 0}, "transport.connections"),
        ({"per_minute": 0.0}, "transport.rate"),
        ({"daily": 0}, "transport.daily"),
        ({"mailbox": ""}, "transport.mailbox"),
        ({"graph": "http://graph.microsoft.com"}, "transport.graph"),
        ({"login": "http://login.microsoftonline.com"}, "transport.login"),
        ({"secret": None}, "transport"),
        ({"tenant": ""}, "transport.tenant"),
    ],
)
def test_settings_that_cannot_work_are_refused_before_anything_is_touched(changes: dict[str, Any], where: str) -> None:
    good = Settings(tenant="t", client_id="c", secret=Secret(""), mailbox="a@example.org")
    assert graph.open(good).max_connections == 4
    with pytest.raises(InvalidInput) as raised:
        graph.open(replace(good, **changes))
    assert raised.value.where == where
    assert raised.value.hint
