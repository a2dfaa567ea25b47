"""People, certificates and messages for the ledger's tests, a clock that stands still, and shorthands for the steps of a message."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256

from sqlalchemy import create_engine, text

from distributor.ledger import open_ledger
from distributor.ledger.sqlite import sqlite3
from distributor.model.attempts import AttemptResult, Claim, PackedMessage, RecordIntent
from distributor.model.certificates import Locator
from distributor.model.delivery import Delivery, DeliveryFilter, DeliveryRequest, LeaseHolder
from distributor.model.people import Address, Person
from distributor.model.ports import Ledger
from distributor.model.states import State
from tests.identities import plain_facts
from tests.ledger import known_schema

known_schema.remember()
LEASE = timedelta(seconds=60)
EVERYTHING = DeliveryFilter()
ME = LeaseHolder("me", "this-host", 4711, 2**40)
YOU = LeaseHolder("you", "that-host", 4712, None)
CHAIN = (b"issuer".ljust(900, b"."), b"root".ljust(900, b"."))


@dataclass
class Clock:
    """Stands until it is moved."""

    now: datetime = field(default_factory=lambda: datetime(2026, 11, 24, 9, 0, tzinfo=UTC))

    def __call__(self) -> datetime:
        return self.now

    def forward(self, **by: float) -> None:
        self.now += timedelta(**by)


def draft(name: str, *, certificate: str = "first", **about: str) -> DeliveryRequest:
    leaf = f"{name} {certificate}".encode().ljust(1000, b".")
    info = plain_facts(sha256(leaf).hexdigest(), f"{sum(leaf):x}", f"CN={name}", "CN=Issuing CA,O=Example", f"{name}@example.org")
    person = Person(Address(name, "example.org"), name=about.get("title", f"{name} Example"), language="de-AT", columns={"room": "12"})
    return DeliveryRequest(person, "de", info, leaf, CHAIN, Locator("pkcs12", ((f"/in/{name}.pfx", None, "0" * 64),)))


def spelled(name: str, local: str) -> DeliveryRequest:
    """The same as `draft`, from a roster that writes the address otherwise."""
    same = draft(name)
    return replace(same, person=replace(same.person, address=Address(local, "example.org")))


def packed(
    delivery: str, *, again: str = "", expires: timedelta | None = timedelta(days=14), to: str = "anna@example.org"
) -> PackedMessage:
    message = f"To: {to}\r\nMessage-ID: <{delivery}{again}@example.org>\r\n\r\nthe message of {delivery}{again}\r\n".encode()
    digest = sha256(message).hexdigest()
    return PackedMessage(
        delivery,
        f"<{delivery}{again}@example.org>",
        message,
        digest,
        "phone",
        "certs@example.org",
        f"sealed {delivery}".encode(),
        "reveal",
        expires,
    )


class World:
    """A ledger with a plan, and what a sender does to it."""

    def __init__(self, url: str, clock: Clock | None = None) -> None:
        self.url, self.clock = url, clock or Clock()
        self.ledger = self.opened()
        self.ledger.begin_plan("plan-1", {"sources": ["/in"]})
        self.others: list[Ledger] = []
        self.spoiled = False

    @classmethod
    def existing(cls, url: str) -> World:
        """A world on a ledger whose plan was begun before."""
        world = cls.__new__(cls)
        world.url, world.clock, world.others, world.spoiled = url, Clock(), [], False
        world.ledger = world.opened()
        return world

    def opened(self, by: str = "root@host") -> Ledger:
        return open_ledger(self.url, by=by, now=self.clock, create=True)

    def another(self, by: str = "root@other") -> Ledger:
        self.others.append(self.opened(by))
        return self.others[-1]

    def plan(self, *names: str) -> list[Delivery]:
        found = self.ledger.plan("plan-1", [draft(name) for name in names])
        assert all(isinstance(delivery, Delivery) for delivery in found)
        return [delivery for delivery in found if isinstance(delivery, Delivery)]

    def queue(self, *names: str) -> list[str]:
        planned = self.plan(*names)
        assert self.ledger.enqueue([packed(one.id, to=one.address) for one in planned], ME) == [True] * len(planned)
        return [one.id for one in planned]

    def claim(self, owner: LeaseHolder = ME) -> Claim:
        (claim,) = self.ledger.claim(owner, 1, LEASE, EVERYTHING)
        return claim

    def claimed(self, name: str = "anna") -> Claim:
        self.queue(name)
        return self.claim()

    def armed(self, name: str = "anna") -> Claim:
        claim = self.claimed(name)
        assert self.arm(claim)
        return claim

    def arm(self, claim: Claim, owner: LeaseHolder = ME) -> bool:
        return self.ledger.write([RecordIntent(claim, timedelta(minutes=10))], owner)[0]

    def settle(
        self, claim: Claim, state: State, owner: LeaseHolder = ME, response: str = "250 ok", not_before: datetime | None = None
    ) -> bool:
        wait = None if not_before is None else not_before - self.clock.now
        return self.ledger.write([AttemptResult(claim, state, response, wait)], owner)[0]

    def accepted(self, name: str = "anna") -> str:
        claim = self.armed(name)
        assert self.settle(claim, State.ACCEPTED)
        return claim.id

    def ambiguous(self, name: str = "anna") -> Claim:
        claim = self.armed(name)
        assert self.settle(claim, State.AMBIGUOUS, response="no answer")
        return claim

    def state(self, delivery: str) -> State:
        found = self.ledger.delivery(delivery)
        assert found is not None
        return found.state

    def events(self, name: str = "anna") -> list[str]:
        return [event.event for event in self.ledger.history(f"{name}@example.org")]

    def sql(self, *statements: str) -> list[tuple[object, ...]]:
        """What somebody with the database in his hands can do; the rows of the last statement."""
        engine = create_engine(self.url, **({"module": sqlite3} if self.url.startswith("sqlite") else {}))
        try:
            with engine.begin() as connection:
                for statement in statements:
                    found = connection.execute(text(statement))
                return [tuple(row) for row in found] if found.returns_rows else []
        finally:
            engine.dispose()

    def outbox(self) -> list[str]:
        return [str(address) for (address,) in self.sql("SELECT address FROM outbox ORDER BY delivery")]

    def close(self) -> None:
        for ledger in (self.ledger, *self.others):
            ledger.close()


def worlds(url: str) -> Iterator[World]:
    """A world that ends, and whose chain held to its end."""
    world = World(url)
    try:
        yield world
        assert world.spoiled or world.ledger.verify() == []
    finally:
        world.close()


def lifted(world: World) -> tuple[list[str], list[str]]:
    """Statements that take the triggers away, and that put them back."""
    if not world.url.startswith("sqlite"):
        return ["ALTER TABLE event DISABLE TRIGGER ALL"], ["ALTER TABLE event ENABLE TRIGGER ALL"]
    triggers = world.sql("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'")
    return [f"DROP TRIGGER {name}" for name, _ in triggers], [str(sql) for _, sql in triggers]


def found(world: World, *statements: str) -> list[str]:
    """What `verify` says once somebody has run these statements."""
    world.sql(*statements)
    world.spoiled = True
    return [str(finding) for finding in world.ledger.verify()]
