"""Several workers on hosts of their own, one PostgreSQL, one mail server; what may happen to them; and what must be true afterwards."""

from __future__ import annotations

import ipaddress
import json
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from signal import SIGCONT, SIGSTOP, SIGTERM

import psycopg
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID

from tests.authority import Authority
from tests.doubles.sink import Sink, smtpd
from tests.needs import require
from tests.real.matrix import make_people
from tests.real.network import Host, Network, kill, network

DATABASE, USER = "ledger", "postgres"
HOUR = 3600
CLOCKS = {"w1": 0, "w2": 0, "w3": -HOUR, "w4": HOUR}  # seconds that each worker's clock is ahead
PATIENCE = 90.0  # seconds until a message that nobody sends is stuck
QUICK = "keepalives_idle=1&keepalives_interval=1&keepalives_count=2&tcp_user_timeout=3000&connect_timeout=3"
FAST = "-c fsync=off -c full_page_writes=off -c shared_buffers=32MB -c max_wal_senders=4 -c wal_level=replica -c hot_standby=on"
CONFIG = """
[organisation]
name = "Example AG"

[sender]
address = "certificates@example.org"

[[senders]]
address = "certificates2@example.org"

[transport]
kind = "smtp"
host = "{host}"
port = {port}
tls = "starttls"
connections = 2
rate = "{rate}/min"

[vault]
recipients = ["{recipient}"]

[ledger]
url = "{url}"
lease = "5s"
"""


