"""Messages through Microsoft Graph: whatever the service does, each has one outcome that is true, and nothing goes twice."""

from __future__ import annotations

import asyncio
import re
import socket
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from distributor.adapters.transports.graph import GraphConnection
from distributor.adapters.transports.graph.responses import RequestStep, classify_response
from distributor.clients.app_registration import SignInUnavailable
from distributor.clients.graph import NoResponse
from distributor.errors import Error
from distributor.model.attempts import Accepted, Ambiguous, DraftRef, NotSent, OutboundMessage, Outcome, Rejected
from distributor.model.delivery import Account
from distributor.model.secret import Secret
from distributor.model.states import State
from tests.contracts.graph_mailbox import CREATE, LOOK, SEND, GraphMailbox, IntentRecorder

# --- a message -------------------------------------------------------------------------------------------------------


def test_a_message_is_a_draft_then_armed_then_sent_with_its_very_bytes(mailbox: GraphMailbox) -> None:
    seen: list[object] = []

    async def record_intent(handle: DraftRef | None = None, /) -> bool:
        drafts = mailbox.cloud.messages(mailbox.address, "drafts")
        seen.extend([handle.message_id if handle else None, [one["internetMessageId"] for one in drafts], mailbox.left()])
        return True

    outcome = mailbox.once(record_intent=record_intent)
    assert isinstance(outcome, Accepted)
    assert re.fullmatch(r"202 Accepted(, request-id \S+)?", outcome.response)
    assert seen == [mailbox.message_id(), [mailbox.message_id()], []]
    (record,) = mailbox.left()
    assert mailbox.cloud.bytes_of(record) == mailbox.outbound().message
    assert mailbox.asked() == [CREATE, SEND]
    (made,) = [one for one in mailbox.cloud.requests(CREATE) if one["app"] == mailbox.app]
    assert (made["prefer"], made["type"]) == ('IdType="ImmutableId"', "text/plain")


def test_many_messages_cost_two_requests_each_and_stay_within_the_limits(mailbox: GraphMailbox) -> None:
    transport = mailbox.open()

    async def go() -> list[Outcome]:
        connections = [transport.connection() for _ in range(transport.max_connections)]
        shares = [
            [mailbox.outbound(number) for number in range(first, 20, transport.max_connections)]
            for first in range(transport.max_connections)
        ]

        async def work(connection: GraphConnection, outgoing: list[OutboundMessage]) -> list[Outcome]:
            return [await connection.deliver(message, IntentRecorder()) for message in outgoing]

        done = await asyncio.gather(*(work(connection, share) for connection, share in zip(connections, shares, strict=True)))
        await transport.finish()
        return [outcome for share in done for outcome in share]

    assert {type(outcome) for outcome in asyncio.run(go())} == {Accepted}
    counts = mailbox.cloud.counts()["mailboxes"][mailbox.address]
    assert (sum(counts["requests"].values()), counts["refused"], counts["messages"]) == (40, {}, 20)
    assert counts["max_in_flight"] <= 4
    assert len({record["to"] for record in mailbox.left()}) == 20


def test_the_ledger_hears_the_message_id_that_the_service_chose(mailbox: GraphMailbox) -> None:
    mailbox.cloud.fault(CREATE, "rewrite-message-id")
    record_intent = IntentRecorder()
    assert isinstance(mailbox.once(record_intent=record_intent), Accepted)
    (record,) = mailbox.left()
    (handle,) = record_intent.handles
    assert handle is not None
    assert handle.message_id == record["message_id"] != mailbox.message_id()


def test_a_message_whose_claim_was_lost_leaves_a_draft_that_the_next_attempt_sends(mailbox: GraphMailbox) -> None:
    assert mailbox.once(record_intent=IntentRecorder(verdict=False)) == NotSent("another process has claimed this message")
    assert (mailbox.left(), mailbox.lying("drafts")) == ([], [mailbox.message_id()])
    assert isinstance(mailbox.once(attempt=2), Accepted)
    assert (len(mailbox.left()), mailbox.lying("drafts")) == (1, [])
    assert mailbox.asked() == [CREATE, LOOK, SEND]


