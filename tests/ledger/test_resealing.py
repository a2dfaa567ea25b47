"""Passwords sealed again: each with an event, the old bytes gone, and nothing made right that somebody had edited."""

from __future__ import annotations

from pathlib import Path

import pytest

from distributor.errors import InvalidInput
from distributor.ledger import resealing
from distributor.model.resealing import ResealedPassword, ResealResult
from distributor.model.states import PasswordState
from tests.ledger.world import EVERYTHING, LEASE, ME, World, found, packed

KEYS = ["age1first", "age1second"]


def reseal(world: World, delivery: str, sealed: bytes = b"sealed anew") -> ResealResult:
    (result,) = world.ledger.reseal([ResealedPassword(delivery, packed(delivery).sealed, sealed)], KEYS)
    return result


def test_held_ready_and_expired_passwords_are_there_to_be_sealed_again_and_no_others(world: World) -> None:
    expired = world.accepted("anna")
    world.clock.forward(days=1)
    ready = world.accepted("bert")
    (held,) = world.queue("carl")
    (gone,) = world.queue("dora")
    world.ledger.withdraw(gone, "left")
    world.clock.forward(days=13, hours=1)
    world.ledger.expire()
    states = {one.delivery: one.state for one in world.ledger.stored_passwords()}
    assert states == {ready: PasswordState.READY, expired: PasswordState.EXPIRED, held: PasswordState.HELD}


def test_a_password_that_was_sealed_again_is_the_one_that_is_handed_over(world: World) -> None:
    id_ = world.accepted()
    assert reseal(world, id_) is ResealResult.RESEALED
    assert world.ledger.verify() == []
    (stored,) = world.ledger.stored_passwords()
    assert (stored.sealed, stored.recipients) == (b"sealed anew", tuple(KEYS))
    *_, last = world.ledger.history("anna@example.org")
    assert (last.event, last.before, last.after, last.evidence["recipients"]) == ("resealed", None, None, KEYS)
    assert world.ledger.hand_over(id_, "she phoned", "reveal") == b"sealed anew"


def test_a_message_whose_password_was_sealed_again_is_still_sent(world: World) -> None:
    (id_,) = world.queue("anna")
    assert reseal(world, id_) is ResealResult.RESEALED
    assert [claim.id for claim in world.ledger.claim(ME, 1, LEASE, EVERYTHING)] == [id_]


@pytest.mark.parametrize("edit", ["sealed = (SELECT message FROM outbox)", "channel = 'letter'"])
def test_an_edited_password_is_not_made_right_by_sealing_it_again(world: World, edit: str) -> None:
    (id_,) = world.queue("anna")
    world.sql(f"UPDATE handover SET {edit}")  # noqa: S608  tampering is the point
    (stored,) = world.ledger.stored_passwords()
    assert world.ledger.reseal([ResealedPassword(id_, stored.sealed, b"sealed anew")], KEYS) == [ResealResult.CHANGED]
    assert "resealed" not in world.events()
    assert [finding for finding in found(world, "SELECT 1") if "password's" in finding]


def test_an_edit_after_the_new_sealing_is_found(world: World) -> None:
    id_ = world.accepted()
    assert reseal(world, id_) is ResealResult.RESEALED
    old = packed(id_).sealed.hex()
    bytes_ = f"x'{old}'" if world.url.startswith("sqlite") else f"'\\x{old}'"
    (finding,) = found(world, f"UPDATE handover SET sealed = {bytes_}")  # noqa: S608  the bytes that were good before
    assert "password's sealed does not match the audit log" in finding
    with pytest.raises(InvalidInput, match="password's sealed"):
        world.ledger.hand_over(id_, "she phoned", "reveal")


def test_a_password_that_is_gone_or_was_sealed_again_meanwhile_is_left_alone(world: World) -> None:
    id_ = world.accepted()
    other = world.another()
    assert other.reseal([ResealedPassword(id_, packed(id_).sealed, b"by another")], KEYS) == [ResealResult.RESEALED]
    assert reseal(world, id_) is ResealResult.GONE
    other.hand_over(id_, "she phoned", "reveal")
    assert reseal(world, id_) is ResealResult.GONE
    assert world.events().count("resealed") == 1


def test_every_password_is_listed_however_many_there_are(file_world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = sorted(file_world.queue(*(f"p{number}" for number in range(7))))
    monkeypatch.setattr(resealing, "PAGE", 3)
    monkeypatch.setattr(resealing, "_STORED", resealing._STORED.limit(3))  # noqa: SLF001  its page
    assert [one.delivery for one in file_world.ledger.stored_passwords()] == ids


def test_the_old_sealed_bytes_are_nowhere_in_the_files(file_world: World) -> None:
    id_ = file_world.accepted()
    path = Path(file_world.url.removeprefix("sqlite:///"))
    old = packed(id_).sealed
    before = b"".join(file.read_bytes() for file in path.parent.glob(f"{path.name}*"))
    assert old in before
    assert reseal(file_world, id_) is ResealResult.RESEALED
    assert old not in b"".join(file.read_bytes() for file in path.parent.glob(f"{path.name}*"))


def test_every_process_that_packed_or_sent_is_known(world: World) -> None:
    assert world.ledger.senders() == []
    world.claimed()
    assert world.ledger.senders() == [ME]
