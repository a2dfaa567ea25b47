"""Every tracker keeps the promises of model.ports.Tracker. A new kind is found in the registry and needs its service below."""

from __future__ import annotations

import asyncio
import re
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from distributor.adapters import REGISTRY
from distributor.adapters.trackers import message_trace
from distributor.adapters.trackers import sent_items as graph
from distributor.adapters.trackers.message_trace import MessageTraceTracker, windows
from distributor.clients.app_registration import AppRegistration
from distributor.clients.graph import graph as client
from distributor.errors import InvalidInput, ServiceUnavailable
from distributor.model.attempts import TrackedMessage, TrackingEvent
from distributor.model.ports import Tracker
from distributor.model.secret import Secret
from distributor.model.states import State
from tests.contracts.test_mailboxes import KINDS as READERS
from tests.doubles.graphd import Cloud, graphd
from tests.doubles.graphd.caller import Caller, connected

SECRET = "a-secret-of-the-app"
ROLES = ["Mail.ReadWrite", "Mail.Send", "ExchangeMessageTrace.Read.All"]
KINDS = set(REGISTRY["trackers"]) - READERS
DAY = timedelta(days=1)


@dataclass
class GraphMailbox:
    """A mailbox that sent messages, and an app that may ask about them."""

    cloud: Cloud
    address: str
    app: str
    slept: list[float] = field(default_factory=list)

    @property
    def names(self) -> dict[str, Any]:
        sign_in = {"tenant": self.cloud.tenant, "client_id": self.app, "secret": Secret(SECRET), "login": self.cloud.login}
        return {**sign_in, "graph": self.cloud.graph}

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.cloud.advance(seconds)

    def now(self) -> datetime:
        return datetime.fromtimestamp(self.cloud.now(), UTC)

    def tracing(self, *senders: str) -> MessageTraceTracker:
        sign_in = AppRegistration(**{name: value for name, value in self.names.items() if name != "graph"})
        return MessageTraceTracker(client(sign_in, self.cloud.graph), senders, now=self.now, sleep=self.sleep)

    def message_id(self, number: int = 1) -> str:
        return f"<{number}.{self.address}>"

    def sought(self, number: int = 1, state: State = State.AMBIGUOUS, **changes: Any) -> TrackedMessage:  # noqa: ANN401  a message's
        message = TrackedMessage(f"d-{number}", self.message_id(number), self.address, f"p{number}@elsewhere.example", state, self.now())
        return replace(message, **changes)

    def by_hand(self, act: Callable[[Caller], object]) -> object:
        with connected(self.cloud, self.cloud.token(self.app, roles=ROLES)) as http:
            return act(Caller(self.cloud, self.app, self.address, http))

    def leave(self, number: int = 1) -> None:
        """A message that left, and that the trace has had time to learn of."""
        self.by_hand(lambda caller: caller.send(caller.create(caller.mime(number, f"p{number}@elsewhere.example")).json()["id"]))
        self.cloud.advance(1)  # times are asked for in whole seconds

    def traced(self, number: int = 1, status: str = "delivered", **row: object) -> None:
        recipient = str(row.pop("recipient", f"p{number}@elsewhere.example"))
        message_id = str(row.pop("message_id", self.message_id(number)))
        self.cloud.trace(message_id, self.address, recipient, **{"status": status, "at": self.cloud.now() - 3700, **row})

    def asked(self, operation: str) -> list[dict[str, Any]]:
        return [one for one in self.cloud.requests(operation) if one["app"] == self.app]

    def filters(self) -> list[str]:
        return [parse_qs(urlsplit(one["target"]).query)["$filter"][0] for one in self.asked("messageTrace.list")]


def look(tracker: Tracker, sought: Sequence[TrackedMessage]) -> list[TrackingEvent]:
    async def go() -> list[TrackingEvent]:
        try:
            return [event async for event in tracker.track(sought)]
        finally:
            await tracker.close()

    return asyncio.run(go())