def test_each_sender_has_its_own_mailbox_and_the_first_that_of_the_table(mailbox: GraphMailbox) -> None:
    other, name = f"second-{mailbox.address}", f"upn-{mailbox.address}"
    mailbox.cloud.mailbox(other, userPrincipalName=name)
    transport = mailbox.open([Account("certificates@example.org"), Account(other, name)])
    first, second = mailbox.outbound(1), mailbox.outbound(2)
    second = replace(second, sender=other, message=second.message.replace(mailbox.address.encode(), other.encode(), 1))

    async def go() -> list[Outcome]:
        pairs = (("certificates@example.org", first), (other, second))
        try:
            return [await transport.connection(sender).deliver(message, IntentRecorder()) for sender, message in pairs]
        finally:
            await transport.finish()

    assert {type(outcome) for outcome in asyncio.run(go())} == {Accepted}
    assert [record["mailbox"] for record in mailbox.cloud.stored() if record["app"] == mailbox.app] == [mailbox.address, other]


# --- what goes wrong before the point of no return -------------------------------------------------------------------


BEFORE: dict[str, tuple[str, dict[str, Any], NotSent]] = {
    "504 before the draft": ("504-before", {}, NotSent("504 UnknownError")),
    "504 after it": ("504-after", {}, NotSent("504 UnknownError")),
    "a reset before it": ("reset-before", {}, NotSent("create draft: ")),
    "a reset after it": ("reset-after", {}, NotSent("create draft: ")),
    "silence before it": ("silence-before", {}, NotSent("create draft: no answer in 0.5 s")),
    "silence after it": ("silence-after", {}, NotSent("create draft: no answer in 0.5 s")),
    "half an answer": ("truncated", {}, NotSent("create draft: ")),
    "nonsense": ("garbage", {}, NotSent("create draft: ")),
    "a proxy's page": ("html", {}, NotSent("502 Bad Gateway")),
    "a time-out of the service's own": ("status", {"status": 408}, NotSent("408 ErrorServerBusy")),
    "a service that is down": ("status", {"status": 500, "code": "ErrorInternalServerError"}, NotSent("500 ErrorInternalServerError")),
    "a service that is busy": (
        "status",
        {"retry_after": 7},
        NotSent("503 ErrorServerBusy", throttled=True, retry_after=timedelta(seconds=7)),
    ),
    "too many requests": ("429", {"retry_after": 9}, NotSent("429 ApplicationThrottled", throttled=True, retry_after=timedelta(seconds=9))),
}


@pytest.mark.parametrize("what", BEFORE)
def test_before_the_arm_everything_may_be_repeated(mailbox: GraphMailbox, what: str) -> None:
    do, options, wanted = BEFORE[what]
    mailbox.cloud.fault(CREATE, do, **options)
    record_intent = IntentRecorder()
    outcome = mailbox.once(record_intent=record_intent)
    assert isinstance(outcome, NotSent)
    assert outcome.response.startswith(wanted.response)
    assert replace(outcome, response="") == replace(wanted, response="")
    assert (record_intent.handles, mailbox.left()) == ([], [])
    assert isinstance(mailbox.once(attempt=2), Accepted)
    assert (len(mailbox.left()), mailbox.lying("drafts")) == (1, [])


def test_a_slow_answer_is_waited_for(mailbox: GraphMailbox) -> None:
    mailbox.cloud.fault(CREATE, "slow", seconds=0.2)
    mailbox.cloud.fault(SEND, "slow", seconds=0.2)
    assert isinstance(mailbox.once(), Accepted)


def test_a_no_that_is_certain_needs_no_look_at_the_next_attempt_of_the_run(mailbox: GraphMailbox) -> None:
    mailbox.cloud.fault(CREATE, "429")
    mailbox.cloud.fault(SEND, "429")
    outcomes = mailbox.deliver(*(mailbox.outbound(attempt=attempt) for attempt in (1, 2, 3)))
    assert [type(outcome) for outcome in outcomes] == [NotSent, NotSent, Accepted]
    assert mailbox.asked() == [CREATE, CREATE, SEND, SEND]


