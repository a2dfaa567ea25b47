"""Hosts that share a ledger on a server and whose clocks differ: the server's clock decides, and no message goes twice."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest

from distributor.ledger import open_ledger
from distributor.model.attempts import AttemptResult
from distributor.model.delivery import LeaseHolder
from distributor.model.ports import Ledger
from distributor.model.states import State
from tests.authority import Authority
from tests.doubles.sink import Sink, smtpd
from tests.ledger.postgresql import Server
from tests.ledger.world import EVERYTHING, LEASE, ME, draft, packed
from tests.workspace import Workspace

HOUR = 3600
PATIENCE = 60.0  # seconds


@pytest.fixture
def served(postgresql: Server, empty_database: str) -> str:
    postgresql.empty(empty_database)
    return postgresql.url(empty_database)


@pytest.fixture
def ledger(served: str) -> Iterator[Ledger]:
    """As the program opens it: without a clock of its own."""
    opened = open_ledger(served, by="root@host")
    opened.begin_plan("plan-1", {})
    yield opened
    assert opened.verify() == []
    opened.close()


def queued(ledger: Ledger, name: str) -> str:
    (planned,) = ledger.plan("plan-1", [draft(name)])
    assert ledger.enqueue([packed(planned.id)], ME) == [True]
    return str(planned.id)


# --- whose time it is -------------------------------------------------------------------------------------------------


def test_the_servers_clock_is_the_ledgers(ledger: Ledger, served: str) -> None:
    with psycopg.connect(served.replace("+psycopg", "")) as other:
        (before,) = other.execute("SELECT clock_timestamp()").fetchone() or (None,)
        now = ledger.now()
        (after,) = other.execute("SELECT clock_timestamp()").fetchone() or (None,)
    assert before - timedelta(milliseconds=50) <= now <= after + timedelta(milliseconds=50)


def test_every_time_that_is_written_is_the_servers_and_none_this_machines(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    class Ahead(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> datetime:  # noqa: ANN401
            return datetime.now(tz) + timedelta(hours=1)

    monkeypatch.setattr("distributor.ledger.transaction.datetime", Ahead)
    monkeypatch.setattr("distributor.bootstrap.datetime", Ahead)
    began = datetime.now(UTC)
    id_ = queued(ledger, "anna")
    (claim,) = ledger.claim(ME, 1, LEASE, EVERYTHING)
    assert ledger.write([AttemptResult(claim, State.DEFERRED, "451 later", timedelta(minutes=5))], ME) == [True]
    found = ledger.delivery(id_)
    assert found is not None
    assert found.not_before is not None
    assert timedelta(minutes=4) < found.not_before - began < timedelta(minutes=6)
    assert all(abs(event.at - began) < timedelta(minutes=1) for event in ledger.history("anna@example.org"))


def test_the_time_of_a_transaction_is_read_after_the_wait_for_others(ledger: Ledger, served: str) -> None:
    with psycopg.connect(served.replace("+psycopg", "")) as other:
        other.execute("SELECT * FROM head FOR UPDATE")
        writer = threading.Thread(target=ledger.plan, args=("plan-1", [draft("anna")]))
        writer.start()
        deadline = time.monotonic() + PATIENCE
        while not _waits(served):
            assert time.monotonic() < deadline, "the writer never waited"
        (released,) = other.execute("SELECT clock_timestamp()").fetchone() or (None,)
        other.rollback()  # nothing was changed
        writer.join(PATIENCE)
    assert [event.at >= released for event in ledger.history("anna@example.org")] == [True]


def _waits(served: str) -> bool:
    with psycopg.connect(served.replace("+psycopg", "")) as third:
        return bool(third.execute("SELECT count(*) FROM pg_locks WHERE NOT granted").fetchone() != (0,))


# --- two hosts, an hour apart ------------------------------------------------------------------------------------------


class Hosts:
    """A workspace whose ledger is on the server; one host's clock is right, the other's is an hour ahead."""

    def __init__(self, folder: Path, authority: Authority, url: str, sink: Sink) -> None:
        self.workspace, self.sink = Workspace(folder, authority), sink
        self.workspace.run_script("$ distributor init >/dev/null 2>&1\n+ people\n")
        config = folder / "distributor.toml"
        config.write_text(config.read_text().replace("sqlite:///distributor.db", url))
        self.workspace._point_to(sink.port)  # noqa: SLF001  the workspace's mail server
        assert self.run("one", 0, "plan", "certificates", "--roster", "people.csv").returncode == 0

    def start(self, host: str, ahead: int, *words: str) -> subprocess.Popen[str]:
        argv = [sys.executable, "-m", "tests.doubles.elsewhere", str(ahead), host, *words]
        pipe = subprocess.PIPE
        return subprocess.Popen(argv, cwd=self.workspace.folder, env=self.workspace.environment(), stdout=pipe, stderr=pipe, text=True)

    def run(self, host: str, ahead: int, *words: str) -> subprocess.CompletedProcess[str]:
        with self.start(host, ahead, *words) as process:
            stdout, stderr = process.communicate(timeout=PATIENCE)
        return subprocess.CompletedProcess(process.args, process.returncode, stdout, stderr)

    def states(self) -> Counter[str]:
        rows = json.loads(self.run("one", 0, "status", "--json").stdout)["deliveries"]
        return Counter(row["state"] for row in rows)

    def until(self, state: str) -> None:
        deadline = time.monotonic() + PATIENCE
        while not self.states()[state]:
            assert time.monotonic() < deadline, f"nothing is {state}"
            time.sleep(0.1)


@pytest.fixture
def hosts(tmp_path: Path, authority: Authority, served: str) -> Iterator[Hosts]:
    with smtpd(tmp_path / "server") as sink:
        (tmp_path / "work").mkdir()
        yield Hosts(tmp_path / "work", authority, served, sink)


@pytest.mark.slow(reason="two hosts and real seconds; test_clock.py has the rule")
def test_a_host_whose_clock_is_ahead_leaves_a_message_alone_that_waits_at_the_end_of_data(hosts: Hosts) -> None:
    hosts.sink.rules({"verb": "DOT", "do": "stored-silence", "nth": [1]})
    with hosts.start("one", 0, "send", "--limit", "1", "--yes") as first:
        hosts.until("transmitting")
        second = hosts.run("two", HOUR, "send", "--yes")
        looked = hosts.run("two", HOUR, "resolve")
        assert (second.returncode, looked.returncode) == (0, 0), second.stderr + looked.stderr
        assert f"1 message being sent by process {first.pid} of " in second.stderr
        first.kill()
    assert hosts.states() == {"transmitting": 1, "accepted": 1}
    assert [number for _, number in Counter(record["to"] for record in hosts.sink.stored()).items()] == [1, 1]


@pytest.mark.slow(reason="two hosts and real seconds; test_clock.py has the rule")
def test_a_host_whose_clock_is_ahead_may_not_say_again_before_the_other_cannot_be_waiting(hosts: Hosts) -> None:
    hosts.sink.rules({"verb": "DOT", "do": "stored-drop", "nth": [1]})
    assert hosts.run("one", 0, "send", "--limit", "1", "--yes").returncode == 1
    (doubt,) = json.loads(hosts.run("two", HOUR, "resolve", "--json").stdout)["ambiguous"]
    refused = hosts.run("two", HOUR, "resolve", doubt["id"], "--again", "--reason", "not in its log")
    assert (refused.returncode, "run the command again after" in refused.stderr) == (1, True), refused.stderr
    assert hosts.states()["ambiguous"] == 1


def test_a_lease_of_another_host_ends_by_the_servers_clock(ledger: Ledger, served: str) -> None:
    queued(ledger, "anna")
    assert ledger.claim(LeaseHolder("o-2", "another host", 1, None), 1, timedelta(seconds=0.2), EVERYTHING)
    with psycopg.connect(served.replace("+psycopg", "")) as other:
        other.execute("SELECT pg_sleep(0.3)")
    assert [state for _, state in ledger.recover(lambda _: None)] == [State.QUEUED]


# --- what is committed stays -------------------------------------------------------------------------------------------


def setting(ledger: Any) -> str:  # noqa: ANN401  an SqlLedger
    with ledger._database.reading() as connection:  # noqa: SLF001  its own session
        return str(connection.exec_driver_sql("SHOW synchronous_commit").scalar_one())


@pytest.mark.parametrize(("asked", "found"), [("off", "on"), ("local", "on"), ("remote_apply", "remote_apply")])
def test_each_session_waits_for_the_disk_whatever_the_database_is_set_to(postgresql: Server, asked: str, found: str) -> None:
    name = postgresql.fresh()
    postgresql.run("postgres", f"ALTER DATABASE {name} SET synchronous_commit = {asked}")
    ledger = open_ledger(postgresql.url(name), by="root@host", create=True)
    try:
        assert setting(ledger) == found
        others = f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}' AND pid <> pg_backend_pid()"  # noqa: S608
        postgresql.run("postgres", others)
        with pytest.raises(Exception, match=r"cannot connect|does not respond"):
            ledger.counts(EVERYTHING)
        assert setting(ledger) == found
    finally:
        ledger.close()
