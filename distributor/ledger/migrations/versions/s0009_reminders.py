"""Reminders are found by their delivery: each run asks which steps were written before."""

from __future__ import annotations

from alembic import op
from sqlalchemy import text

revision = "0009"
down_revision = "0008"

REMINDER = text("event IN ('reminded', 'reminder-refused')")


def upgrade() -> None:
    """Make the index."""
    op.create_index("event_of_reminder", "event", ["delivery", "at"], sqlite_where=REMINDER, postgresql_where=REMINDER)
