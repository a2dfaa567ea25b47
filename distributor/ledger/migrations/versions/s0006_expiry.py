"""Expired passwords keep their sealed bytes for some days; and attempts are found by their time, whatever the order of the times is."""

from __future__ import annotations

from alembic import op
from sqlalchemy import CheckConstraint, Column, ForeignKey, Integer, LargeBinary, Text, text

revision = "0006"
down_revision = "0005"

ARMING = text("event = 'transmitting'")
_STATES = "state IN ('held', 'ready', 'handed-over', 'expired', 'destroyed')"
_SEALED = "sealed IS NULL OR state IN ('held', 'ready', 'expired')"
_COLUMNS = ("delivery", "state", "channel", "sealed", "lasts", "expires_at", "closed_at", "closed_by")


def upgrade() -> None:
    """Change the constraint, and make the index."""
    if op.get_bind().dialect.name == "sqlite":
        _make_anew()
    else:
        op.drop_constraint("handover_sealed", "handover", type_="check")
        op.create_check_constraint("handover_sealed", "handover", _SEALED)
    op.create_index("event_of_arming", "event", ["at"], sqlite_where=ARMING, postgresql_where=ARMING)


def _make_anew() -> None:
    """SQLite changes no constraint of a table that is there. Nothing refers to this one, so it may go."""
    op.drop_index("handover_by_expiry", "handover")
    op.rename_table("handover", "handover_before")
    op.create_table(
        "handover",
        Column("delivery", Text, ForeignKey("delivery.id"), primary_key=True),
        Column("state", Text, nullable=False),
        Column("channel", Text, nullable=False),
        Column("sealed", LargeBinary),
        Column("lasts", Integer),
        Column("expires_at", Text),
        Column("closed_at", Text),
        Column("closed_by", Text),
        CheckConstraint(_STATES, name="handover_state"),
        CheckConstraint(_SEALED, name="handover_sealed"),
    )
    named = ", ".join(_COLUMNS)
    op.execute(f"INSERT INTO handover ({named}) SELECT {named} FROM handover_before")  # noqa: S608  names of ours
    op.drop_table("handover_before")
    op.create_index("handover_by_expiry", "handover", ["state", "expires_at"])
