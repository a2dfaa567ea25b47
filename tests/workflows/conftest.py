"""A run's world, for every test of the flow."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from distributor.ledger import open_ledger
from distributor.model.certificates import ParsedIdentities, SourceMaterial
from distributor.model.limits import Limits
from distributor.model.ports import Ledger
from distributor.pki import parse_material
from distributor.workers.pool import Workers
from tests.workflows import outbox
from tests.workflows.scripted import Clock, SendHarness


@pytest.fixture
def harness(tmp_path: Path) -> Iterator[SendHarness]:
    clock = Clock()
    ledger = outbox.new_ledger(tmp_path / "distributor.db", clock.now)
    yield SendHarness(ledger, clock)
    assert ledger.verify() == []
    ledger.close()


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    outbox.new_ledger(tmp_path / "ledger.db").close()
    opened = open_ledger(f"sqlite:///{tmp_path / 'ledger.db'}", by="test", now=lambda: datetime.now(UTC))
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def pool() -> Iterator[Workers[SourceMaterial, ParsedIdentities]]:
    with Workers(functools.partial(parse_material, limits=Limits()), 1, 20, 2**30) as workers:
        yield workers
