"""What the ledger gives to those who ask whether certificates still hold, and what it keeps of the answer; in files and on a server."""

from __future__ import annotations

from datetime import timedelta

from distributor.ledger import certificates
from distributor.model.states import State
from tests.ledger.world import CHAIN, ME, World, draft

REASON = "the certificate was revoked (2026-11-20, superseded)"


def sha(name: str) -> str:
    return draft(name).facts.sha256


def test_every_certificate_in_use_comes_once_with_its_chain(world: World) -> None:
    id_ = world.accepted()
    world.ledger.regenerate(id_, "lost")
    world.queue("bert")
    (gone,) = world.plan("cleo")
    world.ledger.withdraw(gone.id, "left")
    found = {one.sha256: one for one in world.ledger.issued(world.clock.now)}
    assert set(found) == {sha("anna"), sha("bert")}
    assert (found[sha("anna")].leaf, found[sha("anna")].chain) == (draft("anna").leaf, CHAIN)


def test_what_expired_is_asked_about_no_more(world: World) -> None:
    world.accepted()
    assert list(world.ledger.issued(world.clock.now + timedelta(days=1000))) == []


def test_all_are_found_over_several_pages(world: World) -> None:
    names = [f"p{n}" for n in range(certificates.CERTIFICATES_PAGE + 3)]
    world.plan(*names)
    assert len(list(world.ledger.issued(world.clock.now))) == len(names)


def test_a_revocation_is_written_once_and_shown_by_the_status(world: World) -> None:
    id_ = world.accepted()
    (struck,) = world.ledger.revoke(sha("anna"), REASON)
    assert (struck.delivery, struck.before, struck.after) == (id_, State.ACCEPTED, State.ACCEPTED)
    assert world.ledger.revoke(sha("anna"), REASON) == []
    assert world.events().count("revoked") == 1
    delivery = world.ledger.delivery(id_)
    assert delivery is not None
    assert delivery.response == REASON
    *_, last = world.ledger.history("anna@example.org")
    assert (last.event, last.before, last.after, last.evidence["said"]) == ("revoked", None, None, REASON)


def test_what_comes_back_from_a_sender_is_withdrawn_the_next_time(world: World) -> None:
    claim = world.claimed()
    assert [struck.after for struck in world.ledger.revoke(sha("anna"), REASON)] == [State.CLAIMED]
    world.ledger.release([claim], ME)
    assert [(s.before, s.after) for s in world.ledger.revoke(sha("anna"), REASON)] == [(State.QUEUED, State.WITHDRAWN)]
    assert world.events()[-1] == "withdrawn"
    assert world.outbox() == []


def test_a_certificate_of_nobody_changes_nothing(world: World) -> None:
    assert world.ledger.revoke("0" * 64, REASON) == []
