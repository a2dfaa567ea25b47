"""`audit verify` says how far a chain goes, so that a file that was cut at its end is told from the whole."""

from __future__ import annotations

import json
from contextlib import closing

from distributor.ledger.driver import sqlite3
from tests.workspace import Workspace


def line(workspace: Workspace, what: str) -> str:
    """The first line that `audit verify` prints, without what it was about."""
    done = workspace.run(f"distributor audit verify {what}")
    assert done.returncode == 0, done.stdout
    return done.stdout.splitlines()[0].partition(": ")[2]


def test_a_whole_export_ends_where_the_ledger_does_and_a_cut_one_does_not(sent: Workspace) -> None:
    assert sent.run("distributor audit export --output all.jsonl && head -n 9 all.jsonl > cut.jsonl").returncode == 0
    *_, last = (sent.folder / "all.jsonl").read_text(encoding="utf-8").splitlines()
    event = json.loads(last)
    assert line(sent, "") == f"the chain is whole up to event {event['seq']} of {event['at']}, whose hash is {event['hash']}"
    assert line(sent, "all.jsonl") == line(sent, "")
    assert line(sent, "cut.jsonl").startswith("the chain is whole up to event 9 of ")
    assert (
        "compare event and hash with those that `distributor audit verify` names" in sent.run("distributor audit verify cut.jsonl").stdout
    )
    answer = json.loads(sent.run("distributor audit verify all.jsonl --json").stdout)
    assert answer["last"] == {name: event[name] for name in ("seq", "at", "hash")}


def test_events_that_lost_their_personal_fields_are_counted_and_found_unless_an_event_explains_it(sent: Workspace) -> None:
    with closing(sqlite3.connect(sent.folder / "distributor.db")) as connection:
        connection.execute("UPDATE event SET personal = NULL, salt = NULL WHERE seq <= 2")
        connection.commit()
    done = sent.run("distributor audit verify")
    assert done.returncode == 1
    assert done.stdout.splitlines()[:2] == [
        f"event {seq}: its personal fields are gone, and no event tells that they were erased" for seq in (1, 2)
    ]
    assert json.loads(sent.run("distributor audit verify --json").stdout)["erased"] == 2
