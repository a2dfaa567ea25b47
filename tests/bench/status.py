"""How long `status` takes over 100 000 deliveries beside a plain sqlite3 scan of the rows it shows; and what each step costs the ledger."""

from __future__ import annotations

import os
import sqlite3
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from distributor.ledger import open_ledger
from distributor.model.delivery import AttemptResult, Claim, PackedMessage, PackingTask, RecordIntent
from distributor.model.ports import Ledger
from distributor.model.states import State
from tests.bench.ground import line, workspace
from tests.ledger.world import EVERYTHING, LEASE, ME, draft

PEOPLE = 1000  # written by the ledger itself
COPIES = 100  # of each, made by SQL
BATCH = 50
TIMES = 5
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
PRINTED = SCAN.replace("import sqlite3, sys", "import json, sqlite3, sys").replace("pass", "print(json.dumps(row))")


def run(folder: Path) -> None:
    """Measure and print."""
    config = workspace(folder, 2525)
    database = config.parent / "distributor.db"
    _steps(open_ledger(f"sqlite:///{database}", by="bench", now=lambda: datetime.now(UTC)))
    copy_people(database)
    plain = _median(lambda: _python(SCAN, database))
    printed = _median(lambda: _python(PRINTED, database))
    listed = _median(lambda: _program(config, "status"))
    as_json = _median(lambda: _program(config, "status", "--json"))
    line(f"plain scan of {PEOPLE * COPIES} rows (sqlite3)", f"{plain:.2f} s")
    line("the same, each row printed as a JSON array", f"{printed:.2f} s")
    line("distributor status", f"{listed:.2f} s", f"{listed / plain:.1f} x the plain scan; wanted: at most 3")
    line("distributor status --json", f"{as_json:.2f} s", f"{as_json / plain:.1f} x the plain scan; wanted: at most 3")


def _median(work: Callable[[], object]) -> float:
    taken = []
    for _ in range(TIMES):
        began = time.perf_counter()
        work()
        taken.append(time.perf_counter() - began)
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