def opened(kind: str, mailbox: GraphMailbox) -> Tracker:
    if kind == "graph":
        return graph.open(graph.Settings(**mailbox.names, mailbox=mailbox.address), "trackers[0]")
    return mailbox.tracing()


COVERED = {"graph", "trace"}


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    with graphd(tmp_path_factory.mktemp("graphd")) as cloud:
        cloud.set(trace_after=0, trace_settles=0, sign_in_clock="real")
        yield cloud


@pytest.fixture
def mailbox(running: Cloud, monkeypatch: pytest.MonkeyPatch) -> Iterator[GraphMailbox]:
    monkeypatch.setenv("SSL_CERT_FILE", str(running.ca))
    monkeypatch.setenv("NO_PROXY", "localhost")
    address = f"certs-{uuid.uuid4().hex[:8]}@example.org"
    running.mailbox(address)
    yield GraphMailbox(running, address, running.app(secrets={SECRET: None}, roles=ROLES))
    waiting = running.faults()
    running.clear_faults()
    assert (waiting, running.violations(), running.refusals()) == ([], [], [])


# --- what every tracker promises -------------------------------------------------------------------------------------


def test_every_tracker_is_under_this_contract() -> None:
    assert KINDS == COVERED


@pytest.mark.parametrize("kind", sorted(COVERED))
def test_a_message_that_left_is_known_with_evidence_and_without_addresses(mailbox: GraphMailbox, kind: str) -> None:
    mailbox.leave()
    (found,) = look(opened(kind, mailbox), [mailbox.sought(1), mailbox.sought(2)])
    assert found.delivery == "d-1"
    assert found.state in {State.ACCEPTED, State.DELIVERED}
    assert isinstance(found.evidence["kind"], str)
    values = " ".join(str(value) for name, value in found.evidence.items() if name != "message_id")
    assert "@" not in values + found.response


@pytest.mark.parametrize("kind", sorted(COVERED))
def test_another_senders_messages_are_not_told(mailbox: GraphMailbox, kind: str) -> None:
    mailbox.leave()
    assert look(opened(kind, mailbox), [mailbox.sought(1, sender=f"another-{mailbox.address}")]) == []


@pytest.mark.parametrize("kind", sorted(COVERED))
def test_nobody_is_asked_where_nothing_is_sought(mailbox: GraphMailbox, kind: str) -> None:
    assert look(opened(kind, mailbox), []) == []
    assert look(opened(kind, mailbox), [mailbox.sought(state=State.BOUNCED)]) == []
    assert [one for one in mailbox.cloud.requests() if one.get("app") == mailbox.app] == []


@pytest.mark.parametrize("kind", sorted(COVERED))
@pytest.mark.parametrize("fault", ["504-before", "reset-before", "html", "garbage", "403"])
def test_a_service_that_cannot_be_asked_is_told_with_a_way_out(mailbox: GraphMailbox, kind: str, fault: str) -> None:
    operation = {"graph": "user.listMessages", "trace": "messageTrace.list"}[kind]
    if fault == "403":
        mailbox.cloud.app(mailbox.app, roles=["User.Read.All"])
    else:
        mailbox.cloud.fault(operation, fault)
    with pytest.raises(ServiceUnavailable) as raised:
        look(opened(kind, mailbox), [mailbox.sought()])
    assert raised.value.hint


@pytest.mark.parametrize("kind", sorted(COVERED))
def test_a_busy_service_is_waited_for(mailbox: GraphMailbox, kind: str) -> None:
    mailbox.leave()
    mailbox.cloud.fault({"graph": "user.listMessages", "trace": "messageTrace.list"}[kind], "429", retry_after=0)
    assert len(look(opened(kind, mailbox), [mailbox.sought()])) == 1


@pytest.mark.parametrize("kind", sorted(COVERED))
def test_closing_a_tracker_that_was_never_asked_does_nothing(mailbox: GraphMailbox, kind: str) -> None:
    asyncio.run(opened(kind, mailbox).close())


# --- Sent Items ------------------------------------------------------------------------------------------------------


