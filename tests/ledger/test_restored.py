"""A restored ledger is recognised and taken into use; each delivery that may have been sent meanwhile has a way out."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from distributor.errors import InvalidInput, RequestDenied
from distributor.ledger import high_water_marks, open_guarded
from distributor.ledger.high_water_marks import RECORD, MarkFile
from distributor.model.attempts import RecordIntent
from distributor.model.audit_log import ORIGIN, ChainVerifier, Link, digest
from distributor.model.delivery import LeaseHolder
from distributor.model.high_water_mark import ChainEnd, HighWaterMark, Machine, UnreadableMark
from distributor.model.ports import Ledger
from distributor.model.states import PasswordState, State
from tests.ledger.postgresql import Server
from tests.ledger.world import EVERYTHING, LEASE, ME, World, packed

HERE, THERE = Machine("11", "here/boot-1/ns"), Machine("22", "there/boot-2/ns")
SENDER = LeaseHolder("sender", HERE.host, 1, None, HERE.id)
MINUTE = timedelta(minutes=1)


@contextmanager
def guarded(world: World, place: Path, *, here: Machine = HERE, sends: bool = True, url: str = "") -> Iterator[Ledger]:
    """The world's ledger as a command opens it."""
    with closing(open_guarded(url or world.url, by="root@here", now=world.clock, marks=place, here=here, sends=sends)) as ledger:
        yield ledger


def adopted(world: World, place: Path, *, nothing_sent: bool = False) -> dict[State, int]:
    with guarded(world, place, sends=False) as ledger:
        return dict(ledger.adopt("the disk failed", nothing_sent=nothing_sent).unclear)


def planned(world: World) -> str:
    (found,) = world.plan("anna")
    return found.id


def queued(world: World) -> str:
    (found,) = world.queue("anna")
    return found


def deferred(world: World) -> str:
    claim = world.armed()
    assert world.settle(claim, State.DEFERRED, response="451 later", not_before=world.clock.now + MINUTE)
    return claim.id


def claimed(world: World) -> str:
    return world.claimed().id


def transmitting(world: World) -> str:
    return world.armed().id


@pytest.mark.parametrize("state", [planned, queued, deferred, claimed, transmitting])
def test_what_may_have_been_sent_meanwhile_becomes_ambiguous(world: World, tmp_path: Path, state: Callable[[World], str]) -> None:
    delivery = state(world)
    ended = world.clock.now
    world.clock.forward(hours=3)
    assert adopted(world, tmp_path) == {State(state.__name__): 1}
    (attempt,) = world.ledger.ambiguous(EVERYTHING)
    assert (attempt.delivery.id, attempt.restored, attempt.armed_at) == (delivery, True, ended)
    assert attempt.delivery.response == "the ledger was restored; the message may have been sent in the meantime"
    assert world.ledger.verify() == []
    (note,) = [record.event for record in world.ledger.records() if record.event.event == "adopted"]
    assert (note.delivery, note.evidence["reason"], note.evidence["host"]) == (None, "the disk failed", HERE.host)


def test_a_person_who_knows_that_nothing_was_sent_leaves_all_as_it_is(world: World, tmp_path: Path) -> None:
    delivery = planned(world)
    assert adopted(world, tmp_path, nothing_sent=True) == {}
    assert world.state(delivery) is State.PLANNED


def test_what_was_never_packed_here_is_planned_again_and_sent(world: World, tmp_path: Path) -> None:
    delivery = planned(world)
    adopted(world, tmp_path)
    world.ledger.resolve(delivery, State.QUEUED, {"kind": "person", "reason": "not in the log"})
    assert world.state(delivery) is State.PLANNED
    (lent,) = world.ledger.lease(ME, 1, LEASE, EVERYTHING)
    assert world.ledger.verify() == []
    assert world.ledger.enqueue([packed(lent.id)], ME) == [True]
    claim = world.claim()
    assert world.arm(claim)
    assert world.settle(claim, State.ACCEPTED)
    assert world.ledger.verify() == []


@pytest.mark.parametrize("state", [planned, queued])
def test_a_message_that_arrived_after_all_is_accepted(world: World, tmp_path: Path, state: Callable[[World], str]) -> None:
    delivery = state(world)
    adopted(world, tmp_path)
    world.ledger.resolve(delivery, State.ACCEPTED, {"kind": "person", "reason": "she has it"})
    found = world.ledger.delivery(delivery)
    assert found is not None
    assert (found.state, found.password_state) == (State.ACCEPTED, None if state is planned else PasswordState.READY)


