"""Where certificates are public, as the ledger keeps it; one that was edited goes into no directory."""

from __future__ import annotations

import pytest

from distributor.errors import InvalidInput
from distributor.model.certificates import CertificateHolder
from tests.ledger.world import ME, World, packed

PLACE = "ldaps://ldap.example.org:636/dc=example,dc=org"


def everybody(world: World) -> dict[str, CertificateHolder]:
    return {holder.address.partition("@")[0]: holder for holder in world.ledger.holders()}


def test_only_who_received_something_holds_it(world: World) -> None:
    id_ = world.accepted()
    world.ambiguous("bert")
    world.plan("cleo")
    found = everybody(world)
    assert set(found) == {"anna"}
    (held,) = found["anna"].certificates
    assert (found["anna"].name, held.delivery, held.leaf[:4], held.revoked, held.places) == (
        "anna Example",
        id_,
        b"anna",
        False,
        frozenset(),
    )


def test_a_publication_is_noted_once_with_an_event_and_taken_back_once(world: World) -> None:
    id_ = world.accepted()
    for _ in range(2):
        world.ledger.note_published(id_, PLACE, "uid=anna")
    assert everybody(world)["anna"].certificates[0].places == {PLACE}
    for _ in range(2):
        world.ledger.note_unpublished(id_, PLACE, "uid=anna")
    assert everybody(world)["anna"].certificates[0].places == frozenset()
    assert world.events()[-2:] == ["published", "unpublished"]


def test_another_generation_of_the_same_certificate_is_public_already(world: World) -> None:
    id_ = world.accepted()
    world.ledger.note_published(id_, PLACE, "uid=anna")
    second = world.ledger.regenerate(id_, "lost")
    assert everybody(world)["anna"].certificates[0].delivery == id_
    assert world.ledger.enqueue([packed(second.id)], ME) == [True]
    claim = world.claim()
    assert world.arm(claim)
    world.settle(claim, world.state(id_))
    (held,) = everybody(world)["anna"].certificates
    assert (held.delivery, held.places) == (second.id, {PLACE})
    world.ledger.note_published(second.id, PLACE, "uid=anna")
    assert world.events().count("published") == 1


def test_a_delivery_that_was_given_another_certificate_is_not_published(world: World) -> None:
    world.accepted("anna")
    world.accepted("bert")
    world.sql("UPDATE delivery SET certificate = (SELECT certificate FROM delivery ORDER BY id DESC LIMIT 1)")
    with pytest.raises(InvalidInput, match="modified outside distributor"):
        list(world.ledger.holders())
    world.spoiled = True


def test_a_certificate_with_other_bytes_is_not_published(world: World) -> None:
    world.accepted("anna")
    world.sql("UPDATE certificate SET der = (SELECT der FROM authority LIMIT 1)")
    with pytest.raises(InvalidInput, match="modified outside distributor"):
        list(world.ledger.holders())
    world.spoiled = True
