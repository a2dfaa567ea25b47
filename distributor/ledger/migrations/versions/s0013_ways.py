"""Deliveries by Intune, old keys in numbered series, and which certificate another one renews."""

from __future__ import annotations

from alembic import op
from sqlalchemy import Column, Text, text

revision = "0013"
down_revision = "0012"

TEXT = Text().with_variant(Text(collation="C"), "postgresql")


def upgrade() -> None:
    """Add the columns. Everything before them went by mail."""
    kind = TEXT.compile(dialect=op.get_bind().dialect)
    # with the constraint at once: SQLite adds none to a table that exists
    op.execute(
        text(
            f"ALTER TABLE delivery ADD COLUMN way {kind} DEFAULT 'mail' NOT NULL CONSTRAINT delivery_way CHECK (way IN ('mail', 'intune'))"
        )
    )
    op.add_column("delivery", Column("series", TEXT, nullable=False, server_default=""))
    op.add_column("delivery", Column("predecessor", TEXT))
    for name, where in (("delivery_by_intune", text("way = 'intune'")), ("delivery_of_renewal", text("predecessor IS NOT NULL"))):
        op.create_index(name, "delivery", ["state"], sqlite_where=where, postgresql_where=where)
