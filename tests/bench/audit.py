"""How long `audit verify` and `audit export` take over 100 000 and 1 000 000 events, and how much memory."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import sqlite3
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

from sqlalchemy import Table

from distributor.ledger.tables import certificate, delivery, event, handover, person
from distributor.model.audit_log import ORIGIN, Link, commit, digest
from distributor.model.certificates import CertificateInfo
from distributor.model.delivery import Delivery
from distributor.model.states import State
from distributor.pki import certificate as certificates
from tests.authority import Authority
from tests.bench.ground import distributor, line, workspace
from tests.ledger.world import ME, Clock, World, draft, packed

SIZES = (100_000, 1_000_000)  # events
CHUNK = 5000  # deliveries written at once
NAME = "anna"
_COPIED = (person, certificate, delivery, handover)


def run(folder: Path) -> None:
    """Measure and print."""
    config = workspace(folder, 2525)
    database = config.parent / "distributor.db"
    empty = folder / "empty.db"
    shutil.copy(database, empty)
    for size in SIZES:
        os.environ["XDG_STATE_HOME"] = str(folder / f"state-{size}")  # another machine, which remembers none of these ledgers
        shutil.copy(empty, database)
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as writer:  # a command's peak would count this process's memory
            events = writer.submit(write_ledger, database, size).result()
        _verify(config, events, "wanted: at most 10 s" if size == max(SIZES) else "")
        distributor("ledger", "adopt", "--reason", "written as if on another machine", config=config)  # or no checkpoint is signed
        distributor("audit", "checkpoint", config=config)
        _verify(config, events, "", " with a checkpoint")
        forms = ("jsonl",) if size == max(SIZES) else ("jsonl", "csv")
        for form in forms:
            exported = distributor("audit", "export", "--format", form, "--output", str(folder / "export"), config=config)
            line(f"audit export of {events} events, {form}", f"{exported.wall:.2f} s", f"{exported.cpu:.2f} s of CPU")
            line("    its largest process", f"{exported.peak:.0f} MiB")


def _verify(config: Path, events: int, wanted: str, of: str = "") -> None:
    verified = distributor("audit", "verify", "--json", config=config)
    if not verified.answer.get("ok"):
        raise SystemExit(f"the bench's own ledger does not verify: {verified.answer}")
    per = verified.cpu / events * 1e6
    load = os.getloadavg()[0]
    line(f"audit verify of {events} events{of}", f"{verified.wall:.2f} s", f"{verified.cpu:.2f} s of CPU, {per:.1f} us each. {wanted}")
    line("    its largest process, and the load average", f"{verified.peak:.0f} MiB", f"{load:.1f}")


def write_ledger(database: Path, size: int) -> int:
    """Fill an empty ledger with deliveries that were all planned, then stored, then sent one by one; how many events.

    The first was written by the ledger itself; all others are copies of it under other names, with hashes of their own.
    """
    rows = _first(database)
    links = [Link(*row) for row in rows.pop("event")]
    people = size // len(links)
    own = {name: theirs[0][0] for name, theirs in rows.items()}
    connection = sqlite3.connect(database)
    connection.execute("PRAGMA cache_size = -500000")  # KiB; the indexes are filled in no order
    triggers = connection.execute("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'").fetchall()
    with connection:
        for name, _ in triggers:
            connection.execute(f"DROP TRIGGER {name}")
        connection.execute("DELETE FROM event")
        for table in reversed(_COPIED):
            connection.execute(f"DELETE FROM {table.name}")  # noqa: S608  names of ours
    with connection:
        for table in _COPIED:
            marks = ", ".join("?" * len(table.columns))
            columns, first = table.columns.keys(), rows[table.name][0]
            copies = (_copied(columns, first, names) for names in _names(people, own, rows["certificate"][0]))
            connection.executemany(f"INSERT INTO {table.name} ({listed(table)}) VALUES ({marks})", copies)  # noqa: S608  names of ours
        marks = ", ".join("?" * len(event.columns))
        for batch in _events(links, people, own, rows["certificate"][0]):
            connection.executemany(f"INSERT INTO event ({listed(event)}) VALUES ({marks})", batch)  # noqa: S608  names of ours
            last = batch[-1]
        connection.execute("UPDATE head SET seq = ?, at = ?, hash = ?", (last.seq, last.at, last.hash))
        for _, sql in triggers:
            connection.execute(sql)
    connection.close()
    return last.seq


def _first(database: Path) -> dict[str, list[tuple[Any, ...]]]:
    """The rows of one delivery that was accepted and whose message has left the outbox."""
    world = World(f"sqlite:///{database}", Clock(datetime.now(UTC)))
    issued = Authority("Bench").issue(f"{NAME}@example.org", name=NAME).der
    info = certificates.info(issued)
    assert isinstance(info, CertificateInfo)
    (planned,) = world.ledger.plan("plan-1", [replace(draft(NAME), facts=info, leaf=issued)])
    assert isinstance(planned, Delivery)
    world.ledger.enqueue([packed(planned.id, to=planned.address)], ME)
    claim = world.claim()
    assert world.arm(claim)
    assert world.settle(claim, State.ACCEPTED, response="250 2.0.0 Ok: queued as 4F2A")
    world.close()
    connection = sqlite3.connect(database)
    with connection:
        connection.execute("DELETE FROM outbox")
    found = {}
    for table in (*_COPIED, event):
        found[table.name] = connection.execute(f"SELECT {listed(table)} FROM {table.name} ORDER BY 1").fetchall()  # noqa: S608  names of ours
    connection.close()
    return found


def listed(table: Table) -> str:
    """Its columns in our order, which is not the file's where a migration added one."""
    return ", ".join(f'"{column.name}"' for column in table.columns)


