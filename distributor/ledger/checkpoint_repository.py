"""The part of the Ledger port that serves checkpoints. What each method promises is said once, in `model/checkpoints.py`."""

# ruff: noqa: D102  as above

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from distributor.errors import InvalidInput
from distributor.ledger.engine import Database
from distributor.ledger.lazy import late
from distributor.ledger.transaction import ledger_identity

if TYPE_CHECKING:
    from distributor.ledger import checkpoints
    from distributor.model.checkpoints import CheckpointComparison, StoredCheckpoint, Tree, VerifierKey
else:
    (checkpoints,) = late("checkpoints")


class SqlCheckpoints:
    """`model.checkpoints.Checkpoints` on SQL."""

    _database: Database

    def identity(self) -> str:
        with self._database.reading() as connection:
            found = ledger_identity(connection)
        if found.fault is not None:
            raise InvalidInput(found.fault, where=self._database.where, hint="run `distributor audit verify`")
        return found.name

    def last_checkpoint(self) -> StoredCheckpoint | None:
        with self._database.reading() as connection:
            return checkpoints.last(connection)

    def grow(self, tree: Tree) -> None:
        checkpoints.grow(self._database, tree)

    def keep_checkpoint(self, checkpoint: StoredCheckpoint) -> StoredCheckpoint:
        with self._database.writing() as connection:
            return checkpoints.keep(connection, checkpoint)

    def _comparison(self, keys: Sequence[VerifierKey]) -> CheckpointComparison:
        return checkpoints.comparison(self._database, keys)
