"""Processes that send side by side on one PostgreSQL, to a service that answers at once: whether the end of the chain holds them up."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import psycopg

from distributor.ledger import open_ledger
from distributor.model.delivery import DeliveryFilter
from distributor.model.states import State
from tests.bench.ground import line
from tests.ledger.postgresql import Server, server
from tests.workflows import outbox

COUNT = 8000  # messages
CONNECTIONS = 64  # in flight together, as 500 messages a second are where a server takes 0.13 s for each
DURABLE = "-c shared_buffers=128MB -c max_connections=50 -c listen_addresses="  # as installed: each commit waits for the disk
WORKER = """
import asyncio, sys
from distributor.ledger import open_ledger
from distributor.workflows.sending.report import SendContext, SendOptions
from distributor.workflows.sending.run import send
from tests.workflows import outbox
from tests.workflows.scripted import ScriptedTransport
ledger = open_ledger(sys.argv[1], by="bench")
print("ready", flush=True)
sys.stdin.readline()
context, transport = SendContext(alive=lambda _: None), ScriptedTransport(max_connections=int(sys.argv[2]))
report = asyncio.run(send(ledger, transport, owner=outbox.me(), context=context, options=SendOptions()))
print(report.accepted, flush=True)
"""


HELD = """
SELECT count(*) FROM pg_locks JOIN pg_stat_activity USING (pid)
WHERE relation = 'head'::regclass AND wait_event_type IS DISTINCT FROM 'Lock' AND pid <> pg_backend_pid()
"""  # at most one: all others wait for it
PAUSE = 0.01  # seconds between two looks


def run(_folder: Path) -> None:
    """One worker, then two and four."""
    with server(DURABLE) as (where, user):
        running = Server(Path(where), user)
        for workers in (1, 2, 4):
            _measure(running, workers)


def _measure(running_server: Server, workers: int) -> None:
    database = running_server.fresh()
    url = running_server.url(database)
    ledger = open_ledger(url, by="bench", create=True)
    outbox.queue(ledger, COUNT, size=14_000)
    argv = [sys.executable, "-c", WORKER, url, str(CONNECTIONS // workers)]
    running = [subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(workers)]
    for process in running:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    began = time.perf_counter()
    for process in running:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    held = _held(running_server, database, running)
    seconds = time.perf_counter() - began
    shares = [int(process.communicate()[0]) for process in running]
    assert ledger.counts(DeliveryFilter()) == {State.ACCEPTED: COUNT}
    assert sum(shares) == COUNT
    ledger.close()
    line(f"messages a second by {workers} process{'es' if workers > 1 else ''}", f"{COUNT / seconds:.0f}/s", "wanted: 500")
    ceiling = COUNT / (seconds * held) if held else float("inf")
    line("    the end of the chain is held", f"{held:.0%} of the time", f"so it would carry {ceiling:.0f}/s")


def _held(where: Server, database: str, running: list[subprocess.Popen[str]]) -> float:
    """Which share of the time a writer held the head's row, until all processes have ended."""
    looks = taken = 0
    with psycopg.connect(host=str(where.folder), user=where.user, dbname=database, autocommit=True) as connection:
        while any(process.poll() is None for process in running):
            row = connection.execute(HELD).fetchone()
            assert row is not None
            looks, taken = looks + 1, taken + bool(row[0])
            time.sleep(PAUSE)
    return taken / looks
