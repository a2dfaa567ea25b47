"""How near several mailboxes come to what their service allows, in hours that pass by themselves."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from distributor.model.delivery import DeliveryFilter
from distributor.model.ports import Ledger
from distributor.model.states import State
from tests.workflows import outbox
from tests.workflows.virtual import MINUTE, Service, VirtualLoop, freeze, run

SENDERS = [f"certificates{number}@example.org" for number in range(4)]
PEOPLE = 1200


@pytest.fixture
def loop() -> Iterator[VirtualLoop]:
    made = VirtualLoop()
    yield made
    made.close()


@pytest.fixture
def ledger(tmp_path: Path, loop: VirtualLoop) -> Iterator[Ledger]:
    made = outbox.new_ledger(tmp_path / "distributor.db", loop.now)
    freeze(made, PEOPLE, SENDERS)
    yield made
    made.close()


def everybody_has_one(ledger: Ledger, service: Service) -> bool:
    return (
        ledger.counts(DeliveryFilter()) == {State.ACCEPTED: PEOPLE}
        and set(service.people.values()) == {1}
        and len(service.people) == PEOPLE
    )


def test_four_mailboxes_send_four_times_as_much_and_never_too_much(ledger: Ledger, loop: VirtualLoop) -> None:
    service = Service(loop, random.Random(1))  # noqa: S311  no secret
    run(loop, ledger, service, SENDERS)
    assert everybody_has_one(ledger, service)
    assert service.violations() == 0
    assert PEOPLE / (loop.passed / MINUTE) >= 0.97 * len(SENDERS) * 30  # the last message of such a short run counts


def test_with_faults_everybody_gets_one_and_no_minute_has_too_many(ledger: Ledger, loop: VirtualLoop) -> None:
    out = {SENDERS[1]: (0.0, 60.0), SENDERS[2]: (200.0, 230.0)}
    service = Service(loop, random.Random(2), throttled=0.02, out=out)  # noqa: S311  no secret
    while not everybody_has_one(ledger, service):
        run(loop, ledger, service, SENDERS)
        assert loop.passed < 3 * MINUTE * PEOPLE / (30 * len(SENDERS))
    assert service.violations() == 0


def test_a_day_s_limit_is_used_and_kept(ledger: Ledger, loop: VirtualLoop) -> None:
    service = Service(loop, random.Random(3), daily=PEOPLE // 6)  # noqa: S311  no secret
    (first,) = run(loop, ledger, service, SENDERS)
    assert first.accepted == PEOPLE // 6 * 4
    loop.passed += 86_400
    run(loop, ledger, service, SENDERS)
    assert everybody_has_one(ledger, service)
    assert service.violations() == 0
