"""A ledger on PostgreSQL: copied from SQLite and back with messages sent from each, and restored from a dump."""

from __future__ import annotations

import json
import re
import sqlite3
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.authority import Authority
from tests.ledger.postgresql import Server
from tests.needs import require
from tests.workspace import Workspace

SET_UP = "$ distributor init >/dev/null 2>&1\n+ server\n+ people\n$ distributor plan certificates --roster people.csv >/dev/null 2>&1\n"


@pytest.fixture
def planned(authority: Authority, tmp_path: Path) -> Iterator[Workspace]:
    workspace = Workspace(tmp_path, authority)
    workspace.run_script(SET_UP)
    yield workspace
    workspace.close()


def use(workspace: Workspace, url: str) -> None:
    config = workspace.folder / "distributor.toml"
    config.write_text(re.sub(r'(?m)^url = "(sqlite|postgresql).*$', f'url = "{url}"', config.read_text(encoding="utf-8")), encoding="utf-8")


def run(*words: str) -> None:
    subprocess.run(words, check=True, timeout=120)


def counts(workspace: Workspace) -> object:
    return json.loads(workspace.run("distributor status --json").stdout)["counts"]


def test_a_ledger_moves_to_a_server_and_back_and_each_person_gets_one_message(planned: Workspace, postgresql: Server) -> None:
    server = postgresql.url(postgresql.fresh())
    assert planned.run("distributor send --yes --limit 1 2>/dev/null").returncode == 0
    told = planned.run(f"distributor ledger copy --to '{server}'")
    assert told.returncode == 0, told.stdout
    assert "audit chain intact on both sides: " in told.stdout
    assert f'[ledger]\nurl = "{server}"' in told.stdout
    refused = planned.run("distributor send --yes")
    assert (refused.returncode, "this ledger was copied to postgresql://localhost/" in refused.stdout) == (3, True), refused.stdout
    use(planned, server)
    assert planned.run("distributor audit verify").returncode == 0
    assert counts(planned) == {"accepted": 1, "planned": 1}
    assert planned.run("distributor send --yes 2>/dev/null").returncode == 0
    back = planned.run("distributor ledger copy --to sqlite:///back.db --json")
    assert back.returncode == 0, back.stdout
    assert json.loads(back.stdout[back.stdout.index("{") :])["in_use"] == str(planned.folder / "back.db")
    use(planned, "sqlite:///back.db")
    assert planned.run("distributor audit verify").returncode == 0
    assert counts(planned) == {"accepted": 2}
    assert planned.run("distributor send --yes 2>/dev/null").returncode == 0
    assert planned.handler is not None
    assert len(planned.handler.messages) == 2


def test_a_ledger_that_was_edited_is_not_copied(planned: Workspace, postgresql: Server) -> None:
    with sqlite3.connect(planned.folder / "distributor.db") as connection:
        connection.execute("UPDATE person SET address = 'mallory@example.org' WHERE address LIKE 'alice%'")
    connection.close()
    told = planned.run(f"distributor ledger copy --to '{postgresql.url(postgresql.fresh())}'")
    assert (told.returncode, "nothing was copied: the audit of this ledger has " in told.stdout) == (3, True), told.stdout


def test_a_dump_that_is_older_is_recognised_when_it_is_restored(planned: Workspace, postgresql: Server) -> None:
    name, restored = postgresql.fresh(), postgresql.fresh()
    assert planned.run(f"distributor ledger copy --to '{postgresql.url(name)}'").returncode == 0
    use(planned, postgresql.url(name))
    assert planned.run("distributor send --yes --limit 1 2>/dev/null").returncode == 0
    dump, place = planned.folder / "ledger.dump", f"--host={postgresql.folder}"
    run(require("pg_dump"), place, f"--username={postgresql.user}", "--format=custom", f"--file={dump}", name)
    assert planned.run("distributor send --yes 2>/dev/null").returncode == 0
    run(require("pg_restore"), place, f"--username={postgresql.user}", "--exit-on-error", f"--dbname={restored}", str(dump))
    use(planned, postgresql.url(restored))
    refused = planned.run("distributor send --yes")
    assert (refused.returncode, "this ledger is older than the one last used on this machine" in refused.stdout) == (3, True), (
        refused.stdout
    )
    assert planned.run('distributor ledger adopt --reason "the disk failed"').returncode == 1
    assert counts(planned) == {"accepted": 1, "ambiguous": 1}
    assert planned.run("distributor audit verify").returncode == 0
    assert planned.run("distributor send --yes 2>/dev/null").returncode in {0, 1}
    assert planned.handler is not None
    assert len(planned.handler.messages) == 2


def test_a_password_in_the_url_is_not_shown(planned: Workspace) -> None:
    told = planned.run("distributor ledger copy --to postgresql+psycopg://me:geheim@127.0.0.1:9/none")
    assert told.returncode == 4
    assert "geheim" not in told.stdout
