"""Which ledger this is, so that a copy or an older one is recognised: a random name that all its copies share."""

from __future__ import annotations

import secrets

from alembic import op
from sqlalchemy import Column, Text, text

revision = "0005"
down_revision = "0004"

TEXT = Text().with_variant(Text(collation="C"), "postgresql")


def upgrade() -> None:
    """Add it beside the end of the chain."""
    op.add_column("head", Column("ledger", TEXT, nullable=False, server_default=""))
    op.get_bind().execute(text("UPDATE head SET ledger = :name"), {"name": secrets.token_hex(16)})
