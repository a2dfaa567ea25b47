"""Messages through mailboxes that Exchange itself opens to the app (RBAC for Applications), as it is recommended: no token names a role.

The main road, what goes wrong on it, the copies and `doctor` are the tests of test_graph and test_graph_copies, run in this set-up.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace

import pytest

from distributor.adapters.transports.graph import GraphTransport
from distributor.model.delivery import Accepted, Ambiguous, DraftRef, NotSent, OutboundMessage, Outcome
from distributor.model.states import State
from tests.contracts import test_graph as plain
from tests.contracts import test_graph_copies as copies
from tests.contracts.test_graph import (
    CREATE,
    LOOK,
    ROLES,
    SEND,
    Arm,
    Desk,
    desk_at,
    doctor,
    spotless,
)
from tests.contracts.test_graph_copies import (
    Book,
    carry,
    told,
)
from tests.doubles.graphd import Cloud

REPEATED = (
    plain.test_a_message_is_a_draft_then_armed_then_sent_with_its_very_bytes,
    plain.test_a_message_that_was_sent_already_is_accepted_and_not_sent_again,
    plain.test_a_message_whose_claim_was_lost_leaves_a_draft_that_the_next_attempt_sends,
    plain.test_a_no_to_the_message_itself_rejects_it_and_leaves_no_draft,
    plain.test_a_token_that_is_refused_once_is_renewed,
    plain.test_after_the_arm_what_is_unclear_is_ambiguous_and_the_mailbox_knows,
    plain.test_before_the_arm_everything_may_be_repeated,
    plain.test_doctor_sends_nothing,
    plain.test_many_messages_cost_two_requests_each_and_stay_within_the_limits,
    plain.test_surplus_drafts_are_found_and_removed,
    copies.test_copies_go_after_the_run_for_three_requests_a_message_and_others_stay,
    copies.test_the_draft_of_a_message_that_was_withdrawn_goes_and_is_told,
)
globals().update({test.__name__: test for test in REPEATED})  # with the fixtures of this file
FORBIDDEN = {"status": 403, "code": "ErrorAccessDenied"}
DRAFTS, MAIL = "mailFolder.get", "user.sendMail"
TRACE = "ExchangeMessageTrace.Read.All"


def desk_of(cloud: Cloud, patch: pytest.MonkeyPatch, *roles: str, consented: tuple[str, ...] = ()) -> Desk:
    made = desk_at(cloud, patch, roles=list(consented))
    cloud.app(made.app, exchange_roles={made.box.upper(): list(roles)})
    return made


@pytest.fixture(params=[(), (TRACE,)], ids=["a token without roles", "a token with another role"])
def desk(running: Cloud, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Iterator[Desk]:
    yield desk_of(running, monkeypatch, *ROLES, consented=request.param)
    spotless(running)


@pytest.fixture(params=[(), (TRACE,)], ids=["a token without roles", "a token with another role"])
def sender_only(running: Cloud, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Iterator[Desk]:
    yield desk_of(running, monkeypatch, "Mail.Send", consented=request.param)
    spotless(running)


def run(
    road: GraphTransport, *parcels: OutboundMessage, book: Book | None = None, arm: Arm | None = None
) -> tuple[list[Outcome], list[str]]:
    async def go() -> tuple[list[Outcome], list[str]]:
        known = book or Book()
        road.tracker().attach_ledger(known)
        return await carry(road, known, *parcels, arm=arm), told(await road.finish())

    return asyncio.run(go())


def stopped(outcome: Outcome) -> str:
    """The hint of a no to the whole job."""
    assert isinstance(outcome, NotSent)
    assert outcome.fatal is not None
    return outcome.fatal.hint or ""


# --- what Exchange grants --------------------------------------------------------------------------------------------


def test_exchange_opens_its_own_mailboxes_only(desk: Desk) -> None:
    other = f"other-{desk.box}"
    desk.cloud.mailbox(other)
    assert "Application Mail.ReadWrite" in stopped(desk.once(road=desk.open(mailbox=other)))
    assert desk.left() == []


def test_grants_of_entra_and_of_exchange_add_up(running: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    desk = desk_of(running, monkeypatch, "Mail.ReadWrite", consented=("Mail.Send",))
    assert isinstance(desk.once(), Accepted)
    assert desk.asked() == [CREATE, SEND]


def test_an_access_policy_narrows_what_entra_grants_and_not_what_exchange_does(running: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    desk = desk_of(running, monkeypatch, *ROLES, consented=tuple(ROLES))
    running.app(desk.app, mailboxes=["another@example.org"])
    assert isinstance(desk.once(), Accepted)


# --- without drafts --------------------------------------------------------------------------------------------------


def test_messages_go_without_drafts_only_where_drafts_are_seen_to_be_closed(sender_only: Desk) -> None:
    desk, arm = sender_only, Arm()
    outcomes, diagnostics = run(desk.open(), desk.parcel(1), desk.parcel(2), arm=arm)
    assert [type(outcome) for outcome in outcomes] == [Accepted, Accepted]
    assert (arm.handles, desk.asked()) == ([None, None], [CREATE, DRAFTS, MAIL, MAIL])
    assert diagnostics == ["warning: without Mail.ReadWrite 2 messages went by sendMail; an answer that is lost cannot be looked up"]


def test_a_403_that_passes_stops_the_mailbox_and_changes_no_road(desk: Desk) -> None:
    desk.cloud.fault(CREATE, "status", **FORBIDDEN)
    outcomes, diagnostics = run(desk.open(), desk.parcel(1), desk.parcel(2))
    hint = stopped(outcomes[0])
    assert "Application Mail.ReadWrite" in hint
    assert "two hours" in hint
    assert (type(outcomes[1]), diagnostics, MAIL in desk.asked()) == (Accepted, [], False)


def test_a_403_in_a_mailbox_that_had_drafts_in_this_run_is_no_reason_to_do_without(desk: Desk) -> None:
    desk.cloud.fault(CREATE, "status", skip=1, **FORBIDDEN)
    desk.cloud.fault(DRAFTS, "status", times=None, **FORBIDDEN)
    outcomes, _ = run(desk.open(), desk.parcel(1), desk.parcel(2))
    desk.cloud.clear_faults()
    assert isinstance(outcomes[0], Accepted)
    assert "two hours" in stopped(outcomes[1])


def test_a_403_in_a_mailbox_that_had_drafts_in_earlier_runs_is_no_reason_either(sender_only: Desk) -> None:
    outcomes, _ = run(sender_only.open(), sender_only.parcel(), book=Book(had_drafts=True))
    assert "two hours" in stopped(outcomes[0])
    assert sender_only.left() == []


def test_where_nobody_knows_of_earlier_runs_nothing_goes_without_a_draft(sender_only: Desk) -> None:
    assert "two hours" in stopped(sender_only.once())


def test_roles_of_both_kinds_do_without_drafts_only_as_long_as_none_was_made(running: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    desk = desk_of(running, monkeypatch, "Mail.ReadWrite", consented=("Mail.Send",))
    running.fault(CREATE, "status", skip=1, **FORBIDDEN)
    outcomes, _ = run(desk.open(), desk.parcel(1), desk.parcel(2))
    assert isinstance(outcomes[0], Accepted)
    assert "two hours" in stopped(outcomes[1])
    spotless(running)


# --- a message that lay ready as a draft ------------------------------------------------------------------------------


def again(desk: Desk, handle: str, number: int = 1) -> OutboundMessage:
    return replace(desk.parcel(number, attempt=2), draft=handle)


def test_a_message_whose_draft_may_be_on_its_way_never_goes_by_send_mail(sender_only: Desk) -> None:
    desk = sender_only
    outcomes, _ = run(desk.open(), desk.parcel(1), again(desk, "AAkALg-armed", 2))  # the first has shown that there are no drafts
    assert isinstance(outcomes[0], Accepted)
    assert "Application Mail.ReadWrite" in stopped(outcomes[1])
    assert ([record["to"] for record in desk.left()], desk.asked()[-1]) == (["p1@elsewhere.example"], LOOK)


def test_a_token_that_names_no_drafts_is_no_reason_either(running: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    desk = desk_at(running, monkeypatch, roles=["Mail.Send"])
    (outcome,), _ = run(desk.open(), again(desk, "AAkALg-armed"))
    assert "Application Mail.ReadWrite" in stopped(outcome)
    assert desk.left() == []


def armed(desk: Desk, number: int = 1) -> str:
    arm = Arm()
    desk.once(number, arm=arm)
    (handle,) = arm.handles
    assert handle is not None
    return handle.id


def test_of_several_drafts_the_armed_one_goes_though_another_is_newer(desk: Desk) -> None:
    desk.cloud.fault(SEND, "429")
    first = armed(desk)
    newer = desk.draft()
    arm = Arm()
    (outcome,), _ = run(desk.open(), again(desk, first), arm=arm)
    assert isinstance(outcome, Accepted)
    assert arm.handles == [DraftRef(first, desk.message_id())]
    assert (len(desk.left()), desk.lying("drafts")) == (1, [])
    assert newer != first


def test_an_echo_of_a_create_that_timed_out_is_not_sent_while_the_armed_draft_is_on_its_way(desk: Desk) -> None:
    with desk.cloud.during(sent_after=3600, under_way="hidden"):
        desk.cloud.fault(SEND, "504-after")
        first = armed(desk)
        desk.draft()  # the echo
        message = replace(desk.sought(), draft=first)
        assert look(desk, message) == []  # a draft, but not the one that was to be sent
        (outcome,), _ = run(desk.open(), again(desk, first))
        assert isinstance(outcome, Ambiguous)
        assert (len(desk.left()), desk.lying("drafts")) == (1, [desk.message_id()])  # only what is on its way


def look(desk: Desk, message: object) -> list[State]:
    road = desk.open()

    async def go() -> list[State]:
        tracker = road.tracker()
        try:
            return [sighting.state async for sighting in tracker.track([message])]  # type: ignore[list-item]
        finally:
            await tracker.close()

    return asyncio.run(go())


def test_the_armed_draft_that_is_still_one_proves_that_the_message_did_not_leave(desk: Desk) -> None:
    desk.cloud.fault(SEND, "504-before")
    message = replace(desk.sought(), draft=armed(desk))
    assert look(desk, message) == [State.QUEUED]


# --- doctor ----------------------------------------------------------------------------------------------------------


def test_doctor_finds_nothing_wrong_with_it(desk: Desk) -> None:
    assert [one for one in doctor(desk) if TRACE not in one[1]] == []


@pytest.mark.parametrize(
    ("roles", "level", "words"),
    [
        (["Mail.Send"], "warning", "without Mail.ReadWrite messages go by sendMail"),
        (["Mail.Send", "Mail.Read"], "warning", "without Mail.ReadWrite"),
        (["Mail.ReadWrite"], "error", "the app may not send from it"),
        ([], "error", "the app may not send from it"),
    ],
)
def test_doctor_says_which_role_of_exchange_is_missing(desk: Desk, roles: list[str], level: str, words: str) -> None:
    desk.cloud.app(desk.app, exchange_roles={desk.box: roles})
    assert [one[0] for one in doctor(desk) if words in one[1]] == [level]
