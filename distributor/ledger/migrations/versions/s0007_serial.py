"""Certificates are found by the beginning of their serial number, in an index; and an event may change the chain of a certificate.

A program that does not know that event would report the ledger as modified, so the schema's number tells it to refuse.
"""

from __future__ import annotations

from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """Make the index."""
    op.create_index("certificate_by_serial", "certificate", ["serial"])
