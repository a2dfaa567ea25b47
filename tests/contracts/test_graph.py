"""Messages through Microsoft Graph: whatever the service does, each has one outcome that is true, and nothing goes twice."""

from __future__ import annotations

import asyncio
import re
import socket
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from distributor.adapters.transports import graph
from distributor.adapters.transports.graph import GraphConnection, GraphTransport, Settings
from distributor.adapters.transports.graph.responses import RequestStep, classify_response
from distributor.clients.app_registration import SignInUnavailable
from distributor.clients.graph import NoResponse
from distributor.errors import Error, InvalidInput
from distributor.model.delivery import (
    Accepted,
    Account,
    Ambiguous,
    DraftRef,
    NotSent,
    OutboundMessage,
    Outcome,
    Rejected,
    TrackedMessage,
    TrackingEvent,
)
from distributor.model.issues import Diagnostic
from distributor.model.ports import CommitIntent
from distributor.model.secret import Secret
from distributor.model.states import State
from tests.doubles.graphd import Cloud, graphd
from tests.doubles.graphd.caller import Caller, connected

SECRET = "a-secret-of-the-app"
ROLES = ["Mail.Send", "Mail.ReadWrite"]
PATIENCE = 0.5  # seconds a message waits for an answer that never comes
CREATE, SEND, LOOK = "user.createMessage", "message.send", "user.listMessages"


@dataclass
class IntentRecorder:
    """Records the intent to send, or refuses to; and keeps the drafts it was given."""

    verdict: bool = True
    handles: list[DraftRef | None] = field(default_factory=list)

    async def __call__(self, handle: DraftRef | None = None, /) -> bool:
        self.handles.append(handle)
        return self.verdict


@dataclass
class GraphMailbox:
    """A mailbox of its own with an app that may use it; `slept` is how long the transport would have waited."""

    cloud: Cloud
    address: str
    app: str
    slept: list[float] = field(default_factory=list)
    moves: bool = False  # the cloud's clock with every sleep

    def settings(self, **changes: object) -> Settings:
        names = {"tenant": self.cloud.tenant, "client_id": self.app, "secret": Secret(SECRET), "login": self.cloud.login}
        silent = any("silence" in fault["do"] for fault in self.cloud.faults())
        usual = {"graph": self.cloud.graph, "mailbox": self.address, "reply_timeout": PATIENCE if silent else 10.0}
        return Settings(**{**names, **usual, **changes})

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        if self.moves:
            self.cloud.advance(seconds)

    def open(self, accounts: Sequence[Account] = (), **changes: object) -> GraphTransport:
        return graph.open(self.settings(**changes), accounts, sleep=self.sleep)

    def outbound(self, number: int = 1, attempt: int = 1) -> OutboundMessage:
        head = f"From: {self.address}\r\nTo: p{number}@elsewhere.example\r\nMessage-ID: {self.message_id(number)}\r\n"
        message = f"{head}Content-Type: text/plain\r\n\r\nletter {number}\r\n".encode()
        return OutboundMessage(f"d-{number}", self.address, f"p{number}@elsewhere.example", self.message_id(number), message, attempt)

    def message_id(self, number: int = 1) -> str:
        return f"<{number}.{self.address}>"

    def deliver(
        self, *outgoing: OutboundMessage, record_intent: CommitIntent | None = None, transport: GraphTransport | None = None
    ) -> list[Outcome]:
        """One after the other, in one run."""
        opened = transport or self.open()

        async def go() -> list[Outcome]:
            connection = opened.connection()
            try:
                return [await connection.deliver(message, record_intent or IntentRecorder()) for message in outgoing]
            finally:
                await opened.finish()

        return asyncio.run(go())

    def once(
        self, number: int = 1, attempt: int = 1, record_intent: CommitIntent | None = None, transport: GraphTransport | None = None
    ) -> Outcome:
        return self.deliver(self.outbound(number, attempt), record_intent=record_intent, transport=transport)[0]

    def sought(self, number: int = 1) -> TrackedMessage:
        return TrackedMessage(f"d-{number}", self.message_id(number), self.address, "p", State.AMBIGUOUS, datetime.now(UTC))

    def look(self, number: int = 1) -> TrackingEvent | None:
        """What the mailbox says of a message that is ambiguous."""
        transport = self.open(reply_timeout=10.0)

        async def go() -> list[TrackingEvent]:
            tracker = transport.tracker()
            try:
                return [event async for event in tracker.track([self.sought(number)])]
            finally:
                await tracker.close()

        return next(iter(asyncio.run(go())), None)

    def check(self, **changes: object) -> list[Diagnostic]:
        return asyncio.run(self.open(**changes).check())

    def left(self) -> list[dict[str, Any]]:
        return [record for record in self.cloud.stored() if record["mailbox"] == self.address]

    def lying(self, folder: str) -> list[str]:
        return [message["internetMessageId"] for message in self.cloud.messages(self.address, folder)]

    def asked(self) -> list[str]:
        """The operations that this app asked for, oldest first."""
        return [one["operation"] for one in self.cloud.requests() if one.get("app") == self.app]

    def by_hand(self, act: Callable[[Caller], object]) -> object:
        """What somebody else does in the mailbox, with an app of their own."""
        other = self.cloud.app(roles=ROLES)
        with connected(self.cloud, self.cloud.token(other)) as http:
            return act(Caller(self.cloud, other, self.address, http))

    def draft(self, number: int = 1) -> str:
        return str(self.by_hand(lambda caller: caller.create(self.outbound(number).message).json()["id"]))


