"""The part of the Ledger port that serves verification and checkpoints. What each promises is said once, in `model`."""

# ruff: noqa: D102  as above

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from distributor.errors import InvalidInput
from distributor.ledger.engine import Database
from distributor.ledger.lazy import late
from distributor.ledger.transaction import ledger_identity

if TYPE_CHECKING:
    from distributor.ledger import checkpoints, verification
    from distributor.model.audit_log import AuditRecord, ChainObserver, Link, VerificationReport
    from distributor.model.checkpoints import StoredCheckpoint, Tree, VerifierKey
    from distributor.model.issues import Issue
else:
    checkpoints, verification = late("checkpoints verification")


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

    def records(self) -> Iterator[AuditRecord]:
        return verification.records(self._database)

    def links(self) -> Iterator[Link]:
        return verification.links(self._database)

    def prove(self, observers: Sequence[ChainObserver] = (), keys: Sequence[VerifierKey] = ()) -> VerificationReport:
        own = checkpoints.comparison(self._database, keys)
        return replace(verification.verify(self._database, (own, *observers)), checkpoints=len(own.matching))

    def verify(self) -> list[Issue | str]:
        return [*self.prove().findings]
