"""Requests for another copy, accounts that people sign in with, sessions of the portal; and indexes for what the portal asks."""

from __future__ import annotations

from alembic import op
from sqlalchemy import CheckConstraint, Column, ForeignKey, Text, UniqueConstraint, text

revision = "0008"
down_revision = "0006"

TEXT = Text().with_variant(Text(collation="C"), "postgresql")
INCIDENT = text("event = 'incident'")
OUTCOME = text("event IN ('accepted', 'installed', 'bounced', 'rejected')")


def upgrade() -> None:
    """Make the tables and the indexes."""
    op.create_table(
        "request",
        Column("id", TEXT, primary_key=True),
        Column("delivery", TEXT, ForeignKey("delivery.id"), nullable=False),
        Column("state", TEXT, nullable=False),
        Column("at", TEXT, nullable=False),
        Column("by", TEXT, nullable=False),
        Column("reason", TEXT, nullable=False),
        Column("decided_at", TEXT),
        Column("decided_by", TEXT),
        Column("answer", TEXT, nullable=False),
        Column("planned", TEXT, ForeignKey("delivery.id")),
        CheckConstraint("state IN ('open', 'approved', 'denied')", name="request_state"),
    )
    op.create_index("request_by_delivery", "request", ["delivery"])
    op.create_index("request_by_state", "request", ["state", "id"])
    op.create_table(
        "account",
        Column("issuer", TEXT, primary_key=True),
        Column("subject", TEXT, primary_key=True),
        Column("person", TEXT, ForeignKey("person.id"), nullable=False),
        Column("how", TEXT, nullable=False),
        Column("at", TEXT, nullable=False),
        UniqueConstraint("person", "issuer", name="account_once"),
    )
    op.create_index("account_by_subject", "account", ["subject"])
    op.create_table(
        "session",
        Column("token", TEXT, primary_key=True),
        Column("created", TEXT, nullable=False),
        Column("seen", TEXT, nullable=False),
        Column("data", TEXT, nullable=False),
    )
    op.create_index("event_of_incident", "event", ["delivery"], sqlite_where=INCIDENT, postgresql_where=INCIDENT)
    op.create_index("event_of_outcome", "event", [text("substr(at, 1, 10)"), "event"], sqlite_where=OUTCOME, postgresql_where=OUTCOME)
    op.create_index("person_by_name", "person", [text("lower(name)")])