@pytest.mark.parametrize("state", [planned, queued])
def test_a_new_generation_replaces_what_is_unclear_so_that_only_one_is_sent(
    world: World, tmp_path: Path, state: Callable[[World], str]
) -> None:
    delivery = state(world)
    adopted(world, tmp_path)
    new = world.ledger.regenerate(delivery, "she lost it")
    assert new.generation == 2
    with pytest.raises(RequestDenied, match="replaced"):
        world.ledger.resolve(delivery, State.QUEUED, {"kind": "person", "reason": "not in the log"})
    world.ledger.withdraw(delivery, "replaced")
    assert (world.state(delivery), world.state(new.id)) == (State.WITHDRAWN, State.PLANNED)


def test_adopting_twice_is_adopting_again(world: World, tmp_path: Path) -> None:
    delivery = planned(world)
    adopted(world, tmp_path)
    world.ledger.resolve(delivery, State.QUEUED, {"kind": "person", "reason": "not in the log"})
    assert adopted(world, tmp_path) == {State.PLANNED: 1}
    assert world.ledger.verify() == []


def chained(*events: dict[str, Any]) -> list[str]:
    """What is wrong with a chain of events about one delivery."""
    walk, prev = ChainVerifier(), ORIGIN
    findings: list[str] = []
    for seq, one in enumerate(events, 1):
        link = Link(
            seq, f"2026-11-24T09:00:0{seq}.000000Z", **{"by": "x", "personal": None, "salt": None, "commitment": "", "hash": "", **one}
        )
        link = link._replace(hash=digest(link, prev))
        prev = link.hash
        findings += walk.verify_link(link)
    return findings


def step(before: str | None, after: str, evidence: str = "{}") -> dict[str, Any]:
    return {"delivery": "d-1", "event": after, "before": before, "after": after, "evidence": evidence}


ADOPTION = {"delivery": None, "event": "adopted", "before": None, "after": None, "evidence": "{}"}


def test_only_an_adoption_makes_ambiguous_what_was_never_on_its_way() -> None:
    assert chained(step(None, "planned"), ADOPTION, step("planned", "ambiguous", '{"adopted":2}')) == []
    wrong = ['event 3: delivery d-1 cannot change from "planned" to "ambiguous"']
    for evidence in ("{}", '{"adopted":1}', '{"adopted":3}', "[2]"):
        assert chained(step(None, "planned"), ADOPTION, step("planned", "ambiguous", evidence)) == wrong
    assert chained(step(None, "planned"), ADOPTION, step("planned", "accepted", '{"adopted":2}')) != []


# --- what a host remembers -----------------------------------------------------------------------------------------


def test_each_intent_is_remembered_before_the_write_returns(world: World, tmp_path: Path) -> None:
    world.queue("anna")
    with guarded(world, tmp_path) as ledger:
        (claim,) = ledger.claim(SENDER, 1, LEASE, EVERYTHING)
        assert ledger.write([RecordIntent(claim, MINUTE)], SENDER) == [True]
        (path,) = tmp_path.glob("*.mark")
        *_, last = ledger.records()
        mark = MarkFile(tmp_path, path.stem).read()
        assert isinstance(mark, HighWaterMark)
        assert (mark.end.seq, mark.end.hash) == (last.event.seq, last.hash)


def test_an_older_ledger_stops_a_run_that_goes_on(world: World, tmp_path: Path) -> None:
    world.queue("anna")
    with guarded(world, tmp_path) as ledger:
        (claim,) = ledger.claim(SENDER, 1, LEASE, EVERYTHING)
        (path,) = tmp_path.glob("*.mark")
        MarkFile(tmp_path, path.stem).advance(HighWaterMark(ChainEnd(1000, "f" * 64, "2026-11-24T10:00:00.000000Z"), "another copy"))
        with pytest.raises(InvalidInput, match="sending stopped: this ledger is older"):
            ledger.write([RecordIntent(claim, MINUTE)], SENDER)
    assert world.state(claim.id) is State.CLAIMED


def test_a_promoted_replica_that_lost_transactions_is_recognised(postgresql: Server, empty_database: str, tmp_path: Path) -> None:
    postgresql.empty(empty_database)
    with closing(World(postgresql.url(empty_database))) as world:
        world.queue("anna", "bert")
        world.close()
        replica = f"{empty_database}_replica"
        postgresql.run("postgres", f"CREATE DATABASE {replica} TEMPLATE {empty_database}")
        with guarded(world, tmp_path) as ledger:
            ledger.claim(SENDER, 2, LEASE, EVERYTHING)
        with pytest.raises(InvalidInput, match="this ledger is older"), guarded(world, tmp_path, url=postgresql.url(replica)):
            pass
        with guarded(world, tmp_path / "another host", here=THERE) as ledger:  # which saw nothing that is missing
            assert ledger.restored() is None


def test_another_machine_may_send_on_a_server_but_not_from_a_file(world: World, tmp_path: Path) -> None:
    world.queue("anna")
    with guarded(world, tmp_path) as ledger:
        ledger.claim(SENDER, 1, LEASE, EVERYTHING)
    with guarded(world, tmp_path / "there", here=THERE, sends=False) as ledger:
        found = ledger.restored()
    assert (found is None) is world.url.startswith("postgresql")


