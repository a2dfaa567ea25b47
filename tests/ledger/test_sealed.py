"""A sealed password that somebody took away or rewrote: it is refused in words, and nothing is written."""

from __future__ import annotations

import pytest

from distributor.errors import InvalidInput
from tests.ledger.world import World


def test_a_password_whose_sealed_bytes_are_gone_is_not_handed_over(world: World) -> None:
    id_ = world.accepted()
    world.sql("UPDATE handover SET sealed = NULL")
    world.spoiled = True
    with pytest.raises(InvalidInput, match="the sealed password is gone") as refused:
        world.ledger.hand_over(id_, "she phoned", "reveal")
    assert "distributor resend" in str(refused.value.hint)
    assert "revealed" not in world.events()


def test_a_sealed_password_that_became_text_is_not_handed_over(file_world: World) -> None:
    id_ = file_world.accepted()
    file_world.sql("UPDATE handover SET sealed = 'a text'")
    file_world.spoiled = True
    assert file_world.ledger.envelopes("anna@example.org")[0].sealed == b"a text"
    with pytest.raises(InvalidInput, match=r"changed from outside \(password's sealed\)"):
        file_world.ledger.hand_over(id_, "she phoned", "reveal")
    assert "revealed" not in file_world.events()
