"""Signed checkpoints of the audit log; as events, they are never changed or removed."""

from __future__ import annotations

from alembic import op
from sqlalchemy import Column, Integer, Text

revision = "0012"
down_revision = "0011"

TEXT = Text().with_variant(Text(collation="C"), "postgresql")


def upgrade() -> None:
    """Make the table and its triggers."""
    op.create_table(
        "checkpoint",
        Column("size", Integer, primary_key=True, autoincrement=False),
        Column("at", TEXT, nullable=False),
        Column("note", TEXT, nullable=False),
        Column("edge", TEXT, nullable=False),
        Column("event", TEXT, nullable=False),
        Column("token", TEXT),
    )
    if op.get_bind().dialect.name == "sqlite":
        for name, change in (("checkpoint_is_kept", "UPDATE"), ("checkpoint_is_never_removed", "DELETE")):
            op.execute(
                f"CREATE TRIGGER {name} BEFORE {change} ON checkpoint "
                "BEGIN SELECT RAISE(ABORT, 'a checkpoint is never changed or removed'); END"
            )
        return
    op.execute(
        "CREATE FUNCTION checkpoint_is_never_changed() RETURNS trigger LANGUAGE plpgsql AS "
        "'BEGIN RAISE EXCEPTION USING MESSAGE = ''a checkpoint is never changed or removed''; END'"
    )
    for name, change, each in (
        ("checkpoint_is_kept", "UPDATE", "ROW"),
        ("checkpoint_is_never_removed", "DELETE", "ROW"),
        ("checkpoint_is_never_emptied", "TRUNCATE", "STATEMENT"),
    ):
        op.execute(f"CREATE TRIGGER {name} BEFORE {change} ON checkpoint FOR EACH {each} EXECUTE FUNCTION checkpoint_is_never_changed()")
