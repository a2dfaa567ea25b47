"""The first hour of a message trace: what failed there may still be delivered."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest

from distributor.adapters.trackers.message_trace import UNSETTLED, moments, sighting, windows
from distributor.model.delivery import TrackedMessage
from distributor.model.states import State

NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)


def message(state: State) -> TrackedMessage:
    return TrackedMessage("d-1", "<1@example.org>", "certificates@example.org", "anna@example.org", state, NOW - timedelta(days=1))


def row(age: timedelta, status: str = "failed", recipient: str = "anna@example.org") -> dict[str, str]:
    received = (NOW - age).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {"messageId": "<1@example.org>", "status": status, "recipientAddress": recipient, "receivedDateTime": received}


def test_a_failure_of_a_minute_ago_leaves_an_accepted_message_where_it_is() -> None:
    assert sighting(message(State.ACCEPTED), row(timedelta(seconds=61)), NOW) is None


def test_a_failure_of_a_minute_ago_proves_that_an_unclear_message_left_and_no_more() -> None:
    found = sighting(message(State.AMBIGUOUS), row(timedelta(seconds=61)), NOW)
    assert found is not None
    assert (found.state, found.evidence["status"], "may still change" in found.response) == (State.ACCEPTED, "failed", True)


@pytest.mark.parametrize("state", [State.ACCEPTED, State.AMBIGUOUS])
def test_a_failure_that_is_an_hour_old_is_a_bounce(state: State) -> None:
    young, old = (sighting(message(state), row(age), NOW) for age in (UNSETTLED - timedelta(seconds=1), UNSETTLED))
    assert young is None or young.state is State.ACCEPTED
    assert old is not None
    assert old.state is State.BOUNCED


def test_a_delivery_is_one_at_once() -> None:
    found = sighting(message(State.ACCEPTED), row(timedelta(seconds=61), "delivered"), NOW)
    assert found is not None
    assert found.state is State.DELIVERED


def test_a_failure_without_a_time_is_as_old_as_the_attempt() -> None:
    found = sighting(message(State.ACCEPTED), {**row(timedelta()), "receivedDateTime": "soon"}, NOW)
    assert found is not None
    assert found.state is State.BOUNCED


def test_another_recipients_failure_is_not_called_early() -> None:
    found = sighting(message(State.AMBIGUOUS), row(timedelta(seconds=61), recipient="list@example.org"), NOW)
    assert found is not None
    assert found.response == "Exchange has it (failed), by the message trace"


def test_an_unclear_message_of_a_restored_ledger_is_looked_for_at_all_times_since_the_backup() -> None:
    backup = NOW - timedelta(days=30)
    lost = replace(message(State.AMBIGUOUS), since=backup, until=NOW)
    spans = list(windows(moments(lost), NOW))
    assert (spans[0][0], spans[-1][1]) == (backup - timedelta(days=2), NOW)
    assert all(end == begin for (_, end), (begin, _) in pairwise(spans))
    assert list(moments(message(State.ACCEPTED))) == [NOW - timedelta(days=1)]
