"""`audit verify`: the ledger beside an earlier export, and how far a chain goes."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path

import pytest

from distributor.ledger.sqlite import sqlite3
from distributor.model.audit_log import ORIGIN, Link, digest
from tests.workspace import Workspace

WHOLE_COMMANDS = pytest.mark.slow(reason="whole commands, several in each; what they rest on is tested beside the ledger and the workflows")


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


@WHOLE_COMMANDS
def test_a_ledger_that_went_on_begins_with_its_export_in_both_forms(sent: Workspace) -> None:
    for form in ("jsonl", "csv"):
        assert sent.run(f"distributor audit export --format {form} --output kept.{form}").returncode == 0
    assert sent.run("distributor resend alice@example.org --reason lost --yes").returncode == 0
    number = len((sent.folder / "kept.jsonl").read_text(encoding="utf-8").splitlines())
    for form, more in (("jsonl", 0), ("csv", 1)):  # the first export is an event of the second
        done = sent.run(f"distributor audit verify --against kept.{form}")
        assert done.returncode == 0, done.stdout
        assert f"{number + more} events of kept.{form}: none changed, none missing" in done.stdout
    answer = json.loads(sent.run("distributor audit verify --against kept.jsonl --json").stdout)
    assert (answer["ok"], answer["against"]) == (True, {"export": "kept.jsonl", "unchanged": number})


@WHOLE_COMMANDS
def test_a_chain_that_was_written_anew_as_a_whole_is_found_beside_an_export_and_by_what_this_machine_remembers(sent: Workspace) -> None:
    assert sent.run("distributor audit export --output kept.jsonl").returncode == 0
    forge(sent.folder / "distributor.db")
    (finding,) = json.loads(sent.run("distributor audit verify --json").stdout)["findings"]
    assert finding.startswith("ledger: ")
    done = sent.run("distributor audit verify --against kept.jsonl")
    assert done.returncode == 1
    assert done.stdout.startswith("event 3: is ")
    assert sent.run("distributor audit export --output forged.jsonl && distributor audit verify forged.jsonl").returncode == 0
    assert "event 3: is " in sent.run("distributor audit verify forged.jsonl --against kept.jsonl").stdout


@WHOLE_COMMANDS
def test_an_older_copy_of_the_ledger_lacks_the_end_of_the_export(sent: Workspace) -> None:
    assert sent.run("cp distributor.db older.db").returncode == 0
    assert sent.run("distributor resend alice@example.org --reason lost --yes").returncode == 0
    assert sent.run("distributor audit export --output kept.jsonl && rm -f distributor.db-* && cp older.db distributor.db").returncode == 0
    done = sent.run("distributor audit verify --against kept.jsonl --json")
    assert done.returncode == 1
    removed, older = json.loads(done.stdout)["findings"]
    assert removed.endswith("the end was removed")
    assert older.startswith("ledger: this ledger is older than the one last used on this machine")


@WHOLE_COMMANDS
def test_an_export_that_is_not_there_or_not_text_ends_in_words(sent: Workspace) -> None:
    for make, words in (
        ("true", "no such file"),
        ("head -c 100 /dev/urandom > kept.jsonl", "not an export: not UTF-8"),
        ("rm kept.jsonl; mkdir kept.jsonl", "not a regular file"),
    ):
        done = sent.run(f"{make}; distributor audit verify --against kept.jsonl")
        assert done.returncode == 3, done.stdout
        assert f"error: kept.jsonl: {words}" in done.stdout


# --- where a chain ends -----------------------------------------------------------------------------------------------


def line(workspace: Workspace, what: str) -> str:
    """The first line that `audit verify` prints, without what it was about."""
    done = workspace.run(f"distributor audit verify {what}")
    assert done.returncode == 0, done.stdout
    return done.stdout.splitlines()[0].partition(": ")[2]


def test_a_whole_export_ends_where_the_ledger_does_and_a_cut_one_does_not(sent: Workspace) -> None:
    assert sent.run("distributor audit export --output all.jsonl && head -n 9 all.jsonl > cut.jsonl").returncode == 0
    *_, last = (sent.folder / "all.jsonl").read_text(encoding="utf-8").splitlines()
    event = json.loads(last)
    assert line(sent, "") == f"audit chain intact: {event['seq']} events, the last at {event['at']}, hash {event['hash']}"
    assert line(sent, "all.jsonl") == line(sent, "")
    assert line(sent, "cut.jsonl").startswith("audit chain intact: 9 events, the last at ")
    assert "compare number and hash with `distributor audit verify`" in sent.run("distributor audit verify cut.jsonl").stdout
    answer = json.loads(sent.run("distributor audit verify all.jsonl --json").stdout)
    assert answer["last"] == {name: event[name] for name in ("seq", "at", "hash")}


def test_events_that_lost_their_personal_fields_are_counted_and_found_unless_an_event_explains_it(sent: Workspace) -> None:
    with closing(sqlite3.connect(sent.folder / "distributor.db")) as connection:
        connection.execute("UPDATE event SET personal = NULL, salt = NULL WHERE seq <= 2")
        connection.commit()
    done = sent.run("distributor audit verify")
    assert done.returncode == 1
    assert done.stdout.splitlines()[:2] == [
        f"event {seq}: its personal fields are missing, but no event records their erasure" for seq in (1, 2)
    ]
    assert json.loads(sent.run("distributor audit verify --json").stdout)["erased"] == 2
