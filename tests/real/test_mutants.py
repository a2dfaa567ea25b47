"""The kill matrix must see: each way of being wrong breaks a promise, in a case where the program as it is keeps all of them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from distributor.model.certificates import FilePart, Locator, SourceMaterial
from distributor.model.delivery import DeliveryRequest
from distributor.model.limits import Limits
from distributor.model.people import Address, Person
from distributor.model.secret import Secret
from distributor.model.states import State
from distributor.pki import parse_material
from tests.doubles.sink import smtpd
from tests.real.matrix import CAME_WITH, Cell, Crashing, crashing

Case = Callable[[Cell, Path], list[str]]


def killed(step: str, hit: int = 2) -> Case:
    """A sender is killed; then the same commands again."""

    def case(world: Cell, _: Path) -> list[str]:
        cell = world.fresh(world.mutant)
        cell.run("plan")
        cell.run("send", step=step, hit=hit)
        found = cell.broken_at_any_time() + cell.broken_after_recovery()
        cell.finish()
        return found + cell.broken_at_the_end()

    return case


def answered(do: str, **more: object) -> Case:
    """The second message's final dot is answered so; then the same commands again."""

    def case(world: Cell, folder: Path) -> list[str]:
        with smtpd(folder, {"verb": "DOT", "do": do, "nth": [2], **more}) as sink:
            cell = world.fresh(world.mutant, sink)
            cell.finish()
            return cell.broken_at_the_end()

    return case


def stalled(step: str) -> Case:
    """A sender falls asleep longer than its lease, another one does the work, the first wakes up."""

    def case(world: Cell, folder: Path) -> list[str]:
        mark = folder / "asleep"
        cell = world.fresh(world.mutant)
        cell.run("plan")
        first = threading.Thread(
            target=cell.run, args=("send",), kwargs={"step": step, "how": str(mark), "lease": 0.3, "blind": True, "wire": 0.3}
        )
        with crashing() as second:
            _fell_asleep(first, mark)
            time.sleep(0.4)  # the lease runs out
            _elsewhere(cell, second)
            mark.unlink()
            first.join()
        cell.finish()
        return cell.broken_at_the_end()

    return case


def clock_ahead(world: Cell, _: Path) -> list[str]:
    """One command ran with a clock that was half an hour ahead; then a sender elsewhere is killed, and its lease runs out."""
    cell = world.fresh(world.mutant)
    cell.run("plan", ahead=1800)
    cell.run("send", step="mail:before", hit=1, lease=0.3)
    time.sleep(0.4)  # the lease runs out
    cell.run("send", blind=True)
    return [*(f"stuck: {d.address} {d.state}" for d in cell.unfinished()), *cell.broken_at_any_time()]


def restored(step: str | None) -> Case:
    """A sender is killed, or not; then the ledger of before is put in its place, and the same commands run again."""

    def case(world: Cell, _: Path) -> list[str]:
        cell = world.fresh(world.mutant)
        cell.run("plan")
        copy = cell.copy()
        cell.run("send", step=step, hit=2)
        cell.restore(copy)
        cell.finish()
        return [fault for fault in cell.broken_at_any_time() if "doubled" in fault]

    return case


def moved(step: str) -> Case:
    """A sender falls asleep, another file is put in the ledger's place, it wakes up."""

    def case(world: Cell, folder: Path) -> list[str]:
        mark = folder / "asleep"
        cell = world.fresh(world.mutant)
        cell.run("plan")
        first = threading.Thread(target=cell.run, args=("send",), kwargs={"step": step, "how": str(mark)})
        _fell_asleep(first, mark)
        cell.restore(cell.copy())
        mark.unlink()
        first.join()
        return cell.broken_at_any_time()

    return case


def _fell_asleep(first: threading.Thread, mark: Path) -> None:
    first.start()
    deadline = time.monotonic() + 120
    while not mark.exists():
        assert time.monotonic() < deadline, "the sender never fell asleep"
        time.sleep(0.01)


def _elsewhere(cell: Cell, second: Crashing) -> None:
    cell.server, first = second, cell.server
    try:
        cell.run("send", blind=True)
    finally:
        cell.server = first


