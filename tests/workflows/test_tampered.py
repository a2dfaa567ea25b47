"""An outbox that was edited from outside: the run ends, and nothing goes to a stranger."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from distributor.errors import InvalidInput
from distributor.ledger.sqlite import sqlite3
from tests.workflows import outbox
from tests.workflows.scripted import Clock, ScriptedTransport, SendHarness


@pytest.fixture
def edited(tmp_path: Path) -> Iterator[SendHarness]:
    """Three messages wait; the second one's address was edited."""
    path, clock = tmp_path / "distributor.db", Clock()
    ledger = outbox.new_ledger(path, clock.now)
    outbox.queue(ledger, 3)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("UPDATE outbox SET address = 'evil@evil.example' WHERE address = 'p2@example.org'")
        connection.commit()
    yield SendHarness(ledger, clock)
    ledger.close()


def test_a_run_ends_before_a_message_that_was_edited_and_sends_it_to_nobody(edited: SendHarness) -> None:
    transport = ScriptedTransport(max_connections=2)
    with pytest.raises(InvalidInput, match="the ledger was modified outside distributor") as caught:
        edited.run(transport)
    assert caught.value.hint is not None
    assert "distributor withdraw" in caught.value.hint
    assert not {message.address for message in transport.sent} & {"evil@evil.example", "p2@example.org"}
    assert edited.states()["p2"] == "queued"
