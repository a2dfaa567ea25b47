"""People and certificates of ledgers whose keys were made by case folding: they go on working, and two whom it joined are two again."""

from __future__ import annotations

import gzip
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from distributor.ledger import open_ledger
from distributor.ledger.sqlite import sqlite3
from distributor.model.audit_log import canonical, commit
from distributor.model.delivery import Delivery, ExistingDelivery
from distributor.model.people import Address, Person, key_of
from distributor.model.ports import Ledger
from distributor.pki.spki import sha256_of
from tests.ledger.world import EVERYTHING, Clock, draft

SCHEMA = Path(__file__).parent / "schemas" / "0003.sql"
DEMO = Path(__file__).parents[1] / "data" / "ledgers" / "0003-demo.db.gz"
Change = Callable[..., None]
Upgrade = Callable[..., Ledger]


@pytest.fixture
def upgrade(tmp_path: Path) -> Iterator[Upgrade]:
    """Open a ledger of schema 3 after statements that make it what an older program would have written."""
    opened: list[Ledger] = []

    def run(*statements: tuple[str, tuple[object, ...]], source: Path = SCHEMA) -> Ledger:
        path = tmp_path / "old.db"
        if source.suffix == ".gz":
            path.write_bytes(gzip.decompress(source.read_bytes()))
        with closing(sqlite3.connect(path)) as database, database:
            if source.suffix == ".sql":
                database.executescript(source.read_text(encoding="utf-8"))
            for statement, values in statements:
                database.execute(statement, values)
        opened.append(open_ledger(f"sqlite:///{path}", by="root@host", now=Clock()))
        return opened[-1]

    yield run
    for ledger in opened:
        ledger.close()


def rows(tmp_path: Path, asked: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(tmp_path / "old.db")) as database:
        return [tuple(row) for row in database.execute(asked)]


def renamed(name: str, key: str) -> tuple[str, tuple[object, ...]]:
    """Cleo, who is planned, goes by another address."""
    return "UPDATE person SET address = ?, key = ? WHERE key = 'cleo@example.org'", (f"{name}@example.org", f"{key}@example.org")


def test_a_key_that_folding_made_becomes_the_one_of_its_address(upgrade: Upgrade, tmp_path: Path) -> None:
    ledger = upgrade(renamed("Strauß", "strauss"))
    assert rows(tmp_path, "SELECT key FROM person WHERE address = 'Strauß@example.org'") == [("strauß@example.org",)]
    wanted = Person(Address("strauß", "example.org"))
    found = ledger.history(wanted.address.key)
    assert [event.event for event in found] == ["planned"]


def test_others_keep_their_keys_and_find_their_deliveries(upgrade: Upgrade, tmp_path: Path) -> None:
    ledger = upgrade()
    assert {key for (key,) in rows(tmp_path, "SELECT key FROM person")} == {f"{n}@example.org" for n in ("anna", "bert", "cleo")}
    assert ledger.verify() == []
    assert isinstance(ledger.plan("plan-1", [draft("cleo")])[0], ExistingDelivery | Delivery)


def test_a_key_that_no_address_made_stays_as_it_is(upgrade: Upgrade, tmp_path: Path) -> None:
    upgrade(renamed("Strauß", "somebody"))
    assert ("somebody@example.org",) in rows(tmp_path, "SELECT key FROM person")


def test_no_key_is_given_that_somebody_has(upgrade: Upgrade, tmp_path: Path) -> None:
    taken = ("UPDATE person SET key = 'strauß@example.org' WHERE key = 'bert@example.org'", ())
    upgrade(renamed("Strauß", "strauss"), taken)
    keys = [key for (key,) in rows(tmp_path, "SELECT key FROM person")]
    assert sorted(map(str, keys)) == ["anna@example.org", "strauss@example.org", "strauß@example.org"]


def test_two_whom_folding_joined_are_parted_by_what_their_deliveries_tell(upgrade: Upgrade, tmp_path: Path) -> None:
    """Cleo's row was renamed by a later roster; her delivery was planned for the other spelling."""
    personal = canonical({"address": "strauss@example.org", "name": "Johann Strauss"})
    hers = "delivery IN (SELECT id FROM delivery WHERE state = 'planned')"
    update = f"UPDATE event SET personal = ?, salt = '00', commitment = ? WHERE event = 'planned' AND {hers}"  # noqa: S608  words of ours
    change = (update, (personal, commit("00", personal)))
    trigger = ("DROP TRIGGER event_is_kept", ())
    ledger = upgrade(renamed("strauß", "strauss"), trigger, change)
    people = dict(rows(tmp_path, "SELECT key, name FROM person WHERE key LIKE 'str%'"))
    assert set(people) == {"strauss@example.org", "strauß@example.org"}
    assert people["strauss@example.org"] == "Johann Strauss"
    planned = [delivery.address for delivery in ledger.deliveries(EVERYTHING) if delivery.state == "planned"]
    assert planned == ["strauss@example.org"]
    assert [str(fault) for fault in ledger.verify() if "person" in str(fault)] == []


def test_a_ledger_of_the_program_before_is_clean_and_knows_its_keys(upgrade: Upgrade, tmp_path: Path) -> None:
    ledger = upgrade(source=DEMO)
    assert ledger.verify() == []
    found = rows(tmp_path, "SELECT der, key_sha256 FROM certificate")
    assert len(found) == 4
    assert all(isinstance(der, bytes) and key == sha256_of(der) is not None for der, key in found)
    assert all(key == key_of(str(address)) for key, address in rows(tmp_path, "SELECT key, address FROM person"))


def test_bytes_that_are_no_certificate_have_no_key(upgrade: Upgrade, tmp_path: Path) -> None:
    upgrade()
    assert set(rows(tmp_path, "SELECT key_sha256 FROM certificate")) == {(None,)}


def test_a_key_that_was_edited_is_found(upgrade: Upgrade, tmp_path: Path) -> None:
    ledger = upgrade(source=DEMO)
    with closing(sqlite3.connect(tmp_path / "old.db")) as database, database:
        database.execute("UPDATE certificate SET key_sha256 = NULL")
    assert sum("key_sha256" in str(fault) for fault in ledger.verify()) == 4