def _names(people: int, own: Mapping[str, str], leaf: tuple[Any, ...]) -> Iterator[dict[str, Any]]:
    """For each person, what stands in place of the first one's names; `leaf` is the first one's row of `certificate`."""
    columns = certificate.columns.keys()
    der, serial = leaf[columns.index("der")], leaf[columns.index("serial")]
    for number in range(people):
        fresh = f"{serial[0]}{sha256(str(number).encode()).hexdigest()}"[: len(serial)]
        bytes_ = der.replace(_number(serial), _number(fresh))
        yield {
            own["person"]: f"p-{number:026}",
            own["delivery"]: f"d-{number:026}",
            own["certificate"]: sha256(bytes_).hexdigest(),
            serial: fresh,
            f"{NAME}@": f"person{number:06}@",
            f"{NAME} Example": f"Person {number:06}",
            der: bytes_,
        }


def _number(serial: str) -> bytes:
    return bytes.fromhex(serial.zfill(len(serial) + len(serial) % 2))


def _copied(columns: list[str], row: tuple[Any, ...], names: Mapping[Any, Any]) -> tuple[Any, ...]:
    return tuple(_renamed(value, names) if column != "locator" else value for column, value in zip(columns, row, strict=True))


def _renamed(value: object, names: Mapping[Any, Any]) -> object:
    if isinstance(value, bytes):
        return names.get(value, value)
    return _text(value, _held(value, names), names) if isinstance(value, str) else value


def _held(value: object, names: Mapping[Any, Any]) -> list[str]:
    """Which of the first one's names stand in a text."""
    return [old for old in names if isinstance(old, str) and isinstance(value, str) and old in value]


def _text(value: str, held: list[str], names: Mapping[Any, Any]) -> str:
    for old in held:
        value = value.replace(old, names[old])
    return value


def _events(links: list[Link], people: int, own: Mapping[str, str], leaf: tuple[Any, ...]) -> Iterator[list[Link]]:
    seq, prev = 0, ORIGIN
    first = next(_names(1, own, leaf))
    held = {link: (_held(link.evidence, first), _held(link.personal, first)) for link in links}
    planned, stored, *sent = links
    for part in ([planned], [stored], sent):
        batch: list[Link] = []
        for names in _names(people, own, leaf):
            for link in part:
                seq += 1
                in_evidence, in_personal = held[link]
                evidence = _text(link.evidence, in_evidence, names)
                personal = None if link.personal is None else _text(link.personal, in_personal, names)
                commitment = "" if personal is None else commit(str(link.salt), personal)
                columns = (link.at, names[own["delivery"]], *link[3:7], evidence, personal, link.salt, commitment)
                prev = digest(Link(seq, *columns, ""), prev)
                batch.append(Link(seq, *columns, prev))
            if len(batch) >= CHUNK:
                yield batch
                batch = []
        if batch:
            yield batch