@pytest.fixture(scope="module")
def moving(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    """One whose clock is moved."""
    with graphd(tmp_path_factory.mktemp("graphd")) as cloud:
        cloud.set(sign_in_clock="real")
        yield cloud


def mailbox_at(cloud: Cloud, patch: pytest.MonkeyPatch, **app: object) -> GraphMailbox:
    patch.setenv("SSL_CERT_FILE", str(cloud.ca))
    patch.setenv("NO_PROXY", "localhost")
    address = f"certs-{uuid.uuid4().hex[:8]}@example.org"
    cloud.mailbox(address)
    return GraphMailbox(cloud, address, cloud.app(**{"secrets": {SECRET: None}, "roles": ROLES, **app}))


@pytest.fixture
def mailbox(running: Cloud, monkeypatch: pytest.MonkeyPatch) -> Iterator[GraphMailbox]:
    yield mailbox_at(running, monkeypatch)
    spotless(running)


@pytest.fixture
def later(moving: Cloud, monkeypatch: pytest.MonkeyPatch) -> Iterator[GraphMailbox]:
    yield replace(mailbox_at(moving, monkeypatch), moves=True)
    spotless(moving)


def spotless(cloud: Cloud) -> None:
    waiting = cloud.faults()
    cloud.clear_faults()
    assert (waiting, cloud.violations(), cloud.refusals()) == ([], [], [])


# --- a message ------------------------------------------------------------------------------------------------------


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
    "a reset before it": ("reset-before", {}, NotSent("the draft: ")),
    "a reset after it": ("reset-after", {}, NotSent("the draft: ")),
    "silence before it": ("silence-before", {}, NotSent("the draft: no answer in 0.5 s")),
    "silence after it": ("silence-after", {}, NotSent("the draft: no answer in 0.5 s")),
    "half an answer": ("truncated", {}, NotSent("the draft: ")),
    "nonsense": ("garbage", {}, NotSent("the draft: ")),
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
        "without Mail.ReadWrite 2 messages went by sendMail; an answer that is lost cannot be looked up",
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
    assert wide.message.startswith("Mail.ReadWrite and Mail.Send: granted for the whole tenant")
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
        if diagnostic.level != "ok" and "whole tenant" not in diagnostic.message
    ]


@pytest.mark.parametrize(
    ("app", "level", "words"),
    [
        ({"roles": ["Mail.Send"]}, "warning", "without Mail.ReadWrite messages go by sendMail"),
        ({"roles": ["Mail.Send", "Mail.Read"]}, "warning", "without Mail.ReadWrite"),
        ({"roles": ["Mail.ReadWrite"]}, "error", "the app may not send from it"),
        ({"roles": []}, "error", "the app may not send from it"),
        ({"mailboxes": ["another@example.org"]}, "error", "Access to OData is disabled"),
        ({"roles": [*ROLES, "Files.ReadWrite.All"]}, "warning", "permissions that nothing here needs: Files.ReadWrite.All"),
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
    assert "`save_copy = false` cannot be honoured" in text


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