def misplanned(world: Cell, _: Path) -> list[str]:
    """A plan that gives one person's file to another, as a faulty program would record it."""
    cell = world.fresh(world.mutant)
    path = cell.people / "p1.pfx"
    data = path.read_bytes()
    part = FilePart("p1.pfx", str(path), None, sha256(data).hexdigest(), data)
    (found,) = parse_material(SourceMaterial("pkcs12", (part,), (Secret(CAME_WITH),)), Limits()).identities
    eve = Person(Address(f"eve.{cell.tag}", "example.org"), "Eve")
    locator = Locator("pkcs12", ((part.path, None, part.sha256),))
    with cell.opened() as ledger:
        ledger.begin_plan("faulty", {})
        ledger.plan("faulty", [DeliveryRequest(eve, "en", found.facts, found.leaf, found.chain, locator)])
    cell.run("send")
    return cell.broken_at_any_time()


def address_moved(world: Cell, folder: Path) -> list[str]:
    """An address that leads to somebody else later, while the old file still lies there."""
    cell = world.fresh(world.mutant)
    first, second = f"anna.mueller.{cell.tag}@example.org", f"anna.{cell.tag}@example.org"
    identity = cell.authority.issue(first, second, name="Anna", key=ec.generate_private_key(ec.SECP256R1()))
    (cell.people / "anna.pfx").write_bytes(identity.pfx(CAME_WITH, rounds=1))
    (cell.people / "anna.txt").write_text(CAME_WITH)
    for address in (first, second):
        roster = folder / "people.csv"
        roster.write_text(f"email,name\n{address},Anna\n", encoding="utf-8")
        cell.run("plan", roster=str(roster))
        cell.run("send")
    assert [record["to"] for record in cell.stored()][:1] == [first]
    return cell.broken_at_any_time()


MUTANTS: dict[str, tuple[Case, str]] = {
    "requeue_what_was_armed": (killed("dot:after"), "doubled"),
    "arm_after_the_dot": (killed("arm:before"), "doubled"),
    "settle_before_the_reply": (answered("drop"), "accepted, but the server has it not"),
    "no_fencing": (stalled("rcpt:after"), "doubled"),
    "password_ready_before_acceptance": (killed("store:after", 1), "password ready"),
    "lost_answer_means_unsent": (answered("stored-drop"), "doubled"),
    "refused_means_accepted": (answered("reply", text="554 5.6.0 no"), "accepted, but the server has it not"),
    "time_stands_still": (clock_ahead, "stuck"),
    "nobody_recovers": (killed("mail:before", 1), "stuck"),
    "anybody_gets_any_key": (misplanned, "the wrong person"),
    "one_certificate_for_two": (address_moved, "the wrong person"),
    "mark_ignored": (restored("settle:after"), "doubled"),
    "move_ignored": (moved("rcpt:after"), "the server has it, the ledger says"),
}


@pytest.mark.slow(reason="each mutant is a whole walk through the matrix, twice")
@pytest.mark.parametrize("mutant", MUTANTS)
def test_a_program_that_is_wrong_is_caught(world: Cell, mutant: str, tmp_path: Path) -> None:
    case, promise = MUTANTS[mutant]
    (tmp_path / "right").mkdir()
    (tmp_path / "wrong").mkdir()
    assert case(world.fresh(), tmp_path / "right") == []
    broken = case(world.fresh(mutant), tmp_path / "wrong")
    assert any(promise in each for each in broken), broken


@pytest.mark.parametrize("step", [None, "mark:before", "mark:after", "arm:after", "dot:before", "dot:after", "settle:before"])
def test_an_older_ledger_is_recognised_wherever_the_sender_was_killed(world: Cell, tmp_path: Path, step: str | None) -> None:
    assert restored(step)(world, tmp_path) == []


def test_an_answer_that_comes_after_the_lease_still_counts(world: Cell, tmp_path: Path) -> None:
    cell = world.fresh(count=1)
    mark = tmp_path / "asleep"
    cell.run("plan")
    sleeper = threading.Thread(
        target=cell.run, args=("send",), kwargs={"step": "dot:after", "how": str(mark), "lease": 0.3, "blind": True, "wire": 0.3}
    )
    with crashing() as second:
        _fell_asleep(sleeper, mark)
        time.sleep(0.4)
        _elsewhere(cell, second)
        assert [delivery.state for delivery in cell.deliveries()] == [State.AMBIGUOUS]
        mark.unlink()
        sleeper.join()
    assert [delivery.state for delivery in cell.deliveries()] == [State.ACCEPTED]
    assert cell.broken_at_the_end() == []
