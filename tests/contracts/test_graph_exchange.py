"""Messages through mailboxes that Exchange itself opens to the app (RBAC for Applications), as it is recommended: no token names a role.

The usual way, what goes wrong on it, the copies and `doctor` are the tests of test_graph and test_graph_copies, run in this set-up.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace

import pytest

from distributor.adapters.transports.graph import GraphTransport
from distributor.model.attempts import Accepted, Ambiguous, DraftRef, NotSent, OutboundMessage, Outcome
from distributor.model.states import State
from tests.contracts import test_graph as plain
from tests.contracts import test_graph_copies as copies
from tests.contracts import test_graph_doctor as checks
from tests.contracts.graph_mailbox import (
    CREATE,
    LOOK,
    ROLES,
    SEND,
    GraphMailbox,
    IntentRecorder,
    mailbox_at,
    spotless,
)
from tests.contracts.test_graph_copies import (
    FakeLedger,
    carry,
    diagnostic_lines,
)
from tests.contracts.test_graph_doctor import doctor
from tests.doubles.graphd import Cloud

REPEATED = (
    plain.test_a_message_is_a_draft_then_armed_then_sent_with_its_very_bytes,
    plain.test_a_message_that_was_sent_already_is_accepted_and_not_sent_again,
    plain.test_a_message_whose_claim_was_lost_leaves_a_draft_that_the_next_attempt_sends,
    plain.test_a_no_to_the_message_itself_rejects_it_and_leaves_no_draft,
    plain.test_a_token_that_is_refused_once_is_renewed,
    plain.test_after_the_arm_what_is_unclear_is_ambiguous_and_the_mailbox_knows,
    plain.test_before_the_arm_everything_may_be_repeated,
    checks.test_doctor_sends_nothing,
    plain.test_many_messages_cost_two_requests_each_and_stay_within_the_limits,
    plain.test_surplus_drafts_are_found_and_removed,
    copies.test_copies_go_after_the_run_for_three_requests_a_message_and_others_stay,
    copies.test_the_draft_of_a_message_that_was_withdrawn_goes_and_is_told,
)
globals().update({test.__name__: test for test in REPEATED})  # with the fixtures of this file
FORBIDDEN = {"status": 403, "code": "ErrorAccessDenied"}
DRAFTS, MAIL = "mailFolder.get", "user.sendMail"
TRACE = "ExchangeMessageTrace.Read.All"


def mailbox_of(cloud: Cloud, patch: pytest.MonkeyPatch, *roles: str, consented: tuple[str, ...] = ()) -> GraphMailbox:
    made = mailbox_at(cloud, patch, roles=list(consented))
    cloud.app(made.app, exchange_roles={made.address.upper(): list(roles)})
    return made


ANOTHER_ROLE = pytest.param((TRACE,), marks=pytest.mark.slow(reason="what `sender_only` does with such a token is in the quick part"))


@pytest.fixture(params=[(), ANOTHER_ROLE], ids=["a token without roles", "a token with another role"])
def mailbox(running: Cloud, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Iterator[GraphMailbox]:
    yield mailbox_of(running, monkeypatch, *ROLES, consented=request.param)
    spotless(running)


@pytest.fixture(params=[(), (TRACE,)], ids=["a token without roles", "a token with another role"])
def sender_only(running: Cloud, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Iterator[GraphMailbox]:
    yield mailbox_of(running, monkeypatch, "Mail.Send", consented=request.param)
    spotless(running)


def run(
    transport: GraphTransport, *outgoing: OutboundMessage, ledger: FakeLedger | None = None, record_intent: IntentRecorder | None = None
) -> tuple[list[Outcome], list[str]]:
    async def go() -> tuple[list[Outcome], list[str]]:
        known = ledger or FakeLedger()
        transport.tracker().attach_ledger(known)
        return await carry(transport, known, *outgoing, record_intent=record_intent), diagnostic_lines(await transport.finish())

    return asyncio.run(go())


def stopped(outcome: Outcome) -> str:
    """The hint of a no to the whole job."""
    assert isinstance(outcome, NotSent)
    assert outcome.fatal is not None
    return outcome.fatal.hint or ""


# --- what Exchange grants --------------------------------------------------------------------------------------------


def test_exchange_opens_its_own_mailboxes_only(mailbox: GraphMailbox) -> None:
    other = f"other-{mailbox.address}"
    mailbox.cloud.mailbox(other)
    assert "Application Mail.ReadWrite" in stopped(mailbox.once(transport=mailbox.open(mailbox=other)))
    assert mailbox.left() == []


def test_grants_of_entra_and_of_exchange_add_up(running: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    mailbox = mailbox_of(running, monkeypatch, "Mail.ReadWrite", consented=("Mail.Send",))
    assert isinstance(mailbox.once(), Accepted)
    assert mailbox.asked() == [CREATE, SEND]


def test_an_access_policy_narrows_what_entra_grants_and_not_what_exchange_does(running: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    mailbox = mailbox_of(running, monkeypatch, *ROLES, consented=tuple(ROLES))
    running.app(mailbox.app, mailboxes=["another@example.org"])
    assert isinstance(mailbox.once(), Accepted)


# --- without drafts --------------------------------------------------------------------------------------------------


def test_messages_go_without_drafts_only_where_drafts_are_seen_to_be_closed(sender_only: GraphMailbox) -> None:
    mailbox, record_intent = sender_only, IntentRecorder()
    outcomes, diagnostics = run(mailbox.open(), mailbox.outbound(1), mailbox.outbound(2), record_intent=record_intent)
    assert [type(outcome) for outcome in outcomes] == [Accepted, Accepted]
    assert (record_intent.handles, mailbox.asked()) == ([None, None], [CREATE, DRAFTS, MAIL, MAIL])
    assert diagnostics == [
        "warning: 2 messages sent by sendMail without Mail.ReadWrite; if a response is lost, its message cannot be looked up"
    ]


def test_a_403_that_passes_stops_the_mailbox_and_leaves_the_way_of_sending_as_it_was(mailbox: GraphMailbox) -> None:
    mailbox.cloud.fault(CREATE, "status", **FORBIDDEN)
    outcomes, diagnostics = run(mailbox.open(), mailbox.outbound(1), mailbox.outbound(2))
    hint = stopped(outcomes[0])
    assert "Application Mail.ReadWrite" in hint
    assert "two hours" in hint
    assert (type(outcomes[1]), diagnostics, MAIL in mailbox.asked()) == (Accepted, [], False)


def test_a_403_in_a_mailbox_that_had_drafts_in_this_run_is_no_reason_to_do_without(mailbox: GraphMailbox) -> None:
    mailbox.cloud.fault(CREATE, "status", skip=1, **FORBIDDEN)
    mailbox.cloud.fault(DRAFTS, "status", times=None, **FORBIDDEN)
    outcomes, _ = run(mailbox.open(), mailbox.outbound(1), mailbox.outbound(2))
    mailbox.cloud.clear_faults()
    assert isinstance(outcomes[0], Accepted)
    assert "two hours" in stopped(outcomes[1])


def test_a_403_in_a_mailbox_that_had_drafts_in_earlier_runs_is_no_reason_either(sender_only: GraphMailbox) -> None:
    outcomes, _ = run(sender_only.open(), sender_only.outbound(), ledger=FakeLedger(had_drafts=True))
    assert "two hours" in stopped(outcomes[0])
    assert sender_only.left() == []


def test_where_nobody_knows_of_earlier_runs_nothing_goes_without_a_draft(sender_only: GraphMailbox) -> None:
    assert "two hours" in stopped(sender_only.once())


def test_roles_of_both_kinds_do_without_drafts_only_as_long_as_none_was_made(running: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    mailbox = mailbox_of(running, monkeypatch, "Mail.ReadWrite", consented=("Mail.Send",))
    running.fault(CREATE, "status", skip=1, **FORBIDDEN)
    outcomes, _ = run(mailbox.open(), mailbox.outbound(1), mailbox.outbound(2))
    assert isinstance(outcomes[0], Accepted)
    assert "two hours" in stopped(outcomes[1])
    spotless(running)


# --- a message that lay ready as a draft ------------------------------------------------------------------------------


def again(mailbox: GraphMailbox, handle: str, number: int = 1) -> OutboundMessage:
    return replace(mailbox.outbound(number, attempt=2), draft=handle)


def test_a_message_whose_draft_may_be_on_its_way_never_goes_by_send_mail(sender_only: GraphMailbox) -> None:
    mailbox = sender_only
    outcomes, _ = run(
        mailbox.open(), mailbox.outbound(1), again(mailbox, "AAkALg-armed", 2)
    )  # the first has shown that there are no drafts
    assert isinstance(outcomes[0], Accepted)
    assert "Application Mail.ReadWrite" in stopped(outcomes[1])
    assert ([record["to"] for record in mailbox.left()], mailbox.asked()[-1]) == (["p1@elsewhere.example"], LOOK)


def test_a_token_that_names_no_drafts_is_no_reason_either(running: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    mailbox = mailbox_at(running, monkeypatch, roles=["Mail.Send"])
    (outcome,), _ = run(mailbox.open(), again(mailbox, "AAkALg-armed"))
    assert "Application Mail.ReadWrite" in stopped(outcome)
    assert mailbox.left() == []


def armed(mailbox: GraphMailbox, number: int = 1) -> str:
    record_intent = IntentRecorder()
    mailbox.once(number, record_intent=record_intent)
    (handle,) = record_intent.handles
    assert handle is not None
    return handle.id


def test_of_several_drafts_the_armed_one_goes_though_another_is_newer(mailbox: GraphMailbox) -> None:
    mailbox.cloud.fault(SEND, "429")
    first = armed(mailbox)
    newer = mailbox.draft()
    record_intent = IntentRecorder()
    (outcome,), _ = run(mailbox.open(), again(mailbox, first), record_intent=record_intent)
    assert isinstance(outcome, Accepted)
    assert record_intent.handles == [DraftRef(first, mailbox.message_id())]
    assert (len(mailbox.left()), mailbox.lying("drafts")) == (1, [])
    assert newer != first


def test_an_echo_of_a_create_that_timed_out_is_not_sent_while_the_armed_draft_is_on_its_way(mailbox: GraphMailbox) -> None:
    with mailbox.cloud.during(sent_after=3600, under_way="hidden"):
        mailbox.cloud.fault(SEND, "504-after")
        first = armed(mailbox)
        mailbox.draft()  # the echo
        message = replace(mailbox.sought(), draft=first)
        assert look(mailbox, message) == []  # a draft, but not the one that was to be sent
        (outcome,), _ = run(mailbox.open(), again(mailbox, first))
        assert isinstance(outcome, Ambiguous)
        assert (len(mailbox.left()), mailbox.lying("drafts")) == (1, [mailbox.message_id()])  # only what is on its way


def look(mailbox: GraphMailbox, message: object) -> list[State]:
    transport = mailbox.open()

    async def go() -> list[State]:
        tracker = transport.tracker()
        try:
            return [event.state async for event in tracker.track([message])]  # type: ignore[list-item]
        finally:
            await tracker.close()

    return asyncio.run(go())


def test_the_armed_draft_that_is_still_one_proves_that_the_message_did_not_leave(mailbox: GraphMailbox) -> None:
    mailbox.cloud.fault(SEND, "504-before")
    message = replace(mailbox.sought(), draft=armed(mailbox))
    assert look(mailbox, message) == [State.QUEUED]


# --- doctor ----------------------------------------------------------------------------------------------------------


def test_doctor_finds_nothing_wrong_with_it(mailbox: GraphMailbox) -> None:
    assert [one for one in doctor(mailbox) if TRACE not in one[1]] == []


@pytest.mark.parametrize(
    ("roles", "level", "words"),
    [
        (["Mail.Send"], "warning", "without Mail.ReadWrite messages are sent by sendMail"),
        (["Mail.Send", "Mail.Read"], "warning", "without Mail.ReadWrite"),
        (["Mail.ReadWrite"], "error", "the app is not allowed to send from it"),
        ([], "error", "the app is not allowed to send from it"),
    ],
)
def test_doctor_says_which_role_of_exchange_is_missing(mailbox: GraphMailbox, roles: list[str], level: str, words: str) -> None:
    mailbox.cloud.app(mailbox.app, exchange_roles={mailbox.address: roles})
    assert [one[0] for one in doctor(mailbox) if words in one[1]] == [level]
