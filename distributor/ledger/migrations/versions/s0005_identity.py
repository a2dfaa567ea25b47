"""Which ledger this is, so that a copy or an older one is recognised: a name that all its copies share.

It is random, or comes from the first event where there is one: so copies that were made before this step get the same name.
"""

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
    connection = op.get_bind()
    first = connection.execute(text("SELECT hash FROM event WHERE seq = 1")).scalar_one_or_none()
    connection.execute(text("UPDATE head SET ledger = :name"), {"name": first[:32] if first else secrets.token_hex(16)})
