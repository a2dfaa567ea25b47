"""Any order of planning, packing, sending, dying and deciding keeps the ledger true; and a ledger that makes a mistake is caught."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from random import Random

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test
from sqlalchemy import true

from distributor.ledger import leases, sending, transitions
from distributor.ledger.transaction import WriteTransaction
from distributor.ledger.transitions import Row, Transition
from distributor.model.attempts import AttemptUpdate, RecordIntent
from distributor.model.delivery import LeaseHolder
from distributor.model.states import RECEIVED
from tests.ledger.machine import OWNERS, UNSENT_ENDS, Held, Machine, S


def test_any_order_of_steps_keeps_the_ledger_true(empty_file: Path) -> None:
    Machine.template = empty_file
    bounds = settings(max_examples=40, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck))
    run_state_machine_as_test(Machine, settings=bounds)


class Walk:
    """One long way through the machine, chosen by dice: deeper than Hypothesis goes, the same each time."""

    def __init__(self, template: Path, seed: int) -> None:
        Machine.template = template
        self.dice, self.machine, self.held = Random(seed), Machine(), list[Held]()  # noqa: S311  dice, not secrets

    def go(self, steps: int) -> None:
        machine = self.machine
        machine.begin_with(["claimed", "armed", "reached"])
        try:
            for _ in range(steps):
                self.step()
                machine.the_ledger_says_what_the_model_says()
                machine.nothing_is_sent_twice_or_lost_or_claimed_without_proof()
        finally:
            machine.teardown()

    def step(self) -> None:  # noqa: C901, PLR0912  one case a kind of step
        machine, dice = self.machine, self.dice
        owner, pick, coin = dice.choice(OWNERS), dice.randrange(100), dice.random() < 0.5
        match dice.choices(range(17), [3, 4, 6, 8, 6, 1, 2, 3, 3, 2, 1, 1, 2, 1, 0.3, 1, 1])[0]:
            case 0:
                machine.plan(f"p{pick}", dice.choice(["first", "second"]))
            case 1:
                machine.pack(owner, 2, timedelta(days=1), store=pick > 10)
            case 2:
                self.held += machine.claim(owner, 2, early=coin)
            case 3 if self.held:
                machine.arm(dice.choice(self.held), reached=coin)
            case 4 if self.held:
                machine.settle_one(self.held.pop(pick % len(self.held)), dice.choice(UNSENT_ENDS), clear=coin)
            case 5:
                machine.renew_one(owner)
            case 6:
                machine.recover_from({owner.id} if coin else set())
            case 7:
                machine.clock.forward(minutes=dice.choice([0.5, 1.1, 6, 11]))
            case 8 if machine.any_is(S.AMBIGUOUS):
                machine.decide_one(
                    next(i for i, id_ in enumerate(sorted(machine.model)) if machine.model[id_].state is S.AMBIGUOUS), again=coin
                )
            case 9:
                machine.reveal_one(pick)
            case 10:
                machine.withdraw_one(pick)
            case 11:
                machine.regenerate_one(pick)
            case 12:
                machine.expire_all()
            case 13:
                machine.reopen()
            case 14:
                machine.incident_one(pick)
            case 15:
                machine.ask_one(pick)
            case 16:
                machine.decide_request_one(pick, approve=coin)
            case _:
                pass


@pytest.mark.parametrize("seed", range(4))
def test_a_long_way_of_random_steps_keeps_the_ledger_true(empty_file: Path, seed: int) -> None:
    Walk(empty_file, seed).go(250)


def requeue_what_may_have_been_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    change = leases._change  # noqa: SLF001  a mistake is made inside

    def careless(row: Row, why: str) -> Transition:
        return replace(change(row, why), after=S.QUEUED)

    monkeypatch.setattr(leases, "_change", careless)


def forget_the_fencing(monkeypatch: pytest.MonkeyPatch) -> None:
    step = sending._step  # noqa: SLF001  a mistake is made inside

    def careless(book: WriteTransaction, row: Row, of: AttemptUpdate, who: LeaseHolder) -> Transition | None:
        return step(book, row, replace(of, claim=replace(of.claim, attempt=row["attempt"])), replace(who, id=row["owner"]))

    monkeypatch.setattr(sending, "_step", careless)


def forget_the_lease(monkeypatch: pytest.MonkeyPatch) -> None:
    arm = sending._arm  # noqa: SLF001  a mistake is made inside

    def careless(book: WriteTransaction, row: Row, step: RecordIntent) -> Transition | None:
        return arm(book, {**row, "lease_until": "9"}, step)

    monkeypatch.setattr(sending, "_arm", careless)


def free_the_password_with_the_letter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transitions, "RECEIVED", {*RECEIVED, S.AMBIGUOUS})


def lend_to_everybody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "is_over", lambda _: true())


@pytest.mark.parametrize(
    "mistake",
    [
        requeue_what_may_have_been_sent,
        forget_the_fencing,
        forget_the_lease,
        free_the_password_with_the_letter,
        lend_to_everybody,
    ],
)
def test_the_machine_catches_a_ledger_that_makes_a_mistake(
    empty_file: Path, monkeypatch: pytest.MonkeyPatch, mistake: Callable[[pytest.MonkeyPatch], None]
) -> None:
    mistake(monkeypatch)
    assert any(goes_wrong(empty_file, seed) for seed in range(4))


def goes_wrong(template: Path, seed: int) -> bool:
    try:
        Walk(template, seed).go(250)
    except AssertionError:
        return True
    return False
