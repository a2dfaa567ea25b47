"""SIGKILL at every step of plan, pack and send, with one worker and with three; then the same commands again."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from distributor.model.states import State
from tests.doubles.sink import smtpd
from tests.real.matrix import KILLED, MESSAGES, Cell

pytestmark = pytest.mark.usefixtures("nothing_doubled")
PLAN = ["begin_plan:before", "begin_plan:after", "plan:before", "plan:inside", "plan:after"]
PACK = [
    "take:before",
    "take:after",
    "fetch:before",
    "fetch:after",
    "build:before",
    "build:after",
    "store:before",
    "store:inside",
    "store:after",
]
BEFORE_ARM = ["recover:before", "recover:after", "claim:before", "claim:inside", "claim:after", "connect:before", "connect:after"]
BEFORE_ARM += ["mail:before", "mail:after", "rcpt:before", "rcpt:after", "arm:before", "arm:inside"]
AFTER_ARM = ["arm:after", "dot:before", "dot:after", "reply:after", "settle:before", "settle:inside"]
SETTLED = ["settle:after", "counts:before"]
ALWAYS = {"store:inside", "claim:after", "arm:inside", *AFTER_ARM}  # in each run of the tests: where a double or a loss would begin
A_LETTER_EACH = ("fetch", "build", "mail", "rcpt", "arm", "dot", "reply", "settle")


def hits(step: str) -> list[int]:
    return [1, MESSAGES] if step.startswith(A_LETTER_EACH) else [1]


MANY = pytest.mark.slow(reason="a hundred cells; the others are a row of them")
CASES = [
    pytest.param(step, hit, marks=[] if hit == hits(step)[-1] and step in ALWAYS else [MANY])
    for step in [*PACK, *BEFORE_ARM, *AFTER_ARM, *SETTLED]
    for hit in hits(step)
]


@pytest.mark.parametrize("step", PLAN)
def test_a_plan_that_was_killed_is_made_whole_by_the_next_one(world: Cell, step: str) -> None:
    cell = world.fresh()
    assert cell.run("plan", step=step) == [KILLED]
    assert cell.broken_at_any_time() == []
    cell.finish()
    assert cell.broken_at_the_end() == []
    assert {delivery.state for delivery in cell.deliveries()} == {State.ACCEPTED}


@pytest.mark.parametrize(("step", "hit"), CASES)
def test_a_sender_that_was_killed_loses_nothing_and_doubles_nothing(world: Cell, step: str, hit: int) -> None:
    cell = world.fresh()
    assert cell.run("plan") == [0]
    assert cell.run("send", step=step, hit=hit) == [KILLED]
    assert cell.broken_at_any_time() == []
    assert cell.broken_after_recovery() == []
    cell.finish()
    assert cell.broken_at_the_end() == []
    unclear = sum(delivery.state is State.AMBIGUOUS for delivery in cell.deliveries())
    if step in AFTER_ARM:
        assert unclear == 1  # the message that was in flight, and not one more
    elif step in SETTLED or hit > 1:
        assert unclear <= 1  # a connection begins its next message while the answer to the last one is being written
    else:
        assert unclear == 0


@MANY
@pytest.mark.parametrize("step", [*PACK, *BEFORE_ARM, *AFTER_ARM, *SETTLED])
def test_one_of_three_senders_that_was_killed_loses_nothing_and_doubles_nothing(world: Cell, step: str) -> None:
    cell = world.fresh()
    assert cell.run("plan") == [0]
    cell.run("send", step=step, hit=1, workers=3, connections=2)  # the others may be quicker: then the step is never reached
    assert cell.broken_at_any_time() == []
    cell.finish(workers=3, connections=2)
    assert cell.broken_at_the_end() == []
    unclear = sum(delivery.state is State.AMBIGUOUS for delivery in cell.deliveries())
    assert unclear <= 2  # one for each connection of the sender that was killed


@pytest.mark.parametrize(("after", "space"), [("nothing", 1), ("nothing", 65_536), ("packing", 1), ("packing", 4_096)])
def test_a_disk_that_fills_up_loses_nothing_and_doubles_nothing(world: Cell, after: str, space: int) -> None:
    cell = world.fresh()
    assert cell.run("plan") == [0]
    if after == "packing":
        assert cell.run("send", step="connect:before") == [KILLED]
    assert cell.run("send", space=space) != [0]
    assert cell.broken_at_any_time() == []
    assert cell.broken_after_recovery() == []
    cell.finish()
    assert cell.broken_at_the_end() == []


# --- and a server that behaves badly -------------------------------------------------------------------------------

LATER, NO = {"do": "reply", "text": "451 4.3.0 later"}, {"do": "reply", "text": "554 5.6.0 no"}
FAULTS: dict[str, tuple[dict[str, object], State]] = {
    "stored, then cut": ({"verb": "DOT", "do": "stored-drop"}, State.AMBIGUOUS),
    "stored, then reset": ({"verb": "DOT", "do": "stored-reset"}, State.AMBIGUOUS),
    "stored, then nonsense": ({"verb": "DOT", "do": "stored-reply", "text": "hello?"}, State.AMBIGUOUS),
    "stored, then silence": ({"verb": "DOT", "do": "stored-silence"}, State.AMBIGUOUS),
    "not stored, cut": ({"verb": "DOT", "do": "drop"}, State.AMBIGUOUS),
    "a megabyte after the dot": ({"verb": "DOT", "do": "megabyte"}, State.AMBIGUOUS),
    "later after the dot": ({"verb": "DOT", **LATER}, State.ACCEPTED),
    "closing after the dot": ({"verb": "DOT", "do": "reply", "text": "421 4.3.2 closing"}, State.ACCEPTED),
    "no after the dot": ({"verb": "DOT", **NO}, State.REJECTED),
    "later at RCPT": ({"verb": "RCPT", **LATER}, State.ACCEPTED),
    "no at RCPT": ({"verb": "RCPT", "do": "reply", "text": "550 5.1.1 nobody"}, State.REJECTED),
    "cut at RCPT": ({"verb": "RCPT", "do": "drop"}, State.ACCEPTED),
    "nonsense at RCPT": ({"verb": "RCPT", "do": "reply", "text": "\u2603"}, State.ACCEPTED),
    "a megabyte at RCPT": ({"verb": "RCPT", "do": "megabyte"}, State.ACCEPTED),
    "slow after the dot": ({"verb": "DOT", "do": "delay", "seconds": 0.4}, State.ACCEPTED),
}


@pytest.mark.parametrize("workers", [1, pytest.param(3, marks=MANY)])
@pytest.mark.parametrize("fault", FAULTS)
def test_a_server_that_behaves_badly_makes_no_double_and_loses_nobody(tmp_path: Path, world: Cell, fault: str, workers: int) -> None:
    rule, state = FAULTS[fault]
    times = {} if fault.startswith("slow") else {"nth": [2]}
    with smtpd(tmp_path, {**rule, **times}) as sink:
        cell = world.fresh(sink=sink)
        cell.finish(workers=workers, **({"dot": 3} if "silence" in fault else {}))  # seconds that the silent server is waited for
        assert cell.broken_at_the_end() == []
        counts = Counter(delivery.state for delivery in cell.deliveries())
        if state is State.ACCEPTED:
            assert counts == {State.ACCEPTED: MESSAGES}
        else:
            assert counts == {State.ACCEPTED: MESSAGES - 1, state: 1}