def test_a_draft_that_may_have_been_made_is_looked_for_at_the_next_attempt_of_the_run(mailbox: GraphMailbox) -> None:
    mailbox.cloud.fault(CREATE, "504-after")
    assert [type(outcome) for outcome in mailbox.deliver(mailbox.outbound(), mailbox.outbound(attempt=2))] == [NotSent, Accepted]
    assert (mailbox.asked(), mailbox.lying("drafts")) == ([CREATE, LOOK, SEND], [])


def test_surplus_drafts_are_found_and_removed(mailbox: GraphMailbox) -> None:
    for _ in range(3):
        mailbox.draft()
    assert isinstance(mailbox.once(attempt=2), Accepted)
    assert (len(mailbox.left()), mailbox.lying("drafts"), mailbox.lying("deleteditems")) == (1, [], [])
    assert mailbox.lying("recoverableitemspurges") == [mailbox.message_id()] * 2


@pytest.mark.parametrize("what", ["504-before", "reset-before", "429", "html", "garbage"])
def test_a_look_for_earlier_drafts_that_fails_sends_nothing(mailbox: GraphMailbox, what: str) -> None:
    mailbox.draft()
    mailbox.cloud.fault(LOOK, what)
    record_intent = IntentRecorder()
    assert isinstance(mailbox.once(attempt=2, record_intent=record_intent), NotSent)
    assert (record_intent.handles, mailbox.left()) == ([], [])
    assert isinstance(mailbox.once(attempt=3), Accepted)


def test_a_message_that_was_sent_already_is_accepted_and_not_sent_again(mailbox: GraphMailbox) -> None:
    mailbox.by_hand(lambda caller: caller.send(mailbox.draft()))
    surplus, record_intent = mailbox.draft(), IntentRecorder()
    outcome = mailbox.once(attempt=2, record_intent=record_intent)
    assert isinstance(outcome, Accepted)
    assert outcome.response.startswith("found in Sent Items, sent at 20")
    assert [handle.message_id for handle in record_intent.handles if handle] == [mailbox.message_id()]
    assert (len(mailbox.left()), mailbox.lying("drafts"), SEND in mailbox.asked()) == (1, [], False)
    assert surplus


# --- what goes wrong after it ----------------------------------------------------------------------------------------


AFTER: dict[str, tuple[str, dict[str, Any], int]] = {
    "the message left, then 504": ("504-after", {}, 1),
    "504 before the message left": ("504-before", {}, 0),
    "the line is cut after the message left": ("reset-after", {}, 1),
    "the line is cut before": ("reset-before", {}, 0),
    "silence after the message left": ("silence-after", {}, 1),
    "silence before": ("silence-before", {}, 0),
    "a proxy's page instead of an answer": ("html", {}, 0),
    "a proxy's page after the message left": ("html", {"after": True}, 1),
    "a proxy's refusal": ("html", {"status": 400}, 0),
    "nonsense": ("garbage", {}, 0),
    "nonsense after the message left": ("garbage", {"after": True}, 1),
    "a busy service that names a time": ("status", {"status": 503, "retry_after": 5, "after": True}, 1),
    "a time-out of the service's own": ("status", {"status": 408}, 0),
    "an answer that was not asked for": ("status", {"status": 418}, 0),
}


@pytest.mark.parametrize("what", AFTER)
def test_after_the_arm_what_is_unclear_is_ambiguous_and_the_mailbox_knows(mailbox: GraphMailbox, what: str) -> None:
    do, options, left = AFTER[what]
    mailbox.cloud.fault(SEND, do, **options)
    record_intent = IntentRecorder()
    outcome = mailbox.once(record_intent=record_intent)
    assert isinstance(outcome, Ambiguous)
    assert (len(record_intent.handles), len(mailbox.left())) == (1, left)
    found = mailbox.look()
    assert found is not None
    assert (found.state, found.evidence["kind"]) == ((State.ACCEPTED, "sent-items") if left else (State.QUEUED, "draft"))
    assert isinstance(mailbox.once(attempt=2), Accepted)  # even where nobody looked
    assert (len(mailbox.left()), mailbox.lying("drafts")) == (1, [])


