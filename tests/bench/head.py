"""Processes that send side by side on one PostgreSQL, to a service that answers at once: whether the end of the chain holds them up."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

from distributor.ledger import open_ledger
from distributor.model.delivery import DeliveryFilter
from distributor.model.states import State
from tests.bench.ground import line
from tests.ledger.postgresql import Server, server
from tests.workflows import outbox

COUNT = 8000  # messages
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
context, transport = SendContext(alive=lambda _: None), ScriptedTransport(max_connections=16)
report = asyncio.run(send(ledger, transport, owner=outbox.me(), context=context, options=SendOptions()))
print(report.accepted, flush=True)
"""


def run(_folder: Path) -> None:
    """One worker, then two and four."""
    with server(DURABLE) as (where, user):
        running = Server(Path(where), user)
        for workers in (1, 2, 4):
            _measure(running.url(running.fresh()), workers)


def _measure(url: str, workers: int) -> None:
    ledger = open_ledger(url, by="bench", create=True)
    outbox.queue(ledger, COUNT, size=14_000)
    argv = [sys.executable, "-c", WORKER, url]
    running = [subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(workers)]
    for process in running:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    began = time.perf_counter()
    for process in running:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    shares = [int(process.communicate()[0]) for process in running]
    seconds = time.perf_counter() - began
    assert ledger.counts(DeliveryFilter()) == {State.ACCEPTED: COUNT}
    assert sum(shares) == COUNT
    ledger.close()
    line(f"messages a second by {workers} process{'es' if workers > 1 else ''}", f"{COUNT / seconds:.0f}/s", "wanted: 500")
