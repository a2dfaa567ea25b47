"""CPU of `status`, `history` and the portal's lists over 100 000 rows beside plain sqlite3 queries; and of the ledger's steps."""

from __future__ import annotations

import os
import resource
import sqlite3
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from distributor.ledger import open_ledger
from distributor.model.attempts import AttemptResult, Claim, PackedMessage, PackingTask, RecordIntent
from distributor.model.ports import Ledger
from distributor.model.states import State
from tests.bench.ground import line, workspace
from tests.ledger.world import EVERYTHING, LEASE, ME, draft

PEOPLE = 1000  # written by the ledger itself
COPIES = 100  # of each, made by SQL
BATCH = 50
TIMES = 3
MESSAGE = os.urandom(10_000)
COLUMNS = (
    "d.id, p.address, p.name, d.language, d.generation, d.state, d.attempt, d.message_id, d.package_sha256, d.profile, d.said, "
    "d.not_before, d.updated_at, d.plan, d.certificate, c.serial, c.subject, c.not_after, h.channel, h.state"
)
JOIN = (
    "delivery d JOIN person p ON p.id = d.person JOIN certificate c ON c.sha256 = d.certificate LEFT JOIN handover h ON h.delivery = d.id"
)
SCAN = f"""
import sqlite3, sys
for row in sqlite3.connect(sys.argv[1]).execute("SELECT {COLUMNS} FROM {JOIN} ORDER BY d.id"):
    pass
"""  # noqa: S608  columns of ours
EVENTS = (
    "FROM event e JOIN delivery d ON d.id = e.delivery JOIN person p ON p.id = d.person "
    "WHERE p.key = 'person00500@example.org' ORDER BY e.seq"
)
HISTORY = f"""
import sqlite3, sys
columns = "e.seq, e.at, e.delivery, e.event, e.before, e.after, e.by, e.evidence, e.personal"
for row in sqlite3.connect(sys.argv[1]).execute(f"SELECT {{columns}} {EVENTS}"):
    print(*row)
"""
BEGINNING = "SELECT key, address, name FROM person WHERE {0} >= 'person0012' AND {0} < 'person0013' ORDER BY key LIMIT 50"
FOUND = f"SELECT * FROM ({BEGINNING.format('key')}) UNION SELECT * FROM ({BEGINNING.format('lower(name)')})"  # noqa: S608  columns of ours
PRINTED = SCAN.replace("import sqlite3, sys", "import json, sqlite3, sys").replace("pass", "print(json.dumps(row))")


def run(folder: Path) -> None:
    """Measure and print."""
    config = workspace(folder, 2525)
    database = config.parent / "distributor.db"
    _steps(open_ledger(f"sqlite:///{database}", by="bench", now=lambda: datetime.now(UTC)))
    copy_people(database)
    start = _median(lambda: _program(config, "config", "show"))  # the program's start and its settings; no ledger
    bare = _median(lambda: _python("import sqlite3, sys", database))
    plain = _median(lambda: _python(SCAN, database)) - bare
    printed = _median(lambda: _python(PRINTED, database)) - bare
    line(f"plain scan of {PEOPLE * COPIES} rows (sqlite3), CPU without the start", f"{plain:.2f} s")
    line("the same, each row printed as a JSON array", f"{printed:.2f} s")
    for words in (["status"], ["status", "--json"]):
        taken = _median(lambda words=words: _program(config, *words)) - start
        line(f"distributor {' '.join(words)}", f"{taken:.2f} s", f"{taken / plain:.1f} x the plain scan; wanted: at most 3")
    _lists(database)
    _add_events(database)
    plain = _median(lambda: _python(HISTORY, database)) - bare
    line(f"plain query of {PEOPLE * COPIES} events of one person, each row printed", f"{plain:.2f} s")
    for words in (["history"], ["history", "--json"]):
        taken = _median(lambda words=words: _program(config, *words, "person00500@example.org")) - start
        line(f"distributor {' '.join(words)}", f"{taken:.2f} s", f"{taken / plain:.1f} x the plain query; wanted: at most 3")


def _lists(database: Path) -> None:
    """The portal's lists, each beside the same query by sqlite3, in this process."""
    ledger = open_ledger(f"sqlite:///{database}", by="bench", now=lambda: datetime.now(UTC))
    newest = f"SELECT {COLUMNS} FROM {JOIN} WHERE d.state = 'accepted' ORDER BY d.id DESC LIMIT 100"  # noqa: S608  columns of ours
    pairs = (
        ("the newest 100 deliveries of a state", lambda: ledger.newest([State.ACCEPTED], 100), newest),
        ("counts by state", lambda: ledger.counts(EVERYTHING), "SELECT state, count(*) FROM delivery GROUP BY state"),
        ("a search by address or name", lambda: ledger.search("person0012", 50), FOUND),
    )
    with sqlite3.connect(database) as connection:
        for name, ours, theirs in pairs:
            taken, plain = _each(ours), _each(lambda theirs=theirs: connection.execute(theirs).fetchall())
            line(f"portal: {name}", f"{taken * 1000:.2f} ms", f"{taken / plain:.1f} x the plain query ({plain * 1000:.2f} ms)")
        line("what needs a person (status)", f"{_each(lambda: ledger.attention(EVERYTHING)) * 1000:.0f} ms")
    connection.close()
    ledger.close()


