"""`audit report` and `status` as commands."""

from __future__ import annotations

import io
import json
import sys
from contextlib import closing

import pytest

from distributor.cli import overview
from distributor.ledger.sqlite import sqlite3
from distributor.model.attention import Attention, Need
from tests.cli.screen import screen
from tests.workspace import Workspace


def test_a_report_is_private_recorded_and_checked(sent: Workspace) -> None:
    done = sent.run("distributor audit report --output report.html")
    assert done.returncode == 0, done.stdout
    assert done.stdout.splitlines()[0] == "2 deliveries of 2 people in report.html"
    file = sent.folder / "report.html"
    assert file.stat().st_mode & 0o777 == 0o600
    *_, reported, _ = sent.run("distributor audit export --output - 2>/dev/null").stdout.splitlines()  # the last one is this export
    event = json.loads(reported)
    assert (event["event"], event["evidence"]) == ("exported", {"format": "html"})
    assert event["hash"] in file.read_text(encoding="utf-8")


def test_a_ledger_that_was_edited_makes_a_report_that_says_so(sent: Workspace) -> None:
    with closing(sqlite3.connect(sent.folder / "distributor.db")) as connection:
        connection.execute("UPDATE person SET name = 'somebody else' WHERE key = 'bob@example.org'")
        connection.commit()
    done = sent.run("distributor audit report --output report.html")
    assert done.returncode == 1, done.stdout
    assert "does not match its audit log" in (sent.folder / "report.html").read_text(encoding="utf-8")


def test_dates_that_are_none_are_refused(sent: Workspace) -> None:
    done = sent.run("distributor audit report --output report.html --since yesterday")
    assert (done.returncode, done.stdout.splitlines()[0]) == (2, 'error: --since: "yesterday" is not a date')
    done = sent.run("distributor audit report --output report.html --since 2026-02-01 --until 2026-01-31")
    assert (done.returncode, done.stdout.splitlines()[0]) == (2, "error: --until is before --since")


def test_watching_ends_when_nothing_is_under_way(sent: Workspace) -> None:
    done = sent.run("distributor status --watch")
    assert (done.returncode, done.stdout.split(maxsplit=1)[1]) == (0, "2 accepted\n")
    assert sent.run("distributor status --watch --json").returncode == 2


def test_a_terminal_shows_a_bar_for_each_state_and_is_refreshed_until_the_messages_are_sent(planned: Workspace) -> None:
    with screen(planned.folder, {**planned.environment(), "COLUMNS": "80"}, "status", "--watch") as terminal:
        terminal.until("planned  2  ")
        assert planned.run("distributor send --yes").returncode == 0
        terminal.until("accepted  2  ")
        assert terminal.end() == 0


def test_a_terminal_lists_few_deliveries_and_says_how_to_list_many(sent: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    environment = {**sent.environment(), "COLUMNS": "80"}
    with screen(sent.folder, environment, "status") as terminal:
        terminal.until("next: ")
        assert terminal.end() == 0
        assert "bob@example.org" in terminal.shown
    many = {"accepted": overview.MOST_ROWS + 1}
    assert overview.unlisted(many) is None  # piped
    monkeypatch.setattr(sys, "stdout", _Terminal())
    assert overview.unlisted({"accepted": overview.MOST_ROWS}) is None
    assert (overview.unlisted(many) or "").startswith("101 deliveries are not listed here: `distributor status --state S`")


def test_a_failure_is_named_with_its_person_and_commands_that_a_terminal_does_not_break() -> None:
    one = [Attention(Need.BOUNCED, 1, "bob@example.org"), Attention(Need.INCIDENT, 2, "bob@example.org"), Attention(Need.REQUEST, 2, None)]
    assert overview.attention_lines(one) == [
        "1 message bounced: `distributor history bob@example.org`, then `distributor resend bob@example.org --reason TEXT`",
        "2 certificates have an incident (bob@example.org): ask the CA to revoke and reissue, then `distributor plan`",
        "2 requests wait for a decision: `distributor requests`",
    ]
    assert overview.next_command(one[0]) == "distributor history bob@example.org, then distributor resend bob@example.org --reason TEXT"


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True
