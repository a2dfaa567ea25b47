"""The first schema: plans, people, certificates, deliveries, the outbox, passwords, and the chain of events."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy import CheckConstraint, Column, ForeignKey, Integer, LargeBinary, Text, UniqueConstraint

revision = "0001"
down_revision = None

TEXT = Text().with_variant(Text(collation="C"), "postgresql")
_STATES = (
    "state IN ('planned', 'queued', 'claimed', 'transmitting', 'deferred', 'accepted', 'rejected', 'ambiguous', 'delivered', 'bounced', "
    "'installed', 'withdrawn')"
)
_PASSWORD_STATES = "state IN ('held', 'ready', 'handed-over', 'expired', 'destroyed')"  # noqa: S105  states, not a password
_KEPT = ("seq", "at", "delivery", "event", "before", "after", "by", "evidence", "commitment", "hash")


def upgrade() -> None:
    """Make the tables, the head of an empty chain and the triggers."""
    _people()
    _deliveries()
    _passwords()
    _events()
    op.execute(sa.text("INSERT INTO head (id, seq, at, hash) VALUES (1, 0, '', :origin)").bindparams(origin="0" * 64))
    if op.get_bind().dialect.name == "sqlite":
        _sqlite_triggers()
    else:
        _postgresql_triggers()


def _people() -> None:
    op.create_table(
        "plan",
        Column("id", TEXT, primary_key=True),
        Column("at", TEXT, nullable=False),
        Column("inputs", TEXT, nullable=False),
    )

    op.create_table(
        "person",
        Column("id", TEXT, primary_key=True),
        Column("key", TEXT, nullable=False, unique=True),
        Column("address", TEXT, nullable=False),
        Column("name", TEXT, nullable=False),
        Column("language", TEXT, nullable=False),
        Column("phone", TEXT, nullable=False),
        Column("manager", TEXT, nullable=False),
        Column("alternate_email", TEXT, nullable=False),
        Column("columns", TEXT, nullable=False),
    )

    op.create_table(
        "authority",
        Column("sha256", TEXT, primary_key=True),
        Column("der", LargeBinary, nullable=False),
    )

    op.create_table(
        "certificate",
        Column("sha256", TEXT, primary_key=True),
        Column("serial", TEXT, nullable=False),
        Column("subject", TEXT, nullable=False),
        Column("issuer", TEXT, nullable=False),
        Column("not_before", TEXT, nullable=False),
        Column("not_after", TEXT, nullable=False),
        Column("der", LargeBinary, nullable=False),
        Column("chain", TEXT, nullable=False),
    )

    op.create_table(
        "owner",
        Column("id", TEXT, primary_key=True),
        Column("host", TEXT, nullable=False),
        Column("pid", Integer, nullable=False),
        Column("started", TEXT),
    )


def _deliveries() -> None:
    op.create_table(
        "delivery",
        Column("id", TEXT, primary_key=True),
        Column("plan", TEXT, ForeignKey("plan.id"), nullable=False),
        Column("person", TEXT, ForeignKey("person.id"), nullable=False),
        Column("certificate", TEXT, ForeignKey("certificate.sha256"), nullable=False),
        Column("generation", Integer, nullable=False),
        Column("language", TEXT, nullable=False),
        Column("locator", TEXT, nullable=False),
        Column("state", TEXT, nullable=False),
        Column("attempt", Integer, nullable=False),
        Column("deferrals", Integer, nullable=False),
        Column("owner", TEXT, ForeignKey("owner.id")),
        Column("lease_until", TEXT),
        Column("armed_at", TEXT),
        Column("not_before", TEXT),
        Column("said", TEXT),
        Column("message_id", TEXT),
        Column("package_sha256", TEXT),
        Column("profile", TEXT),
        Column("updated_at", TEXT, nullable=False),
        UniqueConstraint("person", "certificate", "generation", name="delivery_once"),
        CheckConstraint(_STATES, name="delivery_state"),
        CheckConstraint("generation >= 1 AND attempt >= 0 AND deferrals >= 0", name="delivery_numbers"),
    )
    op.create_index("delivery_by_state", "delivery", ["state", "id"])
    op.create_index("delivery_by_plan", "delivery", ["plan", "id"])

    op.create_table(
        "outbox",
        Column("delivery", TEXT, ForeignKey("delivery.id"), primary_key=True),
        Column("sender", TEXT, nullable=False),
        Column("address", TEXT, nullable=False),
        Column("message_id", TEXT, nullable=False, unique=True),
        Column("message", LargeBinary, nullable=False),
    )


def _passwords() -> None:
    op.create_table(
        "handover",
        Column("delivery", TEXT, ForeignKey("delivery.id"), primary_key=True),
        Column("state", TEXT, nullable=False),
        Column("channel", TEXT, nullable=False),
        Column("sealed", LargeBinary),
        Column("lasts", Integer),
        Column("expires_at", TEXT),
        Column("closed_at", TEXT),
        Column("closed_by", TEXT),
        CheckConstraint(_PASSWORD_STATES, name="handover_state"),
        CheckConstraint("sealed IS NULL OR state IN ('held', 'ready')", name="handover_sealed"),
    )
    op.create_index("handover_by_expiry", "handover", ["state", "expires_at"])


def _events() -> None:
    op.create_table(
        "event",
        Column("seq", Integer, primary_key=True, autoincrement=False),
        Column("at", TEXT, nullable=False),
        Column("delivery", TEXT, ForeignKey("delivery.id")),
        Column("event", TEXT, nullable=False),
        Column("before", TEXT),
        Column("after", TEXT),
        Column("by", TEXT, nullable=False),
        Column("evidence", TEXT, nullable=False),
        Column("personal", TEXT),
        Column("salt", TEXT),
        Column("commitment", TEXT, nullable=False),
        Column("hash", TEXT, nullable=False),
    )
    op.create_index("event_by_delivery", "event", ["delivery", "seq"])

    op.create_table(
        "head",
        Column("id", Integer, primary_key=True, autoincrement=False),
        Column("seq", Integer, nullable=False),
        Column("at", TEXT, nullable=False),
        Column("hash", TEXT, nullable=False),
        CheckConstraint("id = 1", name="head_alone"),
    )


def _sqlite_triggers() -> None:
    same = " AND ".join(f'new."{c}" IS old."{c}"' for c in _KEPT)
    op.execute(
        f"CREATE TRIGGER event_is_kept BEFORE UPDATE ON event WHEN NOT ({same} AND new.personal IS NULL AND new.salt IS NULL) "
        "BEGIN SELECT RAISE(ABORT, 'an event is never changed'); END"
    )
    op.execute("CREATE TRIGGER event_is_never_removed BEFORE DELETE ON event BEGIN SELECT RAISE(ABORT, 'an event is never removed'); END")


def _postgresql_triggers() -> None:
    same = " AND ".join(f'new."{c}" IS NOT DISTINCT FROM old."{c}"' for c in _KEPT)
    op.execute(
        "CREATE FUNCTION event_is_never_changed() RETURNS trigger LANGUAGE plpgsql AS "
        "'BEGIN RAISE EXCEPTION USING MESSAGE = ''an event is never changed or removed''; END'"
    )
    op.execute(
        "CREATE TRIGGER event_is_kept BEFORE UPDATE ON event FOR EACH ROW "
        f"WHEN (NOT ({same} AND new.personal IS NULL AND new.salt IS NULL)) "
        "EXECUTE FUNCTION event_is_never_changed()"
    )
    op.execute("CREATE TRIGGER event_is_never_removed BEFORE DELETE ON event FOR EACH ROW EXECUTE FUNCTION event_is_never_changed()")
    op.execute(
        "CREATE TRIGGER event_is_never_emptied BEFORE TRUNCATE ON event FOR EACH STATEMENT EXECUTE FUNCTION event_is_never_changed()"
    )
