"""Terminals of every width: no line is cut, prose wraps between words, tables that do not fit are stacked."""

from __future__ import annotations

import re
import sys

import pytest

from distributor.cli import render
from tests.cli.screen import screen
from tests.workspace import Workspace

SLOW = pytest.mark.slow(reason="whole commands on terminals of several widths")
ROWS = [
    ("alice@example.org", "accepted", "1", "d-01JX0123456789ABCDEFGHJKMN", "250 2.0.0 <4711@mail.example.org> queued for delivery as 4F2A"),
    ("bob@example.org", "planned", "1", "d-01JX0123456789ABCDEFGHJKMP", ""),
]
HEADER = ("address", "state", "gen", "delivery", "said")
GROUPS = ("", "password", "audit", "ledger", "trust", "intune", "templates", "config")
COMMANDS = ("plan", "send", "status", "history", "track", "resolve", "resend", "withdraw", "publish", "doctor", "demo", "init")


def on_terminal(monkeypatch: pytest.MonkeyPatch, columns: int) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("NO_COLOR", "1")


def shown(workspace: Workspace, columns: int, *arguments: str) -> list[str]:
    """The lines that a command prints on a terminal."""
    environment = {**workspace.environment(), "COLUMNS": str(columns), "NO_COLOR": "1"}
    with screen(workspace.folder, environment, *arguments) as terminal:
        assert terminal.end() in {0, 1}, terminal.shown
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", terminal.shown).replace("\r\n", "\n")
    return [line.rpartition("\r")[2] for line in text.split("\n")]  # what a progress bar overwrote is gone


def test_a_table_that_fits_has_columns(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    on_terminal(monkeypatch, 140)
    render.table(HEADER, ROWS)
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == ["address", "alice@example.org", "bob@example.org"]


def test_a_table_that_does_not_fit_is_stacked_and_nothing_is_cut(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    on_terminal(monkeypatch, 60)
    render.table(HEADER, ROWS)
    assert capsys.readouterr().out == (
        "alice@example.org   state: accepted   gen: 1\n"
        "  delivery: d-01JX0123456789ABCDEFGHJKMN\n"
        "  said: 250 2.0.0 <4711@mail.example.org> queued for\n"
        "    delivery as 4F2A\n"
        "bob@example.org   state: planned   gen: 1\n"
        "  delivery: d-01JX0123456789ABCDEFGHJKMP\n"
    )


def test_a_table_in_a_pipe_is_a_row_a_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    render.table(HEADER, ROWS)
    assert len(capsys.readouterr().out.splitlines()) == 3


def test_prose_wraps_between_words_at_80_where_there_is_no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    lines = render.wrapped("word " * 40, 4).splitlines()
    assert {len(line) <= 80 for line in lines} == {True}
    assert lines[1].startswith("    word word")


def test_a_command_and_a_long_word_stay_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    command = "`distributor resend alice@example.org --reason TEXT`"
    assert render.wrapped(f"the password was handed over: {command} makes a new one", 2).splitlines() == [
        "the password was handed over:",
        f"  {command}",
        "  makes a new one",
    ]
    assert "x" * 70 in render.wrapped(f"message id {'x' * 70} is it", 2)


def test_colours_take_no_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    text = "\x1b[31m" + "error" + "\x1b[0m " + "seven77 " * 4
    assert "\n" not in render.wrapped(text.rstrip(), 2)


@SLOW
@pytest.mark.parametrize("columns", [60, 80, 120])
def test_what_the_next_step_needs_is_whole_on_every_terminal(sent: Workspace, columns: int) -> None:
    lines = shown(sent, columns, "status")
    assert max(map(len, lines)) <= columns
    assert len(re.findall(r"d-[0-9A-Z]{26}\b", "\n".join(lines))) == 2
    assert "\n".join(lines).count("250 2.0.0 queued as ") == 2
    history = shown(sent, columns, "history", "alice@example.org")
    assert re.search(r"message_id=<[^ >]+@[^ >]+>", "\n".join(history))
    assert not [line for line in history if len(line) > columns and len(line.split()) > 1]
    values = " ".join(shown(sent, columns, "config", "show")).split()
    assert "distributor.toml" in values
    assert "..." not in "".join(values)


@SLOW
@pytest.mark.parametrize("columns", [60, 80, 120])
def test_doctor_and_plan_fit_the_terminal(sent: Workspace, columns: int) -> None:
    (sent.folder / "vault.key").rename(sent.folder / "copy.key")
    lines = shown(sent, columns, "doctor")
    assert not [line for line in lines if len(line) > columns and len(line.split()) > 1]
    assert "restore your copy of this key" in " ".join(" ".join(lines).split())
    assert " ".join(" ".join(lines).split()).endswith("1 error: correct it, then run `distributor doctor` again")
    (sent.folder / "certificates" / "alice.txt").unlink()
    lines = shown(sent, columns, "plan", "certificates", "--roster", "people.csv")
    assert "did you forget" not in "".join(lines)
    assert not [line for line in lines if len(line) > columns]


@SLOW
def test_no_help_has_types_braces_or_cut_summaries(sent: Workspace) -> None:
    for columns in ("60", "80"):
        for command in (*GROUPS, *COMMANDS, "password reveal", "trust ldap", "audit verify"):
            text = sent.run(f"distributor {command} --help", COLUMNS=columns).stdout
            assert not re.search(r"<(str|path|list\[)|\{[A-Z]", text), text
            _, _, summaries = text.partition("\nCommands:\n")
            assert not re.search(r"\.\.\.$", summaries, re.MULTILINE), text


@SLOW
def test_when_deferred_messages_are_due_is_said(planned: Workspace) -> None:
    planned.add_pfx("later", "later@example.org")
    planned.run_script(
        """\
$ distributor plan certificates/later.pfx >/dev/null 2>&1
$ distributor send --yes
later@example.org: deferred: 450 4.7.1 try again in 10 minutes
2 messages accepted, 1 deferred; 1 remaining
next: distributor send after ...-...-...T...Z, or distributor send --wait now
$ distributor send --yes
0 messages accepted; 1 remaining
nothing is due until ...T...Z; `distributor status` shows what is waiting
$ distributor status later@example.org
1 deferred
...
next: distributor send after ...T...Z, when the first deferred message is due; --now sends it at once
"""
    )
