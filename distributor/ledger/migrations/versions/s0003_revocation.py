"""Which certificates were revoked is asked before every letter: ways to a certificate's deliveries, and to the few events that tell."""

from __future__ import annotations

from alembic import op
from sqlalchemy import text

revision = "0003"
down_revision = "0002"

TELLING = text("event IN ('revoked', 'released')")


def upgrade() -> None:
    """Make the indexes."""
    op.create_index("delivery_by_certificate", "delivery", ["certificate"])
    op.create_index("event_of_revocation", "event", ["delivery"], sqlite_where=TELLING, postgresql_where=TELLING)