def test_a_message_that_is_under_way_looks_like_a_draft_and_is_not_sent_twice(later: GraphMailbox) -> None:
    with later.cloud.during(sent_after=30):
        later.cloud.fault(SEND, "504-after")
        assert isinstance(later.once(), Ambiguous)
        found = later.look()
        assert found is not None
        assert found.state is State.QUEUED
        assert isinstance(later.once(attempt=2), Ambiguous)  # the same draft: it is not found
        later.cloud.advance(31)
    found = later.look()
    assert found is not None
    assert (found.state, len(later.left())) == (State.ACCEPTED, 1)


def test_a_message_that_nobody_sees_is_left_in_doubt(later: GraphMailbox) -> None:
    with later.cloud.during(sent_after=30, under_way="hidden"):
        later.cloud.fault(SEND, "504-after")
        assert isinstance(later.once(), Ambiguous)
        assert later.look() is None
        later.cloud.advance(31)
        assert later.look() is not None


def test_an_accepted_message_is_not_repeated_whatever_stands_beside_the_202(mailbox: GraphMailbox) -> None:
    mailbox.cloud.fault(SEND, "202-retry-after", seconds=1)
    assert isinstance(mailbox.once(), Accepted)
    assert (len(mailbox.left()), mailbox.asked()) == (1, [CREATE, SEND])


def test_a_token_that_is_refused_once_is_renewed(mailbox: GraphMailbox) -> None:
    mailbox.cloud.fault(CREATE, "401")
    mailbox.cloud.fault(SEND, "401")
    assert isinstance(mailbox.once(), Accepted)
    assert (len(mailbox.left()), mailbox.asked()) == (1, [CREATE, CREATE, SEND, SEND])


def test_too_many_requests_is_a_no_that_leaves_the_draft(mailbox: GraphMailbox) -> None:
    mailbox.cloud.fault(SEND, "429", times=3, retry_after=4)
    outcomes = mailbox.deliver(*(mailbox.outbound(attempt=attempt) for attempt in range(1, 5)))
    refused = {replace(outcome, response="") for outcome in outcomes[:3] if isinstance(outcome, NotSent)}
    assert refused == {NotSent("", throttled=True, retry_after=timedelta(seconds=4))}
    assert isinstance(outcomes[3], Accepted)
    assert (len(mailbox.left()), mailbox.lying("drafts")) == (1, [])


REFUSED: dict[str, tuple[dict[str, Any], Rejected]] = {
    "a recipient that is none": ({"status": 400, "code": "ErrorInvalidRecipients"}, Rejected("400 ErrorInvalidRecipients")),
    "content that is not wanted": (
        {"status": 400, "code": "ErrorMimeContentInvalid"},
        Rejected("400 ErrorMimeContentInvalid", content=True),
    ),
}


@pytest.mark.parametrize("operation", [CREATE, SEND])
@pytest.mark.parametrize("what", REFUSED)
def test_a_no_to_the_message_itself_rejects_it_and_leaves_no_draft(mailbox: GraphMailbox, what: str, operation: str) -> None:
    options, wanted = REFUSED[what]
    mailbox.cloud.fault(operation, "status", **options)
    outcome = mailbox.once()
    assert isinstance(outcome, Rejected)
    assert outcome.response.startswith(wanted.response)
    assert outcome.content == wanted.content
    assert (mailbox.left(), mailbox.lying("drafts")) == ([], [])


def test_a_draft_that_is_gone_leaves_its_message_in_doubt(mailbox: GraphMailbox) -> None:
    mailbox.cloud.fault(SEND, "status", status=404, code="ErrorItemNotFound")
    assert isinstance(mailbox.once(), Ambiguous)


