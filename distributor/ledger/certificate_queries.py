"""The part of the Ledger port about certificates that people have: where they are published, and whether they are revoked."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import datetime

from distributor.ledger import publications, revocations, revoked
from distributor.ledger.engine import Database
from distributor.ledger.transaction import WriteTransaction
from distributor.model.publishing import CertificateHolder
from distributor.model.revoking import CertificateInUse, RevokedDelivery


class CertificateQueries:
    """Methods of `SqlLedger`, which opens the transactions."""

    _database: Database
    _writing: Callable[[], AbstractContextManager[WriteTransaction]]

    # directories
    def holders(self) -> Iterator[CertificateHolder]:
        """Everybody who received a certificate."""
        return publications.holders(self._database)

    def note_published(self, delivery: str, place: str, entry: str) -> None:
        """A certificate is public somewhere."""
        with self._writing() as tx:
            publications.note(tx, delivery, place, entry)

    def note_unpublished(self, delivery: str, place: str, entry: str, *, found: bool = False) -> None:
        """It is no longer public there."""
        with self._writing() as tx:
            publications.note_gone(tx, delivery, place, entry, found=found)

    # revocation
    def issued(self, now: datetime) -> Iterator[CertificateInUse]:
        """Every certificate in use."""
        return revocations.issued(self._database, now)

    def revoke(self, certificate: str, reason: str) -> list[RevokedDelivery]:
        """Record a revocation on the deliveries of a certificate."""
        with self._writing() as tx:
            return revocations.revoke(tx, certificate, reason)

    def reinstate(self, certificate: str, reason: str) -> list[RevokedDelivery]:
        """Record on the deliveries of a certificate that its hold is over."""
        with self._writing() as tx:
            return revocations.reinstate(tx, certificate, reason)

    def revoked(self, certificates: Sequence[str]) -> Mapping[str, str]:
        """Which of them are revoked."""
        with self._database.reading() as connection:
            return revoked.revoked(connection, certificates)
