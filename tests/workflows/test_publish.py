"""From the ledger into directories: whose certificate, which one, and what is kept of it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path

import pytest

from distributor.errors import ServiceUnavailable
from distributor.ledger import certificates
from distributor.model.attempts import AttemptResult
from distributor.model.certificates import CertificateInfo, Locator, PublicationRequest, PublicationResult
from distributor.model.delivery import Delivery, DeliveryRequest
from distributor.model.issues import CheckId, Issue, Severity
from distributor.model.people import Address, Person
from distributor.model.states import State
from distributor.pki import certificate
from distributor.workflows.publish import Published, publish
from tests.authority import Authority, Identity
from tests.ledger.world import ME, World, packed, worlds

START = datetime(2026, 11, 24, 9, 0, tzinfo=UTC)


class FakeDirectory:
    """A directory that is a dictionary; `fails` by address."""

    def __init__(self, where: str = "directory", fails: dict[str, Issue | ServiceUnavailable] | None = None) -> None:
        self.where, self.fails = where, fails or {}
        self.holds: dict[str, bytes] = {}
        self.asked: list[PublicationRequest] = []
        self.warns: Issue | None = None
        self.takes = True

    def publish(self, public: PublicationRequest, now: datetime) -> PublicationResult | Issue:
        assert now.tzinfo is UTC
        self.asked.append(public)
        key = str(public.address)
        match self.fails.get(key):
            case ServiceUnavailable() as error:
                raise error
            case Issue() as issue:
                return issue
        before = self.holds.get(key)
        digest = sha256(before or b"").hexdigest()
        if public.leaf is not None:
            self.holds[key] = public.leaf
        elif digest in public.gone:
            del self.holds[key]
        changed = self.holds.get(key) != before
        return PublicationResult(
            f"entry of {key}", changed, self.warns, public.gone & {digest} if changed else frozenset(), holds=self.takes
        )

    def close(self) -> None:
        pass


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority(now=START)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    yield from worlds(f"sqlite:///{tmp_path / 'ledger.db'}")


def planned(world: World, name: str, identity: Identity) -> str:
    info = certificate.info(identity.der)
    assert isinstance(info, CertificateInfo)
    locator = Locator("pkcs12", ((f"/in/{name}.pfx", None, "0" * 64),))
    draft = DeliveryRequest(Person(Address(name, "example.org"), f"{name.title()} Example"), "en", info, identity.der, (), locator)
    (delivery,) = world.ledger.plan("plan-1", [draft])
    assert isinstance(delivery, Delivery)
    return delivery.id


def received(world: World, name: str, identity: Identity, state: State = State.ACCEPTED) -> str:
    """A delivery that came to this state."""
    id_ = planned(world, name, identity)
    assert world.ledger.enqueue([packed(id_, to=f"{name}@example.org")], ME) == [True]
    claim = world.claim()
    assert world.arm(claim)
    assert world.ledger.write([AttemptResult(claim, state, "the server's word")], ME) == [True]
    return id_


def run(world: World, *directories: FakeDirectory, days: float = 0) -> Published:
    return publish(world.ledger, directories, now=START + timedelta(days=days))


def summary(done: Published) -> tuple[int, int, int, list[tuple[Severity, CheckId, str | None]]]:
    return done.written, done.unchanged, done.removed, [(i.severity, i.check, i.address) for i in done.issues]


def test_everybody_who_received_a_certificate_is_published_and_nobody_else(world: World, authority: Authority) -> None:
    alice = authority.issue("alice@example.org")
    received(world, "alice", alice)
    received(world, "amb", authority.issue("amb@example.org"), State.AMBIGUOUS)
    received(world, "rejected", authority.issue("rejected@example.org"), State.REJECTED)
    planned(world, "planned", authority.issue("planned@example.org"))
    directory = FakeDirectory()
    assert summary(run(world, directory)) == (1, 0, 0, [])
    assert directory.holds == {"alice@example.org": alice.der}
    assert directory.asked[0].name == "Alice Example"


def test_twice_is_once_and_the_ledger_knows_where_and_what(world: World, authority: Authority) -> None:
    identity = authority.issue("anna@example.org")
    id_ = received(world, "anna", identity)
    directory, other = FakeDirectory("ldaps://one"), FakeDirectory("ldaps://two")
    assert summary(run(world, directory, other)) == (2, 0, 0, [])
    assert summary(run(world, directory, other)) == (0, 2, 0, [])
    published = [event for event in world.ledger.history("anna@example.org") if event.event == "published"]
    digest = sha256(identity.der).hexdigest()
    common = {"certificate_sha256": digest, "address": "anna@example.org", "entry": "entry of anna@example.org"}
    assert [(event.delivery, event.before, event.evidence) for event in published] == [
        (id_, None, {"place": where, **common}) for where in ("ldaps://one", "ldaps://two")
    ]
    (holder,) = world.ledger.holders()
    assert holder.certificates[0].places == {"ldaps://one", "ldaps://two"}
    assert world.state(id_) is State.ACCEPTED


def test_what_was_there_already_is_noted_too(world: World, authority: Authority) -> None:
    identity = authority.issue("anna@example.org")
    received(world, "anna", identity)
    directory = FakeDirectory()
    directory.holds["anna@example.org"] = identity.der
    assert summary(run(world, directory)) == (0, 1, 0, [])
    assert world.events()[-1] == "published"


def test_the_newest_counts_of_a_persons_certificates(world: World, authority: Authority) -> None:
    received(world, "anna", authority.issue("anna@example.org"))
    newest = authority.issue("anna@example.org")
    received(world, "anna", newest)
    planned(world, "anna", authority.issue("anna@example.org"))
    directory = FakeDirectory()
    assert summary(run(world, directory)) == (1, 0, 0, [])
    assert directory.holds == {"anna@example.org": newest.der}


def test_a_certificate_for_signing_only_gives_way_to_one_for_encryption(world: World, authority: Authority) -> None:
    encrypts = authority.issue("anna@example.org", usage=("key_encipherment",))
    received(world, "anna", encrypts)
    received(world, "anna", authority.issue("anna@example.org", usage=("digital_signature",)))
    received(world, "bert", authority.issue("bert@example.org", usage=("digital_signature",)))
    directory = FakeDirectory()
    assert summary(run(world, directory)) == (1, 0, 0, [(Severity.WARNING, CheckId.KEY_USAGE, "bert@example.org")])
    assert directory.holds == {"anna@example.org": encrypts.der}


def test_what_expired_or_is_not_valid_yet_is_never_published(world: World, authority: Authority) -> None:
    received(world, "anna", authority.issue("anna@example.org", days=10))
    world.clock.forward(days=40)  # a clock that ran ahead
    received(world, "bert", authority.issue("bert@example.org", starts=timedelta(days=30)))
    directory = FakeDirectory()
    issues = [(Severity.WARNING, CheckId.EXPIRED, "anna@example.org"), (Severity.WARNING, CheckId.NOT_YET_VALID, "bert@example.org")]
    assert summary(run(world, directory, days=20)) == (0, 0, 0, issues)
    assert directory.holds == {}
    assert [public.leaf for public in directory.asked] == [None]  # what expired may lie there all the same


def revoke(world: World, id_: str) -> None:
    delivery = world.ledger.delivery(id_)
    assert delivery is not None
    world.ledger.revoke(delivery.certificate_sha256, "revoked on 2026-11-20 (key compromise)")


def test_a_revoked_certificate_is_not_published(world: World, authority: Authority) -> None:
    revoke(world, received(world, "anna", authority.issue("anna@example.org")))
    directory = FakeDirectory()
    assert summary(run(world, directory)) == (0, 0, 0, [(Severity.WARNING, CheckId.REVOKED, "anna@example.org")])
    assert directory.holds == {}


def test_what_was_published_and_then_revoked_is_taken_away_once(world: World, authority: Authority) -> None:
    id_ = received(world, "anna", authority.issue("anna@example.org"))
    directory = FakeDirectory()
    run(world, directory)
    revoke(world, id_)
    assert summary(run(world, directory))[:3] == (0, 0, 1)
    assert directory.holds == {}
    assert world.events()[-1] == "unpublished"
    assert summary(run(world, directory))[:3] == (0, 0, 0)


def test_after_a_revocation_the_next_certificate_takes_its_place(world: World, authority: Authority) -> None:
    id_ = received(world, "anna", authority.issue("anna@example.org"))
    directory = FakeDirectory()
    run(world, directory)
    revoke(world, id_)
    fresh = authority.issue("anna@example.org")
    received(world, "anna", fresh)
    assert summary(run(world, directory)) == (1, 0, 1, [])
    assert directory.holds == {"anna@example.org": fresh.der}


def test_one_persons_failure_stops_nobody_else_and_is_tried_again(world: World, authority: Authority) -> None:
    for name in ("anna", "bert", "cleo"):
        received(world, name, authority.issue(f"{name}@example.org"))
    no = Issue(Severity.ERROR, CheckId.NO_PERSON, "nobody", "look", "directory", None, "bert@example.org")
    directory = FakeDirectory(fails={"bert@example.org": no})
    assert summary(run(world, directory)) == (2, 0, 0, [(Severity.ERROR, CheckId.NO_PERSON, "bert@example.org")])
    assert "published" not in world.events("bert")
    directory.fails.clear()
    assert summary(run(world, directory)) == (1, 2, 0, [])


def test_a_directory_that_fails_for_all_is_left_and_the_others_go_on(world: World, authority: Authority) -> None:
    for name in ("anna", "bert", "cleo"):
        received(world, name, authority.issue(f"{name}@example.org"))
    down = ServiceUnavailable("the connection was cut", where="ldaps://down", hint="again")
    failing, good = FakeDirectory("ldaps://down", {"bert@example.org": down}), FakeDirectory("good")
    done = run(world, failing, good)
    assert (done.written, done.errors) == (4, [down])
    assert [len(directory.asked) for directory in (failing, good)] == [2, 3]
    assert summary(run(world, failing, good))[:2] == (0, 4)


def test_what_a_directory_warns_of_is_told_beside_the_count(world: World, authority: Authority) -> None:
    received(world, "anna", authority.issue("anna@example.org"))
    directory = FakeDirectory()
    directory.warns = Issue(
        Severity.WARNING, CheckId.NOT_PUBLISHED, "another one comes first", "remove it", "directory", None, "anna@example.org"
    )
    assert summary(run(world, directory)) == (1, 0, 0, [(Severity.WARNING, CheckId.NOT_PUBLISHED, "anna@example.org")])
    assert summary(run(world, directory))[:2] == (0, 1)


def test_a_resent_certificate_is_the_same_one(world: World, authority: Authority) -> None:
    identity = authority.issue("anna@example.org")
    id_ = received(world, "anna", identity)
    directory = FakeDirectory()
    run(world, directory)
    world.ledger.regenerate(id_, "lost")
    assert summary(run(world, directory)) == (0, 1, 0, [])


def test_several_pages_of_people_come_once_each(world: World, authority: Authority, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(certificates, "PEOPLE_PAGE", 2)
    monkeypatch.setattr(certificates, "_PEOPLE", certificates._PEOPLE.limit(2))  # noqa: SLF001  as it is made of it
    names = ["a", "b", "c", "d", "e"]
    for name in names:
        received(world, name, authority.issue(f"{name}@example.org"))
    assert [holder.address for holder in world.ledger.holders()] == [f"{name}@example.org" for name in names]
