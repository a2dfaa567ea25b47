"""What is published is what was planned: a certificate that somebody put into the ledger goes into no directory."""

from __future__ import annotations

import pytest

from distributor.errors import InvalidInput
from tests.ledger.world import World


def test_a_delivery_that_was_given_another_certificate_is_not_published(world: World) -> None:
    world.accepted("anna")
    world.accepted("bert")
    world.sql("UPDATE delivery SET certificate = (SELECT certificate FROM delivery ORDER BY id DESC LIMIT 1)")
    with pytest.raises(InvalidInput, match="changed from outside"):
        list(world.ledger.holders())
    world.spoiled = True


def test_a_certificate_with_other_bytes_is_not_published(world: World) -> None:
    world.accepted("anna")
    world.sql("UPDATE certificate SET der = (SELECT der FROM authority LIMIT 1)")
    with pytest.raises(InvalidInput, match="changed from outside"):
        list(world.ledger.holders())
    world.spoiled = True