def sent_items(mailbox: GraphMailbox, *sought: TrackedMessage, **changes: Any) -> list[TrackingEvent]:  # noqa: ANN401  settings
    return look(graph.open(graph.Settings(**{**mailbox.names, "mailbox": mailbox.address, **changes}), "trackers[0]"), sought)


def test_a_copy_in_sent_items_says_when_it_was_sent(mailbox: GraphMailbox) -> None:
    mailbox.leave()
    (found,) = sent_items(mailbox, mailbox.sought())
    (copy,) = mailbox.cloud.messages(mailbox.address, "sentitems")
    assert (found.state, found.response) == (State.ACCEPTED, f"found in Sent Items, sent at {copy['sentDateTime']}")
    wanted = {"kind": "sent-items", "message_id": mailbox.message_id(), "sent_at": copy["sentDateTime"]}
    assert {name: value for name, value in found.evidence.items() if name != "id"} == wanted


def test_a_draft_has_not_left_and_may_go_again(mailbox: GraphMailbox) -> None:
    mailbox.by_hand(lambda caller: caller.draft(1))
    (found,) = sent_items(mailbox, mailbox.sought())
    assert (found.state, found.response, found.evidence["kind"]) == (State.QUEUED, "still a draft", "draft")
    assert re.fullmatch(r"AAkALg\S+", str(found.evidence["id"]))


def test_a_message_that_left_counts_more_than_a_draft_of_it(mailbox: GraphMailbox) -> None:
    mailbox.leave()
    mailbox.by_hand(lambda caller: caller.draft(1))
    assert [found.state for found in sent_items(mailbox, mailbox.sought())] == [State.ACCEPTED]


def test_a_copy_that_somebody_put_away_still_says_that_it_left(mailbox: GraphMailbox) -> None:
    mailbox.leave()
    (copy,) = mailbox.cloud.messages(mailbox.address, "sentitems")
    mailbox.by_hand(lambda caller: caller.http.delete(f"/users/{mailbox.address}/messages/{copy['id']}"))
    assert [found.state for found in sent_items(mailbox, mailbox.sought())] == [State.ACCEPTED]


def test_the_mailbox_is_asked_for_its_own_senders_and_for_those_nobody_knows_any_more(mailbox: GraphMailbox) -> None:
    mailbox.leave()
    asked = [mailbox.sought(sender=sender) for sender in (None, mailbox.address.upper(), "alias@example.org", "stranger@example.org")]
    found = sent_items(mailbox, *asked, senders=("Alias@example.org",))
    assert len(found) == 3


def test_only_what_is_ambiguous_is_looked_for_four_at_a_time(mailbox: GraphMailbox) -> None:
    for number in range(6):
        mailbox.leave(number)
    messages = [mailbox.sought(number) for number in range(6)] + [mailbox.sought(number, State.ACCEPTED) for number in range(6)]
    assert [found.delivery for found in sent_items(mailbox, *messages)] == [f"d-{number}" for number in range(6)]
    assert len(mailbox.asked("user.listMessages")) == 6
    assert mailbox.cloud.counts()["mailboxes"][mailbox.address]["max_in_flight"] <= 4


def test_a_message_id_is_quoted(mailbox: GraphMailbox) -> None:
    odd = f"<o'neill+1&2%.{mailbox.address}>"
    mailbox.by_hand(lambda caller: caller.create(caller.mime().replace(mailbox.message_id().encode(), odd.encode())))
    assert len(sent_items(mailbox, mailbox.sought(message_id=odd))) == 1


def test_a_table_without_a_mailbox_is_refused(mailbox: GraphMailbox) -> None:
    with pytest.raises(InvalidInput) as raised:
        graph.open(graph.Settings(**mailbox.names), "trackers[1]")
    assert raised.value.where == "trackers[1].mailbox"


# --- the message trace -----------------------------------------------------------------------------------------------

