"""A run's world, for every test of the flow."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.workflows import messages as letters
from tests.workflows.script import Clock, House


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    clock = Clock()
    ledger = letters.new_ledger(tmp_path / "distributor.db", clock.now)
    yield House(ledger, clock)
    assert ledger.verify() == []
    ledger.close()
