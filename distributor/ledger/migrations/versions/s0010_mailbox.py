"""How far each mailbox was read."""

from __future__ import annotations

from alembic import op
from sqlalchemy import Column, Text

revision = "0010"
down_revision = "0009"

TEXT = Text().with_variant(Text(collation="C"), "postgresql")


def upgrade() -> None:
    """Make the table."""
    op.create_table("mailbox", Column("name", TEXT, primary_key=True), Column("position", TEXT, nullable=False))
