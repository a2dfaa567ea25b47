"""Where certificates are public: a cache of the events `published` and `unpublished`."""

from __future__ import annotations

from alembic import op
from sqlalchemy import Column, ForeignKey, Text

revision = "0002"
down_revision = "0001"

TEXT = Text().with_variant(Text(collation="C"), "postgresql")


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "publication",
        Column("person", TEXT, ForeignKey("person.id"), primary_key=True),
        Column("certificate", TEXT, ForeignKey("certificate.sha256"), primary_key=True),
        Column("place", TEXT, primary_key=True),
        Column("at", TEXT, nullable=False),
    )
