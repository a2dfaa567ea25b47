"""A real ledger with queued messages in it, made without a certificate."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta
from functools import cache
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory

from distributor.ledger import open_ledger
from distributor.ledger.sqlite import sqlite3
from distributor.model.attempts import PackedMessage
from distributor.model.certificates import Locator
from distributor.model.delivery import DeliveryFilter, DeliveryRequest, LeaseHolder
from distributor.model.people import Address, Person
from distributor.model.ports import Ledger
from tests import run
from tests.identities import plain_facts
from tests.ledger import known_schema

known_schema.remember()
SENDER = "certificates@example.org"


def now() -> datetime:
    return datetime.now(UTC)


def new_ledger(path: Path, clock: Callable[[], datetime] = now) -> Ledger:
    """The ledger there; where there is none, a copy of an empty one that is made once a process, with an identity of its own."""
    if not path.exists():
        path.touch(mode=0o600)
        path.write_bytes(_empty())
        with closing(sqlite3.connect(path)) as connection, connection:
            connection.execute("UPDATE head SET ledger = ?", (uuid.uuid4().hex,))
    return open_ledger(f"sqlite:///{path}", by="test@here", now=clock)


@cache
def _empty() -> bytes:
    with TemporaryDirectory(dir=run.folder()) as folder:
        path = Path(folder) / "empty.db"
        open_ledger(f"sqlite:///{path}", by="test@here", now=now, create=True).close()
        return path.read_bytes()


def leaf(number: int) -> bytes:
    return f"the certificate {number}".encode()


def sha(number: int) -> str:
    return sha256(leaf(number)).hexdigest()


def draft(number: int, domain: str = "example.org") -> DeliveryRequest:
    info = plain_facts(
        sha(number), f"{number:x}", f"CN=p{number}", "CN=Test", f"p{number}@{domain}", not_after=datetime(2030, 1, 1, tzinfo=UTC)
    )
    locator = Locator("pkcs12", (("/nowhere.pfx", None, "0" * 64),))
    return DeliveryRequest(Person(Address(f"p{number}", domain), f"Person {number}"), "en", info, leaf(number), (), locator)


def packed(delivery: str, address: str, size: int = 300, sender: str = SENDER) -> PackedMessage:
    message_id = f"<{uuid.uuid4().hex}@example.org>"
    head = f"From: {sender}\r\nTo: {address}\r\nMessage-ID: {message_id}\r\n\r\n".encode()
    line = b"x" * 74 + b"\r\n"
    body = b"." + line + line * (size // len(line))
    return PackedMessage(
        id=delivery,
        message_id=message_id,
        message=head + body,
        package_sha256="0" * 64,
        profile="phone",
        sender=sender,
        sealed=b"sealed",
        channel="reveal",
        expires=timedelta(days=14),
    )


def me() -> LeaseHolder:
    return LeaseHolder(uuid.uuid4().hex, "test", 1, 1)


def plan(ledger: Ledger, count: int, *, first: int = 1) -> str:
    """`count` planned deliveries p1, p2, ...; the plan's id."""
    name = uuid.uuid4().hex[:8]
    ledger.begin_plan(name, {})
    for start in range(first, first + count, 200):
        ledger.plan(name, [draft(n) for n in range(start, min(start + 200, first + count))])
    return name


def pack(ledger: Ledger, size: int = 300, limit: int = 10_000, senders: Sequence[str] = (SENDER,)) -> int:
    """Freeze a message for everything that is planned, in turn from each sender."""
    owner, done = me(), 0
    while taken := ledger.lease(owner, min(100, limit - done), timedelta(seconds=60), DeliveryFilter()):
        made = [packed(todo.id, str(todo.person.address), size, senders[(done + n) % len(senders)]) for n, todo in enumerate(taken)]
        ledger.enqueue(made, owner)
        done += len(taken)
    return done


def queue(ledger: Ledger, count: int, size: int = 300, senders: Sequence[str] = (SENDER,)) -> None:
    plan(ledger, count)
    pack(ledger, size, senders=senders)