STATUSES: dict[str, tuple[State, str]] = {
    "delivered": (State.DELIVERED, "delivered"),
    "failed": (State.BOUNCED, "not delivered"),
    "pending": (State.ACCEPTED, "accepted by Exchange (message trace: pending)"),
    "gettingStatus": (State.ACCEPTED, "accepted by Exchange (message trace: gettingStatus)"),
    "expanded": (State.ACCEPTED, "accepted by Exchange (message trace: expanded)"),
    "recalled": (State.ACCEPTED, "accepted by Exchange (message trace: recalled)"),
    "quarantined": (State.ACCEPTED, "in quarantine"),
    "filteredAsSpam": (State.ACCEPTED, "filtered as spam"),
}


@pytest.mark.parametrize("status", STATUSES)
def test_the_trace_gives_the_state_of_a_message(mailbox: GraphMailbox, status: str) -> None:
    state, words = STATUSES[status]
    mailbox.traced(1, status)
    (found,) = look(mailbox.tracing(), [mailbox.sought()])
    assert (found.state, found.response.startswith(words)) == (state, True)
    assert {**found.evidence, "trace_id": "", "received_at": ""} == {
        "kind": "message-trace",
        "status": status,
        "trace_id": "",
        "received_at": "",
    }
    assert found.evidence["trace_id"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", str(found.evidence["received_at"]))


@pytest.mark.parametrize("status", STATUSES)
def test_of_an_accepted_message_only_the_end_is_news(mailbox: GraphMailbox, status: str) -> None:
    mailbox.traced(1, status)
    found = look(mailbox.tracing(), [mailbox.sought(state=State.ACCEPTED)])
    assert [one.state for one in found] == [state for state in [STATUSES[status][0]] if state is not State.ACCEPTED]


def test_message_ids_match_in_any_case_with_and_without_brackets(mailbox: GraphMailbox) -> None:
    mailbox.traced(1, message_id=mailbox.message_id(1).strip("<>").upper())
    assert [one.state for one in look(mailbox.tracing(), [mailbox.sought()])] == [State.DELIVERED]


def test_the_row_of_our_recipient_counts_and_of_those_the_most_final(mailbox: GraphMailbox) -> None:
    for status in ("gettingStatus", "delivered", "pending"):
        mailbox.traced(1, status, recipient="P1@Elsewhere.Example")
    mailbox.traced(1, "failed", recipient="member-of-a-list@elsewhere.example")
    assert [one.state for one in look(mailbox.tracing(), [mailbox.sought()])] == [State.DELIVERED]


def test_another_recipients_row_says_only_that_exchange_has_it(mailbox: GraphMailbox) -> None:
    mailbox.traced(1, "failed", recipient="member-of-a-list@elsewhere.example")
    assert [one.state for one in look(mailbox.tracing(), [mailbox.sought()])] == [State.ACCEPTED]
    assert look(mailbox.tracing(), [mailbox.sought(state=State.ACCEPTED)]) == []


def test_all_messages_of_a_sender_are_one_question_of_one_value_a_property(mailbox: GraphMailbox) -> None:
    for number in range(5):
        mailbox.traced(number)
    assert len(look(mailbox.tracing(), [mailbox.sought(number) for number in range(5)])) == 5
    (asked,) = mailbox.filters()
    assert " or " not in asked
    assert [part.split()[0] for part in asked.split(" and ")] == ["senderAddress", "receivedDateTime", "receivedDateTime"]


def test_a_message_whose_sender_nobody_knows_is_asked_for_under_the_table_s_senders(mailbox: GraphMailbox) -> None:
    mailbox.traced()
    assert look(mailbox.tracing(), [mailbox.sought(sender=None)]) == []
    assert len(look(mailbox.tracing("other@example.org", mailbox.address), [mailbox.sought(sender=None)])) == 1


def test_pages_are_read_to_the_end(mailbox: GraphMailbox) -> None:
    for number in range(7):
        mailbox.traced(number)
    with mailbox.cloud.during(page_cap=2):
        assert len(look(mailbox.tracing(), [mailbox.sought(number) for number in range(7)])) == 7
    assert len(mailbox.asked("messageTrace.list")) == 4


def test_a_page_that_has_expired_is_told(mailbox: GraphMailbox) -> None:
    for number in range(3):
        mailbox.traced(number)
    mailbox.cloud.fault("messageTrace.list", "status", skip=1, status=400, code="Directory_ExpiredPageToken")
    with mailbox.cloud.during(page_cap=2), pytest.raises(ServiceUnavailable, match="Directory_ExpiredPageToken"):
        look(mailbox.tracing(), [mailbox.sought(number) for number in range(3)])


def test_the_trace_is_asked_ninety_times_in_five_minutes_at_most(mailbox: GraphMailbox) -> None:
    for number in range(95):
        mailbox.traced(number)
    with mailbox.cloud.during(page_cap=1):
        assert len(look(mailbox.tracing(), [mailbox.sought(number) for number in range(95)])) == 95
    assert mailbox.cloud.counts()["refused_traces"] == 0
    assert 290 < mailbox.slept[0] <= 300  # for the first of them; the rest of the 95 are due soon after
    assert len(mailbox.slept) <= 5


def test_a_limit_that_others_used_up_is_waited_for(mailbox: GraphMailbox) -> None:
    mailbox.traced()
    with mailbox.cloud.during(traces_per_five_minutes=1):
        assert len(look(mailbox.tracing(), [mailbox.sought()])) == 1
        assert len(look(mailbox.tracing(), [mailbox.sought()])) == 1
    assert len(mailbox.slept) == 1
    assert 290 < mailbox.slept[0] <= 300


def test_a_missing_permission_names_it_and_the_service_that_has_to_be_let_in(mailbox: GraphMailbox) -> None:
    mailbox.cloud.app(mailbox.app, roles=["Mail.ReadWrite"])
    with pytest.raises(ServiceUnavailable) as raised:
        look(mailbox.tracing(), [mailbox.sought()])
    hint = raised.value.hint or ""
    assert "ExchangeMessageTrace.Read.All" in hint
    assert "New-MgServicePrincipal -AppId 8bd644d1-64a1-4d4b-ae52-2e0cbf64e373" in hint


def test_old_messages_are_asked_for_in_windows_that_the_trace_allows(mailbox: GraphMailbox) -> None:
    now = mailbox.now()
    messages = [mailbox.sought(days, since=now - days * DAY) for days in (1, 40, 88, 200)]
    for days in (1, 40, 88):
        mailbox.traced(days, at=mailbox.cloud.now() - days * 86_400)
    assert {one.delivery for one in look(mailbox.tracing(), messages)} == {"d-1", "d-40", "d-88"}


def test_windows_join_where_they_touch_are_cut_at_ten_days_and_never_reach_beyond_ninety() -> None:
    now = datetime(2026, 11, 25, 12, tzinfo=UTC)
    assert list(windows([now - timedelta(hours=1), now], now)) == [(now - 2 * DAY - timedelta(hours=1), now)]
    assert list(windows([now - 50 * DAY, now - 20 * DAY], now)) == [(now - 52 * DAY, now - 49 * DAY), (now - 22 * DAY, now - 19 * DAY)]
    daily = list(windows([now - n * DAY for n in range(200)], now))
    assert daily[0][0] == now - 90 * DAY + timedelta(hours=1)
    assert daily[-1][1] == now
    assert all(until - since <= 10 * DAY for since, until in daily)
    assert [until for _, until in daily[:-1]] == [since for since, _ in daily[1:]]
    assert list(windows([now - 100 * DAY], now)) == []


def test_a_trace_is_opened_from_its_table(mailbox: GraphMailbox) -> None:
    mailbox.traced(at=mailbox.cloud.now() - 300)
    names = {**mailbox.names, "senders": (mailbox.address,)}
    assert message_trace.open(message_trace.Settings(**names), "trackers[0]").min_age == timedelta(seconds=60)
    with pytest.raises(InvalidInput) as raised:
        message_trace.open(message_trace.Settings(**{**names, "secret": None}), "trackers[0]")
    assert raised.value.where == "trackers[0]"
