"""The tables as the program uses them. What creates and changes them in a database is `migrations/`; a test holds the two together.

Times are UTC text of fixed width, documents canonical JSON, hashes lower-case hex.
"""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import CheckConstraint, Column, ForeignKey, Index, Integer, LargeBinary, MetaData, Table, Text, UniqueConstraint, text

from distributor.model.states import PasswordState, RequestState, State, Way

metadata = MetaData()
IS_REVOCATION = text("event IN ('revoked', 'released')")  # SQLite takes the index only for the very same words
IS_ARMING = text("event = 'transmitting'")  # likewise
IS_INCIDENT = text("event = 'incident'")
IS_OUTCOME = text("event IN ('accepted', 'installed', 'bounced', 'rejected')")
IS_REMINDER = text("event IN ('reminded', 'reminder-refused')")
BY_INTUNE = text("way = 'intune'")
IS_RENEWAL = text("predecessor IS NOT NULL")
DAY = text("substr(at, 1, 10)")  # of an event; parameters in it would keep SQLite from the index
TEXT = Text().with_variant(Text(collation="C"), "postgresql")  # "C": ids and times sort by their bytes everywhere


def one_of(column: str, words: Iterable[str]) -> str:
    """The condition that a column holds one of these words."""
    listed = ", ".join(f"'{word}'" for word in words)
    return f"{column} IN ({listed})"


plan = Table(
    "plan",
    metadata,
    Column("id", TEXT, primary_key=True),
    Column("at", TEXT, nullable=False),
    Column("inputs", TEXT, nullable=False),
)

person = Table(
    "person",
    metadata,
    Column("id", TEXT, primary_key=True),
    Column("key", TEXT, nullable=False, unique=True),  # Address.key
    Column("address", TEXT, nullable=False),
    Column("name", TEXT, nullable=False),
    Column("language", TEXT, nullable=False),
    Column("phone", TEXT, nullable=False),
    Column("manager", TEXT, nullable=False),
    Column("alternate_email", TEXT, nullable=False),
    Column("columns", TEXT, nullable=False),
    Index("person_by_name", text("lower(name)")),
)

authority = Table(
    "authority",
    metadata,
    Column("sha256", TEXT, primary_key=True),
    Column("der", LargeBinary, nullable=False),
)

certificate = Table(
    "certificate",
    metadata,
    Column("sha256", TEXT, primary_key=True),
    Column("serial", TEXT, nullable=False),
    Column("subject", TEXT, nullable=False),
    Column("issuer", TEXT, nullable=False),
    Column("not_before", TEXT, nullable=False),
    Column("not_after", TEXT, nullable=False),
    Column("der", LargeBinary, nullable=False),
    Column("chain", TEXT, nullable=False),  # hashes in `authority`, issuer of the leaf first
    Column("key_sha256", TEXT),  # of the public key (SubjectPublicKeyInfo); NULL: `der` is no certificate
    Index("certificate_by_key", "key_sha256"),
    Index("certificate_by_serial", "serial"),
)

owner = Table(
    "owner",
    metadata,
    Column("id", TEXT, primary_key=True),
    Column("host", TEXT, nullable=False),
    Column("pid", Integer, nullable=False),
    Column("started", TEXT),  # clock ticks; text because they pass 32 bits
)

delivery = Table(
    "delivery",
    metadata,
    Column("id", TEXT, primary_key=True),
    Column("plan", TEXT, ForeignKey("plan.id"), nullable=False),
    Column("person", TEXT, ForeignKey("person.id"), nullable=False),
    Column("certificate", TEXT, ForeignKey("certificate.sha256"), nullable=False),
    Column("generation", Integer, nullable=False),
    Column("language", TEXT, nullable=False),
    Column("locator", TEXT, nullable=False),
    Column("state", TEXT, nullable=False),  # a cache of its last event
    Column("attempt", Integer, nullable=False),  # the fencing number: one more with each claim
    Column("deferrals", Integer, nullable=False),
    Column("owner", TEXT, ForeignKey("owner.id")),  # of a claim, or of the packing lease while planned; stays to prove a late answer
    Column("lease_until", TEXT),
    Column("armed_at", TEXT),
    Column("not_before", TEXT),
    Column("said", TEXT),
    Column("message_id", TEXT),
    Column("package_sha256", TEXT),
    Column("profile", TEXT),
    Column("updated_at", TEXT, nullable=False),
    Column("way", TEXT, nullable=False, server_default=Way.MAIL.value),
    Column("series", TEXT, nullable=False, server_default=""),  # of an old key: which one of how many, as "2/4"
    Column("predecessor", TEXT),  # SHA-256 of the certificate that this one renews
    UniqueConstraint("person", "certificate", "generation", name="delivery_once"),
    CheckConstraint(one_of("state", State), name="delivery_state"),
    CheckConstraint(one_of("way", Way), name="delivery_way"),
    CheckConstraint("generation >= 1 AND attempt >= 0 AND deferrals >= 0", name="delivery_numbers"),
    Index("delivery_by_state", "state", "id"),
    Index("delivery_by_plan", "plan", "id"),
    Index("delivery_by_certificate", "certificate"),
    Index("delivery_by_message", "message_id"),
    Index("delivery_by_intune", "state", sqlite_where=BY_INTUNE),
    Index("delivery_of_renewal", "state", sqlite_where=IS_RENEWAL),
)