def test_a_machine_is_known_by_its_boot_or_by_name_and_id() -> None:
    assert HERE.is_same(Machine("11", "here/boot-9/ns"))
    assert HERE.is_same(Machine("", "container/boot-1/other"))
    assert HERE.is_same(Machine("", "here/boot-9/ns"))  # events of an older version name no id
    assert not HERE.is_same(Machine("22", "here/boot-9/ns"))
    assert not HERE.is_same(Machine("11", "there/boot-9/ns"))
    assert not Machine("", "a/-/-").is_same(Machine("", "b/-/-"))


def test_a_later_event_that_is_remembered_is_never_replaced_by_an_earlier_one(tmp_path: Path) -> None:
    def many(start: int) -> None:
        file = MarkFile(tmp_path, "ledger")
        for number in range(start, 400, 4):
            file.advance(HighWaterMark(ChainEnd(number, f"{number:064}", ""), "place"))
        file.close()

    shared = MarkFile(tmp_path, "ledger")
    threads = [threading.Thread(target=many, args=(start,)) for start in range(1, 5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert shared.read() == HighWaterMark(ChainEnd(399, f"{399:064}", ""), "place")


@pytest.mark.parametrize("damaged", [0, 1])
def test_one_damaged_record_leaves_the_other(tmp_path: Path, damaged: int) -> None:
    file = MarkFile(tmp_path, "ledger")
    for number in (1, 2, 3):
        file.advance(HighWaterMark(ChainEnd(number, "a" * 64, ""), "place"))
    with file.path.open("r+b") as raw:
        raw.seek(damaged * RECORD + 40)
        raw.write(b"damaged")
    found = MarkFile(tmp_path, "ledger").read()
    assert isinstance(found, HighWaterMark)
    assert found.end.seq in {2, 3}
    os.truncate(file.path, RECORD)
    assert isinstance(MarkFile(tmp_path, "ledger").read(), UnreadableMark)


def test_the_folder_is_that_of_the_service_or_of_the_user() -> None:
    assert high_water_marks.folder({"STATE_DIRECTORY": "/var/lib/d:/x", "HOME": "/h"}) == Path("/var/lib/d")
    assert high_water_marks.folder({"XDG_STATE_HOME": "/s", "HOME": "/h"}) == Path("/s/distributor")
    assert high_water_marks.folder({"XDG_STATE_HOME": "relative", "HOME": "/h"}) == Path("/h/.local/state/distributor")


def test_copies_of_a_ledger_of_an_older_schema_get_the_same_name(tmp_path: Path) -> None:
    import gzip  # noqa: PLC0415  this test alone

    path, copy = tmp_path / "old.db", tmp_path / "copy.db"
    path.write_bytes(gzip.decompress((Path(__file__).parents[1] / "data/ledgers/0003-demo.db.gz").read_bytes()))
    shutil.copy(path, copy)
    names = set()
    for each in (path, copy):
        with closing(World.existing(f"sqlite:///{each}")) as world:
            names |= set(world.sql("SELECT ledger FROM head"))
            assert world.ledger.verify() == []
            with guarded(world, tmp_path / each.stem, here=replace(HERE, host="never-seen/boot/ns"), sends=False) as ledger:
                found = ledger.restored()
    assert len(names) == 1
    assert found is not None
    assert found.kind == "elsewhere"


def test_a_ledger_under_another_name_is_found_out(world: World, tmp_path: Path) -> None:
    planned(world)
    with guarded(world, tmp_path, sends=False) as ledger:
        assert ledger.restored() is None
    world.spoiled = True
    world.sql("UPDATE head SET ledger = 'x'")
    assert any("ledger: its identifier" in str(finding) for finding in world.ledger.verify())
    with (
        pytest.raises(InvalidInput, match="nothing was sent: this ledger was modified outside distributor: its identifier"),
        guarded(world, tmp_path),
    ):
        pass


def test_a_copy_made_before_the_first_event_is_the_same_ledger(tmp_path: Path) -> None:
    path, early = tmp_path / "ledger.db", tmp_path / "early.db"
    with closing(World(f"sqlite:///{path}")) as world:
        world.close()
        shutil.copy(path, early)
        world = World.existing(f"sqlite:///{path}")  # noqa: PLW2901
        world.queue("anna")
        with guarded(world, tmp_path / "marks") as ledger:
            ledger.claim(SENDER, 1, LEASE, EVERYTHING)
        world.close()
        with pytest.raises(InvalidInput, match="this ledger is older"), guarded(world, tmp_path / "marks", url=f"sqlite:///{early}"):
            pass
