"""Small words that a user meets: help with examples, hints that lead somewhere, times and paces that are true."""

from __future__ import annotations

import json

import pytest

from distributor.cli import app, trust_ldap
from distributor.cli.progress import Bar, pace
from distributor.microsoft.ldap_lookup import Endpoint, LdapProbe
from tests.cli.screen import screen
from tests.workspace import Workspace

pytestmark = pytest.mark.slow(reason="whole commands, several in each; what they rest on is tested beside the ledger and the workflows")


@pytest.mark.parametrize("group", ["password", "audit", "config", "trust", "intune"])
def test_the_help_of_a_group_has_an_example(group: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert app.run([group, "--help"]) == 0
    assert f"example:\n    distributor {group} " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("line", "error", "command"),
    [
        ("status a@example.org b@example.org", 'unexpected argument "b@example.org"', "status"),
        ("doctor one two", "unexpected arguments: one two", "doctor"),
        ("send --limit", 'option "--limit" requires an argument', "send"),
        ("password reveal a@example.org --reason", 'option "--reason" requires an argument', "password reveal"),
        ("status --json=3", 'option "--json" does not take a value', "status"),
    ],
)
def test_a_usage_error_leads_to_the_help_of_its_command(line: str, error: str, command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert app.run(line.split()) == 2
    assert capsys.readouterr().err == f"error: {error}\nhint: `distributor {command} --help` shows how\n"


@pytest.mark.parametrize("asked", ["--help", "send --help", "--version"])
def test_a_full_disk_behind_the_help_is_nothing_for_the_ledger(sent: Workspace, asked: str) -> None:
    output = sent.run(f"distributor {asked} >/dev/full").stdout.splitlines()
    assert output == [
        "error: standard output: cannot write the output: no space left on device",
        "hint: free some space, or write to another file",
    ]


def test_a_full_disk_behind_an_answer_leads_to_the_ledger(sent: Workspace) -> None:
    assert sent.run("distributor status >/dev/full").stdout.endswith("hint: the ledger has what was done: distributor status\n")


def test_a_demo_that_is_gone_names_no_command_that_needs_it(sent: Workspace) -> None:
    gone = json.loads(sent.run("distributor demo --json 2>/dev/null").stdout)
    (again,) = gone["next"]
    assert again.endswith(" demo --keep playground")
    kept = json.loads(sent.run("distributor demo --keep play --json 2>/dev/null").stdout)
    assert kept["next"][0].endswith(" --config play/distributor.toml status")  # from here, since it was not found on the PATH


def test_every_time_of_the_history_is_in_seconds(sent: Workspace) -> None:
    (planned, *_) = json.loads(sent.run("distributor history alice@example.org --json").stdout)["events"]
    listed = json.loads(sent.run("distributor status alice@example.org --json").stdout)["deliveries"][0]["certificate"]["not_after"]
    assert planned["evidence"]["certificate_not_after"] == listed
    assert "." not in listed


@pytest.mark.parametrize(
    ("done", "seconds", "shown"),
    [(5, 0.00005, ""), (5, 1.9, ""), (0, 60.0, ""), (500, 10.0, "50/s"), (10, 10.0, "60/min"), (4, 2.0, "2/s")],
)
def test_a_pace_is_told_once_it_can_be_known(done: int, seconds: float, shown: str) -> None:
    assert pace(done, seconds) == shown


def test_where_nothing_is_due_there_is_no_bar(sent: Workspace) -> None:
    with screen(sent.folder, sent.environment(), "send", "--json") as terminal:
        assert terminal.end() == 0
    assert "sending" not in terminal.shown
    assert "0/0" not in terminal.shown


def test_a_bar_without_a_total_is_still_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    assert [Bar("reading", total)._progress is None for total in (None, 0, 3)] == [False, True, False]  # noqa: SLF001


def test_who_was_named_is_not_asked_for_again_where_no_way_works(capsys: pytest.CaptureFixture[str]) -> None:
    lost = LdapProbe((Endpoint("ldap://127.0.0.1:1", secure=False, failed="connection refused"),))
    trust_ldap._show("127.0.0.1:1", lost, [], [], as_json=False)  # noqa: SLF001
    assert capsys.readouterr().err == ""
    trust_ldap._show("127.0.0.1:1", LdapProbe((Endpoint("ldap://127.0.0.1:1", secure=False),)), [], [], as_json=False)  # noqa: SLF001
    assert capsys.readouterr().err == "no ADDRESS given, so nothing was searched\n"