outbox = Table(
    "outbox",
    metadata,
    Column("delivery", TEXT, ForeignKey("delivery.id"), primary_key=True),
    Column("sender", TEXT, nullable=False),
    Column("address", TEXT, nullable=False),
    Column("message_id", TEXT, nullable=False, unique=True),
    Column("message", LargeBinary, nullable=False),
)

handover = Table(
    "handover",
    metadata,
    Column("delivery", TEXT, ForeignKey("delivery.id"), primary_key=True),
    Column("state", TEXT, nullable=False),
    Column("channel", TEXT, nullable=False),
    Column("sealed", LargeBinary),  # an age envelope; gone with every state but held and ready, and some days after expired
    Column("lasts", Integer),  # seconds from the moment it becomes ready; NULL: for ever
    Column("expires_at", TEXT),
    Column("closed_at", TEXT),
    Column("closed_by", TEXT),
    CheckConstraint(one_of("state", PasswordState), name="handover_state"),
    CheckConstraint("sealed IS NULL OR state IN ('held', 'ready', 'expired')", name="handover_sealed"),
    Index("handover_by_expiry", "state", "expires_at"),
)

event = Table(
    "event",
    metadata,
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
    Index("event_by_delivery", "delivery", "seq"),
    Index("event_of_arming", "at", sqlite_where=IS_ARMING),
    Index("event_of_revocation", "delivery", sqlite_where=IS_REVOCATION),
    Index("event_of_incident", "delivery", sqlite_where=IS_INCIDENT),
    Index("event_of_outcome", DAY, "event", sqlite_where=IS_OUTCOME),
    Index("event_of_reminder", "delivery", "at", sqlite_where=IS_REMINDER),
)

publication = Table(
    "publication",
    metadata,
    Column("person", TEXT, ForeignKey("person.id"), primary_key=True),
    Column("certificate", TEXT, ForeignKey("certificate.sha256"), primary_key=True),
    Column("place", TEXT, primary_key=True),
    Column("at", TEXT, nullable=False),
)

request = Table(
    "request",
    metadata,
    Column("id", TEXT, primary_key=True),
    Column("delivery", TEXT, ForeignKey("delivery.id"), nullable=False),
    Column("state", TEXT, nullable=False),  # as `planned` below a cache of its events
    Column("at", TEXT, nullable=False),
    Column("by", TEXT, nullable=False),
    Column("reason", TEXT, nullable=False),
    Column("decided_at", TEXT),
    Column("decided_by", TEXT),
    Column("answer", TEXT, nullable=False),
    Column("planned", TEXT, ForeignKey("delivery.id")),  # the new generation
    CheckConstraint(one_of("state", RequestState), name="request_state"),
    Index("request_by_delivery", "delivery"),
    Index("request_by_state", "state", "id"),
)

account = Table(
    "account",
    metadata,
    Column("issuer", TEXT, primary_key=True),
    Column("subject", TEXT, primary_key=True),
    Column("person", TEXT, ForeignKey("person.id"), nullable=False),
    Column("how", TEXT, nullable=False),
    Column("at", TEXT, nullable=False),
    UniqueConstraint("person", "issuer", name="account_once"),
    Index("account_by_subject", "subject"),
)

session = Table(  # of the portal; no event tells of it
    "session",
    metadata,
    Column("token", TEXT, primary_key=True),  # SHA-256 of the cookie's value
    Column("created", TEXT, nullable=False),
    Column("seen", TEXT, nullable=False),
    Column("data", TEXT, nullable=False),
)

mailbox = Table(  # how far each mailbox was read; no event tells of it
    "mailbox",
    metadata,
    Column("name", TEXT, primary_key=True),
    Column("position", TEXT, nullable=False),
)

checkpoint = Table(  # signed statements about the events; no event tells of one
    "checkpoint",
    metadata,
    Column("size", Integer, primary_key=True, autoincrement=False),  # how many events
    Column("at", TEXT, nullable=False),
    Column("note", TEXT, nullable=False),
    Column("edge", TEXT, nullable=False),  # of the Merkle tree: hashes, the largest subtree first, separated by blanks
    Column("event", TEXT, nullable=False),  # the hash of event number `size`
    Column("token", TEXT),  # an RFC 3161 time stamp of the note in base64
)

head = Table(
    "head",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("seq", Integer, nullable=False),
    Column("at", TEXT, nullable=False),
    Column("hash", TEXT, nullable=False),
    Column("ledger", TEXT, nullable=False),  # its name, which all copies share
    CheckConstraint("id = 1", name="head_alone"),
)
