"""The world that the kill matrix and its mutants share."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import pytest

from tests.authority import Authority
from tests.doubles.sink import smtpd
from tests.real.matrix import Cell, Crashing, crashing
from tests.workflows.outbox import new_ledger


@pytest.fixture(scope="package")
def server() -> Iterator[Crashing]:
    """Processes to kill."""
    with crashing() as found:
        yield found


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, authority: Authority, server: Crashing) -> Iterator[Cell]:
    """What all cells of a module share; a fresh one is made of it for each case."""
    folder = tmp_path_factory.mktemp("matrix")
    new_ledger(folder / "empty.db").close()
    with smtpd(folder / "sink") as sink:
        yield Cell(server, sink, authority, folder, folder / "empty.db")


@pytest.fixture(scope="module")
def nothing_doubled(world: Cell) -> Iterator[None]:
    """Whatever a server stored after a case was over is counted too."""
    yield
    copies = Counter(record["to"] for record in world.sink.stored())
    assert [address for address, number in copies.items() if number > 1] == []
