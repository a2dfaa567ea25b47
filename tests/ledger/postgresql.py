"""A PostgreSQL server of our own: in a folder, on a socket, run by nobody important, gone afterwards."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path

import psycopg

from distributor.ledger.tables import metadata
from distributor.model.audit_log import ORIGIN
from tests.needs import require

_FAST = "-c fsync=off -c synchronous_commit=off -c full_page_writes=off -c shared_buffers=16MB -c max_connections=100 -c listen_addresses="
_NUMBERS = count(1)  # of this process, whose fixtures each have a Server


class Server:
    """Gives fresh databases; other processes use the same server."""

    def __init__(self, folder: Path, user: str) -> None:
        self.folder, self.user = folder, user

    def fresh(self, like: str = "template1") -> str:
        """A new database without tables, or a copy of one that nobody has open."""
        name = f"ledger{os.getpid()}_{next(_NUMBERS)}"
        self.run("postgres", f"CREATE DATABASE {name} TEMPLATE {like}")
        return name

    def empty(self, database: str) -> None:
        """A database as if its ledger had just been made; ten times faster than a new one."""
        tables = ", ".join(table.name for table in metadata.sorted_tables if table.name != "head")
        self.run(
            database,
            "SET session_replication_role = replica",  # lets no trigger speak
            f"TRUNCATE {tables}",
            f"UPDATE head SET seq = 0, at = '', hash = '{ORIGIN}', ledger = md5(random()::text)",  # noqa: S608  a constant of ours
            "ALTER TABLE event ENABLE TRIGGER ALL",
        )

    def run(self, database: str, *statements: str) -> None:
        with psycopg.connect(host=str(self.folder), user=self.user, dbname=database, autocommit=True) as connection:
            for statement in statements:
                connection.execute(statement.encode())

    def url(self, database: str) -> str:
        return f"postgresql+psycopg://{self.user}@/{database}?host={self.folder}"


@contextmanager
def server(settings: str = _FAST) -> Iterator[tuple[str, str]]:
    """Started, and stopped in the end: the folder of its socket, and who may do everything there."""
    initdb, control = require("initdb"), require("pg_ctl")
    folder = Path(tempfile.mkdtemp(prefix="pg-"))
    user, prefix = _unprivileged()
    data = folder / "data"
    try:
        if prefix:
            shutil.chown(folder, user)
        subprocess.run(
            [*prefix, initdb, "-D", data, "-U", user, "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8", "--no-sync"],
            cwd=folder,
            check=True,
            stdout=subprocess.DEVNULL,
        )
        subprocess.run(
            [*prefix, control, "-D", data, "-w", "-l", folder / "log", "-o", f"{settings} -k {folder}", "start"],
            cwd=folder,
            check=True,
            stdout=subprocess.DEVNULL,
        )
        yield str(folder), user
    finally:
        with suppress(subprocess.CalledProcessError):
            subprocess.run(
                [*prefix, control, "-D", data, "-m", "immediate", "-w", "stop"], cwd=folder, check=True, stdout=subprocess.DEVNULL
            )
        shutil.rmtree(folder, ignore_errors=True)


def _unprivileged() -> tuple[str, list[str]]:
    """PostgreSQL refuses to run as root."""
    if os.geteuid() != 0:
        return "postgres", []
    return "postgres", [require("runuser"), "-u", "postgres", "--"]
