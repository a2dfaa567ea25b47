"""Ambiguous deliveries, and who may say what about them."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from distributor.errors import RequestDenied
from distributor.model.attempts import AttemptResult, Claim, RecordIntent
from distributor.model.delivery import DeliveryFilter, LeaseHolder
from distributor.model.ports import Ledger
from distributor.model.states import PasswordState, State
from distributor.workflows import tracking
from tests.workflows import outbox

NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)
WAIT = timedelta(minutes=10)
HERE = LeaseHolder("o-1", "this machine", 4711, 1)


class Doubtful:
    """A ledger with one armed message of which nothing more was heard."""

    def __init__(self, path: Path) -> None:
        self.time = NOON
        self.ledger: Ledger = outbox.new_ledger(path, lambda: self.time)
        outbox.queue(self.ledger, 2)
        claim: Claim = self.ledger.claim(HERE, 1, timedelta(minutes=1), DeliveryFilter())[0]
        self.id = claim.id
        self.ledger.write([RecordIntent(claim, WAIT), AttemptResult(claim, State.AMBIGUOUS, "the message: the connection was cut")], HERE)

    def again(self, *, alive: bool | None) -> None:
        tracking.send_again(self.ledger, self.id, "not in its log", alive=lambda _: alive, now=self.time, attempt_timeout=WAIT)

    def state(self) -> State:
        found = self.ledger.delivery(self.id)
        assert found
        return found.state


@pytest.fixture
def doubtful(tmp_path: Path) -> Iterator[Doubtful]:
    found = Doubtful(tmp_path / "distributor.db")
    yield found
    assert found.ledger.verify() == []
    found.ledger.close()


def test_a_doubt_shows_its_evidence_and_when_to_look_again(doubtful: Doubtful) -> None:
    (doubt,) = tracking.ambiguous_deliveries(doubtful.ledger, DeliveryFilter(), alive=lambda _: None, now=NOON, attempt_timeout=WAIT)
    assert doubt.delivery.id == doubtful.id
    assert doubt.retry_allowed_at == NOON + WAIT
    assert "the connection was cut" in doubt.evidence


def test_a_person_who_saw_it_accepted_makes_its_password_ready(doubtful: Doubtful) -> None:
    tracking.accept(doubtful.ledger, doubtful.id, "mx1 has it")
    found = doubtful.ledger.delivery(doubtful.id)
    assert found
    assert (found.state, found.password_state) == (State.ACCEPTED, PasswordState.READY)


def test_it_is_not_sent_again_while_its_sender_runs(doubtful: Doubtful) -> None:
    doubtful.time += timedelta(days=3)
    with pytest.raises(RequestDenied, match="still running"):
        doubtful.again(alive=True)
    assert doubtful.state() is State.AMBIGUOUS


def test_it_is_not_sent_again_while_a_sender_elsewhere_may_still_wait(doubtful: Doubtful) -> None:
    doubtful.time += timedelta(minutes=4)
    with pytest.raises(RequestDenied) as caught:
        doubtful.again(alive=None)
    assert "12:10:00 UTC, in 6 min" in str(caught.value.hint)
    assert doubtful.state() is State.AMBIGUOUS


def test_it_is_sent_again_once_no_sender_can_be_waiting(doubtful: Doubtful) -> None:
    doubtful.time += WAIT
    doubtful.again(alive=None)
    assert doubtful.state() is State.QUEUED


def test_it_is_sent_again_at_once_when_its_sender_has_ended(doubtful: Doubtful) -> None:
    doubtful.again(alive=False)
    assert doubtful.state() is State.QUEUED


def test_the_very_same_message_is_sent_again(doubtful: Doubtful) -> None:
    before = doubtful.ledger.delivery(doubtful.id)
    doubtful.again(alive=False)
    messages = {message.delivery: message for message in doubtful.ledger.messages(DeliveryFilter())}
    assert before
    assert messages[doubtful.id].message_id == before.message_id


def test_a_delivery_that_is_not_ambiguous_is_not_resolved(doubtful: Doubtful) -> None:
    tracking.accept(doubtful.ledger, doubtful.id, "mx1 has it")
    with pytest.raises(RequestDenied, match="not ambiguous"):
        doubtful.again(alive=False)
    with pytest.raises(RequestDenied, match="no such delivery"):
        tracking.accept(doubtful.ledger, "d-nothing", "mx1 has it")