class Database:
    """A PostgreSQL server on a host; `socket` is where everybody on this machine reaches it."""

    def __init__(self, host: Host, folder: Path) -> None:
        self.host, self.folder, self.data = host, folder, folder / "data"
        self.as_user = (require("runuser"), "-u", USER, "--")
        folder.chmod(0o755)

    def make(self) -> None:
        """An empty one that its neighbours may use."""
        shutil.chown(self.folder, USER)
        words = [
            *self.as_user,
            require("initdb"),
            "-D",
            self.data,
            "-U",
            USER,
            "-A",
            "trust",
            "-E",
            "UTF8",
            "--locale=C.UTF-8",
            "--no-sync",
        ]
        subprocess.run(words, cwd=self.folder, check=True, stdout=subprocess.DEVNULL)
        with (self.data / "pg_hba.conf").open("a") as file:
            file.write("host all all 10.99.0.0/24 trust\nhost replication all 10.99.0.0/24 trust\n")

    def control(self, *words: str) -> None:
        argv = [*self.host.words(), *self.as_user, require("pg_ctl"), "-D", self.data, "-w", "-l", self.folder / "log", *words]
        subprocess.run(argv, cwd=self.folder, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def start(self) -> None:
        self.control("-o", f"{FAST} -c listen_addresses={self.host.address} -k {self.folder}", "start")

    def connect(self, database: str = DATABASE) -> psycopg.Connection[tuple[object, ...]]:
        return psycopg.connect(host=str(self.folder), user=USER, dbname=database, autocommit=True)

    def follow(self, primary: Database) -> None:
        """Become a standby that confirms each commit of the primary."""
        shutil.chown(self.folder, USER)
        words = [*self.as_user, require("pg_basebackup"), "-D", self.data, "-R", "-X", "stream", "-c", "fast", "--no-sync"]
        where = f"host={primary.host.address} user={USER} application_name=standby"
        subprocess.run([*self.host.words(), *words, "-d", where], cwd=self.folder, check=True, stdout=subprocess.DEVNULL)
        self.start()
        with primary.connect("postgres") as connection:
            connection.execute("ALTER SYSTEM SET synchronous_standby_names = '*'")
            connection.execute("SELECT pg_reload_conf()")

    def crash(self) -> None:
        """It ends as after a power failure."""
        with suppress(subprocess.CalledProcessError):  # it may have ended
            self.control("-m", "immediate", "stop")


@dataclass
class Site:
    """Everything together."""

    net: Network
    databases: list[Database]
    sink: Sink
    authority: Authority
    folder: Path
    admin: Host
    workers: dict[str, Host]
    random: random.Random
    environment: dict[str, str]
    running: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    people: int = 0
    batch: int = 200  # people planned when few are left

    @property
    def database(self) -> Database:
        """The one that may be written to."""
        return self.databases[0]

    # --- what an operator does -------------------------------------------------------------------------------------

    def command(self, *words: str) -> subprocess.CompletedProcess[str]:
        """A command on the operator's host."""
        return self.admin.run(sys.executable, "-m", "distributor", *words, cwd=self.folder, **self.environment)

    def plan(self, count: int) -> None:
        """More people."""
        self.people += count
        tag = f"n{self.people}"
        make_people(self.folder / tag, self.authority, count, tag)
        done = self.command("plan", tag)
        assert done.returncode == 0, done.stderr

    def start(self, name: str) -> None:
        """A worker on its host, with its clock."""
        argv = (sys.executable, "-m", "tests.doubles.elsewhere", str(CLOCKS[name]), name, "send", "--follow", "--yes", "--log", "json")
        state = str(self.folder / f"state-{name}")
        more = {**self.environment, "XDG_STATE_HOME": state, "PYTHONPATH": str(Path(__file__).parents[2])}
        self.running[name] = self.workers[name].start(*argv, cwd=self.folder, output=self.folder / f"{name}.log", **more)

    def stop(self, name: str) -> int:
        """A worker is told to end; its exit code."""
        kill(self.running[name], SIGTERM)
        return int(self.running.pop(name).returncode)

    # --- what is true ----------------------------------------------------------------------------------------------

    def states(self) -> Counter[str]:
        with self.database.connect() as connection:
            return Counter(dict(connection.execute("SELECT state, count(*) FROM delivery GROUP BY state").fetchall()))  # type: ignore[arg-type]

    def sending(self) -> str:
        """The worker that claimed last."""
        asked = "SELECT evidence FROM event WHERE event = 'claimed' ORDER BY seq DESC LIMIT 1"
        with self.database.connect() as connection:
            row = connection.execute(asked).fetchone()
        return str(json.loads(str(row[0]))["host"]) if row else "w1"

    def faults(self) -> list[str]:
        """Messages that were stored twice, and those that the ledger says were sent and were not."""
        before = {record["to"] for record in self.sink.stored()}
        with self.database.connect() as connection:
            rows = connection.execute("SELECT address, state FROM delivery JOIN person ON person.id = person").fetchall()
        stored = Counter(record["to"] for record in self.sink.stored())  # again: others are at work
        twice = [f"{to} has {number}" for to, number in stored.items() if number > 1]
        lost = [f"{to} is {state} and not there" for to, state in rows if state in {"accepted", "delivered"} and not stored[str(to)]]
        unsaid = [f"{to} is {state} and there" for to, state in rows if state in {"planned", "rejected", "withdrawn"} and to in before]
        return [*twice, *lost, *unsaid]

    def until(self, true: Callable[[], bool], what: str, patience: float = PATIENCE) -> float:
        """Wait; how long it took."""
        began = time.monotonic()
        while not true():
            assert time.monotonic() - began < patience, f"{what}: {dict(self.states())}\n{self.clues()}"
            time.sleep(0.1)
        return time.monotonic() - began

    def clues(self) -> str:
        """What the workers said last, and what sessions of the database wait for."""
        found = []
        for name in self.workers:
            lines = [line for line in (self.folder / f"{name}.log").read_text().splitlines() if '"event": "accepted"' not in line]
            found += [f"{name}: {line}" for line in lines[-8:]]
        asked = "SELECT client_addr, state, wait_event, state_change, left(query, 90) FROM pg_stat_activity WHERE datname IS NOT NULL"
        with self.database.connect() as connection:
            found += [str(row) for row in connection.execute(asked)]
            found += [
                str(row) for row in connection.execute("SELECT pid, locktype, objid, granted FROM pg_locks WHERE locktype = 'advisory'")
            ]
        return "\n".join(found)

    def progress(self, count: int = 3) -> float:
        """Wait until so many more messages are sent; how long it took."""
        before = self.states()["accepted"]
        return self.until(lambda: self.states()["accepted"] >= before + count, "no message is sent any more")

    # --- what happens to workers -----------------------------------------------------------------------------------

    def killed(self, name: str) -> None:
        kill(self.running[name])
        time.sleep(self.random.uniform(0, 2))
        self.start(name)

    def stopped(self, name: str) -> None:
        assert self.stop(name) in {0, -SIGTERM}  # the latter where it had not begun yet
        self.start(name)

    def frozen(self, name: str) -> None:
        """As a machine that sleeps, for longer than its leases."""
        kill(self.running[name], SIGSTOP)
        time.sleep(self.random.uniform(0.5, 8))
        kill(self.running[name], SIGCONT)

    def without_database(self, name: str) -> None:
        self._apart(name, self.database.host)

    def without_mail(self, name: str) -> None:
        self._apart(name, self.net.hosts["mail"])

    def _apart(self, name: str, other: Host) -> None:
        self.net.cut(self.workers[name], other)
        time.sleep(self.random.uniform(0.5, 8))
        self.net.heal(self.workers[name], other)

    def unplugged(self, name: str) -> None:
        self.net.unplug(self.workers[name])
        time.sleep(self.random.uniform(0.5, 8))
        self.net.unplug(self.workers[name], back=True)

    def restarted(self, _name: str) -> None:
        """The database is restarted, in order."""
        self.database.control("-m", "fast", "stop")
        self.database.start()

    def crashed(self, _name: str) -> None:
        """The database fails, and is started again."""
        self.database.crash()
        time.sleep(self.random.uniform(0, 2))
        self.database.start()

    def promote(self) -> None:
        """The database fails for good, and its standby takes over."""
        self.databases.pop(0).crash()
        self.database.control("promote")

    def round(self, kind: str) -> float:
        """One fault in the middle of the work, most often for the worker that sends; seconds until messages are sent again."""
        if sum(self.states()[state] for state in ("planned", "queued", "deferred")) < 40:
            self.plan(self.batch)
        time.sleep(self.random.uniform(0, 0.7))
        name = self.sending() if self.random.random() < 0.7 else self.random.choice(sorted(self.workers))
        getattr(self, kind)(name)
        return self.progress()

    # --- the end ---------------------------------------------------------------------------------------------------

    def finish(self) -> None:
        """Everything that is planned is sent; then the workers end, and all is as it must be."""
        under_way = ("planned", "queued", "deferred", "claimed", "transmitting")
        self.until(lambda: not any(self.states()[state] for state in under_way), "something is stuck", 20 * PATIENCE)
        assert {name: self.stop(name) for name in list(self.running)} == dict.fromkeys(self.workers, 0)
        states = self.states()
        assert states["accepted"] + states["ambiguous"] == self.people
        assert self.faults() == []
        verified = self.command("audit", "verify")
        assert verified.returncode == 0, verified.stdout

    def settle(self) -> int:
        """What is ambiguous is settled as a person would, who looks into the mail server's log; how many were sent again."""
        stored, again = {record["to"] for record in self.sink.stored()}, 0
        for delivery, address in self._unclear():
            choice = "--accepted" if address in stored else "--again"
            again += choice == "--again"
            self.until(lambda: self._settled(delivery, choice), f"{delivery} cannot be settled", 900)  # noqa: B023
        if again:
            self.start("w1")
            self.until(lambda: self.states()["accepted"] == self.people, "not sent again")
            self.stop("w1")
        assert self.faults() == []
        return again

    def _unclear(self) -> list[tuple[object, ...]]:
        """The ids of deliveries that are ambiguous, with their addresses."""
        asked = "SELECT delivery.id, address FROM delivery JOIN person ON person.id = person WHERE state = 'ambiguous'"
        with self.database.connect() as connection:
            return connection.execute(asked).fetchall()

    def _settled(self, delivery: object, choice: str) -> bool:
        """Whether the command did it; its exit code is 1 as long as others are ambiguous."""
        self.command("resolve", str(delivery), choice, "--reason", "as in its log")
        return all(delivery != unclear for unclear, _ in self._unclear())


KINDS = ("killed", "stopped", "frozen", "without_database", "without_mail", "unplugged", "restarted", "crashed")


@contextmanager
def site(authority: Authority, seed: int, rate: int = 120, *, standby: bool = False) -> Iterator[Site]:
    """The hosts, with nothing planned and no worker. `standby`: the database has one on a host of its own."""
    with ExitStack() as ends:
        net = ends.enter_context(network())
        folder = Path(ends.enter_context(tempfile.TemporaryDirectory(prefix="apart-")))
        databases = [
            Database(net.host(name), Path(ends.enter_context(tempfile.TemporaryDirectory(prefix="pg-"))))
            for name in (("db", "db2") if standby else ("db",))
        ]
        database = databases[0]
        database.make()
        for one in databases:
            ends.callback(one.crash)
            one.follow(database) if one is not database else one.start()
        with database.connect("postgres") as connection:
            connection.execute(f"CREATE DATABASE {DATABASE}")
        mail = net.host("mail")
        options = ("--host", mail.address, "--tls", *_server_certificate(authority, mail.address, folder))
        sink = ends.enter_context(smtpd(folder / "mail", options=options, before=mail.words()))
        admin, workers = net.host("admin"), {name: net.host(name) for name in CLOCKS}
        environment = {"SSL_CERT_FILE": str(folder / "root.pem"), "HOME": str(folder), "XDG_STATE_HOME": str(folder / "state-admin")}
        made = Site(net, databases, sink, authority, folder, admin, workers, random.Random(seed), environment)  # noqa: S311  no secret
        _configure(made, mail.address, rate)
        yield made


def _server_certificate(authority: Authority, address: str, folder: Path) -> tuple[str, str]:
    names = [x509.IPAddress(ipaddress.ip_address(address))]
    found = authority.issue(name=address, names=names, extended=(ExtendedKeyUsageOID.SERVER_AUTH,))
    chain = b"".join(each.public_bytes(Encoding.PEM) for each in found.chain)
    (folder / "root.pem").write_bytes(chain)
    (folder / "server.pem").write_bytes(found.pem + chain)
    (folder / "server.key").write_bytes(found.key_pem())
    return str(folder / "server.pem"), str(folder / "server.key")


def _configure(made: Site, mail: str, rate: int) -> None:
    hosts = "&".join(f"host={one.host.address}" for one in made.databases)
    url = f"postgresql+psycopg://{USER}@/{DATABASE}?{hosts}&target_session_attrs=read-write&{QUICK}"
    config = made.folder / "distributor.toml"
    assert made.command("init", "vault").returncode == 0
    recipient = next(line.split('"')[1] for line in (made.folder / "vault" / "distributor.toml").read_text().splitlines() if "age1" in line)
    config.write_text(CONFIG.format(host=mail, port=made.sink.port, rate=rate, recipient=recipient, url=url))
    done = made.command("init")
    assert done.returncode == 0, done.stderr
