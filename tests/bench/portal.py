"""The portal on a ledger of 100 000 deliveries: CPU and latency of a signed-in page, at 200 people a second and as fast as it goes."""

from __future__ import annotations

import asyncio
import os
import re
import sqlite3
import statistics
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

from distributor.ledger import open_ledger
from distributor.model.requests import SignInAccount
from distributor.model.sign_in import SignedIn
from distributor.portal.sessions import Role, SessionStore
from tests.bench import status
from tests.bench.ground import line, workspace
from tests.ledger.world import draft
from tests.portal.conftest import write_portal

VISITORS = 200
RATE = 200.0  # requests a second
SECONDS = 10.0
PAGES = {"a person's first page": "/", "the administrator's overview": "/admin", "a search": "/admin/people?q=person0012"}


def run(folder: Path) -> None:
    """Measure and print."""
    config = workspace(folder, 2525)
    database = config.parent / "distributor.db"
    _fill(database)
    cookies = _sessions(database)
    write_portal(config.parent, "http://localhost:1", "http://127.0.0.1:9/oidc", "")
    words = [sys.executable, "-m", "distributor", "--config", str(config), "serve", "--port", "0"]
    with subprocess.Popen(words, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        found = re.search(r":(\d+) for", process.stderr.readline())
        assert found
        drain = subprocess.Popen(["cat"], stdin=process.stderr, stdout=subprocess.DEVNULL)
        port = int(found[1])
        for name, path in PAGES.items():
            asyncio.run(_load(port, path, cookies[:8], 0, 1.0))  # until everything is loaded
            before = _cpu(process.pid)
            taken = asyncio.run(_load(port, path, cookies, RATE, SECONDS))
            cost = (_cpu(process.pid) - before) / len(taken)
            worst = statistics.quantiles(taken, n=100)[98] * 1000
            middle = statistics.median(taken) * 1000
            line(name, f"{cost * 1000:.1f} ms of CPU", f"at {len(taken) / SECONDS:.0f}/s: median {middle:.1f} ms, p99 {worst:.1f} ms")
            fast = asyncio.run(_load(port, path, cookies[:8], 0, 5.0))
            line(f"{name}, 8 at a time", f"{len(fast) / 5.0:.0f}/s")
        process.terminate()
        process.wait(30)
        drain.wait(30)


def _fill(database: Path) -> None:
    """A thousand people planned by the ledger, their messages accepted and then copied by SQL; the portal verifies nothing of that."""
    ledger = open_ledger(f"sqlite:///{database}", by="bench", now=now)
    ledger.begin_plan("bench", {})
    ledger.plan("bench", [draft(f"person{number:05}") for number in range(status.PEOPLE)])
    ledger.close()
    with sqlite3.connect(database) as connection:
        connection.execute("UPDATE delivery SET state = 'accepted'")
        connection.execute(
            "INSERT INTO handover (delivery, channel, state, sealed, expires_at) "
            "SELECT id, 'reveal', 'ready', x'00', '2999-01-01T00:00:00.000000Z' FROM delivery"
        )
    status.copy_people(database)
    with sqlite3.connect(database) as connection:
        connection.execute(
            "INSERT INTO event (seq, at, delivery, event, before, after, by, evidence, commitment, hash) "
            "SELECT 10000 + rowid, strftime('%Y-%m-%dT00:00:00.000000Z', 'now', '-' || (rowid % 29) || ' days'), "
            "id, 'accepted', 'transmitting', 'accepted', 'bench', '{}', '', '' FROM delivery"
        )


def now() -> datetime:
    """The clock."""
    return datetime.now(UTC)


def _sessions(database: Path) -> list[str]:
    ledger = open_ledger(f"sqlite:///{database}", by="bench", now=now)
    store = SessionStore(ledger, now)
    roles = frozenset({Role.ADMINISTRATOR})
    people = [f"person{number:05}@example.org" for number in range(VISITORS)]
    cookies = [store.begin(SignedIn(SignInAccount("i", p), entra=False), p, roles, "en").token for p in people]
    ledger.close()
    return cookies


async def _load(port: int, path: str, cookies: list[str], rate: float, seconds: float) -> list[float]:
    """Latencies of requests that begin at a rate, whether earlier ones have ended or not; 0: each visitor goes on at once."""
    visitors = [await asyncio.open_connection("127.0.0.1", port) for _ in cookies]
    taken: list[float] = []
    end = time.perf_counter() + seconds

    async def go(number: int) -> None:
        reader, writer = visitors[number]
        request = f"GET {path} HTTP/1.1\r\nHost: localhost\r\nCookie: __Host-session={cookies[number]}\r\n\r\n".encode()
        due = time.perf_counter() + (number / rate if rate else 0.0)
        while due < end:
            if (wait := due - time.perf_counter()) > 0:
                await asyncio.sleep(wait)
            began = due if rate else time.perf_counter()
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200"), head
            size = re.search(rb"(?i)content-length: (\d+)", head)
            assert size
            await reader.readexactly(int(size[1]))
            taken.append(time.perf_counter() - began)
            due = due + len(cookies) / rate if rate else time.perf_counter()

    await asyncio.gather(*(go(number) for number in range(len(cookies))))
    for _, writer in visitors:
        writer.close()
    return taken


def _cpu(pid: int) -> float:
    """CPU seconds of a process."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
