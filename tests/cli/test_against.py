"""`audit verify --against`: the ledger beside an export that was kept elsewhere."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path

import pytest

from distributor.ledger.driver import sqlite3
from distributor.model.audit_log import ORIGIN, Link, digest
from tests.workspace import Workspace

pytestmark = pytest.mark.slow(reason="whole commands, several in each; what they rest on is tested beside the ledger and the workflows")


def forge(ledger: Path) -> None:
    """Rewrite who did event 3, and every hash from there to the head: nothing inside the ledger can tell."""
    names = ", ".join(f'"{name}"' for name in Link._fields)
    with closing(sqlite3.connect(ledger)) as connection:
        triggers = list(connection.execute("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'"))
        for name, _ in triggers:
            connection.execute(f"DROP TRIGGER {name}")
        prev = ORIGIN
        for row in list(connection.execute(f"SELECT {names} FROM event ORDER BY seq")):  # noqa: S608  names of ours
            link = Link(*row)
            link = link._replace(by="eve@host") if link.seq == 3 else link
            prev = digest(link, prev)
            connection.execute('UPDATE event SET "by" = ?, hash = ? WHERE seq = ?', (link.by, prev, link.seq))
        connection.execute("UPDATE head SET hash = ?", (prev,))
        for _, sql in triggers:
            connection.execute(sql)
        connection.commit()


def test_a_ledger_that_went_on_begins_with_its_export_in_both_forms(sent: Workspace) -> None:
    for form in ("jsonl", "csv"):
        assert sent.run(f"distributor audit export --format {form} --output kept.{form}").returncode == 0
    assert sent.run("distributor resend alice@example.org --reason lost --yes").returncode == 0
    number = len((sent.folder / "kept.jsonl").read_text(encoding="utf-8").splitlines())
    for form in ("jsonl", "csv"):
        done = sent.run(f"distributor audit verify --against kept.{form}")
        assert done.returncode == 0, done.stdout
        assert f"it begins with the {number} events of kept.{form}, none changed and none missing" in done.stdout
    answer = json.loads(sent.run("distributor audit verify --against kept.jsonl --json").stdout)
    assert (answer["ok"], answer["against"]) == (True, {"export": "kept.jsonl", "unchanged": number})


def test_a_chain_that_was_written_anew_as_a_whole_is_found_beside_an_export_only(sent: Workspace) -> None:
    assert sent.run("distributor audit export --output kept.jsonl").returncode == 0
    forge(sent.folder / "distributor.db")
    assert sent.run("distributor audit verify").returncode == 0
    done = sent.run("distributor audit verify --against kept.jsonl")
    assert done.returncode == 1
    assert done.stdout.startswith("event 3: is ")
    assert sent.run("distributor audit export --output forged.jsonl && distributor audit verify forged.jsonl").returncode == 0
    assert "event 3: is " in sent.run("distributor audit verify forged.jsonl --against kept.jsonl").stdout


def test_an_older_copy_of_the_ledger_lacks_the_end_of_the_export(sent: Workspace) -> None:
    assert sent.run("cp distributor.db older.db").returncode == 0
    assert sent.run("distributor resend alice@example.org --reason lost --yes").returncode == 0
    assert sent.run("distributor audit export --output kept.jsonl && rm -f distributor.db-* && cp older.db distributor.db").returncode == 0
    done = sent.run("distributor audit verify --against kept.jsonl --json")
    assert done.returncode == 1
    (finding,) = json.loads(done.stdout)["findings"]
    assert finding.endswith("the end was cut off")


def test_an_export_that_is_not_there_or_not_text_ends_in_words(sent: Workspace) -> None:
    for make, words in (
        ("true", "no such file"),
        ("head -c 100 /dev/urandom > kept.jsonl", "not UTF-8"),
        ("rm kept.jsonl; mkdir kept.jsonl", "it is not a regular file"),
    ):
        done = sent.run(f"{make}; distributor audit verify --against kept.jsonl")
        assert done.returncode == 3, done.stdout
        assert f"error: kept.jsonl: {words}" in done.stdout
