"""Deliveries are found by the Message-ID that a report names, in an index."""

from __future__ import annotations

from alembic import op

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    """Make the index."""
    op.create_index("delivery_by_message", "delivery", ["message_id"])
