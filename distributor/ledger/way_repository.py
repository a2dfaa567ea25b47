"""The part of the Ledger port that tells by which way people are served, and counts for metrics; promised in `model`."""

# ruff: noqa: D102  as above

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from distributor.ledger import engine
from distributor.ledger.engine import Database
from distributor.ledger.lazy import late
from distributor.ledger.transaction import Clock

if TYPE_CHECKING:
    from distributor.ledger import figures, ways
    from distributor.model.delivery import ServedBy
    from distributor.model.metrics import LedgerFigures
    from distributor.model.states import Way
else:
    figures, ways = late("figures ways")


class SqlWays:
    """The queries of `ledger/ways.py` and `ledger/figures.py`, each in one transaction."""

    _database: Database
    _clock: Clock

    def figures(self) -> LedgerFigures:
        with engine.snapshot(self._database) as connection:
            return figures.collect(connection, self._clock.read(connection))

    def served_otherwise(self, people: Sequence[str], way: Way) -> Mapping[str, ServedBy]:
        with self._database.reading() as connection:
            return ways.served_otherwise(connection, people, way)

    def old_certificates(self, people: Sequence[str]) -> Mapping[str, frozenset[str]]:
        with self._database.reading() as connection:
            return ways.old_certificates(connection, people)
