"""A ledger, an SMTP server and the processes that are killed between them; and what must be true afterwards."""

from __future__ import annotations

import itertools
import json
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec

from distributor.ledger.repository import SqlLedger
from distributor.ledger.sqlite import sqlite3
from distributor.model.delivery import Delivery, DeliveryFilter
from distributor.model.states import RECEIVED, PasswordState, State
from tests.authority import Authority
from tests.doubles.sink import Sink
from tests.workflows.outbox import new_ledger

SENT_ALREADY = frozenset({State.ACCEPTED, State.AMBIGUOUS, State.TRANSMITTING})
ENDED = frozenset({State.ACCEPTED, State.AMBIGUOUS, State.REJECTED})
KILLED = -9
MESSAGES = 5
_numbers = itertools.count(1)


CAME_WITH = "in-comes-a-file"


def make_people(folder: Path, authority: Authority, count: int, tag: str) -> None:
    """A PFX a person, `p1.TAG@example.org` and so on, with its password beside it."""
    folder.mkdir()
    for number in range(1, count + 1):
        identity = authority.issue(f"p{number}.{tag}@example.org", name=f"Person {number}", key=ec.generate_private_key(ec.SECP256R1()))
        (folder / f"p{number}.pfx").write_bytes(identity.pfx(CAME_WITH, rounds=1))
        (folder / f"p{number}.txt").write_text(CAME_WITH)


@dataclass
class Crashing:
    """The server of tests/doubles/crashing.py."""

    process: subprocess.Popen[str]

    def order(self, **what: object) -> list[int]:
        """Exit codes of the processes; -9 is killed."""
        self.process.stdin.write(json.dumps(what) + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        assert answer, "the server of crashing processes is gone"
        return json.loads(answer)


@contextmanager
def crashing() -> Iterator[Crashing]:
    root = Path(__file__).parents[2]
    argv = [sys.executable, "-m", "tests.doubles.crashing"]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=root) as process:
        try:
            yield Crashing(process)
        finally:
            process.stdin.close()
            process.wait(300)


