"""What Graph puts off, and what it refuses by our fault: no message pays for it, and nothing is asked within the service's own time."""

from __future__ import annotations

import asyncio
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from distributor.adapters.transports.graph.responses import RequestStep, classify_response
from distributor.clients.graph import HttpResponse
from distributor.errors import ServiceUnavailable
from distributor.model.attempts import Accepted, Ambiguous, DraftRef, NotSent, Outcome, Rejected
from tests.contracts.graph_mailbox import CREATE, SEND, GraphMailbox, IntentRecorder
from tests.contracts.test_graph_copies import PURGE, FakeLedger, ended

SENDER = "certificates@example.org"
NOW = datetime(2026, 11, 30, 12, 0, 30, tzinfo=UTC)
ARMED = {RequestStep.SEND, RequestStep.SENDMAIL}
AGAIN = re.compile(r"run `distributor send` again after \d{4}-\d\d-\d\d \d\d:\d\d UTC")


def answer(status: int, code: str = "", seconds: float | None = None) -> HttpResponse:
    wait = None if seconds is None else timedelta(seconds=seconds)
    return HttpResponse(status, code, f"{status} {code}", retry_after=wait, again=None if wait is None else NOW + wait)


def outcome(step: RequestStep, response: HttpResponse) -> Outcome:
    return classify_response(step, response, SENDER, reached=True)


def stop_of(found: Outcome) -> ServiceUnavailable:
    assert isinstance(found, NotSent)
    assert isinstance(found.fatal, ServiceUnavailable)
    assert found.retry_after is None
    return found.fatal


# --- later ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("step", RequestStep)
def test_a_service_that_asks_for_more_than_two_minutes_stops_the_mailbox_and_says_until_when(step: RequestStep) -> None:
    stop = stop_of(outcome(step, answer(429, "ApplicationThrottled", 3600)))
    assert str(stop) == f'{SENDER}: the service asks to wait longer than one run does: "429 ApplicationThrottled"'
    assert (stop.hint, stop.exit_code) == ("run `distributor send` again after 2026-11-30 13:01 UTC", 4)


@pytest.mark.parametrize("step", RequestStep)
def test_two_minutes_are_waited_for(step: RequestStep) -> None:
    found = outcome(step, answer(429, "ApplicationThrottled", 120))
    assert found == NotSent("429 ApplicationThrottled", throttled=True, retry_after=timedelta(seconds=120))


@pytest.mark.parametrize("status", [500, 503, 504])
@pytest.mark.parametrize("step", RequestStep)
def test_a_service_that_is_down_for_long_leaves_only_an_armed_message_unclear(step: RequestStep, status: int) -> None:
    found = outcome(step, answer(status, "ErrorServerBusy", 300))
    if step in ARMED:
        assert isinstance(found, Ambiguous)
    else:
        assert "12:06" in str(stop_of(found).hint)


def test_an_accepted_message_is_accepted_however_long_the_service_wants_to_be_left_alone() -> None:
    assert isinstance(outcome(RequestStep.SEND, answer(202, "", 3600)), Accepted)


def test_a_run_does_not_wait_for_an_hour_and_asks_nothing_more_of_the_mailbox(mailbox: GraphMailbox) -> None:
    mailbox.cloud.fault(SEND, "429", retry_after=3600)
    stops = [stop_of(found) for found in mailbox.deliver(*(mailbox.outbound(number) for number in (1, 2, 3)))]
    assert all(AGAIN.fullmatch(str(stop.hint)) for stop in stops)
    assert (mailbox.slept, mailbox.asked()) == ([], [CREATE, SEND])
    assert (mailbox.left(), mailbox.lying("drafts")) == ([], [mailbox.message_id(1)])
    assert isinstance(mailbox.once(1, attempt=2), Accepted)  # an hour later
    assert (len(mailbox.left()), mailbox.lying("drafts")) == (1, [])


