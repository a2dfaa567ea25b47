"""A hundred thousand people through eight mailboxes of 30 messages a minute, in virtual time; the second time with the limit of a day."""

from __future__ import annotations

import os
import random
import resource
import time
from pathlib import Path

from distributor.model.delivery import DeliveryFilter
from tests.bench.ground import line
from tests.workflows import outbox
from tests.workflows.virtual import DAY, MINUTE, Service, VirtualLoop, freeze
from tests.workflows.virtual import run as send_all

PEOPLE, MAILBOXES, RATE, DAILY = int(os.environ.get("DISTRIBUTOR_PEOPLE", "100000")), 8, 30, 10_000
SENDERS = [f"certificates{number}@example.org" for number in range(MAILBOXES)]


def run(folder: Path) -> None:
    """One run of `send` with everything due; then the same with throttling, a mailbox that fails for an hour, and two days."""
    _one(folder / "plain.db", "as fast as the service allows", {})
    _one(folder / "days.db", "at most 10 000 a day, faults", {"daily": DAILY, "throttled": 0.005, "out": {SENDERS[3]: (600.0, 4200.0)}})


def _one(path: Path, what: str, more: dict[str, object]) -> None:
    loop = VirtualLoop()
    ledger = outbox.new_ledger(path, loop.now)
    freeze(ledger, PEOPLE, SENDERS)
    service = Service(loop, random.Random(8), per_minute=RATE, **more)  # type: ignore[arg-type]  # noqa: S311  no secret
    began, runs = time.perf_counter(), 0
    while len(service.people) < PEOPLE:
        before = len(service.people)
        send_all(loop, ledger, service, SENDERS)
        runs += 1
        if len(service.people) == before:
            loop.passed += 600  # `send --follow` would look again
    counts = ledger.counts(DeliveryFilter())
    ledger.close()
    loop.close()
    hours = loop.passed / 3600
    share = PEOPLE / (loop.passed / MINUTE) / (MAILBOXES * RATE)
    twice = sum(number - 1 for number in service.people.values())
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    wanted = "0.98" if not more else f"{PEOPLE / DAILY / MAILBOXES:.2f} days at least"
    line(f"{what}: share of {MAILBOXES} x {RATE} a minute", f"{share:.3f} ({hours:.2f} h, {hours * 3600 / DAY:.2f} days)", wanted)
    line("  twice, over the limits, states", f"{twice}, {service.violations()}, { {str(k): v for k, v in counts.items()} }", "0, 0")
    line("  runs, real seconds, MiB of the process", f"{runs}, {time.perf_counter() - began:.0f}, {memory:.0f}")