@dataclass
class Cell:
    """One ledger of its own, whose people nobody else writes to."""

    server: Crashing
    sink: Sink
    authority: Authority
    folder: Path
    empty: Path  # an empty ledger to copy
    count: int = MESSAGES
    mutant: str | None = None
    transport: dict[str, object] = field(default_factory=dict)  # the order's settings for another transport than SMTP
    tag: str = field(default_factory=lambda: f"c{next(_numbers)}")

    def __post_init__(self) -> None:
        self.ledger = self.folder / f"{self.tag}.db"
        shutil.copy(self.empty, self.ledger)
        self.people = self.folder / self.tag
        make_people(self.people, self.authority, self.count, self.tag)

    def run(self, do: str, **what: object) -> list[int]:
        """Order one process, or several."""
        marks = str(self.folder / f"{self.tag}.state")
        order = {"ledger": str(self.ledger), "marks": marks, "port": self.sink.port, "people": str(self.people), **self.transport}
        return self.server.order(do=do, mutant=self.mutant, **order, **what)

    def copy(self) -> Path:
        """A whole copy of the ledger as it is now, as a backup is made."""
        target = self.folder / f"{self.tag}.copy"
        target.unlink(missing_ok=True)
        source, copy = sqlite3.connect(self.ledger), sqlite3.connect(target)
        source.backup(copy)
        copy.close()
        source.close()
        return target

    def restore(self, copy: Path) -> None:
        """Put a copy in the ledger's place; what lay there goes elsewhere, with its log."""
        for end in ("", "-wal", "-shm", "-journal"):
            if (old := Path(f"{self.ledger}{end}")).exists():
                old.rename(self.folder / f"{self.tag}.old{end}")
        shutil.copy(copy, self.ledger)

    def finish(self, **what: object) -> None:
        """Run as a person would after a crash: the same commands again."""
        self.run("plan")
        for _ in range(3):
            codes = self.run("send", early=True, **what)
            if codes == [0] * len(codes) and not self.unfinished():
                break

    def fresh(self, mutant: str | None = None, sink: Sink | None = None, server: Crashing | None = None, count: int = 0) -> Cell:
        """Another cell of the same world, or the same one seen by another server."""
        return Cell(
            server or self.server, sink or self.sink, self.authority, self.folder, self.empty, count or self.count, mutant, self.transport
        )

    # --- what is there ---------------------------------------------------------------------------------------------

    @contextmanager
    def opened(self) -> Iterator[SqlLedger]:
        ledger = new_ledger(self.ledger)
        try:
            yield ledger
        finally:
            ledger.close()

    def deliveries(self) -> list[Delivery]:
        with self.opened() as ledger:
            return list(ledger.deliveries(DeliveryFilter()))

    def unfinished(self) -> list[Delivery]:
        return [delivery for delivery in self.deliveries() if delivery.state not in ENDED]

    def stored(self) -> list[dict[str, str]]:
        return [record for record in self.sink.stored() if f".{self.tag}@" in record["to"]]

    # --- what must be true -----------------------------------------------------------------------------------------

    def broken_at_any_time(self) -> list[str]:
        """Promises that hold whenever a process dies."""
        deliveries, stored = self.deliveries(), self.stored()
        copies = Counter(record["to"] for record in stored)
        has = {record["message_id"]: record for record in stored}
        state = {delivery.message_id: delivery.state for delivery in deliveries}
        found = [f"doubled: {address} {number} times" for address, number in copies.items() if number > 1]
        found += [
            f"accepted, but the server has it not: {d.address}" for d in deliveries if d.state in RECEIVED and d.message_id not in has
        ]
        found += [
            f"the server has it, the ledger says {state.get(m)}: {r['to']}" for m, r in has.items() if state.get(m) not in SENT_ALREADY
        ]
        found += [f"password ready of a {d.state} message: {d.address}" for d in deliveries if self._early(d)]
        with self.opened() as ledger:
            found += [f"ledger: {fault}" for fault in ledger.verify()]
            found += self._histories(ledger, deliveries, has)
        found += self._in_wrong_hands(stored)
        if CAME_WITH.encode() in self.ledger.read_bytes():
            found.append("a password of a file that came in is in the ledger")
        return found + self._database()

    @staticmethod
    def _early(delivery: Delivery) -> bool:
        return delivery.password_state is PasswordState.READY and delivery.state not in RECEIVED

    @staticmethod
    def _histories(ledger: SqlLedger, deliveries: list[Delivery], has: dict[str, dict[str, str]]) -> list[str]:
        found = []
        for delivery in deliveries:
            events = list(ledger.history(delivery.address))
            entered = [event.after for event in events]
            if delivery.state is State.AMBIGUOUS and State.TRANSMITTING not in entered:
                found.append(f"ambiguous, but never armed: {delivery.address}")
            frozen = [
                event.evidence["letter_sha256"] for event in events if event.after is State.QUEUED and "letter_sha256" in event.evidence
            ]
            record = has.get(delivery.message_id)
            if record is not None and frozen != [record["sha256"]]:
                found.append(f"not the bytes that were frozen: {delivery.address}")
        return found

    def _in_wrong_hands(self, stored: list[dict[str, str]]) -> list[str]:
        """Certificates of messages that the server has: each is for whom it is addressed to, and for nobody else."""
        asked = "SELECT message_id, certificate.sha256, der FROM delivery JOIN certificate ON certificate.sha256 = certificate"
        with sqlite3.connect(f"file:{self.ledger}?mode=ro", uri=True) as database:
            about = {message_id: (sha, der) for message_id, sha, der in database.execute(asked)}
        database.close()
        found, people = [], dict[str, set[str]]()
        for record in stored:
            sha, der = about.get(record["message_id"], ("", b""))
            people.setdefault(sha, set()).add(record["to"])
            if sha and record["to"].encode() not in der:  # a name in plain ASCII stands there as it is
                found.append(f"the wrong person: {record['to']} has the key of another")
        return found + [f"the wrong person: {', '.join(sorted(who))} have one certificate" for who in people.values() if len(who) > 1]

    def _database(self) -> list[str]:
        database = sqlite3.connect(f"file:{self.ledger}?mode=ro", uri=True)
        try:
            problems = database.execute("PRAGMA integrity_check").fetchall() + database.execute("PRAGMA foreign_key_check").fetchall()
        finally:
            database.close()
        return [] if problems == [("ok",)] else [f"database: {problems}"]

    def broken_after_recovery(self) -> list[str]:
        """Nothing may be stuck, and recovering once more changes nothing."""
        self.run("recover")
        found = [f"stuck: {d.address} {d.state}" for d in self.deliveries() if d.state in {State.CLAIMED, State.TRANSMITTING}]
        if self.run("recover") != [0]:
            found.append("recovery is not idempotent")
        return found + self.broken_at_any_time()

    def broken_at_the_end(self) -> list[str]:
        """Everybody who was planned has a message, or a person knows that it is unclear."""
        found = [f"lost: {d.address} is {d.state}" for d in self.unfinished()]
        if len(self.deliveries()) != self.count:
            found.append(f"lost: {self.count - len(self.deliveries())} people")
        return found + self.broken_at_any_time()
