"""An outbox that was edited from outside: the run ends, and nothing goes to a stranger."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from distributor.errors import InvalidInput
from distributor.ledger.sqlite import sqlite3
from tests.workflows import messages as letters
from tests.workflows.script import Clock, House, Script


@pytest.fixture
def edited(tmp_path: Path) -> Iterator[House]:
    """Three messages wait; the second one's address was edited."""
    path, clock = tmp_path / "distributor.db", Clock()
    ledger = letters.new_ledger(path, clock.now)
    letters.queue(ledger, 3)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("UPDATE outbox SET address = 'evil@evil.example' WHERE address = 'p2@example.org'")
        connection.commit()
    yield House(ledger, clock)
    ledger.close()


def test_a_run_ends_before_a_message_that_was_edited_and_sends_it_to_nobody(edited: House) -> None:
    road = Script(max_connections=2)
    with pytest.raises(InvalidInput, match="the ledger was changed from outside") as caught:
        edited.run(road)
    assert caught.value.hint is not None
    assert "distributor withdraw" in caught.value.hint
    assert not {message.address for message in road.sent} & {"evil@evil.example", "p2@example.org"}
    assert edited.states()["p2"] == "queued"