@pytest.mark.parametrize(("seconds", "slept"), [(3600, False), (60, True)])
def test_a_message_that_is_armed_while_the_service_asks_for_time_is_certainly_unsent_or_waits(
    mailbox: GraphMailbox, seconds: int, *, slept: bool
) -> None:
    mailbox.cloud.fault(SEND, "429", retry_after=seconds)
    transport = mailbox.open()

    async def go() -> tuple[Outcome, Outcome]:
        first: list[Outcome] = []

        async def record_intent(_: DraftRef | None = None, /) -> bool:
            first.append(await transport.connection().deliver(mailbox.outbound(1), IntentRecorder()))
            return True

        try:
            second = await transport.connection().deliver(mailbox.outbound(2), record_intent)
            return first[0], second
        finally:
            await transport.finish()

    first, second = asyncio.run(go())
    assert isinstance(first, NotSent)
    if slept:
        assert isinstance(second, Accepted)
        assert mailbox.slept == [pytest.approx(60, abs=2)]
    else:
        assert "not sent: the service asked to wait until" in str(stop_of(second))
        assert (mailbox.slept, mailbox.asked(), mailbox.left()) == ([], [CREATE, CREATE, SEND], [])


def test_copies_that_the_service_lets_wait_for_an_hour_stay_and_are_told_without_asking_again(mailbox: GraphMailbox) -> None:
    mailbox.cloud.fault(PURGE, "429", retry_after=3600)
    _, (diagnostic,) = ended(mailbox.open(save_copy=False), *(mailbox.outbound(number) for number in range(10)), ledger=FakeLedger())
    asked = mailbox.asked().count(PURGE)
    assert asked <= 4  # those that were under way
    assert f"{11 - asked} messages stay in Sent Items" in diagnostic.message
    assert "ApplicationThrottled" in diagnostic.message
    assert mailbox.slept == []


# --- our own fault -------------------------------------------------------------------------------------------------

OURS = {
    "broken base64": (answer(400, "ErrorMimeContentInvalidBase64String"), "report"),
    "too many headers": (answer(400, "InvalidInternetMessageHeaderCollection"), "report"),
    "a message that is too large": (answer(413, "ErrorMessageSizeExceeded"), "4 MB"),
    "a message that is too large for what is between": (answer(413), "4 MB"),
}


@pytest.mark.parametrize("step", RequestStep)
@pytest.mark.parametrize("what", OURS)
def test_what_is_our_fault_stops_the_job_and_rejects_nobody(what: str, step: RequestStep) -> None:
    response, words = OURS[what]
    stop = stop_of(outcome(step, response))
    assert words in str(stop.hint)
    assert response.detail.strip() in str(stop)


@pytest.mark.parametrize("operation", [CREATE, SEND])
@pytest.mark.parametrize("what", OURS)
def test_a_message_that_was_refused_by_our_fault_goes_when_it_is_mended(mailbox: GraphMailbox, what: str, operation: str) -> None:
    response, _ = OURS[what]
    mailbox.cloud.fault(operation, "status", status=response.status, code=response.code)
    stop_of(mailbox.once())
    assert mailbox.left() == []
    assert isinstance(mailbox.once(attempt=2), Accepted)
    assert (len(mailbox.left()), mailbox.lying("drafts")) == (1, [])


@pytest.mark.parametrize(("code", "content"), [("ErrorInvalidRecipients", False), ("ErrorMimeContentInvalid", True)])
@pytest.mark.parametrize("step", [step for step in RequestStep if step is not RequestStep.LOOK])
def test_a_no_to_one_message_still_rejects_that_one(step: RequestStep, code: str, content: bool) -> None:  # noqa: FBT001
    assert replace(Rejected(""), content=content) == replace(judged(step, code), response="")


def judged(step: RequestStep, code: str) -> Rejected:
    found = outcome(step, answer(400, code))
    assert isinstance(found, Rejected)
    return found


@pytest.mark.parametrize("step", RequestStep)
def test_a_bad_request_without_graphs_own_word_rejects_nobody(step: RequestStep) -> None:
    assert isinstance(outcome(step, answer(400)), Ambiguous if step in ARMED else NotSent)