STOPS: dict[str, tuple[str, str, dict[str, Any], str]] = {
    "a token that is refused again and again": (SEND, "401", {"times": 2}, "app registration"),
    "a draft that is forbidden": (CREATE, "status", {"status": 403, "code": "ErrorAccessDenied"}, "Application Mail.ReadWrite"),
    "sending that is forbidden": (SEND, "status", {"status": 403, "code": "ErrorAccessDenied"}, "Application Mail.Send"),
    "another's address": (SEND, "status", {"status": 403, "code": "ErrorSendAsDenied"}, "Add-RecipientPermission"),
    "a mailbox without a licence": (CREATE, "status", {"status": 404, "code": "MailboxNotEnabledForRESTAPI"}, "licence"),
    "a mailbox without a licence any more": (SEND, "status", {"status": 404, "code": "MailboxNotEnabledForRESTAPI"}, "licence"),
    "nobody's mailbox": (CREATE, "status", {"status": 404, "code": "ErrorInvalidUser"}, "user principal name"),
    "a day that is full": (SEND, "status", {"status": 429, "code": "ErrorSubmissionQuotaExceeded"}, "[[senders]]"),
    "a mailbox that is full": (CREATE, "status", {"status": 507, "code": "ErrorQuotaExceeded"}, "Sent Items"),
    "a mailbox that is held back": (SEND, "status", {"status": 403, "code": "ErrorMessageSubmissionBlocked"}, "Restricted entities"),
    "another service": (CREATE, "html", {"status": 404}, "transport.graph"),
}


@pytest.mark.parametrize("what", STOPS)
def test_a_no_to_the_whole_job_stops_it_and_says_what_to_do(mailbox: GraphMailbox, what: str) -> None:
    operation, do, options, hint = STOPS[what]
    mailbox.cloud.fault(operation, do, **options)
    outcome = mailbox.once()
    assert isinstance(outcome, NotSent)
    assert outcome.fatal is not None
    assert outcome.fatal.hint is not None
    assert hint in outcome.fatal.hint
    assert "{" not in outcome.fatal.hint
    assert mailbox.left() == []
    assert isinstance(mailbox.once(attempt=2), Accepted)  # when it is mended
    assert (len(mailbox.left()), mailbox.lying("drafts")) == (1, [])


def test_a_sign_in_that_fails_stops_the_job(mailbox: GraphMailbox) -> None:
    transport = mailbox.open(secret=Secret("another"))
    outcome = mailbox.once(transport=transport)
    assert isinstance(outcome, NotSent)
    assert isinstance(outcome.fatal, Error)
    assert "transport.secret" in (outcome.fatal.hint or "")


def test_a_sign_in_service_that_was_never_reached_stops_the_job_at_once(mailbox: GraphMailbox) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        outcome = mailbox.once(transport=mailbox.open(login=f"https://localhost:{closed.getsockname()[1]}"))
    assert isinstance(outcome, NotSent)
    assert outcome.fatal is not None
    assert "refused" in outcome.fatal.message


def test_a_service_that_answered_before_may_be_out_of_reach_for_a_while() -> None:
    silent, later_on = (
        NoResponse("connection refused", request_sent=False),
        SignInUnavailable("no answer in 30 s", where="login.example.org"),
    )
    for response in (silent, later_on):
        for step in (RequestStep.LOOK, RequestStep.DRAFT, RequestStep.SEND, RequestStep.SENDMAIL):
            first, then = (classify_response(step, response, "a@example.org", reached=reached) for reached in (False, True))
            assert isinstance(first, NotSent)
            assert first.fatal is not None
            assert isinstance(then, NotSent)
            assert then.fatal is None


def test_a_message_that_is_cut_off_is_cancelled_and_the_lane_goes_on(mailbox: GraphMailbox) -> None:
    mailbox.cloud.fault(SEND, "silence-after")
    transport = mailbox.open(reply_timeout=30.0)

    async def go() -> Outcome:
        connection, record_intent, armed = transport.connection(), IntentRecorder(), asyncio.Event()

        async def arming(handle: DraftRef | None = None, /) -> bool:
            armed.set()
            return await record_intent(handle)

        message = asyncio.ensure_future(connection.deliver(mailbox.outbound(1), arming))
        await armed.wait()
        while not mailbox.left():  # noqa: ASYNC110  the double is another process
            await asyncio.sleep(0.02)
        message.cancel()
        with pytest.raises(asyncio.CancelledError):
            await message
        try:
            return await connection.deliver(mailbox.outbound(2), IntentRecorder())
        finally:
            await transport.finish()

    assert isinstance(asyncio.run(go()), Accepted)
    assert len(mailbox.left()) == 2