def _each(work: Callable[[], object]) -> float:
    """CPU seconds of one call, in the middle of several."""
    work()
    taken = []
    for _ in range(TIMES):
        began = time.process_time()
        work()
        taken.append(time.process_time() - began)
    return statistics.median(taken)


def _median(work: Callable[[], object]) -> float:
    """CPU seconds of a child process, in the middle of several."""
    taken = []
    for _ in range(TIMES):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        work()
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        taken.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return statistics.median(taken)


def _python(program: str, database: Path) -> None:
    subprocess.run([sys.executable, "-c", program, database], check=True, stdout=subprocess.DEVNULL)


def _program(config: Path, *arguments: str) -> None:
    command = [sys.executable, "-m", "distributor", "--config", config, *arguments]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def _steps(ledger: Ledger) -> None:
    drafts = [draft(f"person{number:05}") for number in range(PEOPLE)]
    ledger.begin_plan("bench", {})
    _timed("plan", lambda: [ledger.plan("bench", drafts[i : i + BATCH]) for i in range(0, PEOPLE, BATCH)])
    taken: list[PackingTask] = _timed("take", lambda: _all(lambda: ledger.lease(ME, BATCH, LEASE, EVERYTHING)))
    packed = [_packed(lent) for lent in taken]
    _timed("store", lambda: [ledger.enqueue(packed[i : i + BATCH], ME) for i in range(0, PEOPLE, BATCH)])
    claims: list[Claim] = _timed("claim", lambda: _all(lambda: ledger.claim(ME, BATCH, LEASE, EVERYTHING)))
    half = PEOPLE // 2
    for size, part in ((8, claims[:half]), (BATCH, claims[half:])):
        arms, ends = (
            [RecordIntent(claim, LEASE) for claim in part],
            [AttemptResult(claim, State.ACCEPTED, "250 2.0.0 Ok: queued as 4F2A") for claim in part],
        )
        _timed(f"arm, {size} a commit", lambda s=size, a=arms: [ledger.write(a[i : i + s], ME) for i in range(0, half, s)], half)
        _timed(f"settle, {size} a commit", lambda s=size, e=ends: [ledger.write(e[i : i + s], ME) for i in range(0, half, s)], half)
    _timed("verify, an event", ledger.verify, PEOPLE * 5)
    ledger.close()


def _all(more: Callable[[], list[object]]) -> list[object]:
    found: list[object] = []
    while part := more():
        found += part
    return found


def _packed(lent: PackingTask) -> PackedMessage:
    message = f"To: {lent.person.address}\r\n\r\n".encode() + MESSAGE
    return PackedMessage(
        lent.id, f"<{lent.id}@example.org>", message, "ab" * 32, "phone", "certs@example.org", MESSAGE[:300], "reveal", timedelta(days=14)
    )


def _timed(what: str, work: Callable[[], object], count: int = PEOPLE) -> object:
    wall, cpu = time.perf_counter(), time.process_time()
    done = work()
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    line(f"ledger: {what}", f"{count / wall:.0f} /s", f"{cpu / count * 1e6:.0f} us of CPU each")
    return done


def _add_events(database: Path) -> None:
    """As many events of one person; `history` verifies nothing."""
    columns = "event, before, after, by, evidence, personal, salt, commitment, hash"
    number = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?)"
    one = f"SELECT e.at, e.delivery, {columns} {EVENTS} LIMIT 1"
    with sqlite3.connect(database) as connection:
        (last,) = connection.execute("SELECT max(seq) FROM event").fetchone()
        connection.execute(
            f"INSERT INTO event (seq, at, delivery, {columns}) {number} SELECT ? + i, one.* FROM n, ({one}) one",  # noqa: S608  columns of ours
            (PEOPLE * COPIES, last),
        )
    connection.close()


def copy_people(database: Path) -> None:
    """More people of the same kind, without their events: `status` does not read those."""
    with sqlite3.connect(database) as connection:
        connection.execute(
            "CREATE TEMP TABLE n AS WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?) SELECT i FROM n",
            (COPIES - 1,),
        )
        for table, changed in (
            ("person", ("id", "key")),
            ("certificate", ("sha256",)),
            ("delivery", ("id", "person", "certificate")),
            ("handover", ("delivery",)),
        ):
            columns = [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]
            copied = ", ".join(f"{name} || '-' || i" if name in changed else name for name in columns)
            connection.execute(f"INSERT INTO {table} SELECT {copied} FROM {table}, n")  # noqa: S608  names of ours
    connection.close()
